"""How old a claim is, by this machine's clock: a jump of the server's makes no claim older or younger."""

from __future__ import annotations

import pytest

from coordinator.outgoing.claims import Claims
from tests.unit.coordinator.stand_ins import FakeClock

HOUR_MS = 3_600_000


class World:
    """This machine's clock, and a server's that can be set."""

    def __init__(self) -> None:
        self.clock, self.server_ms = FakeClock(), 1_000_000_000
        self.claims = Claims(self.clock)

    def pass_(self, seconds: float) -> None:
        self.clock.now += seconds
        self.server_ms += round(1000 * seconds)

    def age(self, claim: tuple[int, int]) -> float:
        """Of a claim: its attempt, and when it was stamped."""
        self.claims.begin_look()
        age = self.claims.age_seconds(1, *claim, self.server_ms)
        self.claims.end_look()
        return age


@pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS])
def test_a_claim_s_age_does_not_jump(jump: int) -> None:
    """Seen once, it ages by this machine's clock; one that is new cannot be older than the last look."""
    world = World()
    claim = (1, world.server_ms - 3000)
    assert world.age(claim) == 3.0  # as the stamp says: nobody has looked before
    world.server_ms += jump
    world.pass_(1.0)
    assert world.age(claim) == 4.0
    world.pass_(1.0)
    again = (2, world.server_ms - jump - 500)  # stamped before the jump, seen after it
    assert 0.0 <= world.age(again) <= 1.0
    world.pass_(1.0)
    assert 1.0 <= world.age(again) <= 2.0


def test_what_is_asked_for_only_when_it_matters_is_as_old_as_it_says() -> None:
    """Not as young as the last look, at which nobody asked; from then on it ages by this machine's clock."""
    world = World()
    world.claims = Claims(world.clock, from_the_start=False)
    world.claims.begin_look()
    world.claims.end_look()
    world.pass_(1.0)
    moved = (1, world.server_ms - 90_000)
    assert world.age(moved) == 90.0
    world.server_ms += HOUR_MS
    world.pass_(1.0)
    assert world.age(moved) == 91.0
    world.pass_(1.0)
    assert world.age((1, world.server_ms - HOUR_MS)) <= 1.0, "it has moved since the last look"


def test_a_claim_that_was_not_asked_for_is_forgotten() -> None:
    """What comes under its number later is another one."""
    world = World()
    claim = (1, world.server_ms)
    world.age(claim)
    world.pass_(10.0)
    world.claims.begin_look()
    world.claims.end_look()
    world.pass_(1.0)
    assert world.age(claim) == 1.0, "as old as the last look, since it is new"
