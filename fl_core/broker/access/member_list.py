"""Who belongs to the federation, as an authority publishes it for those who watch: a hash with a row for each member.

A row says what the authority knows and holds the member's certificate, by which a reader who knows the authority can
prove the rest. Nothing is decided by it: rights are the server's, and whose updates count is in the campaign's log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fl_core.broker import rows
from fl_core.broker.access.rules import MEMBERS
from fl_core.broker.connection import Client, broker_errors
from fl_core.wire.signed import MAX_CERTIFICATE_BYTES

STATES = ("invited", "enrolled", "revoked")
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Listed:
    """A member.

    Attributes:
        role: what it is to the federation.
        state: one of ``STATES``.
        until_ms: the end of its certificate, or of its token, ms since 1970.
        serial: of its certificate, hex; empty before it has one.
        certificate: DER; empty before it has one, and where it is not kept.
    """

    role: str
    state: str
    until_ms: int
    serial: str = ""
    certificate: bytes = b""

    def row(self) -> bytes:
        """As it is stored."""
        return f"{self.state}|{self.role}|{self.until_ms}|{self.serial}|".encode() + self.certificate

    @classmethod
    def from_row(cls, raw: object) -> Listed:
        """The inverse of ``row``.

        Raises:
            BadRow: no authority wrote it.
        """
        state, role, until, serial, certificate = rows.parts(raw, 5, limit=MAX_CERTIFICATE_BYTES + 256)
        if (known := rows.text(state)) not in STATES:
            raise rows.BadRow("no state of a member")
        return cls(rows.name(role), known, rows.number(until), rows.text(serial), certificate)


def publish_members(client: Client, members: Mapping[str, Listed]) -> None:
    """Add or replace rows.

    Raises:
        BrokerRefused, BrokerUnavailable: some may be written; the same call again goes on.
    """
    names = list(members)
    for start in range(0, len(names), _PAGE):
        with broker_errors("publishing who is a member"):
            client.hset(MEMBERS, mapping={name: members[name].row() for name in names[start : start + _PAGE]})


def count_members(client: Client) -> int:
    """How many there are; 0 where there is no authority.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("counting the members"):
        return int(client.hlen(MEMBERS))


def all_members(client: Client, limit: int) -> dict[str, Listed]:
    """Everybody, at most ``limit`` of them.

    Raises:
        BrokerUnavailable: unknown.
    """
    found: list[tuple[bytes, bytes]] = []
    with broker_errors("reading who is a member"):
        for item in client.hscan_iter(MEMBERS, count=_PAGE):
            found.append(item)
            if len(found) >= limit:
                break
    return dict(rows.good(MEMBERS, found, lambda item: (rows.name(item[0]), Listed.from_row(item[1]))))
