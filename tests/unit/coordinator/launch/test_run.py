"""One campaign with all that is around it: who is told what, in which order, and what a resume completes by itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.launch import run as run_module
from coordinator.launch.options import Callbacks, LaunchOptions, RunOptions
from coordinator.launch.run import lead, run_campaign
from coordinator.launch.surroundings import Served, Surroundings
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import BrokerUnavailable, CampaignError
from fl_core.spec import parse_spec

SPEC = parse_spec({"model": {"factory": "a:b"}})


class World:
    """Everything around ``run_campaign`` is played.

    Attributes:
        told: what happened, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.told: list[Any] = []
        self.folder = RunFolder(folder)
        self.error: Exception | None = None
        self.metrics: Served | None = None
        monkeypatch.setattr(run_module, "surrounded", self._surrounded)
        monkeypatch.setattr("coordinator.launch.assemble.coordinating", self._coordinating)
        monkeypatch.setattr("coordinator.launch.leavings.leave_pictures", lambda *_, **__: self.told.append("pictures"))

    @contextlib.contextmanager
    def _surrounded(self, spec: Any, options: Any, on_broker: Any) -> Iterator[Surroundings]:
        on_broker("redis://here")
        fleet: Any = SimpleNamespace(check=lambda: self.told.append("fleet looked at"))
        yield Surroundings("redis://here", fleet, (), "1.2.3.4:5", self.metrics)
        self.told.append("servers ended")

    @contextlib.contextmanager
    def _coordinating(
        self, spec: Any, url: str, folder: Any, options: LaunchOptions, callbacks: Callbacks, *, look_after: Any
    ) -> Iterator[Any]:
        self.told.append(options)
        callbacks.on_launch("digits-1", 64, options.resume)
        look_after()

        def run() -> dict[str, Any]:
            if self.error is not None:
                raise self.error
            now: Any = "status"
            callbacks.on_progress(now)
            return {"campaign": "digits-1", "state": "finished"}

        yield SimpleNamespace(run=run, interrupt=lambda: None)

    def run(self, **launch: Any) -> dict[str, Any]:
        callbacks = Callbacks(
            lambda url: self.told.append(url),
            lambda *launched: self.told.append(launched),
            lambda now: self.told.append(now),
        )
        return run_campaign(SPEC, RunOptions(None, (), self.folder, LaunchOptions(**launch)), callbacks)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def test_everybody_is_told_in_order(world: World) -> None:
    """The broker first, the pictures last; the options go on as they were given, with the place that is there."""
    assert world.run(traces=True)["state"] == "finished"
    assert world.told == [
        "redis://here", LaunchOptions(blobs="1.2.3.4:5", traces=True), ("digits-1", 64, False), "fleet looked at",
        "status", "servers ended", "pictures",
    ]  # fmt: skip


def test_prometheus_is_told_before_the_others(world: World) -> None:
    """It answers from the launch on."""
    world.metrics = Served(lambda now: world.told.append(f"metrics {now}"), lambda: world.told.append("metrics start"))
    world.run()
    assert world.told[2:6] == ["metrics start", ("digits-1", 64, False), "fleet looked at", "metrics status"]


def test_without_a_broker_an_ended_campaign_is_completed_from_its_checkpoint(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a resume was asked for, and it had ended; else the broker's absence is the news."""
    asked: list[Any] = []

    def ended(spec: Any, folder: Any, url: Any) -> Any:
        asked.append(url)
        return {"campaign": "digits-1"} if len(asked) == 2 else None

    monkeypatch.setattr("coordinator.loop.ending.end_from_checkpoint", ended)
    world.error = BrokerUnavailable("away")
    assert world.run(resume=True) == {"campaign": "digits-1"}
    assert asked == ["redis://here", None]
    with pytest.raises(BrokerUnavailable):
        world.run()
    world.error = CampaignError("diverged")
    with pytest.raises(CampaignError):
        world.run(resume=True)


def test_it_is_led_in_any_thread(world: World) -> None:
    """Signals belong to the main one."""
    found: list[Any] = []
    fleet: Any = SimpleNamespace(check=lambda: None)
    around = Surroundings("redis://here", fleet)
    thread = threading.Thread(
        target=lambda: found.append(lead(SPEC, world.folder, around, LaunchOptions(), Callbacks()))
    )
    thread.start()
    thread.join(10)
    assert found == [{"campaign": "digits-1", "state": "finished"}]
