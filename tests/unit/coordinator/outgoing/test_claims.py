"""How old a claim is, by this machine's clock: a jump of the server's makes no claim older or younger."""

from __future__ import annotations

import pytest

from coordinator.outgoing.claims import Claims
from fl_core.broker.task_rows import Owner
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

    def age(self, owner: Owner) -> float:
        self.claims.begin_look()
        age = self.claims.age_seconds(1, owner, self.server_ms)
        self.claims.end_look()
        return age


@pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS])
def test_a_claim_s_age_does_not_jump(jump: int) -> None:
    """Seen once, it ages by this machine's clock; one that is new cannot be older than the last look."""
    world = World()
    owner = Owner(1, world.server_ms - 3000, False, "w")
    assert world.age(owner) == 3.0  # as the stamp says: nobody has looked before
    world.server_ms += jump
    world.pass_(1.0)
    assert world.age(owner) == 4.0
    world.pass_(1.0)
    again = Owner(2, world.server_ms - jump - 500, False, "w")  # stamped before the jump, seen after it
    assert 0.0 <= world.age(again) <= 1.0
    world.pass_(1.0)
    assert 1.0 <= world.age(again) <= 2.0


def test_a_claim_that_was_not_asked_for_is_forgotten() -> None:
    """What comes under its number later is another one."""
    world = World()
    owner = Owner(1, world.server_ms, False, "w")
    world.age(owner)
    world.pass_(10.0)
    world.claims.begin_look()
    world.claims.end_look()
    world.pass_(1.0)
    assert world.age(owner) == 1.0, "as old as the last look, since it is new"
