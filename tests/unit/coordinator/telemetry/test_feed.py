"""The feed: what monitors are told loses no update, repeats none after a resume, and stays bounded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from coordinator.telemetry.feed import MAX_LINES, MAX_NAMES, Feed
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview.feed import MAX_ENTRY_BYTES
from fl_core.wire.feed_lines import WorkerLine
from fl_core.wire.history import EvaluationLine, MergeLine, PhaseLine, ReissueLine, RejectionLine

KEYS = CampaignKeys("a")


def _merge(seconds: float, version: int, staleness: list[int], workers: list[str]) -> MergeLine:
    return MergeLine(
        seconds=seconds, version=version, merged=version, staleness=tuple(staleness), workers=tuple(workers),
        weights=(1.0,) * len(staleness), tasks=(),
    )  # fmt: skip


def _evaluation(seconds: float, version: int = 0) -> EvaluationLine:
    return EvaluationLine(seconds=seconds, version=version, merged=0, loss=1.0, metrics={})


def _lines(commands: list[Any]) -> list[dict[str, Any]]:
    found = []
    for command in commands:
        fields = dict(zip(command[6::2], command[7::2], strict=True))
        found += msgpack.unpackb(fields["l"], strict_map_key=False)
    return found


@given(st.lists(st.lists(st.tuples(st.integers(0, 200), st.sampled_from("abc")), min_size=1, max_size=4), max_size=60))
def test_no_update_is_lost_in_folding(merges: list[list[tuple[int, str]]]) -> None:
    """However merges fall into entries, the entries hold every update's staleness and worker once."""
    feed, commands = Feed(KEYS), []
    for index, updates in enumerate(merges, 1):
        seconds = 0.1 * index
        feed.add(f"{index}-0", [_merge(seconds, index, [u[0] for u in updates], [u[1] for u in updates])])
        commands += feed.commands(1, f"{index}-0", seconds)
    commands += feed.commands(1, "99-0", 100.0, flush=True)
    staleness: Counter[int] = Counter()
    workers: Counter[str] = Counter()
    for line in _lines(commands):
        staleness.update(dict(line["staleness"]))
        workers.update({name: int(row[0]) for name, row in line["workers"].items()})
    everything = [update for updates in merges for update in updates]
    assert staleness == Counter(value for value, _ in everything)
    assert workers == Counter(name for _, name in everything)


def test_refusals_for_who_sent_them_are_told_apart() -> None:
    """By reason, by name, and by the name in the certificate where it is that which did not count; names have room."""
    feed = Feed(KEYS)
    said = [("too_stale", "a"), ("revoked", "a"), ("bad_signature", "b"), ("bad_signature", None)]
    said += [("unknown_worker", f"{'x' * 60}-{index}") for index in range(100)]
    lines = [RejectionLine(seconds=1.0, reason=reason, worker=worker, task=None) for reason, worker in said]
    feed.add("1-0", lines[:4])
    (line,) = _lines(feed.commands(1, "1-0", 1.0))
    assert line["workers"] == {"a": 2, "b": 1, "": 1}
    assert line["untrusted"] == {"a": 1, "b": 1, "": 1}
    feed.add("2-0", lines[:1])
    (line,) = _lines(feed.commands(1, "2-0", 10.0))
    assert "untrusted" not in line
    feed.add("3-0", lines[4:])
    (line,) = _lines(feed.commands(1, "3-0", 20.0))
    assert line["reasons"] == {"unknown_worker": 100}
    assert 0 < len(line["untrusted"]) == len(line["workers"]) < MAX_NAMES


def test_training_time_is_not_lost_between_entries() -> None:
    """An update's training is told with the merge that takes it in, though an entry was written in between."""
    feed = Feed(KEYS)
    feed.add_training("w", 2.5)
    feed.tell(PhaseLine(seconds=1.0, state="paused"))
    first = feed.commands(1, "1-0", 1.0, flush=True)
    feed.add("2-0", [_merge(2.0, 1, [3], ["w"])])
    (line,) = _lines(feed.commands(1, "2-0", 2.0, flush=True))
    assert [line["kind"] for line in _lines(first)] == ["phase"]
    assert line["workers"] == {"w": [1, 3, 2.5]}


