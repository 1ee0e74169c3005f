"""A device's task, made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedtide import testing
from fl_core.training.method import DeviceTask


@pytest.fixture(scope="session")
def device_task() -> Callable[..., DeviceTask]:
    """Makes tasks."""
    return testing.device_task
