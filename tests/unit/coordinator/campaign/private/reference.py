"""A second way to the same noise and the same merge: one number at a time, with Python's own integers and logarithm."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

R = 1 << 16
PAIRS = 10880


def gaussian(key: bytes, size: int, deviation: float) -> list[int]:
    """Rounded noise by Marsaglia and Bray's polar method; of one block of candidates, so ``size`` is at most 8192."""
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(16 * PAIRS))
    drawn = [(2 * (word >> 11) + 1) / 2**53 - 1 for word in struct.unpack(f"<{2 * PAIRS}Q", stream)]
    values: list[int] = []
    for x, y in zip(drawn[:PAIRS], drawn[PAIRS:], strict=True):
        s = x * x + y * y
        if s < 1 and len(values) < size:
            values.append(round(x * (math.sqrt(-2 * math.log(s) / s) * deviation)))
    return values


def key_of(secret: bytes, campaign: str, version: int, merges: Sequence[Sequence[tuple[str, bytes, float]]]) -> bytes:
    """The key of the last merge's noise, of (position, payload, weight) for each update of each merge so far."""
    transcript = bytes(32)
    for position, payload, weight in (update for merge in merges for update in merge):
        said = struct.pack(">I", len(position)) + position.encode() + blake3(payload).digest()
        one = hashlib.blake2b(said + struct.pack(">d", weight), digest_size=32, person=b"fedtide update 1").digest()
        transcript = hashlib.blake2b(transcript + one, digest_size=32, person=b"fedtide merged 1").digest()
    words = b"fedtide noise 1 sum\0" + struct.pack(">IQ", len(campaign), version) + campaign.encode() + transcript
    return hashlib.blake2b(words, key=secret, digest_size=32).digest()


def mean(
    updates: Sequence[Sequence[float]], weights: Sequence[float], key: bytes, *, clip: float, z: float, k: int
) -> np.ndarray:
    """Σ of updates that are within the clip, and their noise, divided by K: float64."""
    total = [0] * len(updates[0])
    for values, weight in zip(updates, weights, strict=True):
        steps = [round(weight * float(np.float32(value)) * R / clip) for value in values]
        assert sum(step * step for step in steps) <= (weight * R) ** 2, "the reference does not clip"
        total = [have + step for have, step in zip(total, steps, strict=True)]
    noise = gaussian(key, len(total), z * R)
    return np.array([clip * (have + add) / (R * k) for have, add in zip(total, noise, strict=True)])
