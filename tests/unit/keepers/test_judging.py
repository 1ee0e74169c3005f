"""A keeper refuses what it should, in one sentence; each case was a sum before one thing in it was changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import RejectedUpdate
from fl_core.identity.certificates import Role
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.keys import sign
from fl_core.secure_aggregation.bounds import MAX_UPDATES
from fl_core.secure_aggregation.masking import Masking
from fl_core.secure_aggregation.orders import Ask, Request, UnmaskOrder
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.signed import Signed
from keepers.answered import Answered
from keepers.daemon import Keeper
from tests.unit.keepers.federation import CAMPAIGN, Authority, Federation

VALUES = np.full(5, 0.1, np.float32)
KEEPER = "keeper-0"
MINE = (1, 2)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path, min_devices=3)


def headers(federation: Federation, count: int = 3, **changes: Any) -> list[bytes]:
    return [federation.update(f"dev-{number}", VALUES, **changes)[0] for number in range(count)]


def order_of(
    federation: Federation, found: Sequence[bytes], weights: Sequence[int] | None = None, **terms: Any
) -> bytes:
    said = replace(federation.masking.terms, **terms)
    counts = tuple(weights) if weights is not None else (16,) * len(found)
    return UnmaskOrder(terms=said.to_bytes(), headers=tuple(found), weights=counts).to_bytes()


def said(federation: Federation, order: bytes, seeds: Sequence[int] = MINE, **more: Any) -> str:
    """The refusal; empty where there is a sum."""
    reply = federation.reply(KEEPER, order, seeds, **more)
    if reply is None:
        return "nobody hears of it"
    assert bool(reply.payload) is not bool(reply.answer.refused)
    return reply.answer.refused


def resigned(federation: Federation, header: bytes, device: str, **changes: Any) -> bytes:
    """The same update with something changed, as its device would sign it."""
    return federation.signed(device, replace(ModelUpdate.from_bytes(Signed.from_bytes(header).body), **changes))


def test_a_good_order_is_answered_and_the_same_again_with_the_same(federation: Federation) -> None:
    """A repeated order is no news: the coordinator may not have had the answer."""
    order = order_of(federation, headers(federation))
    first, again = federation.reply(KEEPER, order, MINE), federation.reply(KEEPER, order, MINE)
    assert first is not None and again is not None
    assert first.answer == again.answer and bytes(first.payload) == bytes(again.payload)
    assert said(federation, order, (1,)) == ""


def test_an_update_goes_into_one_order(federation: Federation) -> None:
    """One update swapped, left out or added, another weight, another grouping: their difference would show somebody."""
    found = headers(federation, 5)
    assert said(federation, order_of(federation, found[:4])) == ""
    for other in (found[:3], found[1:], found[:3] + found[4:], found, found[3::-1]):
        assert "in another order before" in said(federation, order_of(federation, other))
    assert "in another order before" in said(federation, order_of(federation, found[:4], (16, 16, 16, 15)))
    assert said(federation, order_of(federation, found[:4])) == ""


def test_what_was_answered_is_known_after_a_restart(federation: Federation) -> None:
    """The notes are on disk before an answer leaves."""
    found = headers(federation, 4)
    assert said(federation, order_of(federation, found[:3])) == ""
    reborn = Keeper(federation.identities[KEEPER], Answered(federation.folder / "notes" / KEEPER))
    ask = federation.ask(order_of(federation, found[1:]), MINE)
    reply = reborn.reply(ask, frozenset(), time.time() * 1000)
    assert reply is not None and "in another order before" in reply.answer.refused


def test_too_few_devices(federation: Federation) -> None:
    """One device twice counts once; one that was sent away, or whose time is over, does not count."""
    two = headers(federation, 2)
    assert "sums up 2 devices, and 3 is the fewest" in said(federation, order_of(federation, two))
    repeated = [*two, federation.update("dev-1", VALUES)[0]]
    assert "sums up 2 devices" in said(federation, order_of(federation, repeated))
    three = headers(federation, 3)
    gone = frozenset({federation.device("dev-2").certificate.serial})
    keeper = federation.keepers[KEEPER]
    ask = federation.ask(order_of(federation, three), MINE)
    reply = keeper.reply(ask, gone, time.time() * 1000)
    assert reply is not None and "sums up 2 devices" in reply.answer.refused
    strict = Keeper(federation.identities[KEEPER], Answered(federation.folder / "strict"), min_devices=4)
    reply = strict.reply(ask, frozenset(), time.time() * 1000)
    assert reply is not None and "4 is the fewest" in reply.answer.refused
    assert said(federation, order_of(federation, three)) == ""


def test_the_terms_are_those_that_devices_sealed_under(federation: Federation) -> None:
    """A coordinator that tells keepers of fewer devices, less noise or other keepers opens nothing."""
    found = headers(federation)
    for terms in (
        {"min_devices": 2}, {"noise": 1.0}, {"colluders": 2}, {"num_elements": 4},
        {"keepers": ("keeper-0", "keeper-2", "keeper-1")},
    ):  # fmt: skip
        assert said(federation, order_of(federation, found, **terms)) not in ("", "nobody hears of it")  # type: ignore[arg-type]
    assert "none of its keepers" in said(federation, order_of(federation, found, keepers=("a", "b", "c")))


def _forgeries() -> dict[str, Callable[[Federation, list[bytes]], bytes]]:
    """One of three headers made anew, each in a way that must not pass."""

    def made(one: Identity, body: bytes, domain: Domain = Domain.UPDATE) -> bytes:
        return Signed(signature=sign(one.key, domain, body), certificate=one.certificate.der, body=body).to_bytes()

    def other_key(federation: Federation, found: list[bytes]) -> bytes:
        body = Signed.from_bytes(found[0]).body
        key = federation.device("dev-9").key
        certificate = federation.device("dev-0").certificate.der
        return Signed(signature=sign(key, Domain.UPDATE, body), certificate=certificate, body=body).to_bytes()

    def other_domain(federation: Federation, found: list[bytes]) -> bytes:
        return made(federation.device("dev-0"), Signed.from_bytes(found[0]).body, Domain.REPORT)

    def stranger(federation: Federation, found: list[bytes]) -> bytes:
        one = federation.member("dev-0", Role.DEVICE, Authority(federation.folder))
        return made(one, Signed.from_bytes(found[0]).body)

    return {
        "another key": other_key,
        "another purpose": other_domain,
        "another authority's": stranger,
        "in another one's name": lambda federation, found: resigned(federation, found[0], "dev-1"),
        "the boxes of another update": lambda federation, found: resigned(
            federation, found[0], "dev-0", boxes=ModelUpdate.from_bytes(Signed.from_bytes(found[1]).body).boxes
        ),
        "another task": lambda federation, found: resigned(federation, found[0], "dev-0", task_id="99-z"),
        "another attempt": lambda federation, found: resigned(federation, found[0], "dev-0", attempt=2),
        "another campaign": lambda federation, found: resigned(federation, found[0], "dev-0", campaign="other-1"),
        "a box less": lambda federation, found: resigned(
            federation, found[0], "dev-0", boxes=ModelUpdate.from_bytes(Signed.from_bytes(found[0]).body).boxes[1:]
        ),
        "rubbish in a box": lambda federation, found: resigned(federation, found[0], "dev-0", boxes=(b"x" * 100,) * 3),
        "not masked": lambda federation, found: resigned(federation, found[0], "dev-0", codec="fp32"),
        "the same twice": lambda federation, found: found[1],
        "no header": lambda federation, found: b"rubbish",
    }


@pytest.mark.parametrize("name", _forgeries())
def test_a_forged_update_is_refused(federation: Federation, name: str) -> None:
    """And nothing is noted: the same order with the true one is answered."""
    found = headers(federation)
    forged = [_forgeries()[name](federation, found), *found[1:]]
    assert said(federation, order_of(federation, forged)) not in ("",)
    assert said(federation, order_of(federation, found)) == ""


def test_only_a_coordinator_of_the_authority_is_heard(federation: Federation) -> None:
    """A device, an operator, another authority's coordinator, a signature of something else: no answer at all."""
    order = order_of(federation, headers(federation))
    strangers = Authority(federation.folder)
    for asker in (
        federation.device("dev-0"),
        federation.member("eve", Role.OPERATOR),
        federation.identities["keeper-1"],
        federation.member("boss", Role.COORDINATOR, strangers),
    ):
        assert said(federation, order, asker=asker) == "nobody hears of it"
    good = Request.from_bytes(federation.ask(order, MINE))
    signed = Signed.from_bytes(good.ask)
    other = replace(signed, body=replace(Ask.from_bytes(signed.body), seeds=(1,)).to_bytes()).to_bytes()
    another = order_of(federation, headers(federation))
    keeper, now = federation.keepers[KEEPER], time.time() * 1000
    for changed in (replace(good, ask=other), replace(good, order=another)):
        assert keeper.reply(changed.to_bytes(), frozenset(), now) is None
    assert keeper.reply(good.to_bytes(), frozenset({federation.boss.certificate.serial}), now) is None
    assert keeper.reply(good.to_bytes(), frozenset(), now + 11 * 24 * 3600 * 1000) is None
    for rubbish in (b"", b"\x80", b"x" * 1000, good.to_bytes()[:-1]):
        assert keeper.reply(rubbish, frozenset(), now) is None
    assert said(federation, order) == ""


