"""The bounds of memory that a launch asks for, against sums that are written out here."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.launch.memory_need import memory_need
from fl_core.broker.overview import feed
from fl_core.spec import parse_spec
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

MIB = 2**20
# What eight workers have asked for and not taken yet.
WINDOWS = 8 * 2 * (MIB - 64)


def _need(num_elements: int, *, blobs: bool = True, **sections: Any) -> tuple[int, int, int]:
    spec = parse_spec({"model": {"factory": "a:b"}, "dispatch": {"concurrency": 8}, **sections})
    need = memory_need(spec, Layout((TensorSpec("weight", (num_elements,)),)), blobs=blobs)
    return need.broker, need.blobs, need.broker_alone


def test_a_broker_alone_holds_everything() -> None:
    """Eight updates under way, 256 MiB of the log, eleven versions and four between looks, and what monitors get."""
    model = 4 * MIB
    everything = 8 * model + 256 * MIB + 15 * model + WINDOWS + feed.MAX_BYTES
    assert _need(MIB, blobs=False) == (everything, 0, everything)
    assert feed.MAX_BYTES >= feed.MAX_ENTRIES * feed.MAX_ENTRY_BYTES


def test_versions_and_large_updates_are_the_second_servers() -> None:
    """The broker keeps small updates and the feed, and has to take over the whole while the other is away."""
    model = 4 * MIB
    broker, blobs, alone = _need(MIB)
    assert broker == 8 * 64 * 1024 + 256 * MIB + feed.MAX_BYTES
    assert blobs == 8 * model + 256 * MIB + 15 * model + WINDOWS
    patch = MIB + 4 * 1024
    assert _need(MIB, codec={"down": "int8"})[1] == blobs + model + 4 * patch
    assert alone == blobs + feed.MAX_BYTES


def test_a_large_model_fills_the_log_before_a_checkpoint() -> None:
    """A checkpoint waits for four updates of the model's size at least, so that much small ones may wait as well."""
    model = 400 * MIB
    assert _need(100 * MIB)[0] == 8 * 64 * 1024 + 4 * model + feed.MAX_BYTES
    assert _need(100 * MIB)[1] == 8 * model + 8 * model + 15 * model + WINDOWS


@pytest.mark.parametrize(
    ("num_elements", "down", "used"),
    [(65_536, "fp32", False), (65_537, "fp32", True), (65_537, "bf16", False), (131_073, "bf16", True)],
)
def test_a_small_model_needs_nothing_there(num_elements: int, down: str, used: bool) -> None:
    """Versions of up to 256 KiB come with the answer to a claim, and updates then stay with them."""
    broker, blobs, alone = _need(num_elements, codec={"down": down})
    assert (blobs > 0, broker < alone) == (used, used)
