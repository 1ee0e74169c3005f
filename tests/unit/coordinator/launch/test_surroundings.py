"""What is around a campaign: servers and a fleet, looked after in their order, and ended with the block."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.launch import surroundings as module
from coordinator.launch.options import LaunchOptions, RunOptions
from coordinator.launch.surroundings import Surroundings, local_fleet, metrics_served, open_blobs, open_broker
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import BrokerUnavailable, CampaignError, SpecError


def test_servers_are_looked_after_before_the_fleet() -> None:
    """A broker that is gone is why workers complain."""
    told: list[str] = []

    def gone() -> None:
        told.append("server")
        raise CampaignError("the embedded broker has ended")

    fleet: Any = SimpleNamespace(check=lambda: told.append("fleet"))
    watch: Any = SimpleNamespace(look=lambda: told.append("server"))
    dead: Any = SimpleNamespace(look=gone)
    Surroundings("redis://here", fleet, [watch]).look_after()
    with pytest.raises(CampaignError, match="broker has ended"):
        Surroundings("redis://here", fleet, [dead]).look_after()
    assert told == ["server", "fleet", "server"]


def test_a_broker_that_is_there_is_asked_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """It does not answer: one sentence without its password."""
    with (
        pytest.raises(BrokerUnavailable) as caught,
        open_broker("redis://:secret@127.0.0.1:1/0", tmp_path, 6399),
    ):
        pass
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("blobs", "place"), [("", ""), ("here:7000", "here:7000")])
def test_beside_a_broker_of_one_s_own_versions_go_where_one_says(tmp_path: Any, blobs: str, place: str) -> None:
    """No second server is started; a place that is none is refused."""
    folder = RunFolder(tmp_path)
    options = RunOptions("redis://here", (), folder, LaunchOptions(blobs=blobs))
    with open_blobs(options, tmp_path, []) as found:
        assert found == place
    wrong = RunOptions("redis://here", (), folder, LaunchOptions(blobs="no place"))
    with pytest.raises(SpecError, match="is no place"), open_blobs(wrong, tmp_path, []):
        pass


def test_a_fleet_ends_with_the_block_however_that_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Also where only some of it could be started."""
    told: list[str] = []

    class Fleet:
        def __init__(self, *_: Any) -> None:
            pass

        def start(self) -> None:
            told.append("start")
            raise CampaignError("no more processes")

        def stop(self) -> None:
            told.append("stop")

    monkeypatch.setattr(module, "Fleet", Fleet)
    with pytest.raises(CampaignError), local_fleet((), "redis://here", tmp_path):
        pass
    assert told == ["start", "stop"]


def test_metrics_are_served_only_where_they_are_wanted() -> None:
    """Without a place there is nothing, and nothing is imported for it."""
    with metrics_served(None, "redis://here") as metrics:
        assert metrics is None
