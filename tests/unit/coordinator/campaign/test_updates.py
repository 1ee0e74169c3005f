"""Updates go into the buffer or are refused; one that an operator takes back is merged where it still can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fl_core.errors import BrokerUnavailable, PayloadLost
from fl_core.wire.messages import ModelUpdate

ONE = {"aggregation": {"buffer_size": 1, "staleness": "constant"}}


def _readmitted(campaign: Any, entry: Any, *, task: int, reason: str) -> Any:
    body = {"control": "5-0", "task": task, "reason": reason, "header": entry.header, "payload": entry.payload}
    return campaign.event("readmitted", body)


def test_an_admitted_update_closes_its_task_and_names_its_blob(bench: Callable[..., Any]) -> None:
    """The blob is dropped once a checkpoint covers the entry."""
    campaign = bench(**ONE).open(2)
    effects = campaign.apply(campaign.update(1, blob=campaign.blob_name(1), num_chunks=1))
    assert (effects.closed, effects.blob) == ([1], (campaign.blob_name(1), 256))
    assert effects.admitted is not None
    assert campaign.state.contributions.merged_by_worker == {"worker-0": 1}


def test_a_refused_update_is_dropped_for_what_it_can_be_and_not_for_what_it_says(bench: Callable[..., Any]) -> None:
    """Who declares a petabyte does not have one dropped."""
    campaign = bench(**ONE).open(1)
    effects = campaign.apply(campaign.update(1, blob=campaign.blob_name(1), num_chunks=1, payload_bytes=2**50))
    assert effects.blob == (campaign.blob_name(1), 256)
    assert campaign.state.ledger.rejected == {"malformed": 1}


def test_a_payload_that_is_lost_changes_nothing_yet(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task is issued again by an event; while the broker is away the same entry is applied again later."""
    campaign = bench(**ONE).open(1)
    entry = campaign.update(1, blob=campaign.blob_name(1), num_chunks=1)
    before = campaign.fingerprint()

    def away(name: str, num_bytes: int) -> memoryview:
        raise BrokerUnavailable("away")

    def lost(name: str, num_bytes: int) -> memoryview:
        raise PayloadLost(name)

    monkeypatch.setattr(campaign.admission, "fetch_blob", away)
    with pytest.raises(BrokerUnavailable):
        campaign.state.apply(entry)
    assert campaign.fingerprint() == before
    monkeypatch.setattr(campaign.admission, "fetch_blob", lost)
    effects = campaign.apply(entry)
    assert effects.lost_payload is not None
    assert (list(campaign.state.ledger.open), campaign.state.strategy.version) == ([1], 0)


def test_a_parked_update_comes_back_once(bench: Callable[..., Any]) -> None:
    """Its task counts as merged instead of rejected."""
    campaign = bench(**{**ONE, "aggregation": {"buffer_size": 1, "max_update_norm": 0.5}}).open(1)
    entry = campaign.update(1)
    campaign.apply(entry)
    assert campaign.state.ledger.rejected == {"norm_exceeded": 1}
    for _ in range(2):
        campaign.apply(_readmitted(campaign, entry, task=1, reason="norm_exceeded"))
    assert (campaign.state.ledger.merged, campaign.state.ledger.num_rejected) == (1, 0)
    assert campaign.state.strategy.version == 1


def test_one_from_an_earlier_life_does_not_come_back(bench: Callable[..., Any]) -> None:
    """Its id was given out under another secret: the task of that number is another one."""
    campaign = bench(**{**ONE, "aggregation": {"buffer_size": 1, "max_update_norm": 0.5}}).open(1)
    entry = campaign.update(1)
    campaign.apply(entry)
    foreign = campaign.update(1, task_id="1-000000000000", values=np.ones(64))
    assert ModelUpdate.from_bytes(foreign.header).task_id == "1-000000000000"
    effects = campaign.apply(_readmitted(campaign, foreign, task=1, reason="norm_exceeded"))
    assert [refused.reason.value for refused in effects.refusals] == ["unknown_task"]
    assert campaign.state.ledger.merged == 0
