"""Who is asked for which masks, who instead, and what is said of those who are waited for."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from coordinator.outgoing import keepers
from coordinator.outgoing.keepers import ANSWER_SECONDS, KeeperAsks
from fl_core.identity.signer import Signer
from fl_core.secure_aggregation.orders import Ask, Request
from fl_core.wire.signed import body_of
from tests.unit.coordinator.campaign.masked.masked_log import MaskedLog
from tests.unit.coordinator.stand_ins import FakeClock, context


class World:
    """A campaign by hand, whose asks go to keepers that a test may send away.

    Attributes:
        present: who is there.
        asked: what each was asked since the last look, as it came.
        durable: how often spending was made durable.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.masked = MaskedLog(folder)
        self.clock = FakeClock()
        self.present = set(self.masked.federation.names)
        self.asked: defaultdict[str, list[bytes]] = defaultdict(list)
        self.durable = 0
        monkeypatch.setattr(keepers, "certificates", lambda client, names: dict.fromkeys(self.present, b"x"))
        ctx: Any = context(machine=self.clock)
        object.__setattr__(ctx, "seal", Signer(self.masked.federation.boss).seal)
        transaction: Any = self
        self.asks = KeeperAsks(ctx, self.masked.log.state, transaction, self.make_durable)

    def make_durable(self) -> None:
        self.durable += 1

    def add(self, commands: list[list[str | bytes]]) -> None:
        assert self.durable
        assert [command[0] for command in commands] == ["RPUSH", "LTRIM", "EXPIRE"]
        (_, key, ask), *_ = commands
        self.asked[str(key).split(":")[2]].append(bytes(ask))  # type: ignore[arg-type]

    def look(self) -> dict[str, tuple[int, ...]]:
        """Who is asked for what by this look."""
        self.asked.clear()
        self.asks.look()
        return {
            name: Ask.from_bytes(body_of(Request.from_bytes(ask).ask)).seeds
            for name, asks in self.asked.items()
            for ask in asks
        }


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_full_sum_is_asked_for_once_and_its_keepers_answer(world: World) -> None:
    """As few keepers as can be; what is asked is what they answer, signed as a coordinator signs."""
    assert world.look() == {}
    one = world.masked.fill(1, 2, 3)
    asked = world.look()
    assert len(asked) == 2
    assert sorted(seed for seeds in asked.values() for seed in seeds) == [0, 1, 2]
    for name, (packed,) in list(world.asked.items()):
        reply = world.masked.federation.keepers[name].reply(packed, frozenset(), 1000.0 * 2**31)
        assert reply is None or reply.answer.order == one.digest
    assert world.look() == {}
    world.masked.open_sum(one)
    assert world.look() == {}
    assert world.asks.waits_for == ""


def test_a_keeper_that_is_away_is_not_the_first_to_be_asked(world: World) -> None:
    """Whoever it is, the two others are enough."""
    world.present -= {"keeper-1"}
    for first in (1, 4, 7):
        world.masked.fill(first, first + 1, first + 2)
        assert set(world.look()) == {"keeper-0", "keeper-2"}
        world.masked.open_sum(world.masked.masked.waiting[0])


def test_after_five_seconds_without_an_answer_the_next_one_is_asked(world: World) -> None:
    """And for what is missing alone; who is waited for is told."""
    one = world.masked.fill(1, 2, 3)
    asked = world.look()
    (slow, quick) = asked
    world.masked.log.apply(world.masked.answer(one, quick, asked[quick]))
    world.clock.now += ANSWER_SECONDS - 1
    assert world.look() == {}
    world.clock.now += 2
    instead = world.look()
    assert slow not in instead
    assert sorted(seed for seeds in instead.values() for seed in seeds) == sorted(asked[slow])
    assert world.asks.waits_for.startswith("answers of the keepers ")


def test_where_too_few_are_there_it_is_said_who_is_waited_for(world: World) -> None:
    """They are asked all the same, and again: they may come back."""
    world.present = {"keeper-2"}
    world.masked.fill(1, 2, 3)
    world.look()
    world.clock.now += ANSWER_SECONDS + 1
    assert world.look()
    assert "keeper-0, keeper-1 are away" in world.asks.waits_for


def test_what_was_asked_is_asked_again_after_a_loss_with_the_same_order(world: World) -> None:
    """Keepers answer the same order again, and no other one with these updates."""
    world.masked.fill(1, 2, 3)
    world.look()
    before = {Request.from_bytes(ask).order for asks in world.asked.values() for ask in asks}
    world.asks.forget()
    world.look()
    after = {Request.from_bytes(ask).order for asks in world.asked.values() for ask in asks}
    assert before == after != set()


def test_who_has_refused_is_not_asked_again(world: World) -> None:
    """The others are."""
    one = world.masked.fill(1, 2, 3)
    refusing = next(iter(world.look()))
    seeds = one.terms.held_by(refusing)
    world.masked.log.apply(world.masked.answer(one, refusing, seeds, payload=b"", refused="no."))
    assert refusing not in world.look()
