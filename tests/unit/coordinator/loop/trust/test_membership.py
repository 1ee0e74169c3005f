"""A campaign keeps the authority that it began with, and only a coordinator of that one goes on with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.loop.trust.membership import membership, verify_membership
from fedtide.testing import LogByHand
from fl_core.errors import SpecError
from fl_core.identity.domain import Domain
from fl_core.identity.keys import make_key
from fl_core.wire.signed import is_signed_record

SIGNED = {"signers": {"authority": b"ours"}}


def identity(authority: bytes) -> Any:
    certificate = SimpleNamespace(der=b"certificate", name="boss")
    return SimpleNamespace(authority=authority, key=make_key(), certificate=certificate, folder=Path("id"))


@pytest.mark.parametrize("saved", [None, SIGNED])
def test_a_coordinator_of_the_authority_signs(saved: Any) -> None:
    """Of a new campaign, and of one that it goes on with, also another one than before."""
    authority, seal = membership(identity(b"ours"), saved)
    assert authority == b"ours"
    assert seal is not None
    assert is_signed_record(seal(Domain.ORDER, b"order"))


@pytest.mark.parametrize(
    ("asked", "said"), [(None, "go on with `fedtide --identity DIR run`"), (b"theirs", "another authority")]
)
def test_nobody_else_goes_on(asked: Any, said: str) -> None:
    """Devices would do nothing that this coordinator says."""
    with pytest.raises(SpecError, match=said):
        membership(None if asked is None else identity(asked), SIGNED)


@pytest.mark.parametrize(("asked", "saved"), [(None, None), (None, {}), (b"ours", {})])
def test_a_campaign_without_an_authority_stays_one(asked: Any, saved: Any) -> None:
    """Also where its next coordinator has an identity."""
    assert membership(None if asked is None else identity(asked), saved) == (b"", None)


def test_the_first_checkpoint_knows_the_authority() -> None:
    """A coordinator that died before its second one is followed by a coordinator of the same authority alone."""
    log = LogByHand()
    log.state.signers.expect(b"ours")
    saved = log.state.export()[1]
    assert membership(identity(b"ours"), saved)[0] == b"ours"
    with pytest.raises(SpecError):
        membership(None, saved)


@pytest.mark.parametrize("signed_under", [b"", b"theirs"])
def test_the_log_may_know_more_than_the_checkpoint(signed_under: bytes) -> None:
    """An earlier release's first checkpoint says nothing of an authority."""
    with pytest.raises(SpecError, match="this campaign has an authority"):
        verify_membership(signed_under, b"ours")
    verify_membership(b"ours", b"ours")
    verify_membership(signed_under, b"")
