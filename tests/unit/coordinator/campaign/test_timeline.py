"""Campaign time follows from positions and from what events have corrected, and never lies in the future."""

from __future__ import annotations

from coordinator.campaign.timeline import Timeline
from fl_core.wire.log_entry import LogEntry


def _entry(milliseconds: int) -> LogEntry:
    return LogEntry(f"{milliseconds}-0", "e", b"", b"")


def test_seconds_count_from_the_opening() -> None:
    """To the millisecond; nothing was before it."""
    timeline = Timeline(opened_ms=10_000)
    assert [timeline.seconds(moment) for moment in (9_000, 10_000, 11_234)] == [0.0, 0.0, 1.234]


def test_a_correction_moves_what_comes_and_what_was_opened_too_late() -> None:
    """The clock was an hour ahead when the campaign was opened: that is now, and not in an hour."""
    timeline = Timeline(opened_ms=3_600_500)
    assert timeline.correct(-3_600_000, _entry(3_601_000)) == 1000
    assert (timeline.opened_ms, timeline.moment(_entry(3_602_000))) == (1000, 2000)


def test_an_earlier_release_s_state_has_no_shift() -> None:
    """Its times were the positions themselves."""
    timeline = Timeline(1, 2)
    timeline.restore({"opened_ms": 5})
    assert timeline == Timeline(5, 0)
    again = Timeline()
    again.restore(Timeline(5, -7).export())
    assert again == Timeline(5, -7)
