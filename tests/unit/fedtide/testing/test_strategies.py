"""``same_bits`` finds the mistakes that a strategy's author makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fedtide import Contribution, Layout, Merge, Parameters, Strategy
from fedtide.testing import contributions, same_bits
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (3,)),))


class Pairs(Strategy):
    """A right one: the sum of two updates makes a version."""

    def __init__(self) -> None:
        super().__init__(LAYOUT, Parameters(np.zeros(3, np.float32)))
        self.sum: Any = np.zeros(3, np.float32)
        self.staleness: list[int] = []

    @property
    def buffer_count(self) -> int:
        return len(self.staleness)

    def offer(self, contribution: Contribution) -> Merge | None:
        self.sum += contribution.delta.values
        self.staleness.append(contribution.staleness)
        return self.flush() if len(self.staleness) == 2 else None

    def flush(self, share: float = 1.0) -> Merge | None:
        if not self.staleness:
            return None
        self.parameters.values[:] += self.sum
        self.version += 1
        merge = Merge(self.version, len(self.staleness), tuple(self.staleness), (1.0,) * len(self.staleness))
        self.sum[:], self.staleness = 0, []
        return merge

    def export_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        tensors, meta = super().export_state()
        return {**tensors, "sum": self.sum}, {**meta, "staleness": list(self.staleness)}

    def restore_state(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        super().restore_state(tensors, meta)
        self.sum = np.array(tensors["sum"])
        self.staleness = list(meta["staleness"])


def test_a_right_one_passes() -> None:
    """Given as an object, or as what makes one; with updates of one's own."""
    same_bits(Pairs())
    same_bits(Pairs)
    same_bits(Pairs(), contributions(Pairs(), 3, seed=5), pauses=[1])


class ForgetsItsSum(Pairs):
    """What waits is not in its state."""

    def restore_state(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        super().restore_state(tensors, meta)
        self.sum = np.zeros(3, np.float32)


class ForgetsWhoWaits(Pairs):
    """The buffer comes back empty."""

    def restore_state(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        super().restore_state(tensors, {**meta, "staleness": []})


class KeepsTheArrays(Pairs):
    """The caller's memory is not its own."""

    def restore_state(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        super().restore_state(tensors, meta)
        self.sum = tensors["sum"]


class DrawsFromNowhere(Pairs):
    """A generator whose state nobody saves."""

    generator = np.random.default_rng(0)

    def offer(self, contribution: Contribution) -> Merge | None:
        self.sum += self.generator.normal(size=3)
        return super().offer(contribution)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (ForgetsItsSum, "ForgetsItsSum, saved and restored after 1 of 10 updates: its state has other bits at"),
        (ForgetsWhoWaits, "ForgetsWhoWaits, saved and restored after 1 of 10 updates: its buffer_count: 0, and 1"),
        (KeepsTheArrays, "KeepsTheArrays, saved and restored after 1 of 10 updates: its state has other bits"),
        (DrawsFromNowhere, "DrawsFromNowhere: the same updates came to other bits a second time"),
    ],
)
def test_a_mistake_is_named(wrong: type[Strategy], said: str) -> None:
    """With the number of updates after which it shows."""
    with pytest.raises(AssertionError) as caught:
        same_bits(wrong)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_updates_are_of_the_kind_that_is_merged() -> None:
    """Deltas, parameters or soft labels; parts in turn; never stale behind a barrier."""
    kinds = {}
    for sends in ("delta", "parameters", "soft_labels"):
        strategy = Pairs()
        strategy.sends = sends  # type: ignore[assignment]
        kinds[sends] = {type(each.values).__name__ for each in contributions(strategy)}
    assert kinds == {"delta": {"Delta"}, "parameters": {"Parameters"}, "soft_labels": {"SoftLabels"}}
    behind = Pairs()
    behind.barrier = True
    assert {each.staleness for each in contributions(behind)} == {0}
    parted = type("Parted", (Pairs,), {"update_elements": lambda self, part: {1: 1, 2: 2}.get(part)})()
    assert [(each.part, each.delta.values.size) for each in contributions(parted, 3)] == [(1, 1), (2, 2), (1, 1)]
