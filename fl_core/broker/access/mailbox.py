"""How requests for certificates and their answers travel: a key each per device, on the broker."""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.broker.access.rules import ANSWERS, REQUESTS, REVOCATIONS
from fl_core.broker.connection import Client, broker_errors

# A request that nobody accepts, and an answer that nobody fetches, end by themselves.
REQUEST_SECONDS = 7 * 24 * 3600
MAX_REQUEST_BYTES = 64 * 1024


def post_request(client: Client, name: str, request: bytes) -> bool:
    """Ask; False where somebody has asked in this name before and was not answered.

    Raises:
        BrokerRefused, BrokerUnavailable: the broker does not let this user in, or is away.
    """
    with broker_errors("asking for a certificate"):
        return bool(client.set(REQUESTS + name, request, nx=True, ex=REQUEST_SECONDS))


def read_requests(client: Client, names: Sequence[str]) -> dict[str, bytes]:
    """What has arrived in these names; nothing larger than a request is fetched.

    Raises:
        BrokerRefused, BrokerUnavailable: as above.
    """
    with broker_errors("reading requests for certificates"):
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.getrange(REQUESTS + name, 0, MAX_REQUEST_BYTES)
        found = pipeline.execute(raise_on_error=False)
    return {name: value for name, value in zip(names, found, strict=True) if isinstance(value, bytes) and value}


def drop_requests(client: Client, names: Sequence[str]) -> None:
    """They were answered, or are not wanted."""
    if names:
        with broker_errors("dropping requests for certificates"):
            client.delete(*(REQUESTS + name for name in names))


def post_answers(client: Client, answers: dict[str, bytes]) -> None:
    """Certificates for those who asked."""
    with broker_errors("answering requests for certificates"):
        pipeline = client.pipeline(transaction=False)
        for name, certificate in answers.items():
            pipeline.set(ANSWERS + name, certificate, ex=REQUEST_SECONDS)
        pipeline.execute()


def drop_answers(client: Client, names: Sequence[str]) -> None:
    """Of an earlier life of these names."""
    if names:
        with broker_errors("dropping answers"):
            client.delete(*(ANSWERS + name for name in names))


def read_answer(client: Client, name: str) -> bytes | None:
    """The certificate, once there is one."""
    with broker_errors("waiting for a certificate"):
        found: bytes | None = client.get(ANSWERS + name)
    return found


def publish_revocations(client: Client, revocations: bytes) -> None:
    """The list for coordinators and devices; it is signed, and they take none with a lower number."""
    with broker_errors("publishing what was revoked"):
        client.set(REVOCATIONS, revocations)


def read_revocation_list(client: Client) -> bytes | None:
    """The list, if there is one."""
    with broker_errors("reading what was revoked"):
        found: bytes | None = client.get(REVOCATIONS)
    return found
