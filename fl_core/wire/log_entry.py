"""An entry of a campaign's log, and what proves that its coordinator wrote it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry, not yet trusted.

    Attributes:
        position: ``milliseconds-sequence`` of the server's clock; never goes back.
        kind: ``u`` update, ``r`` report, ``k`` keeper's answer, ``e`` event, ``?`` anything else.
        header: the record's bytes.
        payload: what an update or an answer brings inline, or an event's MAC.
    """

    position: str
    kind: str
    header: bytes
    payload: bytes

    @property
    def milliseconds(self) -> int:
        """The server's clock when the entry was appended."""
        return int(self.position.partition("-")[0])

    @property
    def num_bytes(self) -> int:
        """What the entry holds of the server's memory, overhead left out."""
        return len(self.header) + len(self.payload)


def event_mac(key: bytes, header: bytes) -> bytes:
    """The authenticator of an event: blake2b keyed with the campaign's secret, 16 bytes."""
    return hashlib.blake2b(header, key=key, digest_size=16).digest()


def is_authentic(key: bytes, entry: LogEntry) -> bool:
    """Whether a coordinator of this campaign wrote the event."""
    return hmac.compare_digest(event_mac(key, entry.header), entry.payload)


def order(position: str) -> tuple[int, int]:
    """A position as something that sorts.

    >>> order("5-10") > order("5-9")
    True
    """
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence)
