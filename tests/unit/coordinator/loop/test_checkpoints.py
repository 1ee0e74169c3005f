"""What stands in a checkpoint, when one is due, and how a full disk is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.loop.checkpoints import Checkpoints
from coordinator.outgoing.cadence import Cadence
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import History
from coordinator.storage.journal import Journal
from coordinator.storage.saver import Saver
from fl_core.errors import CampaignError
from tests.unit.coordinator.stand_ins import Events, FakeClock, Recorder, context


class World:
    """A campaign that was opened, and its checkpoints in a folder."""

    def __init__(self, bench: Callable[..., Any], folder: Path, **sections: Any) -> None:
        self.campaign = bench(**sections).open(8)
        self.clock = FakeClock()
        writer = Recorder()
        writer.commits = 7
        cadence = Cadence(full_disk_seconds=10.0)
        self.ctx = context(machine=self.clock, cadence=cadence, writer=writer, **sections)
        self.store = CheckpointStore(str(folder / "checkpoint"))
        self.journal = Journal(History(folder / "history.jsonl"), None)
        self.saver = Saver(self.store, self.ctx.writer, lambda seconds: None, self.clock)
        self.checkpoints = Checkpoints(self.ctx, self.campaign.state, self.journal, self.saver, {"replaces": "x"})

    def apply(self, *numbers: int) -> None:
        for number in numbers:
            entry = self.campaign.update(number)
            self.checkpoints.applied(entry, self.campaign.apply(entry))

    def saved(self) -> dict[str, Any]:
        self.saver.wait()
        loaded = self.store.load()
        assert loaded is not None
        return loaded[1]


def test_a_checkpoint_says_all_that_a_resume_needs(bench: Callable[..., Any], tmp_path: Path) -> None:
    """The state, whose it is, how much of the history counts, how many commits were sent, and what else it was told."""
    world = World(bench, tmp_path)
    world.apply(1)
    world.checkpoints.save_first()
    meta = world.saved()
    assert meta["identity"] == ["digits-1", b"s" * 32, "incarnation", 0]
    assert (meta["commits"], meta["replaces"], meta["state"]["position"]) == (7, "x", world.campaign.state.position)
    assert meta["history_bytes"] == (tmp_path / "history.jsonl").stat().st_size
    assert world.checkpoints.replaces == "x"
    world.checkpoints.forget_life_before()
    world.checkpoints.save()
    assert "replaces" not in world.saved()


def test_one_is_written_when_it_is_due(bench: Callable[..., Any], tmp_path: Path) -> None:
    """After so many merges; after so long, if there is anything new; and at once where somebody is in a hurry."""
    world = World(
        bench, tmp_path, aggregation={"buffer_size": 1}, checkpoint={"every_merges": 2, "every_seconds": 60.0}
    )

    def is_written() -> bool:
        before = sorted(path.name for path in (tmp_path / "checkpoint").glob("*")) if world.store else []
        world.checkpoints.save_if_due()
        world.saver.wait()
        return before != sorted(path.name for path in (tmp_path / "checkpoint").glob("*"))

    assert not is_written()
    world.apply(1)
    assert not is_written()
    world.apply(2)
    assert is_written()
    world.clock.now += 61
    assert not is_written(), "nothing is new"
    world.apply(3)
    assert is_written()
    world.checkpoints.save_soon()
    assert is_written()


def test_the_log_is_trimmed_up_to_what_two_checkpoints_cover(bench: Callable[..., Any], tmp_path: Path) -> None:
    """First of all that is written, as a full server needs room; and what looks for losses knows of it."""
    world = World(bench, tmp_path)
    events, stalls, dropped = Events(), type("Stalls", (), {"trimmed": ""})(), []
    payloads: Any = type("Payloads", (), {"drop": lambda self, blobs, transaction: dropped.append(blobs)})()
    transaction: Any = events
    broker: Any = world.ctx.broker
    broker.trim_commands = lambda position: [["XTRIM", position]]
    positions = []
    for number in (1, 2):
        world.apply(number)
        positions.append(world.campaign.state.position)
        world.checkpoints.save()
        world.saver.wait()
        world.checkpoints.trim(payloads, stalls, transaction)
    assert events.commands == [["XTRIM", positions[0]]]
    assert (stalls.trimmed, dropped) == (positions[0], [[]])


def test_a_full_disk_is_given_a_little_time_at_the_end(bench: Callable[..., Any], tmp_path: Path) -> None:
    """Then it is one sentence: nothing is lost."""
    world = World(bench, tmp_path)
    failures = ["full"] * 3

    def begin(*_: Any) -> Any:
        if failures:
            raise CampaignError(failures.pop())
        return original(*_)

    original = world.store.begin
    world.store.begin = begin  # type: ignore[method-assign]
    world.checkpoints.save_last(threading.Event())
    assert len(world.clock.waits) == 3
    failures += ["full."] * 100
    with pytest.raises(CampaignError, match=r"full\. Nothing is lost; go on with --resume then"):
        world.checkpoints.save_last(threading.Event())
    with pytest.raises(CampaignError, match="full"):
        world.checkpoints.save_first()
