"""Payloads on their way up over lines that fail, with two twins in the place of servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fl_core.broker.bulk import blobs
from fl_core.broker.bulk.chunks import CHUNK_BYTES, chunk_keys
from fl_core.broker.bulk.uploads import UNCLAIMED_BLOB_SECONDS, VOLATILE_BLOB_SECONDS, Uploads
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.line.slow_lines import Transfer
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import BrokerUnavailable
from fl_core.wire.digest import digest
from fl_core.wire.messages import ModelUpdate

KEYS = CampaignKeys("digits-1")
PAYLOAD = bytes(range(256)) * 5000  # two chunks
UPDATE = ModelUpdate(
    campaign="digits-1", task_id="1-ab", attempt=1, worker="pi", base_version=0, num_examples=1, sends="delta",
    codec="fp32", layout_digest=digest(b""), payload_bytes=len(PAYLOAD), payload_digest=digest(PAYLOAD),
    blob="1-ab.1.pi", num_chunks=2, bytes_down=0, metrics={}, seconds={},
)  # fmt: skip


class _Places:
    """The broker and a second server; each can be cut off."""

    def __init__(self) -> None:
        self.servers = {"": MemoryClient(MemoryServer()), ":6380": MemoryClient(MemoryServer())}

    def at(self, place: str) -> MemoryClient:
        return self.servers[place]


@pytest.fixture
def places() -> _Places:
    return _Places()


@pytest.fixture
def put(places: _Places) -> Callable[..., tuple[ModelUpdate, str]]:
    uploads = Uploads(places, lambda num_bytes: Transfer())  # type: ignore[arg-type]

    def send(place: str = "", *, begun_before: bool = False) -> tuple[ModelUpdate, str]:
        return uploads.put(UPDATE, PAYLOAD, lambda: place, begun_before)

    send.uploads = uploads  # type: ignore[attr-defined]
    return send


def _holds(client: MemoryClient, blob: str) -> bytes:
    return b"".join(client.get(key) or b"" for key in chunk_keys(KEYS.blob(blob), len(PAYLOAD)))


def test_to_the_broker_by_its_name_and_elsewhere_by_one_of_its_own(
    places: _Places, put: Callable[..., tuple[ModelUpdate, str]]
) -> None:
    """What was found to be lost at a second server must not come back; all of it ends by itself."""
    assert put() == (UPDATE, "")
    assert _holds(places.at(""), UPDATE.blob) == PAYLOAD
    assert 0 < places.at("").ttl(KEYS.blob(UPDATE.blob) + ":0") <= UNCLAIMED_BLOB_SECONDS
    put.uploads.forget()  # type: ignore[attr-defined]
    named, place = put(":6380")
    assert place == ":6380"
    assert named.blob.startswith("1-ab.1.pi.")
    assert _holds(places.at(":6380"), named.blob) == PAYLOAD
    assert 0 < places.at(":6380").ttl(KEYS.blob(named.blob) + ":0") <= VOLATILE_BLOB_SECONDS


def test_a_second_server_that_takes_nothing_is_passed_over(
    places: _Places, put: Callable[..., tuple[ModelUpdate, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker takes it; one that has taken a part is tried again, by the same name."""
    real = blobs.put

    def cut(client: MemoryClient, *args: object, transfer: Transfer, **options: object) -> int:
        if client is places.at(":6380"):
            transfer.done += takes
            raise BrokerUnavailable("writing a blob: the line is cut")
        return real(client, *args, transfer=transfer, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(blobs, "put", cut)
    takes = 100
    with pytest.raises(BrokerUnavailable):
        put(":6380")
    takes = 0
    assert put(":6380") == (UPDATE, "")
    assert _holds(places.at(""), UPDATE.blob) == PAYLOAD


def test_what_an_earlier_life_has_sent_is_not_sent_again(
    places: _Places, put: Callable[..., tuple[ModelUpdate, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it is the same; what lies there of another training is replaced."""
    keys, sent = chunk_keys(KEYS.blob(UPDATE.blob), len(PAYLOAD)), []
    places.at("").set(keys[0], PAYLOAD[:CHUNK_BYTES])
    real = blobs.put

    def note(*args: object, transfer: Transfer, **options: object) -> int:
        sent.append(transfer.done)
        return real(*args, transfer=transfer, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(blobs, "put", note)
    put(begun_before=True)
    put.uploads.forget()  # type: ignore[attr-defined]
    places.at("").set(keys[0], bytes(CHUNK_BYTES))
    put(begun_before=True)
    assert sent == [CHUNK_BYTES, 0]
    assert _holds(places.at(""), UPDATE.blob) == PAYLOAD


def test_an_update_that_is_withdrawn_leaves_nothing(
    places: _Places, put: Callable[..., tuple[ModelUpdate, str]]
) -> None:
    """Only that one's."""
    put()
    put.uploads.withdraw(UPDATE)  # type: ignore[attr-defined]
    assert places.at("").keys("*") == []
    put.uploads.withdraw(UPDATE)  # type: ignore[attr-defined]
