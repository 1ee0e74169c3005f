"""A user's own code that raises while a log entry is applied: the entry does not count, and nothing is lost.

Each case breaks one method after it has done half of its work, applies the entry that calls it, mends the code and goes
on from the checkpoint before: the campaign has to come to what it would have been without a fault.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest

from fedtide import Codec, Contribution, Layout, Merge, Parameters, Strategy
from fedtide.testing import LogByHand
from fl_core.errors import InvariantError, UserCodeError

NAN = float("nan")
BROKEN: set[str] = set()
"""What raises now."""


def may_break(call: str) -> None:
    """Where a fault is."""
    if call in BROKEN:
        raise ZeroDivisionError(call)


class Triples(Strategy):
    """Three updates make a version, or whatever waits at a flush."""

    def __init__(self, layout: Layout, initial: Parameters) -> None:
        super().__init__(layout, initial)
        may_break("__init__")
        self.rate = 1.0
        self.waiting: list[Any] = []

    @property
    def buffer_count(self) -> int:
        may_break("buffer_count")
        return len(self.waiting)

    def offer(self, contribution: Contribution) -> Merge | None:
        self.waiting = [*self.waiting, contribution.values.values.tolist()]
        may_break("offer")
        return self.flush() if len(self.waiting) == 3 else None

    def flush(self, share: float = 1.0) -> Merge | None:
        if not self.waiting:
            return None
        self.parameters.values[:] += np.float32(self.rate) * np.mean(self.waiting, axis=0).astype(np.float32)
        may_break("flush")
        count, self.waiting = len(self.waiting), []
        self.version += 1
        return Merge(self.version, count, (0,) * count, (1.0,) * count)

    def slow(self, factor: float) -> None:
        self.rate *= factor
        may_break("slow")

    def update_elements(self, part: int) -> int | None:
        may_break("update_elements")
        return super().update_elements(part)

    def base_weights(self, staleness: int) -> Any:
        may_break("base_weights")
        return super().base_weights(staleness)

    def export_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        may_break("export_state")
        tensors, meta = super().export_state()
        return tensors, {**meta, "waiting": self.waiting}

    def restore_state(self, tensors: Any, meta: Any) -> None:
        super().restore_state(tensors, meta)
        may_break("restore_state")
        self.waiting = list(meta["waiting"])


class Whole(Triples):
    """The same for parameters."""

    sends = "parameters"


class Cohorts(Triples):
    """The same behind a barrier, where the end of a cohort merges."""

    barrier = True

    def offer(self, contribution: Contribution) -> Merge | None:
        self.waiting = [*self.waiting, contribution.values.values.tolist()]
        return None


class Bytes(Codec):
    """The bytes of float32."""

    def encode(self, values: Any, seed: int) -> bytes:
        return bytes(values.tobytes())

    def max_payload_bytes(self, num_elements: int) -> int:
        may_break("max_payload_bytes")
        return 4 * num_elements

    def decode(self, payload: Any, num_elements: int) -> Any:
        may_break("decode")
        return np.frombuffer(payload, np.float32, count=num_elements)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("users")
    for made in (Triples, Whole, Cohorts, Bytes):
        setattr(module, made.__name__, made)
    monkeypatch.setitem(sys.modules, "users", module)
    yield
    BROKEN.clear()


SECTIONS: dict[str, Any] = {
    "aggregation": {"strategy": "users:Triples"},
    "codec": {"name": "users:Bytes"},
    "evaluation": {"data": "a:b"},
    "stop": {"updates": 8},
}
FAULTS: list[tuple[str, str, dict[str, Any], str]] = [
    # what breaks, at which entry, under which sections, what is said
    ("offer", "update", {}, "'users:Triples': offer(contribution) raised ZeroDivisionError: offer"),
    ("flush", "update", {}, "'users:Triples': offer(contribution) raised ZeroDivisionError: flush"),
    ("flush", "merge_due", {}, "'users:Triples': flush(share) raised ZeroDivisionError: flush"),
    ("flush", "stopped", {}, "'users:Triples': flush(share) raised ZeroDivisionError: flush"),
    ("flush", "cohort", {"aggregation": {"strategy": "users:Cohorts"}}, "flush(share) raised ZeroDivisionError: flush"),
    ("flush", "last", {"stop": {"updates": 2}}, "flush(share) raised ZeroDivisionError: flush"),
    ("buffer_count", "update", {}, "reading version, parameters or buffer_count raised ZeroDivisionError"),
    ("slow", "diverged", {}, "'users:Triples': slow(factor) raised ZeroDivisionError: slow"),
    ("__init__", "diverged", {}, "cannot be built: ZeroDivisionError: __init__; mend it and go on with --resume."),
    (
        "base_weights", "update", {"aggregation": {"strategy": "users:Whole", "max_update_norm": 1e9}},
        "'users:Whole': base_weights(staleness) raised ZeroDivisionError",
    ),
    ("max_payload_bytes", "first", {}, "'users:Bytes': max_payload_bytes(64) raised ZeroDivisionError"),
]  # fmt: skip


def _course(log: LogByHand, entry: str) -> list[Callable[[], Any]]:
    """What comes before the entry, the entry, and the rest."""
    evaluated = [
        lambda version=version, loss=loss: log.event(
            "evaluated", {"version": version, "loss": loss, "accuracy": None, "num_examples": 5}
        )
        for version, loss in ((0, 1.0), (0, NAN))
    ]
    updates = [lambda number=number: log.update(number) for number in range(1, 9)]
    match entry:
        case "merge_due":
            decisive = lambda: log.event("merge_due", {"version": 0})  # noqa: E731
            return [*updates[:2], decisive, *updates[2:]]
        case "stopped":
            decisive = lambda: log.event("stopped", {"reason": "asked", "control": "7-0"})  # noqa: E731
            return [*updates[:2], decisive]
        case "cohort":
            return updates
        case "diverged":
            return [*evaluated[:1], *updates[:2], evaluated[1], *updates[2:]]
        case "last":
            return updates[:2]
        case _:
            return updates


@pytest.mark.parametrize(("call", "entry", "changes", "said"), FAULTS)
def test_a_fault_costs_no_entry(call: str, entry: str, changes: dict[str, Any], said: str) -> None:
    """One sentence, a state that nobody goes on with, and after mending the same campaign as without the fault."""
    sections = {**SECTIONS, **changes}
    straight, broken = LogByHand(**sections).open(8), LogByHand(**sections).open(8)
    for make in _course(straight, entry):
        straight.apply(make())
    resumed, raised = broken.state, 0
    decisive = {"merge_due": 2, "stopped": 2, "diverged": 3, "cohort": 7, "last": 1, "first": 0}.get(entry, 2)
    for place, make in enumerate(_course(broken, entry)):
        line = make()
        if place == decisive:
            checkpoint = _saved(broken)
            BROKEN.add(call)
            with pytest.raises(UserCodeError) as caught:
                broken.state.apply(line)
            BROKEN.clear()
            assert said in str(caught.value)
            assert "\n" not in str(caught.value)
            for no_more in (broken.state.export, lambda: broken.state.apply(line)):  # noqa: B023
                with pytest.raises(InvariantError, match="was applied in part"):
                    no_more()
            resumed = broken.state = _loaded(broken, checkpoint)
            raised += 1
        broken.apply(line)
    assert raised == 1
    assert broken.fingerprint(resumed) == straight.fingerprint()
    assert [line.to_map() for line in broken.lines] == [line.to_map() for line in straight.lines]
    assert straight.state.phase.is_over or entry == "diverged"  # which has lost two updates


def _saved(log: LogByHand) -> tuple[dict[str, Any], bytes]:
    tensors, meta = log.state.export()
    return {name: np.array(array) for name, array in tensors.items()}, msgpack.packb(meta)


def _loaded(log: LogByHand, checkpoint: tuple[dict[str, Any], bytes]) -> Any:
    state = log.new_state()
    state.restore(checkpoint[0], msgpack.unpackb(checkpoint[1], strict_map_key=False))
    return state


@pytest.mark.parametrize(("call", "words"), [("export_state", "export_state()"), ("restore_state", "restore_state(")])
def test_a_state_that_cannot_be_had_is_one_sentence(call: str, words: str) -> None:
    """At a checkpoint, and at a resume: the checkpoint before is as good as it was, for code that is mended."""
    log = LogByHand(**SECTIONS).open(8)
    log.apply(log.update(1))
    checkpoint = _saved(log)
    fresh = log.new_state()
    BROKEN.add(call)
    with pytest.raises(UserCodeError, match="mend it and go on with --resume") as caught:
        if call == "export_state":
            log.state.export()
        else:
            fresh.restore(checkpoint[0], msgpack.unpackb(checkpoint[1], strict_map_key=False))
    assert words in str(caught.value)
    BROKEN.clear()
    assert log.fingerprint(_loaded(log, checkpoint)) == log.fingerprint()


@pytest.mark.parametrize("call", ["decode", "update_elements"])
def test_what_a_stranger_may_cause_costs_that_update_alone(call: str) -> None:
    """A payload that the codec cannot read, a part that the strategy does not know: refused, and no more."""
    log = LogByHand(**SECTIONS).open(8)
    entry = log.update(1)
    BROKEN.add(call)
    (refusal,) = log.apply(entry).refusals
    BROKEN.clear()
    assert refusal.reason.value == "malformed"
    log.apply(log.update(2))
    assert log.state.strategy.buffer_count == 1
