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
    distances = [[0.0] * len(votes) for _ in votes]
    for i, one in enumerate(votes):
        for j in range(i):
            distances[i][j] = distances[j][i] = norm_and_finite(one, minus=votes[j]) ** 2
    num_nearest = len(votes) - num_byzantine - 2
    return [math.fsum(sorted(row[:i] + row[i + 1 :])[:num_nearest]) for i, row in enumerate(distances)]


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
