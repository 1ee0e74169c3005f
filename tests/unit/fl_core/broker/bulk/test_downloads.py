"""Versions on their way down over lines that fail, from a server's twin."""

from __future__ import annotations

import pytest

from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.downloads import Downloads, verify
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.places import Places
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.line.slow_lines import Transfer
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import BrokerUnavailable, MissingBlob
from fl_core.wire.digest import digest

KEYS = CampaignKeys("digits-1")
PAYLOAD = bytes(range(256)) * 5000  # two chunks


def test_what_a_line_that_failed_has_brought_is_not_brought_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same memory and transfer as long as the same version is wanted; a version that is gone begins another."""
    head = Head(1, digest(PAYLOAD), len(PAYLOAD), 2, "", "", "fp32")
    server = MemoryClient(MemoryServer())
    downloads = Downloads(Places(server), lambda num_bytes: Transfer())
    seen: list[tuple[int, int]] = []
    real, fails = blobs.get, True

    def get(client: MemoryClient, prefix: str, size: int, into: memoryview, transfer: Transfer) -> memoryview:
        seen.append((id(into), transfer.done))
        if fails:
            transfer.done = 300
            into[:300] = PAYLOAD[:300]
            raise BrokerUnavailable("reading a blob: the line is cut")
        return real(client, prefix, size, into, transfer)

    monkeypatch.setattr(blobs, "get", get)
    with pytest.raises(BrokerUnavailable):
        downloads.version(KEYS, head, None)
    fails = False
    with pytest.raises(MissingBlob):
        downloads.version(KEYS, head, None)
    blobs.put(server, KEYS.version(1), PAYLOAD)
    payload = downloads.version(KEYS, head, None)
    assert bytes(payload) == PAYLOAD
    assert [done for _, done in seen] == [0, 300, 0]
    assert seen[0][0] == seen[1][0]
    verify(payload, head)
    with pytest.raises(MissingBlob, match="version 1"):
        verify(b"another", head)
