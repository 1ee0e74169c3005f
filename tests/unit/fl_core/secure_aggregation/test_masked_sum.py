"""The opened sum is the plain sum of integers, bit for bit; whoever is away, and at the edges of the modulus."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import CampaignError
from fl_core.privacy.grid import RESOLUTION
from fl_core.secure_aggregation.bounds import MAX_UPDATES, WEIGHTS
from fl_core.secure_aggregation.masked_sum import MaskedSum, weight_steps
from fl_core.secure_aggregation.masks import Residues, whole_numbers
from fl_core.secure_aggregation.terms import Terms
from tests.unit.keepers.federation import Federation

TERMS = Terms(keepers=("a", "b", "c"), colluders=1, min_devices=2, noise=0.0, num_elements=3)


@pytest.mark.parametrize(("keepers", "colluders"), [(2, 1), (3, 1), (5, 2)])
def test_the_sum_is_exact_whoever_is_away(tmp_path: Path, keepers: int, colluders: int) -> None:
    """Random updates, some longer than the clip, random weights; each set of keepers that suffices opens it."""
    federation = Federation(tmp_path, keepers, colluders, num_elements=1000)
    rng = np.random.default_rng(keepers)
    vectors = [rng.standard_normal(1000).astype(np.float32) * np.float32(scale) for scale in (0.01, 0.05, 3.0)]
    for present in combinations(federation.names, colluders + 1):
        one, plain = federation.sum_of(vectors, [int(weight) for weight in rng.integers(1, 17, 3)])
        asked = federation.open(one, present)
        assert set(asked) <= set(present)
        assert not one.missing
        assert np.array_equal(whole_numbers(one.total), plain)
        assert one.norm() == pytest.approx(float(np.linalg.norm(plain)))
        assert one.norm() <= one.norm_bound


def test_no_sum_overflows() -> None:
    """All of them with all of their norm in one element, the same way: the largest sum that there can be, and -it."""
    one = MaskedSum(TERMS)
    longest = np.array([RESOLUTION, -RESOLUTION, 0], np.int64).astype(np.uint32)
    for number in range(MAX_UPDATES):
        one.add(longest, WEIGHTS, header=b"h", staleness=0, device=str(number))
    assert whole_numbers(one.total).tolist() == [2**31 - 2**20, 2**20 - 2**31, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 16)), min_size=1, max_size=20))
def test_adding_is_arithmetic_modulo_two_to_the_32(rows: list[tuple[int, int]]) -> None:
    """With residues of any size."""
    one = MaskedSum(TERMS)
    for value, weight in rows:
        one.add(np.full(3, value, np.uint32), weight, header=b"h", staleness=0, device="d")
    assert one.total.tolist() == [sum(value * weight for value, weight in rows) % 2**32] * 3


def test_weights_are_whole_16ths_from_one_up() -> None:
    """However old an update is, it counts something."""
    assert [weight_steps(weight) for weight in (1.0, 0.97, 0.5, 1 / 16, 1e-9)] == [16, 16, 8, 1, 1]


def test_masks_are_taken_off_once(tmp_path: Path) -> None:
    """A second answer, one that overlaps with another, or one for nothing changes nothing."""
    federation = Federation(tmp_path)
    one, plain = federation.sum_of([np.full(5, 0.1, np.float32), np.full(5, -0.3, np.float32)])
    reply = federation.reply("keeper-0", one.order, (1, 2))
    assert reply is not None
    masks: Residues = np.frombuffer(reply.payload, "<u4").astype(np.uint32)
    assert one.take((1, 2), masks)
    before = one.total.copy()
    for seeds in ((1, 2), (1,), (0, 1), (), (7,)):
        assert not one.take(seeds, masks)
    assert np.array_equal(one.total, before)
    last = federation.reply("keeper-2", one.order, (0,))
    assert last is not None and one.take((0,), np.frombuffer(last.payload, "<u4"))
    assert np.array_equal(whole_numbers(one.total), plain)


def test_who_refuses_is_not_asked_again_and_a_sum_without_holders_is_hopeless(tmp_path: Path) -> None:
    """Of three keepers one may refuse; of each seed somebody is left."""
    federation = Federation(tmp_path)
    one, _ = federation.sum_of([np.full(5, 0.1, np.float32)] * 2)
    one.refused_by.add("keeper-0")
    assert "keeper-0" not in one.asked(federation.names)
    assert not one.is_hopeless
    one.refused_by.add("keeper-2")
    assert one.is_hopeless


def test_a_wrong_answer_shows_in_the_norm(tmp_path: Path) -> None:
    """Masks that are not those: the sum is chance, and far longer than any sum of clipped updates."""
    federation = Federation(tmp_path, num_elements=100)
    one, _ = federation.sum_of([np.full(100, 0.01, np.float32)] * 3)
    one.take((0, 1, 2), np.zeros(100, np.uint32))
    assert one.norm() > 1000 * one.norm_bound


@pytest.mark.parametrize("weights", [(16, 16, 16), (1, 5, 16)])
def test_the_noise_of_keepers_is_in_the_sum_and_within_its_bound(tmp_path: Path, weights: tuple[int, ...]) -> None:
    """Its deviation is that of all seeds together, it is the same whoever answers, and another one in another sum."""
    federation = Federation(tmp_path, num_elements=20_000, noise=5000.0)
    vectors = [np.full(20_000, 0.001, np.float32)] * 3
    one, plain = federation.sum_of(vectors, weights)
    again = MaskedSum.restored(one.terms, one.export(), one.total)
    federation.open(one, ("keeper-0", "keeper-1"))
    federation.open(again, ("keeper-2", "keeper-1"))
    noise = whole_numbers(one.total) - plain
    assert np.array_equal(one.total, again.total)
    assert float(noise.std()) == pytest.approx(5000 * 3**0.5, rel=0.03)
    assert abs(float(noise.mean())) < 5 * 5000 * 3**0.5 / 20_000**0.5
    assert one.norm() <= one.norm_bound
    other, plain = federation.sum_of(vectors, weights)
    federation.open(other)
    fresh = whole_numbers(other.total) - plain
    assert abs(float(np.corrcoef(noise, fresh)[0, 1])) < 0.05


def test_a_sum_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """To the same order and the same bits; without its sum, or for another model, it does not."""
    federation = Federation(tmp_path)
    one, plain = federation.sum_of([np.full(5, 0.1, np.float32)] * 2)
    reply = federation.reply("keeper-0", one.order, (1, 2))
    assert reply is not None
    one.take((1, 2), np.frombuffer(reply.payload, "<u4"))
    restored = MaskedSum.restored(one.terms, one.export(), one.total.copy())
    assert (restored.digest, restored.missing) == (one.digest, {0})
    federation.open(restored)
    assert np.array_equal(whole_numbers(restored.total), plain)
    for total in (None, np.zeros(4, np.uint32)):
        with pytest.raises(CampaignError, match="does not fit"):
            MaskedSum.restored(one.terms, one.export(), total)
