"""The quarantine as operators see it: what can be let in, and what each refusal to do so says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from coordinator.monitor import quarantine
from coordinator.monitor.quarantine import list_parked, readmit_parked
from fl_core.broker import keys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.quarantine import Parked, Quarantine
from fl_core.broker.overview.registry import Registry
from fl_core.errors import CampaignError

KEYS = keys.CampaignKeys("digits-1")


@pytest.fixture
def parked(bench: Callable[..., Any]) -> Any:
    """A broker in memory: an update that ended a task, one that answered none, and one that was too large to keep."""
    client: Any = MemoryClient(MemoryServer())
    entry = bench().open(1).update(1, worker="pi")
    whole = Parked("too_stale", "it is 9 behind", "pi", 1, entry.header, entry.payload, len(entry.payload), 1000)
    surplus = Parked("duplicate", "", "pi", None, b"no header", b"", 0, 2000)
    large = Parked("not_finite", "", "pi", 2, entry.header, b"", 10**6, 3000)
    for each in (whole, surplus, large):
        for command in Quarantine(client, KEYS).park_commands(each):
            client.execute_command(*command)
    client.set(KEYS.status, msgpack.packb({"state": "running"}))
    return client


def test_the_newest_come_first_with_what_their_header_says(parked: Any) -> None:
    """A header that cannot be read costs its row those fields; sizes tell what was sent and what was kept."""
    rows = list_parked(parked, "digits-1")
    assert [(row["number"], row["reason"], row["readmittable"]) for row in rows] == [
        (1, "not_finite", False), (2, "duplicate", False), (3, "too_stale", True),
    ]  # fmt: skip
    assert (rows[0]["payload_bytes"], rows[0]["kept_bytes"]) == (10**6, 0)
    assert rows[2]["num_examples"] == 10
    assert "num_examples" not in rows[1]
    assert len(list_parked(parked, "digits-1", limit=2)) == 2


@pytest.mark.parametrize(
    ("number", "state", "said"),
    [
        (1, "running", "its payload was too large to keep"),
        (2, "running", "it answered no open task"),
        (3, "finished", "only a running or paused one takes updates"),
    ],
)
def test_what_cannot_be_let_in_is_said(parked: Any, number: int, state: str, said: str) -> None:
    """And nothing is asked of the coordinator."""
    parked.set(KEYS.status, msgpack.packb({"state": state}))
    row = list_parked(parked, "digits-1")[number - 1]
    with pytest.raises(CampaignError, match=said):
        readmit_parked(parked, Registry(parked), "digits-1", row)
    assert not parked.xrange(KEYS.control)


def test_a_request_waits_for_its_coordinator(parked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is durable; nobody who answers within seconds is told as such."""
    monkeypatch.setattr(quarantine, "ANSWER_SECONDS", 0.0)
    row = list_parked(parked, "digits-1")[2]
    answer = readmit_parked(parked, Registry(parked), "digits-1", row)
    assert not answer["readmitted"]
    ((_, fields),) = parked.xrange(KEYS.control)
    assert (fields[b"request"], fields[b"argument"].decode()) == (b"readmit", row["position"])
