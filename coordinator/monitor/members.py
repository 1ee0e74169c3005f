"""Who of the workers belongs to the federation: what its authority has published, and proven where that is known."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fl_core.broker import rows
from fl_core.broker.access.mailbox import read_revocation_list
from fl_core.broker.access.member_list import Listed, all_members, count_members
from fl_core.broker.access.rules import MEMBERS
from fl_core.broker.connection import Client
from fl_core.errors import BrokerUnfit, UntrustedError

MAX_MEMBERS = 50_000
# A certificate that ends sooner is said to.
SOON_DAYS = 30
# One that was revoked is seen to be within this time, or later where reading would take more than this share of it.
LOOK_SECONDS = 5.0
MAX_SHARE = 0.05
MEMBER_STATES = ("enrolled", "expiring", "expired", "revoked", "invited")
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands with the authority.

    Attributes:
        state: ``enrolled``, ``expiring`` (enrolled, and soon not any more), ``expired``, ``revoked``, ``invited``,
            ``unproven`` (the certificate that is published is none of this authority's, or for somebody else), or
            ``unknown`` (no member).
        text: the same for people.
    """

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Members:
    """What an authority has published; of no authority there is nothing.

    Attributes:
        listed: by name, at most ``MAX_MEMBERS``.
        is_whole: those are all.
        authority: its certificate, DER, by which rows are proven; empty where it is not known, and the broker is
            believed.
        revoked: serials, hex, of the authority's list; of one that is not proven, none.
    """

    listed: Mapping[str, Listed] = field(default_factory=dict)
    is_whole: bool = True
    authority: bytes = b""
    revoked: frozenset[str] = frozenset()

    def standing(self, name: str) -> Standing | None:
        """Somebody's; None where nothing can be said."""
        member = self.listed.get(name)
        if member is None:
            return Standing("unknown", "not enrolled") if self.listed and self.is_whole else None
        if not self._is_proven(name, member):
            return Standing("unproven", "certificate not proven")
        return self._judge(member)

    def counts(self) -> dict[str, int]:
        """How many members are in each state; certificates are not looked into."""
        return dict(Counter(self._judge(member).state for member in self.listed.values()))

    def _judge(self, member: Listed) -> Standing:
        if member.state == "revoked" or member.serial in self.revoked:
            return Standing("revoked", "revoked")
        if member.state == "invited":
            return Standing("invited", "invited")
        left = member.until_ms - time.time() * 1000
        if left <= 0:
            return Standing("expired", "expired")
        days = int(left // _DAY_MS)
        if days < SOON_DAYS:
            return Standing("expiring", f"expires in {days} day{'' if days == 1 else 's'}" if days else "expires today")
        until = time.strftime("%Y-%m-%d", time.localtime(member.until_ms / 1000))
        return Standing("enrolled", f"enrolled until {until}")

    def _is_proven(self, name: str, member: Listed) -> bool:
        if not self.authority or not member.serial:
            return True
        from fl_core.identity.certificates import read_certificate

        try:
            certificate = read_certificate(member.certificate, self.authority)
        except UntrustedError:
            return False
        said = (certificate.name, certificate.role.value, f"{certificate.serial:x}", certificate.not_after_ms)
        return said == (name, member.role, member.serial, member.until_ms)


def read_published(client: Client, authority: bytes = b"") -> Members:
    """What stands at the broker.

    Args:
        authority: the certificate of the authority that whoever asks belongs to, DER; empty for none.

    Raises:
        BrokerUnavailable: unknown.
    """
    try:
        count = count_members(client)
        if not count or rows.too_large(client, [MEMBERS]):
            return Members()
        listed = all_members(client, MAX_MEMBERS)
    except BrokerUnfit as error:
        rows.tell(MEMBERS, str(error))
        return Members()
    return Members(listed, count <= MAX_MEMBERS, authority, _revoked(client, authority))


class MemberWatch:
    """Reads it again when that is due: members come and go rarely, and there may be many.

    Args:
        client, authority: as above.
    """

    def __init__(self, client: Client, authority: bytes) -> None:
        self._client = client
        self._authority = authority
        self._seen = Members()
        self._next_look = float("-inf")

    def look(self) -> Members:
        """What stands at the broker, as of some seconds ago.

        Raises:
            BrokerUnavailable: unknown.
        """
        started = time.monotonic()
        if started >= self._next_look:
            self._seen = read_published(self._client, self._authority)
            took = time.monotonic() - started
            self._next_look = started + max(LOOK_SECONDS, took / MAX_SHARE)
        return self._seen


def _revoked(client: Client, authority: bytes) -> frozenset[str]:
    found = read_revocation_list(client) if authority else None
    if not found:
        return frozenset()
    from fl_core.identity.revocations import read_revocations

    try:
        return frozenset(f"{serial:x}" for serial in read_revocations(found, authority).serials)
    except UntrustedError:
        return frozenset()


def in_words(counts: Mapping[str, int]) -> str:
    """Members in numbers.

    >>> in_words({"enrolled": 12, "expiring": 2, "revoked": 1})
    '14 enrolled (2 expiring soon), 1 revoked'
    """
    soon = counts.get("expiring", 0)
    told = [f"{counts.get('enrolled', 0) + soon} enrolled" + (f" ({soon} expiring soon)" if soon else "")]
    told += [f"{counts[state]} {state}" for state in ("invited", "expired", "revoked") if counts.get(state)]
    return ", ".join(told)


def identity_row(members: Members, name: str) -> dict[str, Any]:
    """What a worker's row says of it; nothing where there is no authority."""
    standing = members.standing(name)
    return {} if standing is None else {"identity": standing.state, "identity_text": standing.text}
