"""Robust rules: the published formulas, on votes in any order."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.aggregation import robust_rules
from fl_core.aggregation.strategies.robust import RobustArgs, decide
from fl_core.vectors import BLOCK

Rows = npt.NDArray[np.float32]
seeds = st.integers(0, 2**32 - 1)
RULES = ("median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "norm_clip", "cosine")
ALL_RULES = (*RULES, "bulyan")


def votes(count: int, seed: int, size: int = 6) -> Rows:
    """Some votes."""
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def planted(seed: int, num_honest: int = 8, num_hostile: int = 2, size: int = 40) -> Rows:
    """Honest votes around one, and hostile ones that are far away, all in a drawn order."""
    generator = np.random.default_rng(seed)
    honest = 1.0 + 0.1 * generator.normal(size=(num_honest, size))
    hostile = -100.0 * (1.0 + 0.1 * generator.normal(size=(num_hostile, size)))
    return generator.permutation(np.concatenate([honest, hostile])).astype(np.float32)


@given(seed=seeds, count=st.integers(1, 9))
def test_median_is_numpys(seed: int, count: int) -> None:
    """Against numpy's median, for odd and even numbers of votes."""
    rows = votes(count, seed)
    expected = np.median(rows.astype(np.float64), axis=0)
    np.testing.assert_allclose(robust_rules.median(rows), expected, rtol=1e-6, atol=1e-7)


