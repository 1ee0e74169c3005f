"""Operators' requests where there is an authority: who operates the broker can write any entry, and none counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from coordinator.loop.trust.requests import Asked, Requests
from fedtide.testing import LogByHand
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.registry import SIGNED, Registry
from fl_core.errors import CampaignError
from fl_core.identity.certificates import Role, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.keys import make_key
from fl_core.wire.events import Paused, RequestRefused, Revoked
from fl_core.wire.messages import OperatorRequest
from fl_core.wire.signed import Signed
from tests.unit.coordinator.stand_ins import IDENTITY, context
from tests.unit.federation import Federation, sealer

OURS, OTHERS = Federation(), Federation()
OPERATOR = OURS.member("ops", Role.OPERATOR)
STOP = OperatorRequest(
    campaign=IDENTITY.campaign, incarnation=IDENTITY.incarnation, request="stop", argument="", nonce="ab" * 16
)
POSITION = "1000500-0"
Fields = Mapping[bytes, bytes]


def fields(signed: bytes | None) -> Fields:
    plain = {b"request": b"stop", b"argument": b""}
    return plain if signed is None else {**plain, SIGNED.encode(): signed}


def sealed(record: OperatorRequest = STOP, seal: Any = OPERATOR, domain: Domain = Domain.CONTROL) -> Fields:
    return fields(seal(domain, record.to_bytes()))


def _changed() -> Fields:
    signed = Signed.from_bytes(OPERATOR(Domain.CONTROL, STOP.to_bytes()))
    return fields(replace(signed, body=replace(STOP, request="pause").to_bytes()).to_bytes())


@pytest.fixture
def log(bench: Callable[..., LogByHand]) -> LogByHand:
    """A campaign with an authority."""
    made = bench()
    body = {"spec": "x", "layout": made.layout.digest, "authority": OURS.authority}
    made.apply(made.event("opened", body), made.issued(1))
    return made


def requests(log: LogByHand) -> Requests:
    return Requests(context(), log.state.signers)


def test_an_operators_request_is_done_once(log: LogByHand) -> None:
    """The nonce is remembered: at once, in the log, and in a checkpoint. The plain words beside it are not read."""
    reader = requests(log)
    entry = {**sealed(), b"request": b"pause", b"argument": b"other"}
    assert reader.read(POSITION, entry) == Asked("stop", "", "ops", STOP.nonce)
    again = reader.read("1000501-0", sealed())
    assert isinstance(again, RequestRefused)
    assert (again.reason, again.request, again.control) == ("replayed", "stop", "1000501-0")
    reader.forget()  # the commit that held it was lost
    assert isinstance(reader.read(POSITION, sealed()), Asked)
    log.apply(log.event("paused", Paused(control=POSITION, operator="ops", nonce=STOP.nonce).to_map()))
    for state in (log.state, log.resumed()):
        later = Requests(context(), state.signers).read("1000502-0", sealed())
        assert isinstance(later, RequestRefused)
    fresh = replace(STOP, nonce="cd" * 16)
    assert isinstance(requests(log).read("1000503-0", sealed(fresh)), Asked)


FORGERIES: dict[str, tuple[Fields, str]] = {
    "not signed": (fields(None), "bad_signature"),
    "rubbish": (fields(b"\x84\xa1v\x01\xa9signature"), "malformed"),
    "another key": (
        sealed(seal=sealer(make_key(), OURS.certificate("ops", Role.OPERATOR, make_key()))), "bad_signature"
    ),
    "other words": (_changed(), "bad_signature"),
    "another purpose": (sealed(domain=Domain.REPORT), "bad_signature"),
    "a device": (sealed(seal=OURS.member("dev-1", Role.DEVICE)), "unknown_operator"),
    "a monitor": (sealed(seal=OURS.member("screen", Role.MONITOR)), "unknown_operator"),
    "a coordinator": (sealed(seal=OURS.member("boss", Role.COORDINATOR)), "unknown_operator"),
    "another authority": (sealed(seal=OTHERS.member("ops", Role.OPERATOR)), "unknown_operator"),
    "expired": (sealed(seal=OURS.member("ops", Role.OPERATOR, days=-1)), "revoked"),
    "another campaign": (sealed(replace(STOP, campaign="digits-2")), "replayed"),
    "an earlier life": (sealed(replace(STOP, incarnation="before")), "replayed"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_request_is_refused_and_told(log: LogByHand, what: str) -> None:
    """As an event, so that it is judged once, stands in the feed, and a replay has it at the same place."""
    entry, reason = FORGERIES[what]
    refused = requests(log).read(POSITION, entry)
    assert isinstance(refused, RequestRefused)
    assert refused.reason == reason
    log.apply(log.event("refused", refused.to_map()))
    line = log.lines[-1]
    assert (line.kind, line.to_map()["reason"], line.to_map()["request"]) == ("request", reason, "stop")
    assert log.state.accepts
    assert log.state.control_position == POSITION


def test_who_was_revoked_asks_in_vain(log: LogByHand) -> None:
    """From the event on."""
    serial = read_certificate(Signed.from_bytes(OPERATOR(Domain.CONTROL, b"x")).certificate, OURS.authority).serial
    log.apply(log.event("revoked", Revoked(number=1, serials=(f"{serial:x}",)).to_map()))
    refused = requests(log).read(POSITION, sealed())
    assert isinstance(refused, RequestRefused)
    assert refused.reason == "revoked"


def test_without_an_authority_the_words_count(bench: Callable[..., LogByHand]) -> None:
    """Also where the operator has an identity."""
    for entry in (fields(None), sealed()):
        assert requests(bench().open(1)).read(POSITION, entry) == Asked("stop", "")


def test_who_asks_signs_or_is_told_that_they_must(log: LogByHand) -> None:
    """What the registry writes is what the coordinator reads."""
    client = MemoryClient(MemoryServer())
    names = context().keys
    client.set(names.incarnation, IDENTITY.incarnation)
    client.set(names.order, OURS.member("boss", Role.COORDINATOR)(Domain.UPDATE, b"an order"))
    with pytest.raises(CampaignError, match="fedtide --identity DIR"):
        Registry(client).request(IDENTITY.campaign, "stop")
    assert not client.xrange(names.control)
    for _ in range(2):
        Registry(client, OPERATOR).request(IDENTITY.campaign, "stop")
    reader = requests(log)
    for _, entry in client.xrange(names.control):
        asked = reader.read(POSITION, entry)
        assert isinstance(asked, Asked)
        assert (asked.request, asked.operator) == ("stop", "ops")
