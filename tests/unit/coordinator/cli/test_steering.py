"""Listing and steering: a request waits a moment for the coordinator, and what makes no sense is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from coordinator.cli import steering
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.registry import Registry
from tests.unit.coordinator.loop.led import Led
from tests.unit.coordinator.stand_ins import FakeClock


class Taking(FakeClock):
    """While somebody waits, the coordinator takes the request, if there is one."""

    def __init__(self, take: Callable[[], None]) -> None:
        super().__init__()
        self._take = take

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        self._take()
        return super().wait(seconds, until)


@pytest.fixture
def campaign(server: MemoryServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Led:
    """One that a coordinator runs, up to where its loop waits for the tenth time, as its broker shows it."""
    led = Led(tmp_path, server=server)

    class Paused(Exception):
        pass

    def between(waits: int) -> None:
        if waits == 10:
            raise Paused

    led.between = between
    with pytest.raises(Paused):
        led.coordinator.run()
    monkeypatch.setattr(steering, "MACHINE", FakeClock())
    return led


@pytest.mark.usefixtures("campaign")
def test_campaigns_are_listed_and_found_by_the_beginning_of_their_id(run: Callable[..., Any]) -> None:
    """For people and for machines."""
    (row,) = json.loads(run("campaigns", "--json").output)
    assert (row["campaign"], row["state"]) == ("digits-1", "running")
    assert json.loads(run("status", "digi", "--json").output)["merged"] == row["merged"]
    assert "digits-1" in run("status", "latest").output
    unknown = run("status", "mnist")
    assert (unknown.exit_code, unknown.output.count("\n")) == (2, 1)


@pytest.mark.usefixtures("campaign")
def test_a_request_that_nobody_takes_waits_and_says_so(run: Callable[..., Any], server: MemoryServer) -> None:
    """The coordinator may be away: it takes it when it is back."""
    said = run("pause", "latest")
    assert (said.exit_code, "waits for its coordinator" in said.output) == (0, True)
    assert len(MemoryClient(server).xrange("fedtide:c:{digits-1}:control")) == 1


def test_a_request_that_is_taken_is_reported_as_done(
    run: Callable[..., Any], campaign: Led, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the status says so."""
    status = campaign.broker.status()

    def take() -> None:
        changed = {**status.to_map(), "state": "paused"}
        for command in campaign.broker.status_commands(msgpack.packb(changed)):
            campaign.client.execute_command(*command)

    monkeypatch.setattr(steering, "MACHINE", Taking(take))
    assert run("pause", "latest").output == "digits-1 is paused.\n"
    assert Registry(campaign.client).status("digits-1").state == "paused"
    again = run("pause", "latest")
    assert (again.exit_code, "needs one that is running" in again.output) == (2, True)


@pytest.mark.usefixtures("campaign")
def test_what_makes_no_sense_is_refused(run: Callable[..., Any]) -> None:
    """One sentence and the exit code of bad input; nothing is dropped without a yes."""
    for words in (["campaigns", "digits-1"], ["campaigns", "--yes"], ["rejected", "latest", "--show", "1"]):
        said = run(*words)
        assert (said.exit_code, said.output.count("\n")) == (2, 1), words
    assert json.loads(run("rejected", "latest", "--json").output) == []
    assert json.loads(run("campaigns", "--clean", "--json").output) == [], "it has a coordinator"
