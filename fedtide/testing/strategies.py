"""A strategy is what its state says: saved anywhere and restored elsewhere, it goes on to the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import numpy as np

from fl_core.aggregation import Contribution, Merge, Strategy
from fl_core.vectors import Delta, Parameters, SoftLabels

COHORT = 4
"""How many updates the cohorts of a strategy with a barrier have here."""

_VECTORS: dict[str, type[Delta] | type[Parameters] | type[SoftLabels]] = {
    "delta": Delta, "parameters": Parameters, "soft_labels": SoftLabels,
}  # fmt: skip


def contributions(strategy: Strategy, count: int = 10, seed: int = 1) -> list[Contribution]:
    """Random updates of the kind that a strategy merges, of five workers; stale ones where it has no barrier.

    Args:
        strategy: what they are for; it is not changed.
        count: how many.
        seed: of everything drawn.

    >>> from fedtide import FedBuff, Layout, Parameters
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> strategy = FedBuff(Layout((TensorSpec("w", (3,)),)), Parameters(np.zeros(3, np.float32)))
    >>> [one.staleness for one in contributions(strategy, 3)]
    [16, 8, 2]
    """
    generator = np.random.default_rng(seed)
    parts = [part for part in range(100) if strategy.update_elements(part) is not None]
    made = []
    for number in range(count):
        part = parts[number % len(parts)]
        size = strategy.update_elements(part) or 0
        values = generator.normal(size=size).astype(np.float32)
        if strategy.sends == "soft_labels":
            values = np.abs(values)
        staleness = 0 if strategy.barrier else int(generator.integers(0, 20))
        worker, metrics = f"w{generator.integers(0, 5)}", {"loss": float(generator.uniform(0, 3))}
        num_examples = int(generator.integers(1, 100))
        vector = _VECTORS[strategy.sends](values)
        made.append(Contribution(vector, num_examples, staleness, worker, metrics, part))
    return made


def replay(strategy: Strategy, log: Sequence[Contribution], first: int = 0, *, flush: bool = True) -> list[Merge]:
    """Offer updates one by one; with a barrier every fourth one ends a cohort.

    Args:
        strategy: what they are offered to.
        log: the updates.
        first: how many came before, for the cohorts.
        flush: merge what is left over at the end.
    """
    merges = []
    for number, contribution in enumerate(log, start=first + 1):
        merges.append(strategy.offer(contribution))
        if strategy.barrier and number % COHORT == 0:
            merges.append(strategy.flush())
    if flush:
        merges.append(strategy.flush())
    return [merge for merge in merges if merge is not None]


def same_bits(
    strategy: Strategy | Callable[[], Strategy], log: Sequence[Contribution] | None = None, pauses: Sequence[int] = ()
) -> None:
    """Save a strategy's state after some updates, restore it into another one that was used before, and go on.

    The state goes the way that a checkpoint takes: arrays are copied, plain values pass through msgpack. The restored
    one has to make the same merges as one that was never stopped, and to come to the same state, bit by bit.

    Args:
        strategy: one at version 0, which is copied for each trial; or what makes one, always the same.
        log: the updates; by default ten random ones.
        pauses: after how many of them to save; by default after each number there is.

    Raises:
        AssertionError: it says after how many updates, and what differs.

    >>> from fedtide import FedBuff, Layout, Parameters
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> layout = Layout((TensorSpec("w", (3,)),))
    >>> same_bits(FedBuff(layout, Parameters(np.zeros(3, np.float32)), buffer_size=3))
    """

    def make() -> Strategy:
        return copy.deepcopy(strategy) if isinstance(strategy, Strategy) else strategy()

    straight, again = make(), make()
    name = type(straight).__name__
    given = contributions(straight) if log is None else list(log)
    other = contributions(straight, 5, seed=7)
    expected = replay(straight, given)
    assert replay(again, given) == expected, f"{name}: the same updates made other merges a second time"
    assert _state(again) == _state(straight), f"{name}: the same updates came to other bits a second time"
    for pause in pauses or range(len(given) + 1):
        first, resumed = make(), make()
        merges = replay(first, given[:pause], flush=False)
        tensors, meta = first.export_state()
        saved = {key: np.array(array) for key, array in tensors.items()}
        plain = msgpack.unpackb(msgpack.packb(meta), strict_map_key=False)
        replay(resumed, other)  # what it held before must not matter
        resumed.restore_state(saved, plain)
        for array in saved.values():
            array.fill(0)  # the strategy must have copied them
        where = f"{name}, saved and restored after {pause} of {len(given)} updates"
        _same(f"{where}: its version", resumed.version, first.version)
        _same(f"{where}: its buffer_count", resumed.buffer_count, first.buffer_count)
        merges += replay(resumed, given[pause:], first=pause)
        _same(f"{where}: the merges", merges, expected)
        assert _state(resumed) == _state(straight), f"{where}: its state has other bits at the end"


def _same(what: str, found: Any, expected: Any) -> None:
    assert found == expected, f"{what}: {found!r:.300}, and {expected!r:.300} without a stop"


def _state(strategy: Strategy) -> tuple[bytes, dict[str, bytes], dict[str, Any]]:
    tensors, meta = strategy.export_state()
    return strategy.parameters.values.tobytes(), {name: array.tobytes() for name, array in tensors.items()}, meta
