"""Points: no merge is lost in folding, few of them in a long campaign, and a beginning that stays as it is."""

from __future__ import annotations

import pytest

from tests.unit.coordinator.report.exports.lines import END, LINES, merge, points_of


def test_points_sum_up_every_merge() -> None:
    """However lines fall into intervals, the speeds times their intervals are all updates, and counters end right."""
    found = points_of([*LINES, END])
    before, updates = 0.0, 0.0
    for point in found:
        if "merges/updates_per_second" in point.values:
            updates += point.values["merges/updates_per_second"] * (point.seconds - before)
        if "evaluation/loss" not in point.values:
            before = point.seconds
    assert updates == pytest.approx(16)
    assert [(p.step, dict(p.values)) for p in found if "evaluation/loss" in p.values] == [
        (8, {"evaluation/loss": 0.25, "evaluation/accuracy": 0.5}), (9, {"evaluation/loss": 2 / 9}),
    ]  # fmt: skip
    assert found[-1].values["rejected/too_stale"] == found[-1].values["tasks/reissued"] == 1


def test_points_of_a_beginning_are_the_beginning_of_the_points() -> None:
    """What was exported while the campaign ran stays true when it is over."""
    whole = points_of([*LINES, END])
    for length in range(len(LINES) + 1):
        some = points_of(LINES[:length])
        assert some == whole[: len(some)]


def test_a_long_campaign_has_few_points() -> None:
    """A hundred thousand merges over three hours make some thousand points."""
    assert len(points_of(merge(0.1 * number, number, [1]) for number in range(1, 100_001))) < 5000
