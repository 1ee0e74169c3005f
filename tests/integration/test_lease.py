"""One writer per campaign, against a real server and its twin: only the holder's commits take effect."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import LostData, Unanswered, Writer
from fl_core.broker.memory.client import MemoryClient
from fl_core.errors import BrokerUnfit, FencedOut

KEYS = CampaignKeys("digits-1")
INCARNATION = "incarnation-1"


@pytest.fixture
def client(server_and_twin: redis.Redis) -> redis.Redis:
    """A real server, and its twin in memory."""
    return server_and_twin


@pytest.fixture
def campaign(client: redis.Redis) -> redis.Redis:
    """A server that knows the campaign."""
    client.set(KEYS.incarnation, INCARNATION)
    return client


def _writer(client: redis.Redis, holder: str = "a", lease_seconds: float = 30.0) -> Writer:
    return Writer(client, KEYS, holder=holder, lease_seconds=lease_seconds)


def _expire(client: redis.Redis) -> None:
    """The lease ends, as it does when its holder sleeps for too long."""
    assert client.delete(KEYS.writer) == 1


# -- the lease -----------------------------------------------------------------------------------------------------


def test_the_lease_has_one_holder(client: redis.Redis) -> None:
    """The first to ask gets it, the second does not and can say who has it."""
    first, second = _writer(client, "host-a"), _writer(client, "host-b")
    assert first.acquire(0)
    assert not second.acquire(0)
    assert second.holder() == first.token
    assert first.token.startswith("host-a:")
    assert 25_000 < client.pttl(KEYS.writer) <= 30_000


def test_two_coordinators_of_one_host_have_two_tokens(client: redis.Redis) -> None:
    """Restarted under the same name, a coordinator is not taken for the one before."""
    first, second = _writer(client), _writer(client)
    assert first.acquire(0)
    assert first.token != second.token
    assert not second.acquire(0)


def test_the_fence_rises_with_every_holder(client: redis.Redis) -> None:
    """It counts up whether the lease was given back or ended, and never starts below the floor."""
    fences = []
    for floor in (0, 0, 0, 41, 7, 0):
        writer = _writer(client)
        assert writer.acquire(floor)
        fences.append(writer.fence)
        writer.release()
    assert fences == [1, 2, 3, 42, 43, 44]
    client.flushall()
    writer = _writer(client)
    assert writer.acquire(44)
    assert writer.fence == 45


def test_a_large_fence_stays_a_whole_number(client: redis.Redis) -> None:
    """Beyond the digits that Lua prints by itself, the fence is still written in full."""
    writer = _writer(client)
    assert writer.acquire(10**15)
    assert (writer.fence, client.get(KEYS.fence)) == (10**15 + 1, b"1000000000000001|" + writer.token.encode())
    assert writer.renew()


def test_a_renewal_keeps_the_lease(client: redis.Redis) -> None:
    """The holder's lease is as long as at first again; one that nobody took meanwhile is taken back."""
    writer = _writer(client)
    writer.acquire(0)
    client.pexpire(KEYS.writer, 5_000)
    assert writer.renew()
    assert client.pttl(KEYS.writer) > 25_000
    _expire(client)
    assert writer.renew()
    assert writer.holder() == writer.token


def test_a_lease_that_has_passed_on_cannot_be_renewed(client: redis.Redis) -> None:
    """Neither while the successor holds it nor after the successor has gone: the fence is past."""
    first, second = _writer(client, "a"), _writer(client, "b")
    first.acquire(0)
    _expire(client)
    assert second.acquire(0)
    assert not first.renew()
    second.release()
    assert not first.renew()
    assert first.holder() is None


def test_only_the_holder_gives_the_lease_back(client: redis.Redis) -> None:
    """A late release by a former holder does not end its successor's lease."""
    first, second = _writer(client, "a"), _writer(client, "b")
    first.acquire(0)
    _expire(client)
    second.acquire(0)
    first.release()
    assert second.holder() == second.token
    second.release()
    assert second.holder() is None