def test_seeds_that_this_keeper_does_not_hold(federation: Federation) -> None:
    """Its number 0 is the one that it lacks."""
    order = order_of(federation, headers(federation))
    for seeds in ((0,), (0, 1), (1, 2, 3)):
        assert "does not hold" in said(federation, order, seeds)


@pytest.mark.parametrize(
    "weights", [(0, 16, 16), (17, 16, 16), (16, -1, 16), (16, 16), (16,) * 4, (1.5, 16, 16), (True, 1, 1)]
)
def test_weights_are_whole_16ths_one_for_each(federation: Federation, weights: tuple[Any, ...]) -> None:
    """0 and 17 among them: refused where the order is read, and so is a number that is not that of the updates."""
    found = headers(federation)
    try:
        order = order_of(federation, found, weights)
    except RejectedUpdate:
        return
    assert "a weight for each update" in said(federation, order)


def test_hostile_sizes_are_refused_before_they_cost_anything(federation: Federation) -> None:
    """More updates than a sum can hold, a header longer than any."""
    (header,) = headers(federation, 1)
    with pytest.raises(RejectedUpdate):
        order_of(federation, [header] * (MAX_UPDATES + 1))
    with pytest.raises(RejectedUpdate):
        order_of(federation, [bytes(Signed.max_bytes + 1)])
    with pytest.raises(RejectedUpdate):
        Ask(order="a" * 64, seeds=()).to_bytes()
    with pytest.raises(RejectedUpdate):
        Ask(order="a" * 64, seeds=(1, 1)).to_bytes()


def test_a_campaign_of_other_terms_is_masked_for_itself(tmp_path: Path) -> None:
    """The same device in two campaigns with the same keepers: each opens with its own terms."""
    federation = Federation(tmp_path, min_devices=2)
    terms = {**federation.args, "min_devices": 3}
    other = Masking.from_args(terms, 5, federation.authority.certificate)
    found = [federation.update(f"dev-{n}", VALUES, other, campaign="other-1")[0] for n in range(3)]
    assert said(federation, order_of(federation, found)) != ""
    assert said(federation, order_of(federation, found, min_devices=3)) == ""
    assert CAMPAIGN != "other-1"
