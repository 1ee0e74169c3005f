"""Signatures: who is not who they say, or has sent something else, changes nothing, and ends nobody's task."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator.campaign.identity import version_mac
from coordinator.loop.listeners import parked_of
from fedtide.testing import LogByHand
from fedtide.testing.log import SECRET
from fl_core.errors import Reason
from fl_core.identity.certificates import Role, issue, make_authority, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.keys import make_key, public_bytes, sign
from fl_core.wire.digest import digest, strong_digest
from fl_core.wire.events import Revoked
from fl_core.wire.history import RejectionLine
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.signed import Signed, body_of, update_of

START = datetime.datetime.fromtimestamp(1_000, datetime.UTC)  # where the log by hand begins
KEY, OTHER_KEY = make_key(), make_key()
AUTHORITY, OTHERS = make_authority(KEY, "ours", START), make_authority(OTHER_KEY, "ours", START)
DEVICE = make_key()


def certificate_of(
    name: str = "worker-0", role: Role = Role.DEVICE, days: float = 10.0, authority: bytes = AUTHORITY, key: Any = KEY
) -> bytes:
    return issue(key, authority, name=name, role=role, public_key=public_bytes(DEVICE), now=START, days=days)


CERTIFICATE = certificate_of()


def base_of(version: int, incarnation: str = "a-life", secret: bytes = SECRET) -> dict[str, str]:
    """What a device found of a version that its coordinator has published."""
    found = strong_digest(b"version %d" % version)
    mac = version_mac(secret, incarnation, version, found)
    return {"incarnation": incarnation, "base_digest": found, "base_mac": mac}


class SignedLog:
    """A campaign with an authority, in which two tasks are out."""

    def __init__(self, **sections: Any) -> None:
        self.log = LogByHand(**sections)
        self.log.apply(
            self.log.event("opened", {"spec": "x", "layout": self.log.layout.digest, "authority": AUTHORITY})
        )
        self.log.apply(self.log.issued(2))

    def plain(self, number: int = 1, **changes: Any) -> LogEntry:
        """An update as a device makes it, before it is signed."""
        values = np.ones(len(self.log.values), np.float32)
        base = {**base_of(changes.get("base_version", 0)), **changes}
        return self.log.update(number, payload_digest=strong_digest(values.tobytes()), values=values, **base)

    def seal(
        self, entry: LogEntry, domain: Domain = Domain.UPDATE, *, key: Any = DEVICE, certificate: bytes = CERTIFICATE,
        signed: bytes | None = None,
    ) -> LogEntry:  # fmt: skip
        """The entry with a signature over its header, or over other bytes."""
        body = entry.header
        signature = sign(key, domain, body if signed is None else signed)
        header = Signed(signature=signature, certificate=certificate, body=body).to_bytes()
        return replace(entry, header=header)

    def reason(self, entry: LogEntry) -> Reason | None:
        """Why an entry is refused, if it is; the task stays open then."""
        effects = self.log.apply(entry)
        if not effects.refusals:
            return None
        (refused,) = effects.refusals
        assert refused.task is None
        assert sorted(self.log.state.ledger.open) == [1, 2]
        return refused.reason


def test_what_a_device_signed_is_merged() -> None:
    """Also after a resume, which knows the authority from its checkpoint."""
    signed = SignedLog(aggregation={"buffer_size": 2})
    assert signed.reason(signed.seal(signed.plain(1))) is None
    assert signed.log.state.ledger.buffered == [1]
    state = signed.log.resumed()
    assert (state.signers.authority, state.signers.number) == (AUTHORITY, 0)
    state.apply(signed.seal(signed.plain(2)))
    assert state.strategy.version == 1


def _forgeries(log: SignedLog) -> dict[str, tuple[LogEntry, Reason]]:
    plain = log.plain()
    other_key = {"key": OTHER_KEY}
    return {
        "not signed": (plain, Reason.BAD_SIGNATURE),
        "another key": (log.seal(plain, **other_key), Reason.BAD_SIGNATURE),
        "another purpose": (log.seal(plain, Domain.REPORT), Reason.BAD_SIGNATURE),
        "another header": (log.seal(plain, signed=log.plain(2).header), Reason.BAD_SIGNATURE),
        "another task": (log.seal(log.plain(2), signed=plain.header), Reason.BAD_SIGNATURE),
        "another attempt": (log.seal(log.plain(1, attempt=2), signed=plain.header), Reason.BAD_SIGNATURE),
        "in another's name": (log.seal(log.plain(1, worker="victim")), Reason.UNKNOWN_WORKER),
        "another authority": (
            log.seal(plain, certificate=certificate_of(authority=OTHERS, key=OTHER_KEY)), Reason.UNKNOWN_WORKER
        ),
        "no device": (log.seal(plain, certificate=certificate_of(role=Role.COORDINATOR)), Reason.UNKNOWN_WORKER),
        "a token's": (log.seal(plain, certificate=certificate_of(role=Role.INVITED)), Reason.UNKNOWN_WORKER),
        "rubbish": (log.seal(plain, certificate=b"certificate"), Reason.UNKNOWN_WORKER),
        "expired": (log.seal(plain, certificate=certificate_of(days=-1)), Reason.REVOKED),
        "weak digest": (log.seal(log.log.update(1)), Reason.BAD_SIGNATURE),
        "trained from other bytes": (log.seal(log.plain(base_digest="0" * 64)), Reason.WRONG_BASE),
        "from another version's bytes": (log.seal(log.plain(**base_of(1))), Reason.WRONG_BASE),
        "from another life's version": (log.seal(log.plain(incarnation="before")), Reason.WRONG_BASE),
        "from a version of its own": (log.seal(log.plain(**base_of(0, secret=b"guess"))), Reason.WRONG_BASE),
        "from an earlier release": (
            log.seal(log.plain(incarnation="", base_digest="", base_mac="")), Reason.WRONG_BASE
        ),
        "cut off": (replace(plain, header=log.seal(plain).header[:-1]), Reason.MALFORMED),
    }  # fmt: skip


@pytest.mark.parametrize("what", _forgeries(SignedLog()))
def test_a_forgery_is_refused_and_ends_nobodys_task(what: str) -> None:
    """And the honest update that comes after it is merged."""
    log = SignedLog(aggregation={"buffer_size": 1})
    entry, reason = _forgeries(log)[what]
    assert log.reason(entry) == reason
    assert log.reason(log.seal(log.plain())) is None
    assert log.log.state.strategy.version == 1


def test_a_refusal_names_whose_certificate_was_beside_it() -> None:
    """In the history, from which monitors count by device; what anybody can write names nobody."""
    log = SignedLog(aggregation={"buffer_size": 1})
    nameless = {"not signed", "another authority", "rubbish", "cut off"}
    for what, (entry, reason) in _forgeries(log).items():
        effects = log.log.apply(entry)
        (line,) = effects.history
        assert isinstance(line, RejectionLine)
        assert (line.reason, line.worker) == (reason, None if what in nameless else "worker-0"), what
        assert parked_of(effects.refusals[0], entry).worker == (line.worker or "")


def test_a_signed_update_is_good_once() -> None:
    """Sent again, it is a duplicate; what it signs is one task and one attempt of one campaign."""
    log = SignedLog(aggregation={"buffer_size": 1})
    entry = log.seal(log.plain())
    log.log.apply(entry)
    (refused,) = log.log.apply(replace(entry, position=log.plain().position)).refusals
    assert refused.reason == Reason.DUPLICATE
    elsewhere = log.seal(log.plain(2, campaign="another-1"))
    (refused,) = log.log.apply(elsewhere).refusals
    assert refused.reason == Reason.WRONG_CAMPAIGN


def test_what_was_revoked_counts_no_more() -> None:
    """From the event on; a list with a lower number does not bring anybody back."""
    log = SignedLog(aggregation={"buffer_size": 1})
    serial = f"{read_certificate(CERTIFICATE, AUTHORITY).serial:x}"
    for number, serials in ((3, (serial,)), (2, ())):
        log.log.apply(log.log.event("revoked", Revoked(number=number, serials=serials).to_map()))
        assert log.reason(log.seal(log.plain())) == Reason.REVOKED
    state = log.log.resumed()
    assert (state.signers.number, state.signers.revoked) == (3, {serial})
    log.log.apply(log.log.event("revoked", Revoked(number=4, serials=()).to_map()))
    assert log.reason(log.seal(log.plain())) is None


def test_a_report_is_its_senders() -> None:
    """A forged failure of another device spends no attempt of its task."""
    log = SignedLog()
    report = log.log.report(1)
    for forged in (report, log.seal(report, Domain.UPDATE), log.seal(report, Domain.REPORT, key=OTHER_KEY)):
        assert log.reason(forged) == Reason.BAD_SIGNATURE
    assert log.log.state.ledger.open[1].attempt == 1
    log.log.apply(log.seal(report, Domain.REPORT))
    assert log.log.state.ledger.open[1].attempt == 2


def test_without_an_authority_signatures_are_read_and_not_asked_for() -> None:
    """A device that has an identity takes part in a campaign that wants none."""
    log = SignedLog(aggregation={"buffer_size": 1})
    open_log = LogByHand(aggregation={"buffer_size": 1}).open(2)
    entry = log.seal(open_log.update(1))
    assert update_of(entry.header) == ModelUpdate.from_bytes(body_of(entry.header))
    open_log.apply(entry, open_log.update(2))
    assert open_log.state.strategy.version == 2
    assert "signers" not in open_log.state.export()[1]


def test_the_strong_digest_is_another_one() -> None:
    """Told apart by its length alone."""
    assert len(digest(b"x")) == 32
    assert len(strong_digest(b"x")) == 64


@pytest.mark.parametrize("changed", ["payload", "header", ""])
def test_what_is_readmitted_is_what_its_sender_signed(changed: str) -> None:
    """An operator names a parked update; who operates the broker can put another one there."""
    log = SignedLog(aggregation={"buffer_size": 1, "max_update_norm": 1.0})
    entry = log.seal(log.plain())
    (refused,) = log.log.apply(entry).refusals
    assert refused.reason == Reason.NORM_EXCEEDED
    header = log.seal(log.plain(num_examples=1000), key=OTHER_KEY).header if changed == "header" else entry.header
    payload = entry.payload if changed != "payload" else np.full(len(log.log.values), 9.0, np.float32).tobytes()
    body = {"control": "5-0", "task": 1, "reason": "norm_exceeded", "header": header, "payload": payload}
    effects = log.log.apply(log.log.event("readmitted", body))
    assert log.log.state.strategy.version == (0 if changed else 1)
    reason = {"payload": Reason.WRONG_DIGEST, "header": Reason.BAD_SIGNATURE}.get(changed)
    assert [refused.reason for refused in effects.refusals] == ([reason] if reason else [])