def test_a_lease_ends_by_itself(client: redis.Redis) -> None:
    """A holder that is not heard of loses it after its time, by the server's clock."""
    first, second = _writer(client, "a", lease_seconds=0.1), _writer(client, "b")
    assert first.acquire(0)
    assert not second.acquire(0)
    if isinstance(client, MemoryClient):
        client.server.keyspace.now_ms += 150
    else:
        time.sleep(0.15)
    assert second.acquire(0)
    assert not first.renew()


# -- commits -------------------------------------------------------------------------------------------------------


def test_the_holder_s_commands_take_effect_in_order(campaign: redis.Redis) -> None:
    """All of them, as bytes."""
    writer = _writer(campaign)
    writer.acquire(0)
    payload = bytes(range(256))
    writer.commit(
        INCARNATION, [["SET", "a", b""], ["SET", "a", payload], ["INCR", "n"], ["INCR", "n"], ["HSET", "h", "ü", "1"]]
    )
    writer.commit(INCARNATION, [])
    assert (campaign.get("a"), campaign.get("n"), campaign.hget("h", "ü")) == (payload, b"2", b"1")


def _nothing_written(campaign: redis.Redis, writer: Writer, error: type[Exception]) -> None:
    before = sorted(campaign.keys("*"))
    holder = campaign.get(KEYS.writer)
    with pytest.raises(error, match="digits-1"):
        writer.commit(INCARNATION, [["SET", "written", "1"]])
    assert sorted(campaign.keys("*")) == before
    assert campaign.get(KEYS.writer) == holder


def test_a_commit_after_the_lease_passed_on_writes_nothing(campaign: redis.Redis) -> None:
    """Held by another, or given back by another since: the former holder is fenced out for good."""
    first, second = _writer(campaign, "a"), _writer(campaign, "b")
    first.acquire(0)
    _expire(campaign)
    second.acquire(0)
    _nothing_written(campaign, first, FencedOut)
    second.release()
    _nothing_written(campaign, first, FencedOut)
    second.commit(INCARNATION, [["SET", "mine", "1"]])
    assert campaign.get("mine") == b"1"


def test_a_token_that_does_not_hold_the_lease_writes_nothing(campaign: redis.Redis) -> None:
    """Even with the right fence, another's lease is not written under."""
    first, impostor = _writer(campaign, "a"), _writer(campaign, "b")
    first.acquire(0)
    impostor.fence = first.fence
    _nothing_written(campaign, impostor, FencedOut)
    assert not impostor.renew()


def test_a_commit_without_a_lease_writes_nothing(campaign: redis.Redis) -> None:
    """A writer that never acquired has no fence that counts."""
    _nothing_written(campaign, _writer(campaign), LostData)


@pytest.mark.parametrize("incarnation", [None, "another", "ended"])
def test_a_commit_to_lost_data_writes_nothing(campaign: redis.Redis, incarnation: str | None) -> None:
    """A server that has forgotten the campaign, or has another life of it, is not written to as if nothing were."""
    writer = _writer(campaign)
    writer.acquire(0)
    if incarnation is None:
        campaign.delete(KEYS.incarnation)
    else:
        campaign.set(KEYS.incarnation, incarnation)
    _nothing_written(campaign, writer, LostData)


def test_a_server_that_was_emptied_is_lost_data(campaign: redis.Redis) -> None:
    """After a restart without its data, the coordinator learns of the loss, not of a rival that does not exist."""
    writer = _writer(campaign)
    writer.acquire(0)
    campaign.flushall()
    _nothing_written(campaign, writer, LostData)


def test_a_lease_that_ended_untaken_is_taken_again(campaign: redis.Redis) -> None:
    """A coordinator that slept past its lease goes on when nobody stepped in, and holds it again."""
    writer = _writer(campaign)
    writer.acquire(0)
    _expire(campaign)
    writer.commit(INCARNATION, [["SET", "a", "1"]])
    assert writer.holder() == writer.token
    assert 25_000 < campaign.pttl(KEYS.writer) <= 30_000
    assert not _writer(campaign, "b").acquire(0)


