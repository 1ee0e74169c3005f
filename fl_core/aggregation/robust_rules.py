"""Rules that make one delta of many without trusting any of them: no single vote can move the result at will.

Every rule takes votes, float32 of shape ``(num_votes, num_elements)``, and gives a new vector of ``(num_elements,)``.
Sums are in float64 and in a fixed order, without BLAS, so the same votes give the same bits on every replay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fl_core.vectors import BLOCK, FloatArray
from fl_core.vectors.arithmetic import norm_and_finite

_MAX_REPEATS = 32
_SMALLEST_GAIN = 1e-6
_SMOOTHING = 1e-6


def trimmed_mean(votes: FloatArray, num_trimmed: int) -> FloatArray:
    """Of each coordinate, the mean of what is left without the ``num_trimmed`` smallest and as many largest values.

    Yin, Chen, Ramchandran and Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    ICML 2018, arXiv 1803.01498, definition 2. With 0 it is the mean.

    Args:
        votes: at least 2 ``num_trimmed`` + 1 of them.
        num_trimmed: how many from each end.

    >>> trimmed_mean(np.array([[1.0], [2.0], [900.0], [3.0], [-5.0]], np.float32), 1).tolist()
    [2.0]
    """
    result: FloatArray = np.empty(votes.shape[1], np.float32)
    for start in range(0, result.size, BLOCK):
        ranked = np.sort(votes[:, start : start + BLOCK], axis=0)
        kept = ranked[num_trimmed : len(ranked) - num_trimmed]
        result[start : start + BLOCK] = np.add.reduce(kept, axis=0, dtype=np.float64) / len(kept)
    return result


def median(votes: FloatArray) -> FloatArray:
    """The median of each coordinate; of an even number of votes, the mean of the middle two.

    Yin et al. 2018 (arXiv 1803.01498), definition 1. It is the mean with all trimmed that can be.

    >>> median(np.array([[1.0], [2.0], [900.0]], np.float32)).tolist()
    [2.0]
    """
    return trimmed_mean(votes, (len(votes) - 1) // 2)


def krum(votes: FloatArray, num_byzantine: int, num_selected: int = 1) -> FloatArray:
    """The mean of the ``num_selected`` votes with the smallest scores; one of them is Krum, more are Multi-Krum.

    A vote's score is the sum of its squared distances to the n - f - 2 others that are nearest to it. Blanchard,
    El Mhamdi, Guerraoui and Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    NIPS 2017, arXiv 1703.02757. The work is n² / 2 distances.

    Args:
        votes: n of them, at least 2 f + 3.
        num_byzantine: f, how many may be hostile.
        num_selected: at most n - f - 2.

    >>> krum(np.array([[1.0], [1.1], [1.2], [900.0], [0.9]], np.float32), num_byzantine=1).tolist()
    [1.0]
    """
    scores = krum_scores(votes, num_byzantine)
    chosen = sorted(sorted(range(len(votes)), key=scores.__getitem__)[:num_selected])
    return weighted_mean(votes[chosen], [1.0] * num_selected)


def krum_scores(votes: FloatArray, num_byzantine: int) -> list[float]:
    """Each vote's score, see ``krum``."""
    everybody = range(len(votes))
    return _scores(_squared_distances(votes), everybody, len(votes) - num_byzantine - 2)


def _squared_distances(votes: FloatArray) -> list[list[float]]:
    distances = [[0.0] * len(votes) for _ in votes]
    for i, one in enumerate(votes):
        for j in range(i):
            distances[i][j] = distances[j][i] = norm_and_finite(one, minus=votes[j]) ** 2
    return distances


def _scores(distances: Sequence[Sequence[float]], among: Sequence[int], num_nearest: int) -> list[float]:
    return [math.fsum(sorted(distances[i][j] for j in among if j != i)[:num_nearest]) for i in among]


def bulyan(votes: FloatArray, num_byzantine: int) -> FloatArray:
    """Of each coordinate, the mean of the n - 4 f values nearest to the median, of n - 2 f votes that Krum has picked.

    El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018, arXiv
    1802.07927, section 4: Krum picks one vote, which is set aside, until there are n - 2 f of them. A vote that Krum
    lets pass because it is far away in one coordinate alone then counts for nothing in that one.

    Args:
        votes: n of them, at least 4 f + 3.
        num_byzantine: f, how many may be hostile.

    >>> round(bulyan(np.array([[1.0], [1.1], [1.2], [900.0], [0.9], [1.0], [1.1]], np.float32), 1).item(), 2)
    1.07
    """
    distances, left, picked = _squared_distances(votes), list(range(len(votes))), []
    for _ in range(len(votes) - 2 * num_byzantine):
        # Two votes that are nearest to each other may have one score; then all distances decide, and not their order.
        nearest = _scores(distances, left, max(1, len(left) - num_byzantine - 2))
        scores = list(zip(nearest, _scores(distances, left, len(left)), strict=True))
        picked.append(left.pop(min(range(len(left)), key=scores.__getitem__)))
    chosen = votes[sorted(picked)]
    num_kept = len(votes) - 4 * num_byzantine
    result: FloatArray = np.empty(votes.shape[1], np.float32)
    for start in range(0, result.size, BLOCK):
        ranked = np.sort(chosen[:, start : start + BLOCK], axis=0).astype(np.float64)
        middle = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
        places = np.argsort(np.abs(ranked - middle), axis=0, kind="stable")[:num_kept]
        kept = np.take_along_axis(ranked, np.sort(places, axis=0), axis=0)
        result[start : start + BLOCK] = np.add.reduce(kept, axis=0) / num_kept
    return result