@given(seed=seeds, trim=st.integers(0, 3), more=st.integers(1, 4))
def test_trimmed_mean_drops_the_ends(seed: int, trim: int, more: int) -> None:
    """Against a sort and a mean in float64; without trimming it is the mean."""
    rows = votes(2 * trim + more, seed)
    ranked = np.sort(rows.astype(np.float64), axis=0)[trim : len(rows) - trim]
    np.testing.assert_allclose(robust_rules.trimmed_mean(rows, trim), ranked.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(robust_rules.trimmed_mean(rows, 0), rows.mean(axis=0), rtol=1e-5, atol=1e-6)


@given(seed=seeds, hostile=st.integers(0, 3), more=st.integers(0, 3))
def test_krum_scores_are_the_papers(seed: int, hostile: int, more: int) -> None:
    """Against float64: a vote's score is the sum of its n - f - 2 smallest squared distances to the others."""
    rows = votes(2 * hostile + 3 + more, seed)
    wide = rows.astype(np.float64)
    distances = ((wide[:, None] - wide[None]) ** 2).sum(axis=2)
    nearest = np.sort(distances, axis=1)[:, 1 : len(rows) - hostile - 1]  # column 0 is the distance to itself
    assert nearest.shape[1] == len(rows) - hostile - 2
    scores = robust_rules.krum_scores(rows, hostile)
    np.testing.assert_allclose(scores, nearest.sum(axis=1), rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(robust_rules.krum(rows, hostile), rows[np.argmin(nearest.sum(axis=1))])


@given(seed=seeds)
def test_multi_krum_averages_the_best(seed: int) -> None:
    """With m selected it is the mean of the m votes with the smallest scores."""
    rows = votes(9, seed)
    best = np.argsort(robust_rules.krum_scores(rows, 2))[:4]
    np.testing.assert_allclose(robust_rules.krum(rows, 2, 4), rows[best].mean(axis=0), rtol=1e-5, atol=1e-6)


@given(seed=seeds, factor=st.floats(0.3, 3))
def test_clipping_cuts_to_the_median_length(seed: int, factor: float) -> None:
    """Against float64: each vote is cut to factor times the median length, then all are averaged."""
    rows = votes(7, seed) * np.array([1, 1, 2, 3, 50, 1, 0.1], np.float32)[:, None]
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    expected = (wide * np.minimum(1, factor * np.median(lengths) / lengths)[:, None]).mean(axis=0)
    np.testing.assert_allclose(robust_rules.clipped_mean(rows, factor), expected, rtol=1e-4, atol=1e-6)


@given(seed=seeds, least=st.floats(-0.5, 0.9))
def test_cosine_filter_keeps_what_goes_the_medians_way(seed: int, least: float) -> None:
    """Against float64: votes with a cosine to the median above the bound, clipped and averaged; else the median."""
    rows = votes(6, seed) + np.float32(0.5)
    wide = rows.astype(np.float64)
    centre, lengths = np.median(wide, axis=0), np.linalg.norm(wide, axis=1)
    cosines = wide @ centre / lengths / np.linalg.norm(centre)
    if np.abs(cosines - least).min() < 1e-4:
        return
    cut = wide * np.minimum(1, np.median(lengths) / lengths)[:, None]
    expected = cut[cosines > least].mean(axis=0) if (cosines > least).any() else centre
    np.testing.assert_allclose(robust_rules.cosine_filtered_mean(rows, least, 1.0), expected, rtol=1e-4, atol=1e-5)


@given(seed=seeds, hostile=st.integers(0, 2), more=st.integers(0, 3))
def test_bulyan_is_the_papers(seed: int, hostile: int, more: int) -> None:
    """Against float64: Krum picks n - 2 f votes, one after the other; of each coordinate, the n - 4 f picked values
    that are nearest to their median are averaged."""
    rows = votes(4 * hostile + 3 + more, seed)
    left, picked = list(rows.astype(np.float64)), []
    for _ in range(len(rows) - 2 * hostile):
        distances = np.sort([[((one - other) ** 2).sum() for other in left] for one in left], axis=1)[:, 1:]
        scores = distances[:, : max(1, len(left) - hostile - 2)].sum(axis=1).round(9)
        best = int(np.lexsort((distances.sum(axis=1), scores))[0])
        picked.append(left.pop(best))
    middle = np.median(picked, axis=0)
    expected = []
    for column, centre in zip(np.transpose(picked), middle, strict=True):
        nearest = sorted(column, key=lambda value: abs(value - centre))[: len(rows) - 4 * hostile]
        expected.append(np.mean(nearest))
    np.testing.assert_allclose(robust_rules.bulyan(rows, hostile), expected, rtol=1e-4, atol=1e-5)


@given(seed=seeds)
@settings(max_examples=20)
def test_bulyan_is_not_moved_in_one_coordinate(seed: int) -> None:
    """Two hostile votes of eleven that are far away there alone, near enough for Krum to pick them."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(1.0, 0.1, size=(11, 400)).astype(np.float32)
    rows[:2, 7] += 2.0
    assert robust_rules.bulyan(rows, 2)[7] == pytest.approx(1.0, abs=0.2)


@given(seed=seeds, count=st.integers(1, 9))
def test_the_geometric_median_has_the_smallest_sum_of_distances(seed: int, count: int) -> None:
    """Smaller than that of a thousand rounds of Weiszfeld in float64 by no more than rounding, and than any vote's."""
    rows = votes(count, seed)
    wide = rows.astype(np.float64)

    def total(point: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(wide - point, axis=1).sum())

    point = wide.mean(axis=0)
    for _ in range(1000):
        weights = 1 / np.maximum(np.linalg.norm(wide - point, axis=1), 1e-12)
        point = (wide * weights[:, None]).sum(axis=0) / weights.sum()
    found = total(robust_rules.geometric_median(rows).astype(np.float64))
    assert found <= min(total(point), *map(total, wide)) * (1 + 1e-3) + 1e-6


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=20)
@given(seed=seeds)
def test_two_hostile_votes_of_ten_do_not_move_the_result(rule: str, seed: int) -> None:
    """Honest votes are near 1, hostile ones near -100: every rule but clipping stays near 1, which bounds them."""
    args = RobustArgs(rule=rule)  # type: ignore[arg-type]
    result = decide(planted(seed), args)
    if rule == "norm_clip":
        assert 0.5 < result.mean() < 0.7  # 8 votes of length 1 against 2
    else:
        np.testing.assert_allclose(result, 1.0, atol=0.5)
        assert result.mean() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("rule", ALL_RULES)
@settings(max_examples=20)
@given(seed=seeds)
def test_the_order_of_the_votes_does_not_matter(rule: str, seed: int) -> None:
    """Any permutation gives the same result; the coordinate-wise rules give the same bits."""
    args = RobustArgs(rule=rule)  # type: ignore[arg-type]
    rows = votes(11, seed, 50)
    one, other = decide(rows, args), decide(np.random.default_rng(seed + 1).permutation(rows), args)
    if rule in ("median", "trimmed_mean"):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", ALL_RULES)
def test_equal_votes_are_the_result(rule: str) -> None:
    """When all agree, that is what comes out, over several blocks."""
    row = votes(1, 0, 2 * BLOCK + 9)
    result = decide(np.repeat(row, 11, axis=0), RobustArgs(rule=rule))  # type: ignore[arg-type]
    np.testing.assert_allclose(result, row[0], rtol=1e-5)


def test_votes_of_nothing_make_nothing() -> None:
    """Lengths of 0 divide by nothing."""
    for rule in ALL_RULES:
        assert not decide(np.zeros((11, 5), np.float32), RobustArgs(rule=rule)).any()  # type: ignore[arg-type]
