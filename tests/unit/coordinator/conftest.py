"""A campaign in memory, for all tests of the coordinator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedtide.testing import LogByHand


@pytest.fixture(scope="session")
def bench() -> Callable[..., LogByHand]:
    """Makes campaigns."""
    return LogByHand
