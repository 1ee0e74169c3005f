"""The scripts against a real server and its twin: claiming, delivering and reporting a task, and the log of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from fl_core.broker import keys, scripts
from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.chunks import CHUNK_BYTES, chunk_keys
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.uploads import UNCLAIMED_BLOB_SECONDS
from fl_core.broker.bulk.versions import order_commands
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.claiming import INLINE_MODEL_BYTES, Claim
from fl_core.broker.connection import connect
from fl_core.broker.inbox import INLINE_BYTES, MAX_ENTRY_BYTES, MAX_MOVED, packed
from fl_core.broker.keepers import answers
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import LostData, Writer
from fl_core.broker.line.reply_bound import BoundedParser, _Reader
from fl_core.broker.log import LogReader, scan
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.tasks import TaskBroker, payload_place
from fl_core.errors import BrokerUnavailable, FencedOut, MissingBlob, Reason, RejectedUpdate
from fl_core.wire.digest import digest
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate, TaskReport, TrainTask

KEYS = CampaignKeys("digits-1")
TASK = TrainTask(
    campaign="digits-1",
    task_id="1-abc",
    attempt=1,
    queue="gpu",
    timeout_seconds=60.0,
    model_factory="a:b",
    model_args={},
    layout_digest="a" * 32,
    training={},
    codec="fp32",
    sends="delta",
)
SECOND = replace(TASK, attempt=2)
UPDATE = ModelUpdate(
    campaign="digits-1",
    task_id="1-abc",
    attempt=1,
    worker="pi",
    base_version=0,
    num_examples=10,
    sends="delta",
    codec="fp32",
    layout_digest="a" * 32,
    payload_bytes=4,
    payload_digest="b" * 32,
    blob="",
    num_chunks=0,
    bytes_down=0,
    metrics={},
    seconds={},
)
REPORT = TaskReport(campaign="digits-1", task_id="1-abc", attempt=1, worker="pi", outcome="failed", detail="it broke")


@pytest.fixture
def client(server_and_twin: redis.Redis) -> redis.Redis:
    """A real server, and its twin in memory, which know the campaign."""
    server_and_twin.set(KEYS.incarnation, "now")
    return server_and_twin


@pytest.fixture
def server(broker_server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A real server alone, where it is about what travels."""
    with connect(broker_server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def publish(client: redis.Redis) -> Callable[..., Head]:
    """Makes version ``version`` of ``payload`` the newest one."""

    def publish(version: int, payload: bytes) -> Head:
        head = Head(version, digest(payload), len(payload), blobs.put(client, KEYS.version(version), payload))
        fields = {"version": version, "digest": head.digest, "num_bytes": head.num_bytes, "num_chunks": head.num_chunks}
        client.hset(KEYS.head, mapping=fields)
        for command in order_commands(KEYS, TASK.order.to_bytes()):
            client.execute_command(*command)
        return head

    return publish


def _open(client: redis.Redis, attempt: int = 1, *, waited_ms: int = 0) -> None:
    seconds, micros = client.time()
    client.hset(KEYS.open_tasks, TASK.task_id, f"{attempt}|{seconds * 1000 + micros // 1000 - waited_ms}|gpu")


def _clock(client: redis.Redis) -> float:
    seconds, micros = client.time()
    return seconds + micros / 1e6


def _writer(client: redis.Redis) -> Writer:
    """A coordinator that has just taken over."""
    client.delete(KEYS.writer)
    writer = Writer(client, KEYS, holder="here", lease_seconds=60)
    assert writer.acquire(0)
    return writer


def _entries(client: redis.Redis) -> list[LogEntry]:
    """The log, once what has arrived was taken in."""
    _writer(client).take_in(("PING",))
    return list(scan(client, KEYS))


def _owner(client: redis.Redis, attempt: int = 1) -> str:
    row = client.hget(KEYS.owners, f"{TASK.task_id}#{attempt}")
    assert row is not None
    return str(row.decode())


def _said(client: redis.Redis, worker: str, attempt: int = 1) -> bytes | None:
    word: bytes | None = client.hget(KEYS.said(worker), f"{TASK.task_id}#{attempt}")
    return word


# -- claiming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "verdict"),
    [("5", "ok"), ("6", "resting"), ("spent", "spent"), ("", "ok"), ("-7", "ok"), ("nonsense", "ok")],
)
def test_a_device_that_has_to_wait_claims_nothing(
    client: redis.Redis, publish: Callable[..., Head], row: str, verdict: str
) -> None:
    """With privacy it rests until a version, or for ever; its task is there for others, who are not asked to wait."""
    _open(client)
    publish(5, b"model bytes")
    for command in CampaignBroker(client, "digits-1").rest_commands({"pi": row, "other": "99"}):
        client.execute_command(*command)
    claim = TaskBroker(client, "pi").claim(TASK, "")
    assert (claim.verdict, claim.head is None) == (verdict, verdict != "ok")
    assert bool(client.hlen(KEYS.owners)) == (verdict == "ok")
    for command in CampaignBroker(client, "digits-1").rest_nobody_commands():
        client.execute_command(*command)
    assert TaskBroker(client, "pi").claim(TASK, "").verdict == "ok"


