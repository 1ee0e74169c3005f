"""Records: what is written is read back, and no bytes from the network do anything but that or a rejection."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fl_core.broker.bulk.head import Pointer
from fl_core.errors import Reason, RejectedUpdate
from fl_core.wire.checks import MAX_DETAIL_CHARACTERS, MAX_MEASURE
from fl_core.wire.events import CampaignEvent, EventKind
from fl_core.wire.messages import (
    Beat,
    ModelUpdate,
    OperatorRequest,
    TaskCall,
    TaskReport,
    TrainOrder,
    TrainTask,
    holding_name,
)  # fmt: skip
from fl_core.wire.record import MAX_RECORD_BYTES

IDENTIFIERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,20}", fullmatch=True)
DIGESTS = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
COUNTS = st.integers(0, 2**53 - 1)
POSITIVES = st.integers(1, 2**53 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
LABELS = TEXT.filter(str.isprintable)
SIZES = st.integers(0, 2**40)
MEASURES = st.floats(-MAX_MEASURE, MAX_MEASURE)
NUMBERS = st.dictionaries(LABELS.map(lambda name: name[:8]), MEASURES, max_size=5)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
MAPS = st.dictionaries(TEXT, PLAIN, max_size=4)

CALLS = st.builds(TaskCall, campaign=IDENTIFIERS, task_id=IDENTIFIERS, attempt=POSITIVES, queue=IDENTIFIERS)
ORDERS = st.builds(
    TrainOrder,
    campaign=IDENTIFIERS,
    incarnation=st.just("") | IDENTIFIERS,
    timeout_seconds=FINITE,
    model_factory=IDENTIFIERS,
    model_args=MAPS,
    layout_digest=DIGESTS,
    training=MAPS,
    codec=IDENTIFIERS,
    sends=st.sampled_from(["delta", "parameters", "soft_labels"]),
    learning_rate_factor=st.floats(0, 1, exclude_min=True),
)
UPDATES = st.builds(
    ModelUpdate,
    campaign=IDENTIFIERS,
    task_id=IDENTIFIERS,
    attempt=POSITIVES,
    worker=IDENTIFIERS,
    base_version=COUNTS,
    num_examples=st.integers(1, 2**40),
    sends=st.sampled_from(["delta", "parameters", "soft_labels"]),
    part=COUNTS,
    codec=IDENTIFIERS,
    layout_digest=DIGESTS,
    payload_bytes=COUNTS,
    payload_digest=DIGESTS,
    blob=st.just("") | IDENTIFIERS,
    num_chunks=COUNTS,
    bytes_down=SIZES,
    metrics=NUMBERS,
    seconds=NUMBERS,
    boxes=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
    incarnation=st.just("") | IDENTIFIERS,
    base_digest=st.just("") | DIGESTS,
    base_mac=st.just("") | DIGESTS,
)
REPORTS = st.builds(
    TaskReport,
    campaign=IDENTIFIERS,
    task_id=IDENTIFIERS,
    attempt=POSITIVES,
    worker=IDENTIFIERS,
    outcome=st.sampled_from(["failed", "handed_back"]),
    detail=TEXT,
)
EVENTS = st.builds(
    CampaignEvent,
    campaign=IDENTIFIERS,
    sequence=POSITIVES,
    kind=st.sampled_from(list(EventKind.__args__)),
    body=MAPS,
)
BEATS = st.builds(
    Beat,
    worker=IDENTIFIERS,
    state=st.sampled_from(["idle", "training", "delivering", "leaving"]),
    queues=st.lists(IDENTIFIERS, max_size=4).map(tuple),
    holding=LABELS,
    host=LABELS,
    pid=COUNTS,
    started_ms=COUNTS,
    threads=COUNTS,
    device=LABELS,
    num_done=COUNTS,
    num_failed=COUNTS,
    bytes_up=COUNTS,
    bytes_down=COUNTS,
)
RECORDS = st.one_of(CALLS, ORDERS, UPDATES, REPORTS, EVENTS, BEATS)
KINDS = [TaskCall, TrainOrder, Pointer, ModelUpdate, TaskReport, OperatorRequest, CampaignEvent, Beat]

REPORT = TaskReport(campaign="c", task_id="1-a", attempt=1, worker="w", outcome="failed", detail="it broke")
UPDATE = ModelUpdate(
    campaign="c",
    task_id="1-a",
    attempt=1,
    worker="w",
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
    metrics={"loss": 1.0},
    seconds={"train": 0.5},
    boxes=(b"seeds",),
    incarnation="life",
    base_digest="c" * 64,
    base_mac="d" * 32,
)

# Values that a strict reader must refuse wherever they stand; the bytes are msgpack.
HOSTILE = {
    "nil": b"\xc0",
    "nan": msgpack.packb(float("nan")),
    "infinity": msgpack.packb(float("-inf")),
    "bin": msgpack.packb(b"1-a"),
    "2**63": msgpack.packb(2**63),
    "-1": b"\xff",
    "not utf-8": b"\xa2\xff\xfe",
    "surrogate": b"\xa3\xed\xb2\x80",
    "never used": b"\xc1",
    "ext": b"\xd4\x05\x00",
    "empty ext": b"\xc7\x00\x05",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "empty timestamp": b"\xc7\x00\xff",
    "announces 4 GB": b"\xc6\xff\xff\xff\xff",
    "announces 2**32 items": b"\xdd\xff\xff\xff\xff",
    "announces 2**32 pairs": b"\xdf\xff\xff\xff\xff",
    "map with a number as key": b"\x81\x01\x02",
    "map with nil as key": b"\x81\xc0\x02",
    **{f"nested {depth} deep": b"\x91" * depth + b"\xc0" for depth in (1, 100, 1000, 1005, 1022, 1024, 30_000)},
    **{f"maps nested {depth} deep": b"\x81\xa1a" * depth + b"\xc0" for depth in (1, 1005, 20_000)},
}


def _refused(kind: Any, data: bytes) -> RejectedUpdate:
    with pytest.raises(RejectedUpdate) as caught:
        kind.from_bytes(data)
    assert caught.value.reason is Reason.MALFORMED
    return caught.value


def _accepts_or_refuses(kind: Any, data: bytes) -> None:
    """Any other exception fails the test; what is accepted can be shown and written again."""
    with contextlib.suppress(RejectedUpdate):
        record = kind.from_bytes(data)
        assert kind.from_bytes(record.to_bytes()).to_bytes() == record.to_bytes()
        assert repr(record)


def _replaced(record: Any, name: str, value: bytes) -> bytes:
    """The record's bytes with one field's value replaced by raw msgpack."""
    fields = msgpack.unpackb(record.to_bytes())
    return (
        b"\xde"
        + len(fields).to_bytes(2, "big")
        + b"".join(msgpack.packb(key) + (value if key == name else msgpack.packb(own)) for key, own in fields.items())
    )


# -- what must work ------------------------------------------------------------------------------------------------


@given(RECORDS)
def test_what_is_written_is_read_back(record: Any) -> None:
    """Every record survives its bytes unchanged, whatever acceptable values it holds."""
    assert type(record).from_bytes(record.to_bytes()) == record
    assert type(record).from_bytes(memoryview(record.to_bytes())) == record


def test_an_event_may_issue_as_many_tasks_as_a_spec_allows() -> None:
    """dispatch.concurrency goes up to 100 000, and the event that issues them all is one record that can be read."""
    event = CampaignEvent(campaign="c", sequence=2, kind="issued", body={"queues": ["q" * 64] * 100_000})
    assert CampaignEvent.from_bytes(event.to_bytes()) == event


def test_the_largest_update_header_fits() -> None:
    """An update with every field at its longest is under the size that readers allow."""
    numbers = {"é" * 31 + f"{i:02}": -MAX_MEASURE for i in range(64)}
    name = "a" * 128
    record = ModelUpdate(
        **{**{f: getattr(UPDATE, f) for f in UPDATE.__slots__}, "campaign": name, "task_id": name, "worker": name},
    )
    record = ModelUpdate(
        **{**{f: getattr(record, f) for f in record.__slots__}, "metrics": numbers, "seconds": numbers}
    )
    assert ModelUpdate.from_bytes(record.to_bytes()) == record


def test_the_holding_name_joins_what_identifies_an_attempt() -> None:
    """Two attempts of one task have different names, so that a beat tells which of them a worker has."""
    assert holding_name("c", "1-a", 1) == "c/1-a#1" != holding_name("c", "1-a", 2)


# -- what must be refused ------------------------------------------------------------------------------------------


@given(st.sampled_from(KINDS), st.binary(max_size=300))
@example(TaskReport, b"")
@example(TaskReport, b"\x80")
@example(TaskReport, b"\x81\xa1v\x01")
@example(Beat, msgpack.packb([1, 2, 3]))
def test_arbitrary_bytes_do_nothing_but_a_rejection(kind: Any, data: bytes) -> None:
    """Bytes that nobody of ours wrote are refused as malformed; nothing else is ever raised."""
    _refused(kind, data)


@given(RECORDS, st.data())
def test_a_truncated_record_is_refused(record: Any, data: st.DataObject) -> None:
    """No prefix of a record is a record."""
    packed = record.to_bytes()
    _refused(type(record), packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(RECORDS, st.binary(min_size=1, max_size=5))
def test_trailing_bytes_are_refused(record: Any, tail: bytes) -> None:
    """A record with something behind it is not exactly one record."""
    _refused(type(record), record.to_bytes() + tail)


@given(RECORDS, st.data())
def test_mutated_records_are_read_or_refused(record: Any, data: st.DataObject) -> None:
    """Any byte of a record may flip: what comes is a valid record or a rejection, never another exception."""
    packed = bytearray(record.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    _accepts_or_refuses(type(record), bytes(packed))


@given(RECORDS, st.data())
def test_a_missing_field_is_refused(record: Any, data: st.DataObject) -> None:
    """Every field is needed, the format's version too."""
    fields = msgpack.unpackb(record.to_bytes())
    del fields[data.draw(st.sampled_from(sorted(fields)))]
    _refused(type(record), msgpack.packb(fields))


