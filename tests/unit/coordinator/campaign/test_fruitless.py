"""Attempts that all fail: told with what they have in common, and the end of a campaign that never merged anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coordinator.campaign.course import Phase
from coordinator.campaign.fruitless import FEWEST_FAILURES, LEAST_FAILURES, nothing_came_of_it
from coordinator.campaign.summary import summarise
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from fl_core.wire.log_entry import LogEntry

NUM_ELEMENTS = 64
NAN = np.full(NUM_ELEMENTS, np.nan, np.float32)
SMALL = {"dispatch": {"concurrency": 2}}


def _fail_all(
    campaign: Any, failure: Callable[[int], LogEntry], count: int = LEAST_FAILURES, step_ms: int = 400
) -> list[str]:
    """Issue and fail tasks, oldest first, as one device after the other does; the sentences that are told."""
    told = []
    while count and campaign.state.accepts:
        task = min(campaign.state.ledger.open.values(), key=lambda one: (one.issued_ms, one.number), default=None)
        if task is None:
            campaign.apply(campaign.issued(2))
            continue
        campaign.milliseconds += step_ms
        effects = campaign.apply(failure(task.number))
        told += [effects.fruitless] if effects.fruitless else []
        count -= 1
    return told


def _summary(campaign: Any) -> dict[str, Any]:
    return summarise("digits-1", campaign.spec, campaign.state, campaign.layout)


def _refused(campaign: Any, **changes: Any) -> Callable[[int], LogEntry]:
    return lambda number: campaign.update(number, worker=f"worker-{number % 2}", **changes)


def _attempt(campaign: Any, number: int) -> int:
    attempt: int = campaign.state.ledger.open[number].attempt
    return attempt


def _reported(campaign: Any, outcome: str, detail: str) -> Callable[[int], LogEntry]:
    return lambda number: campaign.report(
        number, _attempt(campaign, number), outcome, detail=detail, worker=f"worker-{number % 2}"
    )


FAILURES: list[tuple[str, Callable[[Any], Callable[[int], LogEntry]], dict[str, Any], str, str]] = [
    (
        "not_finite",
        lambda campaign: _refused(campaign, values=NAN),
        {"training": {"learning_rate": 0.5}},
        "most often: it holds NaN or infinite values",
        "Lower training.learning_rate = 0.5, set training.max_gradient_norm",
    ),
    (
        "norm_exceeded",
        lambda campaign: _refused(campaign),
        {"aggregation": {"max_update_norm": 0.5}},
        "most often: its norm is 1, aggregation.max_update_norm is 0.5",
        "Raise aggregation.max_update_norm = 0.5, or lower training.learning_rate",
    ),
    (
        "wrong_layout",
        lambda campaign: _refused(campaign, layout_digest="0" * 32),
        {},
        "most often: the device's model has layout 000",
        "Install the same code of model.factory = 'a:b' everywhere.",
    ),
    (
        "failed",
        lambda campaign: _reported(campaign, "failed", 'Traceback\n  File "x"\nValueError: no column 7\n'),
        {},
        "most often: ValueError: no column 7. Mend",
        "Mend what the devices' training raises",
    ),
    (
        "handed_back",
        lambda campaign: _reported(campaign, "handed_back", "data = 'a:b' failed with {}: no such file."),
        {},
        "most often: data = 'a:b' failed with {}: no such file. Mend",
        "Mend what the devices say",
    ),
    (
        "lost",
        lambda campaign: lambda number: campaign.reissued(number, _attempt(campaign, number)),
        {},
        "(lost 20)",
        "Devices fall silent while they train",
    ),
    (
        "deadline",
        lambda campaign: lambda number: campaign.reissued(number, _attempt(campaign, number), "deadline"),
        {"dispatch": {"concurrency": 2, "task_timeout_seconds": 7.0}},
        "(deadline 20)",
        "Raise dispatch.task_timeout_seconds = 7",
    ),
]


@pytest.mark.parametrize(("reason", "failure", "sections", "said", "advice"), FAILURES)
def test_a_campaign_that_only_fails_is_ended_with_advice(
    bench: Callable[..., Any], reason: str, failure: Any, sections: dict[str, Any], said: str, advice: str
) -> None:
    """Whatever the reason: after so many failures it ends, says what they have in common and what to do, and the same
    log applied again ends at the same entry with the same words."""
    campaign = bench(**{**SMALL, **sections}).open(2)
    told = _fail_all(campaign, failure(campaign))
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.STOPPED, "fruitless")
    assert campaign.history[-1]["kind"] == "end"
    assert (campaign.state.ledger.out, campaign.state.ledger.merged) == (0, 0)
    summary = _summary(campaign)
    found = summary["fruitless"]
    assert (found["failures"], found["reasons"]) == (LEAST_FAILURES, {reason: LEAST_FAILURES})
    assert told == [found["sentence"]]
    assert said in found["sentence"]
    assert advice in found["sentence"]
    assert found["sentence"] in nothing_came_of_it(summary)
    again = campaign.new_state()
    for entry in campaign.entries:
        again.apply(entry)
    assert campaign.fingerprint(again) == campaign.fingerprint()
    restored = campaign.resumed()
    assert _summary(campaign) == summarise("digits-1", campaign.spec, restored, campaign.layout)


def test_a_model_that_is_not_finite_itself_is_named(bench: Callable[..., Any]) -> None:
    """No learning rate of a device helps there: the sentence names the tensor."""
    campaign = bench(**SMALL).open(2)
    campaign.state.strategy.parameters.values[3] = np.inf
    (told,) = _fail_all(campaign, _refused(campaign, values=NAN))
    assert "The model itself holds NaN or infinite values, in 'weight'" in told


def test_a_mask_is_no_damage(bench: Callable[..., Any]) -> None:
    """A buffer that holds what is not finite for good is not why updates are not finite."""
    campaign = bench(**SMALL).open(2)
    fruitless = campaign.state.fruitless
    fruitless.note("not_finite", "", "one", ("default", (0, 0)), 1)
    layout = Layout((TensorSpec("weight", (2,)), TensorSpec("mask", (2,), role="constant")))
    values = np.array([1.0, 2.0, 0.0, -np.inf], np.float32)
    fruitless.look_at(SimpleNamespace(parameters=Parameters(values)), layout)
    assert "Lower training.learning_rate" in fruitless.describe(0.0)["sentence"]
    values[1] = np.nan
    fruitless.look_at(SimpleNamespace(parameters=Parameters(values)), layout)
    assert "in 'weight'" in fruitless.describe(0.0)["sentence"]


def test_a_burst_of_failures_at_the_launch_is_no_end(bench: Callable[..., Any]) -> None:
    """What all devices lack in the first seconds, they may have in the next."""
    campaign = bench(dispatch={"concurrency": 2}).open(2 * LEAST_FAILURES)
    for number in range(1, 2 * LEAST_FAILURES):
        campaign.milliseconds -= 400
        campaign.apply(campaign.update(number, values=NAN, worker="one"))
    assert campaign.state.phase == Phase.RUNNING
    campaign.milliseconds += 20_000
    campaign.apply(campaign.update(2 * LEAST_FAILURES, values=NAN, worker="one"))
    assert campaign.state.stop_reason == "fruitless"


def test_one_admitted_update_ends_the_stretch(bench: Callable[..., Any]) -> None:
    """Devices that mostly fail do not end a campaign that gets somewhere; a later stretch is only told."""
    campaign = bench(**SMALL, aggregation={"buffer_size": 1}).open(2)
    assert _fail_all(campaign, _refused(campaign, values=NAN), LEAST_FAILURES - 1) == []
    campaign.apply(campaign.issued(2))
    campaign.apply(campaign.update(max(campaign.state.ledger.open)))
    assert campaign.state.fruitless.failures == 0
    (told,) = _fail_all(campaign, _refused(campaign, values=NAN), 2 * LEAST_FAILURES)
    assert campaign.state.phase == Phase.RUNNING
    assert "since second" in told
    assert _summary(campaign)["fruitless"]["failures"] == 2 * LEAST_FAILURES
    assert nothing_came_of_it(_summary(campaign)) == ""


def test_a_slower_device_may_yet_answer(bench: Callable[..., Any]) -> None:
    """A task that is open for longer than the failing devices take is in other hands: the end waits for its answer."""
    campaign = bench(**SMALL).open(2)
    for _ in range(2 * LEAST_FAILURES):
        campaign.apply(campaign.issued(1))
        campaign.apply(campaign.update(campaign.state.ledger.issued, values=NAN, worker="fast"))
    assert campaign.state.phase == Phase.RUNNING
    campaign.apply(campaign.update(1, values=NAN, worker="slow"))
    assert campaign.state.phase == Phase.RUNNING, "task 2 is in the hands of a third device"
    campaign.apply(campaign.update(2, values=NAN, worker="slowest"))
    assert campaign.state.stop_reason == "fruitless"


@pytest.mark.parametrize("times", [1, 3])
def test_a_device_that_failed_and_left_holds_no_task(bench: Callable[..., Any], times: int) -> None:
    """The oldest task is not in its hands but in those of one that may yet answer, and does."""
    campaign = bench(**SMALL).open(times + 1)
    for number in range(1, times + 1):
        campaign.apply(campaign.update(number, values=NAN, worker="gone"))
    campaign.milliseconds += 20_000
    for _ in range(2 * LEAST_FAILURES):
        campaign.milliseconds += 500
        campaign.apply(campaign.issued(1))
        campaign.apply(campaign.update(campaign.state.ledger.issued, values=NAN, worker="failing"))
    assert campaign.state.phase == Phase.RUNNING
    restored = campaign.resumed()
    assert restored.fruitless.export() == campaign.state.fruitless.export()
    campaign.apply(campaign.update(times + 1, worker="healthy"))
    assert campaign.state.fruitless.failures == 0


@pytest.mark.parametrize(("limit", "failures"), [(5, 5), (0, None), (None, 60)])
def test_the_number_can_be_set(bench: Callable[..., Any], limit: int | None, failures: int | None) -> None:
    """A number of one's own, none at all, or by default twice the concurrency."""
    stop = {} if limit is None else {"stop": {"failures_without_merge": limit}}
    campaign = bench(dispatch={"concurrency": 30}, **stop).open(2)
    _fail_all(campaign, _refused(campaign, values=NAN), 100, step_ms=-400)
    assert campaign.state.fruitless.failures == (failures or 100)
    assert campaign.state.phase == (Phase.STOPPED if failures else Phase.RUNNING)