def test_a_claim_brings_the_newest_version(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Owner, waiting time and version come in one step, and a small model's bytes with them."""
    _open(client, waited_ms=2500)
    publish(4, b"older")
    head = publish(5, b"model bytes")
    claim = TaskBroker(client, "pi").claim(TASK, "")
    assert claim.verdict == "ok"
    assert claim.head == replace(head, inline=b"model bytes")
    assert claim.task == TASK
    assert 2.5 <= claim.queue_seconds < 12.5
    worker, claimed = _owner(client).split("|")
    assert worker == "pi"
    assert abs(int(claimed) - client.time()[0] * 1000) < 10_000
    assert client.hget(keys.QUEUE_COUNTS, "gpu:claimed") == b"1"
    assert client.hlen(KEYS.pins) == 0
    assert TaskBroker(client, "pi").fetch(TASK, claim.head) == b"model bytes"


def test_a_version_that_the_worker_holds_is_not_sent_again(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """The digest tells: bytes that are already there do not travel, and a version of another digest does."""
    _open(client)
    head = publish(5, b"model bytes")
    assert TaskBroker(client, "pi").claim(TASK, head.digest).head == head
    other = publish(5, b"the same number after a restore")
    assert TaskBroker(client, "pi").claim(TASK, head.digest).head == replace(
        other, inline=b"the same number after a restore"
    )


def test_a_large_version_is_pinned_until_it_is_fetched(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """A model of several chunks is fetched after the claim; meanwhile its version must not be dropped."""
    _open(client)
    payload = bytes(range(256)) * 4096 + b"tail"
    head = publish(7, payload)
    broker = TaskBroker(client, "pi")
    claim = broker.claim(TASK, "")
    assert claim.head == head
    assert client.hgetall(KEYS.pins) == {b"1-abc": b"7"}
    assert bytes(broker.fetch(TASK, claim.head)) == payload
    assert client.hgetall(KEYS.pins) == {}


def test_the_limit_of_what_comes_inline(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Up to the limit a model comes with the answer, above it does not: one huge reply would block the server."""
    _open(client)
    publish(1, bytes(INLINE_MODEL_BYTES))
    assert TaskBroker(client, "pi").claim(TASK, "").head.inline == bytes(INLINE_MODEL_BYTES)  # type: ignore[union-attr]
    publish(2, bytes(INLINE_MODEL_BYTES + 1))
    assert TaskBroker(client, "pi").claim(TASK, "").head.inline is None  # type: ignore[union-attr]


@pytest.mark.parametrize("inline", [True, False])
def test_a_version_that_went_away_or_was_damaged_is_told(
    client: redis.Redis, publish: Callable[..., Head], inline: bool
) -> None:
    """What does not have its digest, or is no longer there, is not trained on: the worker claims again."""
    _open(client)
    payload = b"x" * (10 if inline else INLINE_MODEL_BYTES + 10)
    publish(3, payload)
    chunk = f"{KEYS.version(3)}:0"
    broker = TaskBroker(client, "pi")
    client.set(chunk, b"y" * len(payload))
    claim = broker.claim(TASK, "")
    assert claim.head is not None
    with pytest.raises(MissingBlob, match="version 3 does not have its digest"):
        broker.fetch(TASK, claim.head)
    client.delete(chunk)
    claim = broker.claim(TASK, "")
    assert claim.head is not None
    assert claim.head.inline is None
    with pytest.raises(MissingBlob):
        broker.fetch(TASK, claim.head)
    assert broker.claim(TASK, "").verdict == "ok"


def test_a_task_that_is_not_out_is_gone(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Answered, cancelled, never issued, or of another attempt: the doorbell is void and nothing is written."""
    publish(1, b"model")
    broker = TaskBroker(client, "pi")
    assert broker.claim(TASK, "") == Claim("gone")
    _open(client, attempt=2)
    assert broker.claim(TASK, "") == Claim("gone")
    assert broker.claim(replace(TASK, attempt=3), "") == Claim("gone")
    assert client.exists(KEYS.owners, KEYS.pins, keys.QUEUE_COUNTS) == 0
    assert broker.claim(SECOND, "").verdict == "ok"


def test_before_the_first_version_nothing_can_be_claimed(client: redis.Redis) -> None:
    """A task without a model to start from is void; the coordinator rings again."""
    _open(client)
    assert TaskBroker(client, "pi").claim(TASK, "") == Claim("gone")
    assert client.exists(KEYS.owners) == 0


def test_a_task_belongs_to_whoever_was_first(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """A second doorbell for the same attempt finds it taken; its owner may ask again, whose answer was lost."""
    _open(client)
    publish(1, b"model")
    first, second = TaskBroker(client, "pi"), TaskBroker(client, "laptop")
    assert first.claim(TASK, "").verdict == "ok"
    assert second.claim(TASK, "") == Claim("taken")
    before = _owner(client)
    assert first.claim(TASK, "").verdict == "ok"
    assert _owner(client) == before, "a claim is written once"
    client.hset(KEYS.owners, f"{TASK.task_id}#1", "nonsense")
    assert first.claim(TASK, "") == second.claim(TASK, "") == Claim("taken")


def test_the_next_attempt_is_free_again(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """After a re-issue the former owner's claim is void for the new attempt, and another worker can take it."""
    _open(client)
    publish(1, b"model")
    first, second = TaskBroker(client, "pi"), TaskBroker(client, "laptop")
    first.claim(TASK, "")
    _open(client, attempt=2)
    assert second.claim(SECOND, "").verdict == "ok"
    assert first.claim(TASK, "") == Claim("gone")
    assert first.claim(SECOND, "") == Claim("taken")
    assert _owner(client).startswith("pi|")
    assert _owner(client, 2).startswith("laptop|")


def test_a_worker_s_name_may_hold_any_sign_but_the_bar(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Names that look like patterns or numbers are still just names."""
    _open(client)
    publish(1, b"model")
    name = "a.b-c_d%1:2@x"
    assert TaskBroker(client, name).claim(TASK, "").verdict == "ok"
    assert TaskBroker(client, name).claim(TASK, "").verdict == "ok"
    assert TaskBroker(client, "aXb-c_d%1:2@x").claim(TASK, "").verdict == "taken"
    assert _owner(client).startswith(f"{name}|")


def test_whether_a_task_is_wanted(client: redis.Redis) -> None:
    """Exactly the attempt that is out is wanted: attempt 1 is not attempt 11."""
    broker = TaskBroker(client, "pi")
    assert not broker.is_wanted(TASK)
    _open(client, attempt=11)
    assert not broker.is_wanted(TASK)
    assert broker.is_wanted(replace(TASK, attempt=11))


# -- the order -----------------------------------------------------------------------------------------------------


def test_bytes_that_move_keep_a_task(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Its time begins anew with each word; who has lost it to another hears so, and changes nothing."""
    publish(1, b"abcd")
    _open(client)
    pi, other = TaskBroker(client, "pi"), TaskBroker(client, "other")
    pi.claim(TASK, "")
    claimed = _owner(client)
    assert pi.say_moving(TASK.campaign, TASK.task_id, 1)
    assert _owner(client) == claimed
    assert int(_said(client, "pi") or 0) > 1_000_000
    assert client.ttl(KEYS.said("pi")) > 0
    assert not other.say_moving(TASK.campaign, TASK.task_id, 1)
    assert not client.exists(KEYS.said("other"))
    _open(client, attempt=2)
    before = _said(client, "pi")
    assert pi.say_moving(TASK.campaign, TASK.task_id, 1), "nobody has begun it again: what comes first counts"
    assert _said(client, "pi") == before
    other.claim(SECOND, "")
    assert not pi.say_moving(TASK.campaign, TASK.task_id, 1)
    client.hdel(KEYS.open_tasks, TASK.task_id)
    assert not other.say_moving(TASK.campaign, TASK.task_id, 2)


def test_the_order_comes_with_the_first_claim_and_again_where_it_changed(
    client: redis.Redis, publish: Callable[..., Head]
) -> None:
    """A worker keeps it by its digest; what the coordinator changes reaches the next claim, also of the same task."""
    _open(client)
    publish(1, b"model")
    broker, call = TaskBroker(client, "pi"), TASK.call
    assert broker.claim(call, "").task == TASK
    held = client.get(KEYS.order)
    client.set(KEYS.order, b"not read while the digest is the same")
    assert broker.claim(call, "").task == TASK
    client.set(KEYS.order, held)
    lowered = replace(TASK, learning_rate_factor=0.5)
    for command in order_commands(KEYS, lowered.order.to_bytes()):
        client.execute_command(*command)
    assert broker.claim(call, "").task == lowered


def test_without_an_order_nothing_can_be_claimed(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """The doorbell is void, and rung again."""
    _open(client)
    publish(1, b"model")
    client.delete(KEYS.order)
    assert TaskBroker(client, "pi").claim(TASK.call, "") == Claim("gone")
    client.hdel(KEYS.head, "order")
    assert TaskBroker(client, "pi").claim(TASK.call, "") == Claim("gone")
    assert client.exists(KEYS.owners) == 0


@pytest.mark.parametrize("order", [b"", b"\xc1", replace(TASK, campaign="other").order.to_bytes()])
def test_an_order_that_cannot_be_read_is_malformed(
    client: redis.Redis, publish: Callable[..., Head], order: bytes
) -> None:
    """Of another campaign or of no known form: nothing is done by it."""
    _open(client)
    publish(1, b"model")
    client.set(KEYS.order, order)
    with pytest.raises(RejectedUpdate):
        TaskBroker(client, "pi").claim(TASK.call, "")


# -- delivering ----------------------------------------------------------------------------------------------------


def _claimed(client: redis.Redis, publish: Callable[..., Head], worker: str = "pi") -> TaskBroker:
    _open(client)
    publish(1, bytes(INLINE_MODEL_BYTES + 1))
    broker = TaskBroker(client, worker)
    assert broker.claim(TASK, "").verdict == "ok"
    return broker


def test_a_delivery_enters_the_log_and_marks_its_task(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Header and payload are one entry; its device has said that it answered, and nobody can claim the task."""
    broker = _claimed(client, publish)
    claimed = _owner(client)
    assert broker.deliver(UPDATE, b"1234")
    assert (client.exists(KEYS.log), client.llen(KEYS.inbox)) == (0, 1)
    (entry,) = _entries(client)
    assert (entry.kind, entry.header, entry.payload) == ("u", UPDATE.to_bytes(), b"1234")
    assert abs(entry.milliseconds - client.time()[0] * 1000) < 10_000
    assert (_owner(client), _said(client, "pi")) == (claimed, b"answered")
    assert client.hlen(KEYS.pins) == 0
    assert TaskBroker(client, "laptop").claim(TASK, "") == Claim("taken")
    assert broker.claim(TASK, "") == Claim("taken")


def test_a_second_delivery_does_no_harm(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Delivered again because an answer was lost: two entries, of which the coordinator counts one."""
    broker = _claimed(client, publish)
    assert broker.deliver(UPDATE, b"1234")
    before = _owner(client)
    assert broker.deliver(UPDATE, b"1234")
    assert [entry.header for entry in _entries(client)] == [UPDATE.to_bytes()] * 2
    assert _owner(client) == before


def test_a_late_delivery_does_not_touch_the_next_attempt(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Attempt 1 arrives while attempt 2 is in another's hands: it is logged, and the other goes on undisturbed."""
    broker = _claimed(client, publish)
    _open(client, attempt=2)
    other = TaskBroker(client, "laptop")
    other.claim(SECOND, "")
    before = _owner(client)
    assert broker.deliver(UPDATE, b"1234")
    assert _owner(client) == before
    assert len(_entries(client)) == 1


def test_a_delivery_of_a_task_that_is_closed_is_logged_only(client: redis.Redis) -> None:
    """The coordinator decides what a late update is worth; no owner is made up for a task that is not out."""
    assert TaskBroker(client, "pi").deliver(UPDATE, b"1234")
    assert len(_entries(client)) == 1
    assert client.exists(KEYS.owners) == 0


def test_an_empty_payload_is_an_entry_without_one(client: redis.Redis) -> None:
    """Nothing to carry is carried as nothing."""
    assert TaskBroker(client, "pi").deliver(replace(UPDATE, payload_bytes=0), b"")
    assert [entry.payload for entry in _entries(client)] == [b""]


def test_what_a_device_says_is_bounded_by_its_tasks(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """It forgets what it said of those that nobody waits for any more."""
    broker = _claimed(client, publish)
    broker.deliver(UPDATE, b"1234")
    client.hset(KEYS.said("pi"), mapping={"0-old#3": "answered", "nonsense": "x"})
    _open(client, attempt=2)
    broker.claim(SECOND, "")
    broker.deliver(replace(UPDATE, attempt=2), b"1234")
    assert client.hgetall(KEYS.said("pi")) == {b"1-abc#2": b"answered"}


def test_a_key_that_holds_something_else_stops_no_work(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Nothing is said there, and the task is claimed, moved, answered and reported all the same."""
    client.set(KEYS.said("pi"), "no hash")
    broker = _claimed(client, publish)
    assert broker.claim(TASK, "").verdict == "ok"
    assert broker.say_moving(TASK.campaign, TASK.task_id, 1)
    assert broker.deliver(UPDATE, b"1234")
    assert broker.report(REPORT)
    assert [entry.kind for entry in _entries(client)] == ["u", "r"]


def _large(num_bytes: int) -> tuple[ModelUpdate, bytes]:
    payload = bytes(range(256)) * (num_bytes // 256) + bytes(num_bytes % 256)
    blob, num_chunks = payload_place(TASK, "pi", num_bytes)
    return replace(UPDATE, payload_bytes=num_bytes, blob=blob, num_chunks=num_chunks), payload


def test_a_large_payload_travels_beside_the_log(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Its chunks lose their expiry in the same step in which the entry appears: it can no longer end by itself."""
    broker = _claimed(client, publish)
    update, payload = _large(CHUNK_BYTES + 5)
    assert broker.deliver(update, payload)
    (entry,) = _entries(client)
    assert (entry.header, entry.payload) == (update.to_bytes(), b"")
    prefix = KEYS.blob(update.blob)
    assert [client.ttl(key) for key in chunk_keys(prefix, len(payload))] == [-1, -1]
    assert bytes(blobs.get(client, prefix, len(payload))) == payload


def test_a_campaign_that_is_not_known_is_waited_for_and_not_for_ever(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its coordinator writes it again within seconds, or nobody would ever drop what is delivered."""
    broker, (update, payload) = TaskBroker(client, "pi"), _large(CHUNK_BYTES + 5)
    client.delete(KEYS.incarnation)
    with pytest.raises(BrokerUnavailable, match="has no campaign digits-1"):
        broker.deliver(update, payload)
    client.set(KEYS.incarnation, "now")
    assert broker.deliver(update, payload)
    client.delete(KEYS.incarnation, KEYS.inbox)
    assert not broker.report(REPORT)
    monkeypatch.setattr("fl_core.broker.tasks.UNKNOWN_SECONDS", 0.0)
    assert not broker.deliver(update, payload)
    assert client.keys(f"{KEYS.blob('*')}") == []
    assert client.exists(KEYS.inbox) == 0


def test_an_inbox_that_nobody_empties_is_full_at_last(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two answers for each task that is out and some more; then devices wait with theirs."""
    _open(client)
    client.rpush(KEYS.inbox, *[b"x"] * (scripts.INBOX_SLACK + 1))
    broker = TaskBroker(client, "pi")
    assert broker.deliver(UPDATE, b"1234")
    with pytest.raises(BrokerUnavailable, match="inbox of campaign digits-1 is full"):
        broker.deliver(UPDATE, b"1234")
    assert client.llen(KEYS.inbox) == scripts.INBOX_SLACK + 2


def test_where_a_payload_travels() -> None:
    """Up to 64 KB in the entry, above that in a blob whose name says whose it is."""
    assert payload_place(TASK, "pi", INLINE_BYTES) == ("", 0)
    assert payload_place(TASK, "pi", INLINE_BYTES + 1) == ("pi:1-abc.1", 1)
    longest = "x" * 128
    assert payload_place(replace(SECOND, task_id=longest), longest, 3 * CHUNK_BYTES + 1) == (
        f"{longest}:{longest}.2", 4
    )  # fmt: skip
    assert replace(UPDATE, blob=f"{longest}:{longest}.2.abcdef").to_bytes()


def _deliver_by_hand(client: redis.Redis, update: ModelUpdate, chunks: list[str]) -> bytes:
    return scripts.Script(client, scripts.DELIVER)(
        [KEYS.inbox, KEYS.bell, KEYS.open_tasks, KEYS.pins, KEYS.incarnation, KEYS.said("pi")],
        [update.task_id, update.attempt, packed("u", update.to_bytes()), *chunks],
    )


def _half_written(client: redis.Redis) -> tuple[ModelUpdate, list[str]]:
    update, payload = _large(2 * CHUNK_BYTES)
    prefix = KEYS.blob(update.blob)
    blobs.put(client, prefix, payload, expire_seconds=UNCLAIMED_BLOB_SECONDS)
    chunks = chunk_keys(prefix, len(payload))
    client.delete(chunks[1])
    return update, chunks


def test_an_update_with_a_missing_chunk_does_not_enter_the_log(client: redis.Redis) -> None:
    """Half a payload is refused: the log never names what is not there."""
    update, chunks = _half_written(client)
    with pytest.raises(redis.ResponseError, match="MISSINGCHUNK"):
        _deliver_by_hand(client, update, chunks)
    assert _entries(client) == []


def test_the_rest_of_a_refused_payload_still_ends_by_itself(client: redis.Redis) -> None:
    """Chunks of an update that was refused keep their expiry, so that nothing stays that no entry names."""
    update, chunks = _half_written(client)
    with pytest.raises(redis.ResponseError, match="MISSINGCHUNK"):
        _deliver_by_hand(client, update, chunks)
    assert 0 < client.ttl(chunks[0]) <= UNCLAIMED_BLOB_SECONDS


def test_a_campaign_that_has_ended_takes_nothing(client: redis.Redis) -> None:
    """After the end a delivery writes nothing, and leaves no chunks behind."""
    client.set(KEYS.incarnation, "ended")
    broker = TaskBroker(client, "pi")
    assert not broker.deliver(UPDATE, b"1234")
    update, payload = _large(CHUNK_BYTES + 5)
    assert not broker.deliver(update, payload)
    assert not broker.report(REPORT)
    assert client.keys("*") == [KEYS.incarnation.encode()]


def test_an_update_that_no_reader_takes_is_not_sent(client: redis.Redis) -> None:
    """A bad field raises in the worker and writes nothing."""
    with pytest.raises(RejectedUpdate) as caught:
        TaskBroker(client, "pi").deliver(replace(UPDATE, attempt=0), b"1234")
    assert caught.value.reason is Reason.MALFORMED
    assert client.exists(KEYS.log, KEYS.inbox) == 0


# -- reporting -----------------------------------------------------------------------------------------------------


def test_its_owner_reports_the_end_of_a_task(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """The report enters the log once; the task is nobody's any more, so neither beat nor claim brings it back."""
    broker = _claimed(client, publish)
    assert broker.report(REPORT)
    assert [(entry.kind, entry.header) for entry in _entries(client)] == [("r", REPORT.to_bytes())]
    assert not broker.report(REPORT)
    assert broker.claim(TASK, "") == Claim("taken")
    assert client.hlen(KEYS.pins) == 0
    assert len(_entries(client)) == 1


def test_nobody_reports_another_s_task(client: redis.Redis, publish: Callable[..., Head]) -> None:
    """Another worker, and an owner that has delivered, are not heard."""
    broker = _claimed(client, publish)
    before = _owner(client)
    other = TaskBroker(client, "laptop")
    assert not other.report(replace(REPORT, worker="laptop"))
    assert _owner(client) == before
    assert client.hlen(KEYS.pins) == 1
    broker.deliver(UPDATE, b"1234")
    assert not broker.report(REPORT)
    assert [entry.kind for entry in _entries(client)] == ["u"]


def test_a_task_that_nobody_claimed_may_be_handed_back(client: redis.Redis) -> None:
    """A worker that cannot even begin says so before it claims anything."""
    _open(client)
    assert TaskBroker(client, "pi").report(replace(REPORT, outcome="handed_back"))
    assert [entry.kind for entry in _entries(client)] == ["r"]


# -- the inbox -----------------------------------------------------------------------------------------------------


def test_what_arrives_is_moved_in_its_order_and_once(client: redis.Redis) -> None:
    """However often it is taken in; a page at a time, and those who wait are told that there is more."""
    broker, count = TaskBroker(client, "pi"), MAX_MOVED + 3
    for attempt in range(1, count + 1):
        broker.deliver(replace(UPDATE, attempt=attempt), b"%d" % attempt)
    writer = _writer(client)
    assert writer.take_in(("PING",)) in (b"PONG", "PONG", True)
    assert writer.num_waiting == 3
    writer.take_in(("PING",))
    writer.take_in(("PING",))
    assert writer.num_waiting == 0
    assert [entry.payload for entry in scan(client, KEYS)] == [b"%d" % n for n in range(1, count + 1)]
    assert client.exists(KEYS.inbox, KEYS.bell) == 0


def test_what_came_before_a_request_is_in_the_log_before_what_comes_of_it(client: redis.Redis) -> None:
    """However much waits in the inbox when an operator's request is read: a stop merges it."""
    broker, count = TaskBroker(client, "pi"), 2 * MAX_MOVED + 3
    for attempt in range(1, count + 1):
        broker.deliver(replace(UPDATE, attempt=attempt), b"%d" % attempt)
    client.xadd(KEYS.control, {"request": "stop"})
    reader = LogReader(client, KEYS, "0-0", "0-0", _writer(client))
    entries, requests = reader.read(wait_ms=0, max_entries=10)
    assert (len(entries), len(requests)) == (10, 1)
    assert (client.llen(KEYS.inbox), client.xlen(KEYS.log)) == (0, count)


def test_an_answer_that_got_lost_loses_and_doubles_nothing(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cable is cut after the entries were moved; who reads again, or resumes, finds each of them once."""
    broker = TaskBroker(client, "pi")
    reader = LogReader(client, KEYS, "0-0", "0-0", _writer(client))
    both: Any = client.quick_both  # type: ignore[attr-defined]

    def cut(*words: Any) -> None:
        both(*words)
        raise redis.ConnectionError("the cable was cut")

    for attempt in (1, 2):
        broker.deliver(replace(UPDATE, attempt=attempt), b"%d" % attempt)
        with monkeypatch.context() as patch:
            patch.setattr(client, "quick_both", cut)
            with pytest.raises(BrokerUnavailable):
                reader.read(wait_ms=0, max_entries=64)
    entries, _ = reader.read(wait_ms=0, max_entries=64)
    assert [entry.payload for entry in entries] == [b"1", b"2"]
    assert [entry.payload for entry in _entries(client)] == [b"1", b"2"]


def test_only_the_holder_of_the_lease_takes_in(client: redis.Redis) -> None:
    """One that was fenced out, or whose server has forgotten it, moves nothing."""
    TaskBroker(client, "pi").deliver(UPDATE, b"1234")
    first = _writer(client)
    second = _writer(client)
    with pytest.raises(FencedOut):
        first.take_in(("PING",))
    client.set(KEYS.commits, b"7.1|another")
    with pytest.raises(LostData, match="older than this coordinator's memory"):
        second.take_in(("PING",))
    client.delete(KEYS.fence)
    with pytest.raises(LostData):
        second.take_in(("PING",))
    assert (client.llen(KEYS.inbox), client.exists(KEYS.log)) == (1, 0)


def test_hostile_entries_cost_themselves(client: redis.Redis) -> None:
    """Too large, of a kind that is the coordinator's, or cut off: an empty update stays of each, and the rest moves."""
    good = packed("u", b"header", b"payload")
    hostile = [
        b"", b"e5:event", b"u", b"u99999:short", b"u-1:x", b"ux:y", b"\xff\x00", b"u" + b"9" * 11 + b":",
        b"u2:ab" + bytes(MAX_ENTRY_BYTES), bytes(20 * 2**20),
    ]  # fmt: skip
    for entry in hostile:
        client.rpush(KEYS.inbox, entry, good)
    entries = _entries(client)
    while len(entries) < 2 * len(hostile):
        before, entries = len(entries), _entries(client)
        assert len(entries) > before
    assert [(entry.kind, entry.header, entry.payload) for entry in entries[::2]] == [("u", b"", b"")] * len(hostile)
    assert {(entry.kind, entry.header, entry.payload) for entry in entries[1::2]} == {("u", b"header", b"payload")}


def test_a_keeper_s_answer_takes_the_same_way(client: redis.Redis) -> None:
    """Inline or beside; its payload has the keeper's name first, as its rights say."""
    assert answers.place_of_sum("ab" * 16, "bank-a", 3, 10) == ("", 0)
    assert answers.deliver(client, KEYS.campaign, b"answer", "", memoryview(b"sum"))
    payload = bytes(INLINE_BYTES + 1)
    blob, _ = answers.place_of_sum("ab" * 16, "bank-a", 3, len(payload))
    assert blob.startswith("bank-a:")
    assert answers.deliver(client, KEYS.campaign, b"another", blob, memoryview(payload))
    assert [(entry.kind, entry.header, entry.payload) for entry in _entries(client)] == [
        ("k", b"answer", b"sum"), ("k", b"another", b""),
    ]  # fmt: skip
    assert bytes(blobs.get(client, KEYS.blob(blob), len(payload))) == payload


def test_a_reader_is_woken_by_what_arrives(server: redis.Redis, broker_server: EmbeddedServer) -> None:
    """Long before its wait ends, and it comes back with the entry."""
    server.set(KEYS.incarnation, "now")
    reader = LogReader(server, KEYS, "0-0", "0-0", _writer(server))
    with connect(broker_server.url) as other:
        late = threading.Timer(0.05, TaskBroker(other, "pi").deliver, (UPDATE, b"1234"))
        began = time.monotonic()
        late.start()
        (entry,), _ = reader.read(wait_ms=10_000, max_entries=64)
        assert time.monotonic() - began < 5
        late.join()
    assert entry.payload == b"1234"
    assert reader.read(wait_ms=0, max_entries=64) == ([], [])


# -- reading the log -----------------------------------------------------------------------------------------------


def test_the_log_is_read_in_order_and_once(client: redis.Redis) -> None:
    """A reader goes on where it stands, over both streams; a new one starts where it is told to."""
    broker = TaskBroker(client, "pi")
    for attempt in range(1, 6):
        broker.deliver(replace(UPDATE, attempt=attempt), b"%d" % attempt)
    client.xadd(KEYS.control, {"request": "pause"})
    reader = LogReader(client, KEYS, "0-0", "0-0", _writer(client))
    first, requests = reader.read(wait_ms=0, max_entries=3)
    assert [entry.payload for entry in first] == [b"1", b"2", b"3"]
    assert [fields for _, fields in requests] == [{b"request": b"pause"}]
    again = LogReader(client, KEYS, reader.position, reader.control_position)
    rest, requests = again.read(wait_ms=0, max_entries=3)
    assert ([entry.payload for entry in rest], requests) == ([b"4", b"5"], [])
    assert (reader.at_end, again.at_end) == (False, True)
    assert again.read(wait_ms=0, max_entries=3) == ([], [])
    assert [entry.payload for entry in scan(client, KEYS, after=first[1].position, page=1)] == [b"3", b"4", b"5"]


def test_a_quiet_log_is_waited_for(client: redis.Redis) -> None:
    """With nothing to read, a read lasts as long as it was told to and no longer."""
    reader = LogReader(client, KEYS, "0-0", "0-0")
    begin = _clock(client)
    assert reader.read(wait_ms=60, max_entries=3) == ([], [])
    assert 0.05 <= _clock(client) - begin < 5


def test_entries_of_any_form_are_read(client: redis.Redis) -> None:
    """What strangers append has a kind of its own, and missing fields are empty."""
    for fields in ({"x": b"1"}, {"u": b"header"}, {"e": b"event", "m": b"mac"}, {"r": b"report"}, {"p": b"payload"}):
        client.xadd(KEYS.log, fields)
    assert [(entry.kind, entry.header, entry.payload) for entry in _entries(client)] == [
        ("?", b"", b""),
        ("u", b"header", b""),
        ("e", b"event", b"mac"),
        ("r", b"report", b""),
        ("?", b"", b""),
    ]


def test_an_entry_that_is_too_long_is_passed_over(
    server: redis.Redis, broker_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes stay at the server, in both streams; whoever reads, in whichever way, finds the same entries."""
    monkeypatch.setattr(BoundedParser, "limit", 200_000)
    monkeypatch.setattr("fl_core.broker.log.MAX_ENTRY_BYTES", 50_000)
    most, feed = [0], _Reader.feed
    monkeypatch.setattr(_Reader, "feed", lambda self, *args: (feed(self, *args), most.append(self.fed))[0])
    bounded = connect(broker_server.url)
    for size in (10, 60_000, 20, 8_000_000, 30, 40_000, 40_000, 8_000_000, 40):
        server.xadd(KEYS.log, {"u": b"u" * size})
    for request in (b"pause", b"x" * 8_000_000, b"resume"):
        server.xadd(KEYS.control, {"request": request})
    server.xadd(KEYS.log, {"u": b"header", b"x" * 60_000: b""})
    sizes = [10, 0, 20, 0, 30, 40_000, 40_000, 0, 40, 0]
    reader = LogReader(bounded, KEYS, "0-0", "0-0")
    entries, requests = [], []
    while len(entries) < len(sizes):
        assert reader.peek() is not None
        page, asked = reader.read(wait_ms=0, max_entries=64)
        entries += page
        requests += [fields.get(b"request") for _, fields in asked]
    assert [entry.num_bytes for entry in entries] == sizes
    assert [entry.kind for entry in entries] == ["u" if size else "?" for size in sizes]
    assert requests == [b"pause", None, b"resume"]
    assert reader.peek() is None
    for page_size in (1, 4, 100):
        assert list(scan(bounded, KEYS, page=page_size)) == entries
    assert list(scan(bounded, KEYS, after=entries[3].position)) == entries[4:]
    assert 0 < max(most) <= 200_000


def test_the_quarantine_is_read_in_pages(client: redis.Redis) -> None:
    """All of it, the newest first, whatever a page holds; a row of another form costs that row."""
    for number in range(80):
        fields = {"reason": "malformed", "detail": str(number), "worker": "pi", "task": "", "header": b"h",
                  "payload": b"", "bytes": 0, "ms": 1}  # fmt: skip
        client.xadd(KEYS.parked, fields)
    client.xadd(KEYS.parked, {"task": "x"})
    broker = CampaignBroker(client, KEYS.campaign)
    numbers = [parked.detail for parked in broker.quarantine.newest()]
    assert numbers == [str(number) for number in reversed(range(80))]
    assert [parked.detail for parked in broker.quarantine.newest(limit=34)] == numbers[:33]


def test_the_end_of_a_log_costs_no_entry(
    server: redis.Redis, broker_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it ends, and whether it holds an entry, is known however long its entries are."""
    monkeypatch.setattr(BoundedParser, "limit", 200_000)
    broker = CampaignBroker(connect(broker_server.url), KEYS.campaign)
    assert broker.log_end() == "0-0"
    server.xadd(KEYS.log, {"u": b"u" * 1_000_000}, id="7-1")
    assert broker.log_end() == "7-1"
    assert broker.has_entry("7-1")
    assert not broker.has_entry("7-2")
