"""Partitions: how one set of examples is divided over the devices of a simulation.

Each function returns ``num_shards`` arrays of int64 indices in rising order. Every example is in exactly one of them,
and the same arguments give the same arrays on every machine, so each device finds its own shard without asking.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fl_core.errors import SpecError

Indices: TypeAlias = npt.NDArray[np.int64]
Partition: TypeAlias = Literal["iid", "dirichlet", "by_label", "by_key"]

_MAX_ATTEMPTS = 1000


def iid(num_examples: int, num_shards: int, seed: int) -> list[Indices]:
    """A random division into shards whose sizes differ by at most one.

    Raises:
        SpecError: there are fewer examples than shards.
    """
    _verify_num_shards(num_shards, num_examples)
    order = np.random.default_rng(seed).permutation(num_examples)
    return [np.sort(part).astype(np.int64) for part in np.array_split(order, num_shards)]


def dirichlet(
    labels: npt.NDArray[Any], num_shards: int, alpha: float, seed: int, min_examples: int = 10
) -> list[Indices]:
    """Label skew: each class is spread over the shards in proportions drawn from a symmetric Dirichlet(``alpha``).

    This is the division by class of Yurochkin et al., ICML 2019 (arXiv 1905.12022), without its balancing step. Hsu
    et al. 2019 (arXiv 1909.06335) use the same distribution the other way round: a mixture of classes per device.
    All proportions are drawn again until each shard has ``min_examples``.

    Args:
        labels: shape ``(num_examples,)``, one class per example.
        num_shards: how many shards.
        alpha: > 0; small values give each shard few classes, large ones approach an even spread.
        seed: of all draws.
        min_examples: the least size of a shard.

    Raises:
        SpecError: an argument is out of range, or no draw of 1000 gave each shard ``min_examples``.
    """
    _verify_num_shards(num_shards, len(labels))
    if not (alpha > 0 and math.isfinite(alpha)):
        raise SpecError(f"alpha = {alpha} is not a Dirichlet concentration; use a number above 0, such as 0.5.")
    if num_shards * min_examples > len(labels):
        raise SpecError(
            f"num_shards = {num_shards} with min_examples = {min_examples} needs {num_shards * min_examples} examples "
            f"and there are {len(labels)}; lower one of them."
        )
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    for _ in range(_MAX_ATTEMPTS):
        proportions = rng.dirichlet(np.full(num_shards, alpha), size=len(classes))
        # Rounding the running total, not each share, keeps the sum of the parts equal to the class's count.
        cuts = np.floor(np.cumsum(proportions, axis=1)[:, :-1] * counts[:, None]).astype(np.int64)
        cuts = np.minimum(cuts, counts[:, None])
        edges = np.concatenate([np.zeros((len(classes), 1), np.int64), cuts, counts[:, None]], axis=1)
        if np.diff(edges, axis=1).sum(axis=0).min() >= min_examples:
            break
    else:
        raise SpecError(
            f"alpha = {alpha}: none of {_MAX_ATTEMPTS} draws gave each of {num_shards} shards {min_examples} examples; "
            "raise alpha, or lower num_shards or min_examples."
        )
    parts: list[list[Indices]] = [[] for _ in range(num_shards)]
    for label, cut in zip(classes, cuts, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        for shard, part in enumerate(np.split(members, cut)):
            parts[shard].append(part)
    return [np.sort(np.concatenate(shard)).astype(np.int64) for shard in parts]


def by_key(keys: npt.NDArray[Any], num_shards: int) -> list[Indices]:
    """Examples with the same key stay together: key j of the distinct keys in order goes to shard j mod ``num_shards``.

    For natural divisions (a writer, a hospital, a sensor), or with labels as keys for shards of few classes.

    Args:
        keys: shape ``(num_examples,)``, numbers or strings.
        num_shards: how many shards.

    Raises:
        SpecError: there are fewer distinct keys than shards.
    """
    distinct, position = np.unique(keys, return_inverse=True)
    if not 1 <= num_shards <= len(distinct):
        raise SpecError(
            f"num_shards = {num_shards} does not fit data with {len(distinct)} distinct keys; use 1 to {len(distinct)}."
        )
    return [np.flatnonzero(position % num_shards == shard).astype(np.int64) for shard in range(num_shards)]


def _verify_num_shards(num_shards: int, num_examples: int) -> None:
    if not 1 <= num_shards <= num_examples:
        raise SpecError(f"num_shards = {num_shards} does not fit {num_examples} examples; use 1 to {num_examples}.")
