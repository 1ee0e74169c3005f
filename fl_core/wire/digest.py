"""Digests of bulk bytes: one finds accidents, and names what is the same; the other withstands attackers."""

from __future__ import annotations

from collections.abc import Callable

import xxhash

from fl_core.errors import SpecError

Bytes = bytes | bytearray | memoryview
Namer = Callable[[Bytes], str]
"""One of the two digests below."""
# Of the digest that withstands attackers, in hexadecimal digits; the other has half as many.
STRONG_DIGITS = 64


def digest(payload: Bytes) -> str:
    """xxh3-128 of the bytes, hex: finds accidents, at the speed of memory.

    >>> digest(b"")
    '99aa06d3014798d86001c324468d497f'
    """
    return xxhash.xxh3_128_hexdigest(payload)


def strong_digest(payload: Bytes) -> str:
    """BLAKE3 of the bytes, hex: nobody finds other bytes with the same. Needs the extra ``security``.

    Raises:
        SpecError: that is not installed.
    """
    try:
        from blake3 import blake3
    except ImportError:
        from fl_core.program.extras import missing

        raise SpecError(missing("a campaign with an authority", "blake3")) from None

    return str(blake3(payload).hexdigest())


def namer_of(declared: str) -> Namer:
    """Of which kind a digest is."""
    return strong_digest if len(declared) == STRONG_DIGITS else digest


def has_digest(payload: Bytes, declared: str) -> bool:
    """Whether the bytes have the digest that somebody declared, of whichever kind that is."""
    return namer_of(declared)(payload) == declared
