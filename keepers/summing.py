"""The sum of an order's masks, with the noise that goes with it; nothing smaller ever leaves a keeper."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from fl_core.privacy.noise import rounded_gaussian
from fl_core.secure_aggregation.masks import Residues, add_mask, residues

_BLOCK = 1 << 20


def sum_of_masks(
    seeds: Sequence[Sequence[bytes]], weights: Sequence[int], order: bytes, noise: float, num_elements: int
) -> Residues:
    """Σ over seeds and updates of weight · mask, less the noise, modulo 2**32.

    The noise of a seed is drawn from what all updates sealed under its number, so it is the same whichever keeper
    answers and however often: asking twice averages nothing out. Whoever lacks that seed of one honest device cannot
    take it off.

    Args:
        seeds: for each seed that was asked for, that of each update.
        weights: of each update.
        order: the order's digest, as bytes.
        noise: the standard deviation for each seed, in units of the grid; 0 for none.
    """
    total: Residues = np.zeros(num_elements, np.uint32)
    for of_updates in seeds:
        for seed, weight in zip(of_updates, weights, strict=True):
            add_mask(total, seed, weight)
        if noise:
            total -= residues(rounded_gaussian(noise_key(of_updates, order), num_elements, noise))
    return total


def noise_key(seeds: Sequence[bytes], order: bytes) -> bytes:
    """What the noise of one seed's number is drawn from: the seeds of all updates, and the order."""
    return hashlib.blake2b(b"".join(seeds) + order, digest_size=32, person=b"fedtide noise 1").digest()
