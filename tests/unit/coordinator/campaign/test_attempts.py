"""An attempt that came to nothing ends its task, or issues it again, and the history says who said what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.campaign.attempts import MAX_SAID_CHARACTERS
from coordinator.campaign.contributions import Contributions

TWICE = {"dispatch": {"max_attempts": 2}}


def test_a_task_fails_as_often_as_it_may(bench: Callable[..., Any]) -> None:
    """The last line of a traceback is the error; it is shortened."""
    campaign = bench(**TWICE).open(1)
    said = f"Traceback (most recent call last):\n  File\nValueError: {'x' * 1000}\n"
    campaign.apply(campaign.report(1, detail=said))
    campaign.apply(campaign.report(1, 2, detail=said))
    reissue, rejection = campaign.history
    assert (reissue["kind"], reissue["attempt"], reissue["reason"]) == ("reissue", 2, "failed")
    assert (rejection["kind"], rejection["reason"]) == ("rejection", "training_failed")
    assert reissue["detail"] == rejection["detail"] == f"ValueError: {'x' * 1000}"[:MAX_SAID_CHARACTERS]
    assert campaign.state.ledger.rejected == {"training_failed": 1}


def test_handing_back_spends_no_attempt(bench: Callable[..., Any]) -> None:
    """A device that is shut down is no fault of the task."""
    campaign = bench(**TWICE).open(1)
    for attempt in range(1, 6):
        campaign.apply(campaign.report(1, attempt, outcome="handed_back", detail=""))
    assert (campaign.state.ledger.open[1].attempt, campaign.state.ledger.open[1].failures) == (6, 0)
    assert campaign.state.fruitless.failures == 0, "nobody said that anything is wrong"


def test_a_device_that_may_give_no_more_is_no_failure(bench: Callable[..., Any]) -> None:
    """Its task is for others, and it is known to have given all, until it gives something after all."""
    campaign = bench(**TWICE).open(2)
    for attempt in range(1, 4):
        campaign.apply(campaign.report(1, attempt, outcome="budget_spent", detail="epsilon = 8 is spent"))
    state = campaign.state
    assert (state.ledger.open[1].attempt, state.ledger.open[1].failures) == (4, 0)
    assert [row["reason"] for row in campaign.history] == ["budget_spent"] * 3
    assert state.fruitless.failures == 0
    assert len(state.contributions.given_all) == 1
    kept = Contributions()
    kept.restore(state.contributions.export())
    assert kept.given_all == state.contributions.given_all
    campaign.apply(campaign.update(2))
    assert not state.contributions.given_all


@pytest.mark.parametrize(("reason", "expires"), [("lost", True), ("deadline", True), ("no_worker", False)])
def test_a_task_that_is_given_up_too_often_expires(bench: Callable[..., Any], reason: str, expires: bool) -> None:
    """Unless nobody was there to take it, which spends nothing."""
    campaign = bench(**TWICE).open(1)
    campaign.apply(campaign.reissued(1, 1, reason=reason), campaign.reissued(1, 2, reason=reason))
    assert campaign.state.ledger.expired == int(expires)
    assert (1 in campaign.state.ledger.open) != expires


def test_a_report_that_comes_too_late_changes_nothing(bench: Callable[..., Any]) -> None:
    """Of an earlier attempt, of a task that has ended, of another campaign, or with an id that was never given out."""
    campaign = bench(**TWICE).open(2)
    campaign.apply(campaign.reissued(1), campaign.update(2))
    lines = len(campaign.history)
    before = campaign.state.export()[1]["ledger"]
    campaign.apply(
        campaign.report(1, 1), campaign.report(2), campaign.report(1, 2, campaign="other"),
        campaign.report(1, 2, task_id="1-000000000000"),
    )  # fmt: skip
    assert (len(campaign.history), campaign.state.export()[1]["ledger"]) == (lines, before)
