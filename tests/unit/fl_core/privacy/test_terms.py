"""What an order says of privacy: what a spec makes of it, and what a device takes from it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fl_core.errors import SpecError
from fl_core.privacy.accountant import epsilon_of
from fl_core.privacy.terms import Terms
from fl_core.spec import PrivacySection
from fl_core.wire.messages import TrainOrder

GOOD = Terms("local", 1.0, 8.0, 1e-6, 32).order()


def test_off_says_nothing() -> None:
    """And is written as before, so that devices of an earlier release go on."""
    assert Terms.of(PrivacySection()) is None
    assert Terms.read({}) is None


def test_local_noise_covers_any_two_updates() -> None:
    """Twice the noise that zero-out adjacency would need: μ = 2 √k / z."""
    section = PrivacySection(mode="local", epsilon=4.0, delta=1e-5, max_participations=20)
    terms = Terms.of(section)
    assert terms is not None and terms.is_local
    assert epsilon_of(2 * math.sqrt(20) / terms.noise_multiplier, 1e-5) == pytest.approx(4.0, rel=1e-6)
    assert terms.budget.epsilon == pytest.approx(4.0, rel=1e-6)
    assert terms.budget.allows(19 * terms.cost, terms.cost) and not terms.budget.allows(20 * terms.cost, terms.cost)
    central = Terms.of(PrivacySection(mode="central", epsilon=4.0, delta=1e-5, max_participations=20))
    assert central is not None
    assert terms.noise_multiplier == pytest.approx(2 * central.noise_multiplier)


def test_noise_as_it_was_given() -> None:
    """``noise_multiplier`` is taken as it is."""
    terms = Terms.of(PrivacySection(mode="local", noise_multiplier=3.0, clip=0.5))
    assert terms == Terms("local", 0.5, 3.0, 1e-6, 32)
    assert Terms.read(terms.order()) == terms
    assert terms.noise_to_signal(10_000) == 300.0


@pytest.mark.parametrize(
    ("key", "value"),
    [("mode", "off"), ("mode", 1), ("clip", 0.0), ("clip", math.inf), ("clip", math.nan), ("clip", 1), ("clip", 1e300),
     ("noise_multiplier", 0.0), ("noise_multiplier", -1.0), ("noise_multiplier", 1e9), ("noise_multiplier", "8"),
     ("delta", 1.0), ("delta", 0.0), ("max_participations", 0), ("max_participations", 10**10),
     ("max_participations", True), ("metrics", 0), ("more", 1), ("clip", None)],
)  # fmt: skip
def test_what_no_spec_says_is_refused(key: str, value: Any) -> None:
    """An order comes from the network: each key is bounded, none may be left out, none added."""
    with pytest.raises(SpecError, match=key):
        Terms.read(GOOD | {key: value})


def test_a_key_is_missing() -> None:
    """A promise without its noise is none."""
    with pytest.raises(SpecError, match="'noise_multiplier' is missing"):
        Terms.read({key: value for key, value in GOOD.items() if key != "noise_multiplier"})


def test_devices_that_know_nothing_of_it_refuse() -> None:
    """An order with privacy is of another format, and without it of the one before."""
    order = TrainOrder(
        campaign="a", timeout_seconds=1.0, model_factory="a:b", model_args={}, layout_digest="0" * 32, training={},
        codec="fp32", sends="delta", privacy=GOOD,
    )  # fmt: skip
    assert TrainOrder.from_bytes(order.to_bytes()).privacy == GOOD
    import dataclasses

    import msgpack

    assert msgpack.unpackb(order.to_bytes())["v"] == TrainOrder.version
    assert msgpack.unpackb(dataclasses.replace(order, privacy={}).to_bytes())["v"] == TrainOrder.version - 1
