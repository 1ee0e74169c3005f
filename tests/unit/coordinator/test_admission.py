"""Admission: every reason for which an update can be refused, and that the cheap checks come first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coordinator.admission import Admitted, Refused
from fl_core.errors import BrokerUnavailable, Reason
from fl_core.vectors import Delta, Parameters

NUM_BYTES = 4 * 64


def _admit(bench: Any, entry: Any) -> Admitted:
    state = bench.state
    return state._admission.admit(entry, state.ledger, state.strategy)


def _refused(bench: Any, entry: Any) -> Refused:
    before = bench.fingerprint()
    with pytest.raises(Refused) as caught:
        _admit(bench, entry)
    assert bench.fingerprint() == before
    return caught.value


def _blob(number: int, attempt: int = 1, worker: str = "worker-0") -> str:
    from fl_core.messages import ModelUpdate

    task = ModelUpdate.__slots__  # only to say where the name comes from: the update's task and attempt
    assert "task_id" in task
    from coordinator.ledger import task_id

    return f"{task_id(b's' * 32, number)}.{attempt}.{worker}"
