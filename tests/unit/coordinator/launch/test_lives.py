"""Which life a resume goes on as, decided from what its checkpoint says and what the broker knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.campaign.identity import Identity
from coordinator.launch.lives import choose_life, incarnations_before, lost_merges
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import CampaignError

IDENTITY = ["rel-1", b"s" * 32, "life-1", 1]


def meta(position: str = "5-0", **more: Any) -> dict[str, Any]:
    """What a checkpoint says of itself, as far as a resume looks at it."""
    state = {"position": position, "strategy": {"version": 3}}
    return {"identity": IDENTITY, "state": state, "history_bytes": 0, **more}


@pytest.fixture
def client() -> MemoryClient:
    """A broker in memory."""
    return MemoryClient(MemoryServer())


@pytest.fixture
def broker(client: MemoryClient) -> CampaignBroker:
    """The broker knows the campaign."""
    broker = CampaignBroker(client, "rel-1")
    client.set(broker.keys.incarnation, "life-1")
    return broker


def choose(
    meta: dict[str, Any], broker: CampaignBroker, folder: Path, *damaged: str, sent: int | None = None, arrived: int = 0
) -> Any:
    history = folder / "history.jsonl"
    return choose_life(meta, damaged, broker, history, is_over=False, sent=sent, arrived=arrived)


def test_a_log_that_goes_back_to_the_checkpoint_is_gone_on_with(broker: CampaignBroker, tmp_path: Path) -> None:
    """Also where a newer checkpoint is damaged: the log proves the rest, and nothing is lost."""
    for damaged in ((), ("state-1: damaged",)):
        life = choose(meta(trimmed="5-0"), broker, tmp_path, *damaged)
        assert life.identity == Identity(*IDENTITY)
        assert not life.replaces


@pytest.mark.parametrize("fate", ["trimmed", "forgotten"])
def test_a_gap_behind_the_checkpoint_begins_a_new_life(
    broker: CampaignBroker, client: MemoryClient, tmp_path: Path, fate: str
) -> None:
    """No task id is given out again: ids hang on the secret, which is new; the old log does not count."""
    client.xadd(broker.keys.log, {"u": b""}, id="9-0")
    if fate == "trimmed":
        client.set(broker.keys.trimmed, "7-0")
    else:
        client.delete(broker.keys.incarnation)
    life = choose(meta(), broker, tmp_path, "state-1: damaged")
    assert life.replaces == "life-1"
    assert life.identity.secret != IDENTITY[1]
    assert life.identity.incarnation != "life-1"
    assert life.identity.campaign == "rel-1"
    assert life.position == "9-0"
    assert life.identity.task_id(1) != Identity(*IDENTITY).task_id(1)


def test_a_new_life_whose_coordinator_died_before_the_broker_heard_of_it_is_begun_again(
    broker: CampaignBroker, tmp_path: Path
) -> None:
    """The checkpoint knows it, the broker still has the incarnation before."""
    reborn = {"identity": ["rel-1", b"t" * 32, "life-2", 1], "replaces": "life-1"}
    life = choose(meta() | reborn, broker, tmp_path)
    assert (life.identity.incarnation, life.replaces) == ("life-2", "life-1")


def test_a_broker_that_was_rolled_back_into_an_earlier_life_begins_a_new_one(
    broker: CampaignBroker, client: MemoryClient, tmp_path: Path
) -> None:
    """A power cut just after a new life began: the checkpoint has forgotten what it replaced, and the broker is there
    again. The checkpoints know all lives, so it is no later one; its log counts no more, and ids are new."""
    client.xadd(broker.keys.log, {"u": b""}, id="9-0")
    second = meta() | {
        "identity": ["rel-1", b"t" * 32, "life-2", 1],
        "epochs_before": ["life-0", "life-1"],
    }
    life = choose(second, broker, tmp_path)
    assert life.identity.incarnation not in ("life-1", "life-2")
    assert life.identity.secret not in (IDENTITY[1], b"t" * 32)
    assert (life.replaces, life.position) == ("life-2", "9-0")
    assert incarnations_before(second, life) == ["life-0", "life-1", "life-2"]
    client.set(broker.keys.incarnation, "life-3")
    with pytest.raises(CampaignError, match="in a later life than this checkpoint"):
        choose(second, broker, tmp_path)


@pytest.mark.parametrize(
    ("server", "sent", "arrived", "is_whole"),
    [
        ("same", 9, 9, True),
        ("other", 9, 9, True),  # it was restarted, and has all the same
        ("same", 9, 8, True),  # killed before the last one was sent
        ("other", 9, 8, False),  # or it was lost: nobody can tell
        ("same", 9, 7, False),  # restored under a server that ran on
        ("other", None, 9, False),  # another machine, or this one had a power cut
        ("same", None, 9, True),
        ("same", None, 3, False),  # the checkpoint knows of more
        ("silent", None, 9, False),  # INFO is not for everybody
        (None, None, 3, True),  # an earlier release's checkpoint: as it was
    ],
)
def test_a_broker_that_may_have_forgotten_commits_begins_a_new_life(
    broker: CampaignBroker, tmp_path: Path, server: str | None, sent: int | None, arrived: int, is_whole: bool
) -> None:
    """What is left of its log counts, read under the secret that it was written under; then ids are new."""
    known = {} if server is None else {"server": {"same": broker.server_run(), "silent": ""}.get(server, server)}
    life = choose(meta(commits=5, **known), broker, tmp_path, sent=sent, arrived=arrived)
    assert (life.identity == Identity(*IDENTITY)) == is_whole
    assert life.secret_before == (b"" if is_whole else IDENTITY[1])
    assert life.replaces == ("" if is_whole else "life-1")


@pytest.mark.parametrize(
    ("incarnation", "said"), [("ended", "has ended at this broker"), ("life-9", "in a later life")]
)
def test_a_checkpoint_from_before_is_refused(
    broker: CampaignBroker, client: MemoryClient, tmp_path: Path, incarnation: str, said: str
) -> None:
    """A copy of the folder, or its only whole checkpoint, does not undo what the broker knows to have happened."""
    client.set(broker.keys.incarnation, incarnation)
    with pytest.raises(CampaignError, match=said):
        choose(meta(), broker, tmp_path)


def test_what_is_lost_with_a_damaged_checkpoint_is_counted_in_the_history(tmp_path: Path) -> None:
    """Merges behind its place there; a history that cannot be read says nothing."""
    history = tmp_path / "history.jsonl"
    line = (
        '{"kind":"merge","seconds":1.0,"version":%d,"merged":2,"staleness":[0,0],"weights":[1.0,1.0],'
        '"workers":["a","b"],"tasks":[1,2]}\n'
    )
    history.write_text(line % 1 + line % 2 + line % 3)
    assert lost_merges(history, 0) == (6, 3)
    assert lost_merges(history, len(line % 1)) == (4, 3)
    history.write_text("rubbish\n")
    assert lost_merges(history, 0) == lost_merges(tmp_path / "nowhere", 0) == (0, 0)
