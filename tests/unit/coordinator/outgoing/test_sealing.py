"""What a coordinator signs: order and pointer together, whichever of them is new; nothing without an authority."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordinator.campaign.identity import version_mac
from coordinator.outgoing.sealing import Sealing
from fl_core.broker.bulk.head import Head, Pointer
from fl_core.identity.certificates import Role, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.keys import is_signed
from fl_core.wire.digest import digest, strong_digest
from fl_core.wire.messages import TrainOrder
from fl_core.wire.signed import Signed
from tests.unit.coordinator.stand_ins import IDENTITY, context
from tests.unit.federation import Federation

OURS = Federation()
HEAD = Head(7, "ab" * 32, 256, 1, place=":6380", updates=":6381", codec="fp16")
ORDER = TrainOrder(
    campaign="digits-1", timeout_seconds=1.0, model_factory="a:b", model_args={}, layout_digest="a" * 32,
    training={}, codec="fp32", sends="delta",
)  # fmt: skip


def opened(packed: bytes, domain: Domain) -> bytes:
    signed = Signed.from_bytes(packed)
    certificate = read_certificate(signed.certificate, OURS.authority)
    assert is_signed(certificate.public_key, domain, signed.body, signed.signature)
    return signed.body


def test_a_pointer_names_version_order_and_coordinator() -> None:
    """And a word by which the coordinator knows the version again."""
    ctx: Any = replace(context(), seal=OURS.member("boss", Role.COORDINATOR))
    sealing = Sealing(ctx)
    assert sealing.pointer_commands(HEAD, None) == sealing.pointer_commands(None, b"order") == []
    assert (sealing.name, sealing.incarnation) == (strong_digest, IDENTITY.incarnation)
    order = sealing.order(ORDER)
    assert opened(order, Domain.ORDER) == ORDER.to_bytes()
    ((command, key, field, sealed),) = sealing.pointer_commands(HEAD, order)
    assert (command, key, field, sealed) == ("HSET", ctx.keys.head, "sealed", sealing.sealed)
    assert Pointer.from_bytes(opened(sealing.sealed, Domain.VERSION)) == Pointer(
        campaign="digits-1", incarnation=IDENTITY.incarnation, fence=1, version_number=7, digest=HEAD.digest,
        num_bytes=256, codec="fp16", place=":6380", updates=":6381", order=strong_digest(order),
        mac=version_mac(IDENTITY.secret, IDENTITY.incarnation, 7, HEAD.digest),
    )  # fmt: skip


def test_without_an_authority_nothing_is_signed() -> None:
    """And nothing costs anything."""
    sealing = Sealing(context())
    assert (sealing.name, sealing.incarnation, sealing.order(ORDER)) == (digest, "", ORDER.to_bytes())
    assert sealing.pointer_commands(HEAD, b"order") == []