def geometric_median(votes: FloatArray) -> FloatArray:
    """The point whose distances to all votes have the smallest sum; Σ ‖z - v_i‖, not of squares.

    By Weiszfeld's method, smoothed, as in RFA: Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated
    Learning", IEEE Transactions on Signal Processing 2022, arXiv 1912.13445, algorithm 2. It begins at the
    coordinate-wise median and ends when the sum falls by less than a millionth, after at most 32 times n distances.

    >>> geometric_median(np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [900.0, 900.0]], np.float32)).round(3).tolist()
    [0.0, 0.0]
    """
    point, before = median(votes), math.inf
    for _ in range(_MAX_REPEATS):
        distances = [norm_and_finite(vote, minus=point) for vote in votes]
        total = math.fsum(distances)
        if total >= before * (1 - _SMALLEST_GAIN):
            break
        before = total
        # A vote on which the point lies would weigh infinitely much; it weighs much more than any other.
        smooth = _SMOOTHING * total / len(votes)
        if not smooth:
            break
        weights = [1 / max(distance, smooth) for distance in distances]
        scale = len(votes) / math.fsum(weights)
        point = weighted_mean(votes, [weight * scale for weight in weights])
    return point


def clipped_mean(votes: FloatArray, clip_factor: float) -> FloatArray:
    """The mean of all votes, after those that are longer than ``clip_factor`` times the median length are cut to it.

    Bounding the norm is a defence of Sun, Kairouz, Suresh and McMahan, "Can You Really Backdoor Federated Learning?",
    2019, arXiv 1911.07963; the median of the buffer takes the place of a fixed bound.

    >>> clipped_mean(np.array([[1.0], [2.0], [900.0]], np.float32), 1.0).tolist()
    [1.6666666269302368]
    """
    return weighted_mean(votes, clip_weights(votes, clip_factor))


def cosine_filtered_mean(votes: FloatArray, min_cosine: float, clip_factor: float) -> FloatArray:
    """The mean, clipped as above, of the votes whose cosine to the coordinate-wise median is above ``min_cosine``.

    After Cao, Fang, Liu and Gong, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", NDSS 2021,
    arXiv 2012.13995, who compare with an update of the server's own; with no data there, the median stands in. Where no
    vote passes, the median is the result.

    >>> cosine_filtered_mean(np.array([[1.0], [2.0], [-900.0]], np.float32), 0.0, 1.0).tolist()
    [1.5]
    """
    centre = median(votes)
    length = norm_and_finite(centre)
    weights = clip_weights(votes, clip_factor)
    kept = [i for i, vote in enumerate(votes) if dot(vote, centre) > min_cosine * length * norm_and_finite(vote)]
    return weighted_mean(votes[kept], [weights[i] for i in kept]) if kept else centre


def clip_weights(votes: FloatArray, clip_factor: float) -> list[float]:
    """For each vote min(1, ``clip_factor`` · median length / its length)."""
    lengths = [norm_and_finite(vote) for vote in votes]
    bound = clip_factor * float(np.median(lengths))
    return [1.0 if length <= bound else bound / length for length in lengths]


def weighted_mean(votes: FloatArray, weights: Sequence[float]) -> FloatArray:
    """Σ w_i v_i / n."""
    column = np.array(weights, np.float64)[:, None]
    result: FloatArray = np.empty(votes.shape[1], np.float32)
    for start in range(0, result.size, BLOCK):
        block = votes[:, start : start + BLOCK]
        result[start : start + BLOCK] = np.add.reduce(block * column, axis=0) / len(votes)
    return result


def dot(one: FloatArray, other: FloatArray) -> float:
    """The scalar product, in float64."""
    total = 0.0
    for start in range(0, one.size, BLOCK):
        total += float(np.add.reduce(one[start : start + BLOCK].astype(np.float64) * other[start : start + BLOCK]))
    return total