@pytest.mark.parametrize("workers", [2, 1])
def test_devices_that_hold_themselves_back_fail_less_often(bench: Callable[..., Any], workers: int) -> None:
    """A device tries ever more rarely what fails there: a few failures of each, over half a minute, are an end."""
    campaign = bench(dispatch={"concurrency": 30}).open(2)
    begin, pause = campaign.milliseconds, 500
    while campaign.state.phase == Phase.RUNNING:
        campaign.milliseconds += pause
        pause = min(2 * pause, 30_000)
        for worker in range(workers):
            if not (open_now := campaign.state.ledger.open):
                campaign.apply(campaign.issued(2))
            if campaign.state.phase == Phase.RUNNING:
                campaign.apply(campaign.update(min(open_now), values=NAN, worker=f"worker-{worker}"))
    assert (campaign.milliseconds - begin) / 1000 < (45 if workers == 2 else 170)
    assert campaign.state.fruitless.failures >= FEWEST_FAILURES
    assert "worker-0" in nothing_came_of_it(_summary(campaign))


def test_a_device_that_has_just_failed_may_work_next_time(bench: Callable[..., Any]) -> None:
    """As long as one that came late has not failed again and again, too, the others' failures are no end."""
    campaign = bench(dispatch={"concurrency": 30}).open(2)
    for number in range(1, 14):
        campaign.milliseconds += 2000
        worker = "late" if number >= 10 else "early"
        campaign.apply(campaign.update(number, values=NAN, worker=worker))
        campaign.apply(campaign.issued(1))
    assert campaign.state.phase == Phase.RUNNING
    campaign.apply(campaign.update(14, worker="late"))
    assert campaign.state.fruitless.failures == 0


