"""A campaign's identity: its names, and the secret that proves who coordinates it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgpack

from coordinator.campaign.ledger import task_id


@dataclass(frozen=True, slots=True)
class Identity:
    """What names a campaign and proves who coordinates it. ``secret`` never leaves the coordinator's side."""

    campaign: str
    secret: bytes
    incarnation: str
    created_ms: int

    def task_id(self, number: int) -> str:
        """What workers know a task by."""
        return task_id(self.secret, number)


def version_mac(secret: bytes, incarnation: str, version: int, digest: str) -> str:
    """By which a coordinator knows a version that it has published: blake2b keyed with the secret, 16 bytes, hex.

    An update brings it back. So whether a version was published, and with what content, is answered without memory of
    the past, as task ids answer whether a task was issued.
    """
    content = msgpack.packb([incarnation, version, digest])
    return hashlib.blake2b(content, key=secret, digest_size=16, person=b"fedtide/version").hexdigest()
