"""Partitions: every example in exactly one shard, whatever the arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.data.partition import Indices, by_key, dirichlet, iid
from fl_core.errors import SpecError

SEEDS = st.integers(0, 2**32)


def _assert_partition(shards: list[Indices], num_examples: int, num_shards: int) -> None:
    assert len(shards) == num_shards
    assert sorted(np.concatenate(shards).tolist()) == list(range(num_examples))
    for shard in shards:
        assert shard.dtype == np.int64
        assert np.all(np.diff(shard) > 0)


def _same(a: list[Indices], b: list[Indices]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@given(st.integers(1, 200), st.integers(1, 20), SEEDS)
def test_iid_is_an_even_partition(num_examples: int, num_shards: int, seed: int) -> None:
    """Each example is in one shard, sizes differ by at most one, and the seed decides."""
    if num_shards > num_examples:
        with pytest.raises(SpecError, match="num_shards"):
            iid(num_examples, num_shards, seed)
        return
    shards = iid(num_examples, num_shards, seed)
    _assert_partition(shards, num_examples, num_shards)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    assert _same(shards, iid(num_examples, num_shards, seed))


@given(st.lists(st.integers(0, 5), min_size=30, max_size=200), st.integers(1, 6), st.floats(0.05, 1000), SEEDS)
def test_dirichlet_is_a_partition(labels: list[int], num_shards: int, alpha: float, seed: int) -> None:
    """Each example is in one shard of at least the asked size, and the seed decides."""
    array = np.array(labels)
    try:
        shards = dirichlet(array, num_shards, alpha, seed, min_examples=2)
    except SpecError as error:  # very skewed draws may leave a shard empty
        assert "none of 1000 draws" in str(error)
        return
    _assert_partition(shards, len(labels), num_shards)
    assert min(len(shard) for shard in shards) >= 2
    assert _same(shards, dirichlet(array, num_shards, alpha, seed, min_examples=2))


@pytest.mark.parametrize(("alpha", "least", "most"), [(0.05, 0.3, 1.0), (1000.0, 0.1, 0.13)])
def test_alpha_sets_the_skew(alpha: float, least: float, most: float) -> None:
    """The largest class of a shard is far above a tenth with a small alpha, and about a tenth with a large one."""
    labels = np.repeat(np.arange(10), 500)
    shards = dirichlet(labels, 5, alpha, seed=1)
    main = np.mean([np.bincount(labels[shard], minlength=10).max() / len(shard) for shard in shards])
    assert least <= main <= most


def test_dirichlet_proportions_have_the_right_spread() -> None:
    """A class's share of a shard has a Dirichlet's mean 1/S and variance (1/S)(1 - 1/S) / (S alpha + 1)."""
    labels = np.zeros(10_000, dtype=np.int64)
    shares = np.array([[len(s) / 10_000 for s in dirichlet(labels, 4, 0.5, seed, 0)] for seed in range(2000)])
    assert shares.mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.02)
    assert shares.var(axis=0) == pytest.approx(np.full(4, 0.25 * 0.75 / 3), rel=0.1)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), st.integers(1, 7))
def test_by_key_keeps_keys_together(keys: list[str], num_shards: int) -> None:
    """No key is in two shards, and no shard is empty."""
    array = np.array(keys)
    if num_shards > len(set(keys)):
        with pytest.raises(SpecError, match="distinct keys"):
            by_key(array, num_shards)
        return
    shards = by_key(array, num_shards)
    _assert_partition(shards, len(keys), num_shards)
    owners = [set(array[shard].tolist()) for shard in shards]
    assert all(owners)
    assert sum(len(owner) for owner in owners) == len(set(keys))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_must_be_a_concentration(alpha: float) -> None:
    """Zero, negative and infinite concentrations are refused by name."""
    with pytest.raises(SpecError, match="alpha"):
        dirichlet(np.zeros(50, dtype=np.int64), 2, alpha, 0)


def test_shards_that_cannot_be_filled_are_refused() -> None:
    """Too few examples for the smallest shards is said before any draw; hopeless skew after a bounded number."""
    with pytest.raises(SpecError, match="needs 30 examples"):
        dirichlet(np.zeros(20, dtype=np.int64), 3, 0.5, 0, min_examples=10)
    with pytest.raises(SpecError, match="none of 1000 draws"):
        dirichlet(np.zeros(40, dtype=np.int64), 4, 0.001, 0, min_examples=10)