def test_what_ends_no_task_is_no_failure(bench: Callable[..., Any]) -> None:
    """Strangers, duplicates and tasks that are handed back without a reason cannot end a campaign."""
    campaign = bench(**SMALL).open(2)
    for _ in range(2 * LEAST_FAILURES):
        campaign.apply(campaign.update(1, task_id="1-000000000000"))
        campaign.apply(campaign.update(1, campaign="another-1"))
        campaign.apply(campaign.report(2, _attempt(campaign, 2), "handed_back", detail=""))
        campaign.apply(campaign.reissued(2, _attempt(campaign, 2), "no_worker"))
    assert campaign.state.fruitless.failures == 0
    assert campaign.state.phase == Phase.RUNNING


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        (
            {"stop_reason": "seconds", "merged": 0},
            "no update was merged, and none was refused; see whether workers serve",
        ),
        ({"stop_reason": "seconds", "merged": 0, "fruitless": {"sentence": "3 failed."}}, "was merged; 3 failed."),
        ({"stop_reason": "fruitless", "merged": 9, "fruitless": {"sentence": "3 failed."}}, "campaign c-1: 3 failed."),
        ({"stop_reason": "seconds", "merged": 1}, ""),
        ({"stop_reason": "asked", "merged": 0}, ""),
        ({"stop_reason": "accuracy", "merged": 0}, ""),
    ],
)
def test_only_a_campaign_without_a_result_ends_with_a_code(summary: dict[str, Any], said: str) -> None:
    """Out of time with nothing merged, or given up; not one that an operator stopped or that needed no training."""
    found = nothing_came_of_it({"campaign": "c-1", **summary})
    assert found.endswith(said) if said.endswith(".") else said in found
    assert bool(found) == bool(said)


def test_what_devices_say_is_bounded(bench: Callable[..., Any]) -> None:
    """Thousands of devices with long words of their own take little memory, and the sentence stays a sentence."""
    campaign = bench(dispatch={"concurrency": 100_000}).open(2)
    for number in range(6000):
        entry = campaign.report(1, _attempt(campaign, 1), detail=f"{'x' * (number % 90)} {'y' * 7000}")
        campaign.state.ledger.open[1].failures = 0
        campaign.apply(replace(entry, header=entry.header.replace(b"worker-0", b"w-%06d" % number)))
    _, meta = campaign.fingerprint()
    assert len(str(meta["fruitless"])) < 400_000
    assert len(campaign.state.fruitless.describe(0.0)["sentence"]) < 1000
