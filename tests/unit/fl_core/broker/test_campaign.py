"""One campaign at a broker, over its twin: what is written is found, and what is lost is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fl_core.broker.campaign import ENDED, CampaignBroker
from fl_core.broker.keys import CAMPAIGNS
from fl_core.broker.lease import Command
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.task_rows import ANSWERED, OpenRow, Owner, attempt_name

TASKS = [OpenRow(f"{number}-ab", 1, 1_700_000_000_000, "default") for number in range(3)]
IDS = [task.task_id for task in TASKS]


@pytest.fixture
def broker() -> CampaignBroker:
    return CampaignBroker(MemoryClient(MemoryServer()), "digits-1")


def _run(broker: CampaignBroker, commands: Sequence[Command]) -> None:
    for command in commands:
        broker._client.execute_command(*command)


def test_open_tasks_can_be_claimed_as_long_as_all_that_they_need_is_there(broker: CampaignBroker) -> None:
    """Their rows with the attempt that counts, a version, and the order."""
    assert broker.can_be_claimed([])
    _run(broker, broker.open_commands(TASKS))
    assert not broker.can_be_claimed(TASKS)
    broker._client.hset(broker.keys.head, mapping={"version": 1, "order": "d"})
    broker._client.set(broker.keys.order, b"o")
    assert broker.can_be_claimed(TASKS)
    assert not broker.can_be_claimed([OpenRow(IDS[0], 2, 0, "default")])
    _run(broker, broker.close_commands(IDS[:1]))
    assert not broker.can_be_claimed(TASKS)
    assert broker.can_be_claimed(TASKS[1:])


def test_owners_are_found_by_task_and_bad_rows_are_nobodys(broker: CampaignBroker) -> None:
    """A row that cannot be read is the claim of nobody who lives, and is still there to be removed."""
    names = [attempt_name(task_id, 2) for task_id in IDS[:2]]
    rows = {names[0]: "pi|5", names[1]: "nonsense", IDS[0]: "1|5|0|pi", "\xff": "pi|5"}
    broker._client.hset(broker.keys.owners, mapping=rows)
    pi = Owner("pi", 5)
    assert broker.owners({IDS[0]: 2, IDS[1]: 2, "none": 1}) == {IDS[0]: pi, IDS[1]: Owner("", 0)}
    assert broker.owners({IDS[0]: 1}) == broker.owners({}) == {}
    found = broker.all_owners()
    assert found.items() >= {names[0]: pi, names[1]: None, IDS[0]: None}.items()
    _run(broker, broker.close_all_commands(stale=[name for name, owner in found.items() if owner is None]))
    assert list(broker.all_owners().values()) == [pi] * (len(found) - 2)


def test_what_devices_say_is_read_where_they_can_have_said_it(broker: CampaignBroker) -> None:
    """Of each attempt from its owner alone; what is too long, or none of our words, is nothing."""
    names = [attempt_name("7-ab", attempt) for attempt in range(1, 6)]
    for name, word in zip(names, ("answered", "1700", "x" * 30, "nonsense", "answered"), strict=True):
        broker._client.hset(broker.keys.said("pi"), name, word)
    broker._client.set(broker.keys.said("other"), "no hash")
    owners = dict.fromkeys(names[:4], Owner("pi", 5)) | {names[4]: Owner("other", 5), "9-z#1": Owner("", 0)}
    assert broker.said(owners) == {names[0]: ANSWERED, names[1]: 1700}
    assert broker.said({}) == {}


def test_many_tasks_are_written_in_commands_that_a_script_takes(broker: CampaignBroker) -> None:
    """Lua unpacks some thousand words."""
    many = [OpenRow(str(number), 1, 0, "default") for number in range(5_000)]
    commands = broker.open_commands(many)
    assert max(map(len, commands)) <= 2_002
    _run(broker, commands)
    assert broker._client.hlen(broker.keys.open_tasks) == 5_000
    _run(broker, broker.close_commands([task.task_id for task in many]))
    assert broker._client.hlen(broker.keys.open_tasks) == 0


def test_a_campaign_is_registered_and_ends(broker: CampaignBroker) -> None:
    """Its log goes on behind what was read; at the end nothing is left but what monitors show."""
    assert (broker.incarnation(), broker.holder(), broker.trimmed(), broker.log_end()) == (None, None, "0-0", "0-0")
    position = "1900000000000-7"
    broker.register(5, "drawn", "[model]\n", position=position, control_position="0-0")
    assert (broker.incarnation(), broker.log_end()) == ("drawn", position)
    assert not broker.has_entry(position)
    assert broker._client.zscore(CAMPAIGNS, "digits-1") == 5
    added = broker._client.xadd(broker.keys.log, {"u": b"x"})
    assert added.decode() > position
    assert broker.has_entry(added.decode())
    _run(broker, broker.end_commands())
    assert broker.incarnation() == ENDED
    left = {key.decode().rpartition(":")[2] for key in broker._client.keys("*digits*")}
    assert left == {"epoch", "spec"}
    assert all(broker._client.pttl(key) > 0 for key in (broker.keys.incarnation, broker.keys.spec))


def test_what_is_lost_is_written_down(broker: CampaignBroker) -> None:
    """By name, for good; a name that is none is left out."""
    assert broker.lost_payloads() == set()
    _run(broker, broker.lost_commands(["1-ab.1.pi", "2-ab.1.pi"]))
    broker._client.sadd(broker.keys.lost_payloads, "no name\n")
    assert broker.lost_payloads() == {"1-ab.1.pi", "2-ab.1.pi"}