def test_a_commit_whose_answer_got_lost_takes_effect_once(campaign: redis.Redis) -> None:
    """Sent again as it was, it is recognised, also where something else is written after it without asking again."""
    writer = _writer(campaign)
    writer.acquire(0)
    for round_ in range(1, 4):
        _lose_the_answer(writer, [["INCR", "n"]])
        if round_ != 2:
            writer.commit(INCARNATION, [["INCR", "n"]], again=True)
            writer.commit(INCARNATION, [["INCR", "m"]])
        else:
            writer.commit(INCARNATION, [["INCR", "m"]])  # whoever forgets what it sent goes on from what came of it
        assert (campaign.get("n"), campaign.get("m")) == (b"%d" % round_, b"%d" % round_)


def _lose_the_answer(writer: Writer, commands: list[list[str]]) -> None:
    script = writer._fenced

    def lost(*words: Any) -> None:
        script(*words)
        raise redis.ConnectionError("the cable was cut")

    writer._fenced = lost  # type: ignore[assignment]
    try:
        with pytest.raises(Unanswered):
            writer.commit(INCARNATION, commands)
    finally:
        writer._fenced = script


def test_a_server_that_has_forgotten_a_commit_is_lost_data(campaign: redis.Redis) -> None:
    """Its last mark is an older one: nothing more is written until the lease was taken anew, and then it goes on."""
    writer = _writer(campaign)
    writer.acquire(0)
    writer.commit(INCARNATION, [["INCR", "n"]])
    before = campaign.get(KEYS.commits)
    writer.commit(INCARNATION, [["INCR", "n"]])
    campaign.set(KEYS.commits, before)
    for _ in range(2):
        _nothing_written(campaign, writer, LostData)
    assert writer.renew()
    assert writer.acquire(writer.fence)
    writer.commit(INCARNATION, [["SET", "written", "1"]])
    assert writer.commits == 3


def test_a_server_that_has_forgotten_the_lease_is_no_rival(campaign: redis.Redis) -> None:
    """It names the holder before, as of a moment ago: that is lost data, and not a lease that passed to another."""
    dead, writer = _writer(campaign, "a"), _writer(campaign, "b")
    dead.acquire(0)
    rows = {key: campaign.get(key) for key in (KEYS.writer, KEYS.fence)}
    dead.release()
    assert writer.acquire(0)
    campaign.mset(rows)
    _nothing_written(campaign, writer, LostData)
    assert writer.renew()


def test_its_own_lease_is_no_rival_s(campaign: redis.Redis) -> None:
    """Asked for again, because the first answer got lost, the lease is there already; meanwhile it can be kept."""
    writer, other = _writer(campaign), _writer(campaign, "b")
    assert writer.acquire(0)
    before = writer.fence
    assert writer.acquire(before)
    now, writer.fence = writer.fence, before  # as if that answer got lost
    assert writer.renew()
    assert writer.acquire(now)
    assert not other.acquire(0)
    writer.commit(INCARNATION, [["SET", "a", "1"]])


def test_a_command_of_some_thousand_words_goes_through(campaign: redis.Redis) -> None:
    """The coordinator writes in pages of 2000 fields, which the script engine takes."""
    writer = _writer(campaign)
    writer.acquire(0)
    words = [word for n in range(2000) for word in (str(n), "1")]
    writer.commit(INCARNATION, [["HSET", "h", *words]])
    assert campaign.hlen("h") == 2000


def test_a_wrong_command_is_our_bug(campaign: redis.Redis) -> None:
    """What the server refuses for its form is neither a lost lease nor an absent broker."""
    writer = _writer(campaign)
    writer.acquire(0)
    with pytest.raises(BrokerUnfit, match="committing: the broker"):
        writer.commit(INCARNATION, [["NOSUCHCOMMAND"]])
