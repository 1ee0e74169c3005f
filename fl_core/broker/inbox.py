"""What devices and keepers send, as it waits in a campaign's inbox until the coordinator moves it into the log.

Devices may put something into the inbox and do nothing else with it: they cannot read it, take it back, or write the
log. ``lua/intake.lua`` moves entries, in one step with the check that the coordinator still has its lease.
"""

from __future__ import annotations

from typing import Literal

from fl_core.wire.record import MAX_RECORD_BYTES

# Up to here a payload rides in its entry: one round trip, but copied by redis-py and by the script engine.
INLINE_BYTES = 64 * 1024
# A header, its signature with the certificate, and a payload.
MAX_ENTRY_BYTES = INLINE_BYTES + 2 * MAX_RECORD_BYTES
# So many entries, and bytes of them, are moved in one step; the server does nothing else meanwhile. More at once would
# save little: a step of small entries takes 0.4 ms, one of large ones some 5 ms.
MAX_MOVED = 64
MAX_MOVED_BYTES = 2 * 2**20


def packed(kind: Literal["u", "r", "k"], header: bytes, payload: bytes | memoryview = b"") -> bytes:
    """An update, a report or a keeper's answer as it waits: its kind, the length of its header, header and payload.

    >>> packed("u", b"head", b"payload")
    b'u4:headpayload'
    """
    return b"".join((b"%b%d:" % (kind.encode(), len(header)), header, payload))
