"""The transcript of all updates that were merged, from which each merge's noise gets its key.

A coordinator that resumes has to draw the same noise again, and a campaign whose servers have forgotten a part of it
may reach a version's number a second time with other updates. Were the noise keyed by the number, the difference of the
two versions would be the difference of the raw sums. So the key hangs on a secret and on everything that was merged so
far: the same log gives the same bits, and any other log independent noise.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

EMPTY = bytes(32)
"""The transcript of a campaign that has merged nothing."""


def evidence(position: str, payload_hash: bytes, weight: float) -> bytes:
    """What stands for one update: 32 bytes.

    Args:
        position: of its log entry.
        payload_hash: a cryptographic hash of its payload, 32 bytes.
        weight: with which it is in the sum.
    """
    said = position.encode()
    packed = struct.pack(">I", len(said)) + said + payload_hash + struct.pack(">d", weight)
    return hashlib.blake2b(packed, digest_size=32, person=b"fedtide update 1").digest()


def extended(transcript: bytes, merged: Iterable[bytes]) -> bytes:
    """The transcript after a merge of these updates, in their order; it stands for the merge as well."""
    for each in merged:
        transcript = hashlib.blake2b(transcript + each, digest_size=32, person=b"fedtide merged 1").digest()
    return transcript


def noise_key(secret: bytes, campaign: str, version: int, transcript: bytes, use: str = "sum") -> bytes:
    """The key of one merge's noise: 32 bytes, for ``fl_core.privacy.noise``.

    Args:
        secret: the campaign's ``noise_secret``.
        version: which the merge makes.
        transcript: with the updates of this merge in it.
        use: what is drawn with it; no key is used twice.
    """
    said = campaign.encode()
    words = b"fedtide noise 1 " + use.encode() + b"\0" + struct.pack(">IQ", len(said), version) + said + transcript
    return hashlib.blake2b(words, key=secret, digest_size=32).digest()