def test_resumed_coordinator_does_not_repeat_itself() -> None:
    """Lines of log entries that the feed covers already are left out; those after it are not."""
    feed = Feed(KEYS)
    feed.resume_after("9-1")
    for version, position in enumerate(("8-5", "9-1", "9-2", "10-0")):
        feed.add(position, [_evaluation(1.0, version)])
    assert [line["version"] for line in _lines(feed.commands(2, "10-0", 1.0))] == [2, 3]


def test_entries_keep_their_distance() -> None:
    """Ordinary news waits a four thousandth of the campaign's time; what people must see does not."""
    feed = Feed(KEYS)
    evaluation = _evaluation(0.0)
    feed.add("1-0", [evaluation])
    assert feed.commands(1, "1-0", 40_000.0)
    feed.add("2-0", [evaluation])
    assert not feed.commands(1, "2-0", 40_009.0)
    assert feed.commands(1, "2-0", 40_010.1)
    feed.tell(WorkerLine(seconds=40_010.5, worker="w", event="lost"))
    assert feed.commands(1, "3-0", 40_010.5)


def test_an_entry_is_bounded() -> None:
    """A flood of lines, reasons or names makes a line that says how much was left out, not a bigger entry."""
    feed = Feed(KEYS)
    for index in range(3 * MAX_LINES):
        feed.tell(ReissueLine(seconds=float(index), task=index, attempt=2, reason="lost"))
        feed.add(f"{index + 1}-0", [_merge(1.0, 1, [0], [f"w{index}"])])
    lines = _lines(feed.commands(1, "1-0", 1.0))
    assert sum(line["kind"] == "reissue" for line in lines) == MAX_LINES
    assert [line["lines"] for line in lines if line["kind"] == "left_out"] == [2 * MAX_LINES]
    (merges,) = [line for line in lines if line["kind"] == "merges"]
    assert len(merges["workers"]) == MAX_NAMES
    assert merges["updates"] == 3 * MAX_LINES


@given(st.lists(st.text("ab", min_size=1, max_size=128), max_size=60), st.integers(0, 600))
def test_the_number_of_entries_bounds_the_bytes(names: list[str], num_merges: int) -> None:
    """However long names are and however much happened, an entry holds no more than it may, and no update is lost."""
    told, staleness = Feed(KEYS), [index * 7 for index in range(num_merges)]
    for index, name in enumerate(names):
        told.tell(WorkerLine(seconds=float(index), worker=name, event="joined"))
    if staleness:
        told.add("1-0", [_merge(1.0, 1, staleness, [f"{'w' * 100}{index}" for index in range(num_merges)])])
    commands = told.commands(1, "1-0", 99.0, flush=True)
    for command in commands:
        assert len(command[command.index("l") + 1]) <= MAX_ENTRY_BYTES
    numbers = [command[command.index("n") + 1] for command in commands]
    assert numbers == [f"1.{index + 1}" for index in range(len(commands))]
    lines = _lines(commands)
    assert [line["worker"] for line in lines if line["kind"] == "worker"] == names
    counted = [sum(count for _, count in line["staleness"]) for line in lines if line["kind"] == "merges"]
    assert counted == ([num_merges] if staleness else [])


def test_workers_come_and_go() -> None:
    """joined when first alive or alive again, lost when silent, left when off the register; each once."""
    feed = Feed(KEYS)
    looks = [{"a": True, "b": True}, {"a": True, "b": False}, {"a": True, "b": False}, {"b": True}]
    for seconds, look in enumerate(looks):
        feed.note_workers(look, float(seconds))
    told = [(line["worker"], line["event"]) for line in _lines(feed.commands(1, "1-0", 9.0))]
    assert told == [("a", "joined"), ("b", "joined"), ("b", "lost"), ("b", "joined"), ("a", "left")]