@given(RECORDS, st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.binary(max_size=8), PLAIN)
def test_an_unknown_field_is_refused(record: Any, name: str | bytes, value: Any) -> None:
    """A field that the format does not have is refused, whatever it holds, and the error says that it is unknown."""
    fields = msgpack.unpackb(record.to_bytes())
    if name not in fields:
        assert "unknown" in _refused(type(record), msgpack.packb({**fields, name: value})).detail


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("name", [*UPDATE.__slots__, "v"])
def test_no_field_of_an_update_takes_a_hostile_value(name: str, value: bytes) -> None:
    """NaN, nil, extension types, huge or negative integers, false lengths and nested bombs pass in no field."""
    _refused(ModelUpdate, _replaced(UPDATE, name, value))


@pytest.mark.parametrize("value", [v for k, v in HOSTILE.items() if k[0] != "m" and k not in ("nil", "-1", "2**63")])
def test_nested_maps_hold_plain_values_only(value: bytes) -> None:
    """Inside a map too, extension types, broken text and deep nesting are refused or harmless."""
    event = CampaignEvent(campaign="c", sequence=1, kind="opened", body={"a": "HERE"})
    _accepts_or_refuses(CampaignEvent, event.to_bytes().replace(b"\xa4HERE", value))
    for forbidden in (b"\xc7\x00\x05", b"\x91" * 17 + b"\xc0"):
        _refused(CampaignEvent, event.to_bytes().replace(b"\xa4HERE", forbidden))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempt", True),
        ("attempt", 0),
        ("attempt", 1.0),
        ("attempt", "1"),
        ("attempt", 2**53),
        ("base_version", True),
        ("base_version", -1),
        ("num_examples", 0),
        ("num_examples", False),
        ("campaign", ""),
        ("campaign", "a b"),
        ("campaign", "a\n"),
        ("campaign", "../a"),
        ("campaign", "é"),
        ("campaign", "a" * 129),
        ("worker", "a|b"),
        ("sends", "weights"),
        ("layout_digest", "A" * 32),
        ("layout_digest", "a" * 15),
        ("payload_digest", "a" * 65),
        ("blob", "a/b"),
        ("blob", None),
        ("metrics", {"loss": float("nan")}),
        ("metrics", {"loss": True}),
        ("metrics", {"loss": "1"}),
        ("metrics", {"loss": [1.0]}),
        ("metrics", {"a" * 65: 1.0}),
        ("metrics", {str(i): 1.0 for i in range(65)}),
        ("seconds", {"train": float("inf")}),
        ("seconds", []),
        ("v", True),
        ("v", 1.0),
        ("v", 3),
        ("v", "1"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    """Each field has its own check, a bool is no integer, and the rejection names the field."""
    fields = msgpack.unpackb(UPDATE.to_bytes())
    error = _refused(ModelUpdate, msgpack.packb({**fields, name: value}))
    assert (repr(name) if name != "v" else "format version") in error.detail
    assert len(error.detail) < 400


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_bounded_before_anything_is_decoded(kind: Any) -> None:
    """Bytes beyond the record's limit are refused for their number, not for what they hold."""
    assert f"of {kind.max_bytes + 1} bytes" in _refused(kind, bytes(kind.max_bytes + 1)).detail
    assert f"of {kind.max_bytes} bytes" not in _refused(kind, bytes(kind.max_bytes)).detail


def test_a_rejection_shows_only_a_part_of_a_long_value() -> None:
    """The log line about 60 KB of rubbish is short."""
    fields = msgpack.unpackb(REPORT.to_bytes())
    error = _refused(TaskReport, msgpack.packb({**fields, "task_id": "x" * 60_000}))
    assert len(error.detail) < 250


@pytest.mark.parametrize(
    "record",
    [
        TaskReport(campaign="c", task_id="1", attempt=1, worker="w", outcome="failed", detail="\udc80"),
        TaskReport(campaign="c", task_id="1", attempt=0, worker="w", outcome="failed", detail=""),
        TaskReport(
            campaign="c", task_id="1", attempt=1, worker="w", outcome="failed", detail="x" * (MAX_DETAIL_CHARACTERS + 1)
        ),
        CampaignEvent(campaign="c", sequence=1, kind="opened", body={"a": object()}),
        CampaignEvent(campaign="c", sequence=1, kind="opened", body={"a": 2**64}),
        CampaignEvent(campaign="c", sequence=1, kind="opened", body={1: 1}),
        CampaignEvent(campaign="c", sequence=1, kind="forgotten", body={}),
    ],
)
def test_what_no_reader_would_take_is_not_written(record: Any) -> None:
    """A writer checks its own record, so that a mistake shows where it was made."""
    with pytest.raises(RejectedUpdate) as caught:
        record.to_bytes()
    assert caught.value.reason is Reason.MALFORMED


def test_a_record_that_became_too_long_is_not_written() -> None:
    """A record above the readers' limit is refused by its writer."""
    task = TrainOrder(
        campaign="c",
        timeout_seconds=1.0,
        model_factory="a:b",
        model_args={"text": "x" * MAX_RECORD_BYTES},
        layout_digest="a" * 32,
        training={},
        codec="fp32",
        sends="delta",
    )
    with pytest.raises(RejectedUpdate, match="more than 65536"):
        task.to_bytes()


def test_reading_records_needs_no_torch() -> None:
    """The parent of a worker reads records and must stay small: torch, celery and redis are not imported for it."""
    code = "import sys, fl_core.wire.messages, fl_core.factory, fl_core.errors; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "fl_core.wire.messages" in loaded
    assert not loaded & {"torch", "numpy", "celery", "redis", "pydantic"}


@pytest.mark.parametrize("part", [-1, 1.0, True, "1", None, 2**53])
def test_a_part_is_a_count(part: Any) -> None:
    """Nothing else is sent or taken."""
    with pytest.raises(RejectedUpdate, match="'part'"):
        replace(UPDATE, part=part).to_bytes()


@pytest.mark.parametrize("factor", [0, 0.0, -0.5, 1.0001, float("nan"), "1"])
def test_a_learning_rate_can_only_be_lowered(factor: Any) -> None:
    """The coordinator's factor is above 0 and at most 1."""
    task = TrainOrder(
        campaign="c", timeout_seconds=1.0, model_factory="a:b", model_args={},
        layout_digest="a" * 32, training={}, codec="fp32", sends="delta", learning_rate_factor=factor,
    )  # fmt: skip
    with pytest.raises(RejectedUpdate, match="'learning_rate_factor'"):
        task.to_bytes()


@given(CALLS, ORDERS)
def test_a_task_is_what_was_called_for_done_as_ordered(call: TaskCall, order: TrainOrder) -> None:
    """The two parts that travel make one task, and come out of it again."""
    task = TrainTask.of(call, order)
    assert task.order == order
    assert task.call == replace(call, campaign=order.campaign)


# -- one format back -----------------------------------------------------------------------------------------------

ORDER = TrainOrder(
    campaign="c", timeout_seconds=1.0, model_factory="a:b", model_args={},
    layout_digest="a" * 32, training={}, codec="fp32", sends="delta",
)  # fmt: skip
NAMED = {"incarnation": "a", "base_digest": "c" * 64, "base_mac": "d" * 32}
SINCE = [
    (replace(UPDATE, boxes=(), incarnation="", base_digest="", base_mac=""), NAMED),
    (ORDER, {"incarnation": "a"}),
]


@pytest.mark.parametrize(("record", "changes"), SINCE, ids=["update", "order"])
def test_the_format_before_is_written_where_nothing_is_new_and_read_in_any_case(record: Any, changes: Any) -> None:
    """Programs of the release before understand it; one that has what is new is refused by them in one sentence."""
    kind = type(record)
    before = msgpack.unpackb(record.to_bytes())
    assert before["v"] == kind.version - 1
    assert not before.keys() & changes.keys()
    assert kind.from_bytes(record.to_bytes()) == record
    new = replace(record, **changes)
    fields = msgpack.unpackb(new.to_bytes())
    assert (fields["v"], fields.keys() - before.keys()) == (kind.version, {*kind.since})
    assert kind.from_bytes(new.to_bytes()) == new
    for wrong in ({**fields, "v": kind.version - 1}, {**before, "v": kind.version}, {**before, "v": kind.version - 2}):
        _refused(kind, msgpack.packb(wrong))
