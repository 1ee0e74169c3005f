"""Chunks: a blob is cut into values of the server."""

from __future__ import annotations

# A little less than 1 MiB: with the server's own header a whole one would no longer fit jemalloc's class of that size,
# and take a quarter more.
CHUNK_BYTES = 2**20 - 64


def count_chunks(num_bytes: int) -> int:
    """Chunks that ``num_bytes`` take; an empty payload still takes one.

    >>> count_chunks(0), count_chunks(CHUNK_BYTES), count_chunks(CHUNK_BYTES + 1)
    (1, 1, 2)
    """
    return max(1, -(-num_bytes // CHUNK_BYTES))


def chunk_keys(prefix: str, num_bytes: int) -> list[str]:
    """The keys of a blob's chunks, in order."""
    return [f"{prefix}:{index}" for index in range(count_chunks(num_bytes))]
