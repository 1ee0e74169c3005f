"""What the authority takes back: a newer list becomes an event, an older or a forged one a line in the log."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.campaign.signers import Signers
from coordinator.loop.trust import revocations
from coordinator.loop.trust.revocations import AGAIN_SECONDS, Revocations
from fl_core.identity.certificates import make_authority
from fl_core.identity.keys import make_key
from fl_core.identity.revocations import sign_revocations
from fl_core.wire.events import Revoked

NOW = datetime.datetime.now(datetime.UTC)
KEY, OTHER = make_key(), make_key()
AUTHORITY = make_authority(KEY, "ours", NOW)


class Stage:
    """A survey's surroundings, with a list at the broker and events that are written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signers, self.events, self.published, self.now = Signers(), [], b"", 100.0
        self.signers.authority = AUTHORITY
        monkeypatch.setattr(revocations, "read_revocation_list", lambda client: self.published)
        machine = SimpleNamespace(monotonic=lambda: self.now)
        ctx: Any = SimpleNamespace(identity=SimpleNamespace(campaign="a"), client=None, machine=machine)
        state: Any = SimpleNamespace(signers=self.signers)
        transaction: Any = SimpleNamespace(append=self.events.append)
        self.watch = Revocations(ctx, state, transaction)

    def publish(self, number: int, *serials: int, key: Any = KEY) -> None:
        self.published = sign_revocations(key, AUTHORITY, number, serials, NOW)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_a_newer_list_is_written_once(stage: Stage) -> None:
    """And again where it does not come back from the log."""
    stage.watch.look()
    assert stage.events == []
    stage.publish(1, 0xAB, 0x9)
    stage.watch.look()
    stage.watch.look()
    assert stage.events == [Revoked(number=1, serials=("9", "ab"))]
    stage.now += AGAIN_SECONDS
    stage.watch.look()
    assert len(stage.events) == 2
    stage.signers.take_back(stage.events[0])
    stage.now += AGAIN_SECONDS
    stage.watch.look()
    assert len(stage.events) == 2


def test_an_older_or_a_forged_list_is_not_taken(stage: Stage) -> None:
    """Nor any bytes that somebody has put there."""
    stage.signers.number = 5
    for published in ((4, KEY), (5, KEY), (9, OTHER)):
        stage.publish(published[0], 1, key=published[1])
        stage.watch.look()
    stage.published = b"rubbish"
    stage.watch.look()
    assert stage.events == []


def test_nothing_is_asked_without_an_authority(stage: Stage) -> None:
    """The broker is spared the question."""
    stage.signers.authority = b""
    stage.publish(1, 1)
    stage.watch.look()
    assert stage.events == []
