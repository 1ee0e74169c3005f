"""Campaign time goes on evenly, whatever happens to the server's clock."""

from __future__ import annotations

import pytest

from fl_core.broker.clock import CampaignClock

HOUR_MS = 3_600_000


class World:
    """A server's clock that can be set, and this machine's that cannot; both in ms."""

    def __init__(self) -> None:
        self.passed, self.server, self.trip = 5_000.0, 1_000_000_000.0, 0.0
        self.position = 0
        self.clock = CampaignClock(self, self)  # type: ignore[arg-type]

    def monotonic(self) -> float:
        return self.passed / 1000

    def clock_ms(self) -> float:
        self.pass_(self.trip)
        return self.server

    def pass_(self, milliseconds: float) -> None:
        self.passed += milliseconds
        self.server += milliseconds

    def entry_ms(self) -> int:
        """The position of an entry that is written now: it does not go back."""
        self.position = max(self.position, round(self.server))
        return self.position


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("jumps", [[HOUR_MS], [-HOUR_MS], [HOUR_MS, -2 * HOUR_MS], [-HOUR_MS, HOUR_MS], [3000, -3000]])
def test_the_log_s_time_stays_near_campaign_time_through_every_jump(world: World, jumps: list[int]) -> None:
    """Looked at every second, and corrected by events: no entry is told more than six seconds off, for an hour each."""
    clock, shift = world.clock, 0
    clock.begin(0, 0)
    began, passed = clock.now_ms(), 0
    for jump in [0, *jumps]:
        world.server += jump
        assert clock.read() == (jump != 0)
        for _ in range(4000):
            corrected = clock.correction_ms(shift, world.entry_ms())
            shift = shift if corrected is None else corrected
            assert abs(clock.now_ms() - began - passed) < 100
            assert abs(world.entry_ms() + shift - began - passed) <= 6000
            world.pass_(1000)
            passed += 1000
            assert not clock.read()


def test_a_clock_that_is_only_a_little_off_is_followed(world: World) -> None:
    """Half a second a second is drift, not a jump: campaign time stays the server's."""
    world.clock.begin(0, 0)
    for _ in range(20):
        world.pass_(1000)
        world.server += 500
        assert not world.clock.read()
    assert world.clock.now_ms() == world.server


def test_a_slow_answer_says_nothing(world: World) -> None:
    """A round trip of five seconds is no jump of the clock."""
    world.clock.begin(0, 0)
    world.trip = 5000.0
    assert not world.clock.read()
    world.trip = 0.0
    assert not world.clock.read()
    assert abs(world.clock.now_ms() - world.server) < 1


def test_a_coordinator_that_resumes_goes_on_where_the_log_is(world: World) -> None:
    """Also where the log is ahead of a clock that was set back meanwhile, and with what was corrected before."""
    world.clock.begin(-500, round(world.server) + HOUR_MS)
    assert world.clock.now_ms() == round(world.server) + HOUR_MS - 500
    world.pass_(7000)
    assert world.clock.correction_ms(-500, round(world.server) - 7000 + HOUR_MS) == 6500


def test_what_workers_are_told_is_the_server_s_time(world: World) -> None:
    """A row's moment of issue is one that the server's clock, as it goes now, can be compared with."""
    world.clock.begin(0, 0)
    issued = world.clock.now_ms()
    world.server += HOUR_MS
    world.clock.read()
    world.pass_(2000)
    assert world.server - world.clock.on_server_ms(issued) == 2000
