"""The loop from its first turn to its last, over a broker in memory: nobody waits, and only the device is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.errors import CampaignError, FencedOut
from tests.unit.coordinator.loop.led import Led


def test_a_campaign_runs_to_its_end(tmp_path: Path) -> None:
    """With exactly as many updates as asked for, its tasks closed, its files written, and a broker without bulk."""
    led = Led(tmp_path)
    summary = led.run()
    assert (summary["state"], summary["merged"], summary["versions"]) == ("finished", 20, 10)
    assert led.state.strategy.parameters.values.tolist() == pytest.approx([10.0] * 64)
    assert {path.name for path in tmp_path.iterdir()} >= {"history.jsonl", "summary.json", "model.safetensors"}
    assert not led.client.exists(led.broker.keys.open_tasks)
    assert not led.client.keys("*:model:*")
    assert led.told[-1].state == "finished"


def test_it_is_interrupted_and_keeps_what_waits(tmp_path: Path) -> None:
    """Ctrl-C: a checkpoint, no end; the lease is given back at once."""
    led = Led(tmp_path, aggregation={"buffer_size": 7})
    led.between = lambda waits: led.coordinator.interrupt() if waits == 12 else None
    summary = led.run()
    assert (summary["state"], summary["versions"] > 0) == ("interrupted", True)
    assert led.writer.holder() is None
    assert led.state.ledger.out == len(led.state.ledger.buffered)


def test_no_task_goes_out_while_it_is_paused(tmp_path: Path) -> None:
    """What is out is still merged; it goes on when an operator says so."""
    led, issued = Led(tmp_path), []

    def between(waits: int) -> None:
        if waits == 10:
            led.client.xadd(led.broker.keys.control, {"request": "pause"})
        elif waits in (30, 60):
            issued.append(led.state.ledger.issued)
        elif waits == 61:
            led.client.xadd(led.broker.keys.control, {"request": "resume"})

    led.between = between
    assert led.run()["merged"] == 20
    assert issued[0] == issued[1]


def test_another_coordinator_s_lease_ends_it(tmp_path: Path) -> None:
    """It writes nothing more, and monitors are not told that the campaign failed."""
    led = Led(tmp_path)

    def between(waits: int) -> None:
        if waits == 10:
            led.client.set(led.broker.keys.writer, "other/2")

    led.between = between
    with pytest.raises(FencedOut):
        led.run()
    assert led.told[-1].state == "running"


def test_monitors_are_told_why_it_gave_up(tmp_path: Path) -> None:
    """Otherwise they would show the last moment before, for good."""
    led = Led(tmp_path)

    def between(waits: int) -> None:
        if waits == 10:
            raise CampaignError("the disk is on fire")

    led.between = between
    with pytest.raises(CampaignError, match="on fire"):
        led.run()
    assert (led.told[-1].state, led.told[-1].stop_reason) == ("failed", "the disk is on fire")
