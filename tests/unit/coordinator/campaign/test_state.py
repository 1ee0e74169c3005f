"""A campaign's state as a function of its log: nothing counts twice or is lost, the same log gives the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.campaign.course import Phase
from fl_core.errors import BrokerUnavailable, InvariantError, UserCodeError
from fl_core.wire.log_entry import LogEntry

NUM_ELEMENTS = 64
FEDBUFF = {"aggregation": {"buffer_size": 2, "staleness": "constant"}}
FEDASYNC = {"aggregation": {"strategy": "fedasync"}}
FEDAVG = {"aggregation": {"strategy": "fedavg"}}


def _counts(bench: Any) -> dict[str, int]:
    ledger = bench.state.ledger
    return {
        "issued": ledger.issued,
        "merged": ledger.merged,
        "rejected": ledger.num_rejected,
        "expired": ledger.expired,
        "cancelled": ledger.cancelled,
        "out": ledger.out,
        "surplus": ledger.surplus.total(),
    }


def _kinds(bench: Any, *kinds: str) -> list[dict[str, Any]]:
    return [line for line in bench.history if line["kind"] in kinds]


# -- merging -------------------------------------------------------------------------------------------------------


def test_a_full_buffer_makes_a_version(bench: Callable[..., Any]) -> None:
    """Two updates wait for K = 2, become version 1 with their mean, and the history says who was in it."""
    campaign = bench(**FEDBUFF).open(3)
    assert campaign.apply(campaign.update(1, worker="a")).merges == []
    assert campaign.state.ledger.buffered == [1]
    effects = campaign.apply(campaign.update(3, worker="b"))
    assert [merge.version for merge in effects.merges] == [1]
    assert effects.closed == [3]
    assert campaign.values[:4] == [0.0, 0.5, 0.0, 0.5]
    (line,) = _kinds(campaign, "merge")
    expected = {
        "kind": "merge",
        "seconds": 1.5,
        "version": 1,
        "merged": 2,
        "staleness": [0, 0],
        "weights": [1.0, 1.0],
        "workers": ["a", "b"],
        "tasks": [1, 3],
    }
    assert line == expected
    assert campaign.state.contributions.merged_by_worker == {"a": 1, "b": 1}
    assert (campaign.state.contributions.bytes_up, campaign.state.contributions.bytes_down) == (
        2 * 4 * NUM_ELEMENTS,
        200,
    )


def test_staleness_is_read_before_the_merge_raises_the_version(bench: Callable[..., Any]) -> None:
    """An update that started from the version before the last merge has staleness 1, and one from the newest has 0."""
    campaign = bench(**FEDBUFF).open(4)
    campaign.apply(campaign.update(1), campaign.update(2))
    campaign.apply(campaign.update(3, base_version=0), campaign.update(4, base_version=1))
    assert campaign.history[-1]["staleness"] == [1, 0]
    assert campaign.state.contributions.staleness == {0: 3, 1: 1}


def test_the_buffer_keeps_its_workers_over_merges(bench: Callable[..., Any]) -> None:
    """Each merge is credited to the workers whose updates went into it, in the order in which they came."""
    campaign = bench(**FEDBUFF).open(4)
    campaign.apply(*(campaign.update(n, worker=w) for n, w in ((4, "a"), (2, "b"), (1, "b"), (3, "c"))))
    assert [line["workers"] for line in _kinds(campaign, "merge")] == [["a", "b"], ["b", "c"]]
    assert campaign.state.contributions.merged_by_worker == {"a": 1, "b": 2, "c": 1}


def test_fedasync_merges_every_update(bench: Callable[..., Any]) -> None:
    """Without a buffer an update makes a version at once: x <- 0.4 x + 0.6 x_new when it is fresh."""
    campaign = bench(**FEDASYNC).open(2)
    campaign.apply(campaign.update(1))
    assert campaign.state.strategy.version == 1
    assert campaign.values[1] == pytest.approx(0.6, rel=1e-6)


# -- endings of a task ---------------------------------------------------------------------------------------------


def test_two_answers_to_one_task_count_once(bench: Callable[..., Any]) -> None:
    """Whether delivered twice by the broker or sent twice by the worker, the second is a duplicate without effect."""
    campaign = bench(**FEDBUFF).open(2)
    entry = campaign.update(1)
    campaign.apply(entry)
    effects = campaign.apply(replace(entry, position="1009000-0"), campaign.update(1, worker="other"))
    assert [refused.reason.value for refused in effects.refusals] == ["duplicate"]
    assert effects.closed == []
    assert campaign.state.ledger.surplus == {"duplicate": 2}
    assert _counts(campaign)["out"] == 2
    campaign.apply(campaign.update(2))
    assert campaign.values[:3] == [0.0, 0.5, 0.5]


def test_attempt_1_and_attempt_2_both_answer_and_one_counts(bench: Callable[..., Any]) -> None:
    """A worker believed lost delivers after the re-issue: its update counts, and that of attempt 2 is the duplicate."""
    campaign = bench(**FEDBUFF).open(1)
    effects = campaign.apply(campaign.reissued(1))
    assert [(task.number, task.attempt) for task in effects.reopened] == [(1, 2)]
    assert campaign.apply(campaign.update(1, attempt=1)).refusals == []
    assert [r.reason.value for r in campaign.apply(campaign.update(1, attempt=2)).refusals] == ["duplicate"]
    assert _counts(campaign) == {
        "issued": 1, "merged": 0, "rejected": 0, "expired": 0, "cancelled": 0, "out": 1, "surplus": 1,
    }  # fmt: skip


def test_a_refused_update_ends_its_task_by_its_reason(bench: Callable[..., Any]) -> None:
    """A bad answer to an open task is that task's end; the worker and the reason are in the history."""
    campaign = bench(**FEDBUFF).open(1)
    effects = campaign.apply(campaign.update(1, values=np.full(NUM_ELEMENTS, np.nan), worker="pi"))
    assert effects.closed == [1]
    assert campaign.state.ledger.rejected == {"not_finite": 1}
    line = campaign.history[-1]
    assert (line["kind"], line["reason"], line["worker"]) == ("rejection", "not_finite", "pi")
    assert _counts(campaign)["out"] == 0


def test_a_failed_attempt_is_tried_again_until_none_is_left(bench: Callable[..., Any]) -> None:
    """Two reports of failure re-issue, the third of three ends the task as training_failed."""
    campaign = bench(dispatch={"max_attempts": 3}).open(1)
    for attempt in (1, 2):
        effects = campaign.apply(campaign.report(1, attempt))
        assert effects.failure is not None
        assert effects.failure.detail == "it broke"
        assert [task.attempt for task in effects.reopened] == [attempt + 1]
    effects = campaign.apply(campaign.report(1, 3))
    assert (effects.closed, effects.reopened) == ([1], [])
    assert campaign.state.ledger.rejected == {"training_failed": 1}
    late = campaign.apply(campaign.update(1, attempt=1))
    assert [refused.task for refused in late.refusals] == [None]
    assert campaign.state.ledger.rejected == {"training_failed": 1}


def test_a_lost_attempt_is_issued_again_until_none_is_left(bench: Callable[..., Any]) -> None:
    """The last allowed loss expires the task, and a late update is then told that its task is closed."""
    campaign = bench(dispatch={"max_attempts": 2}).open(1)
    campaign.apply(campaign.reissued(1, 1, "lost"))
    effects = campaign.apply(campaign.reissued(1, 2, "deadline"))
    assert (effects.closed, effects.reopened) == ([1], [])
    assert campaign.state.ledger.expired == 1
    (refused,) = campaign.apply(campaign.update(1, attempt=2)).refusals
    assert refused.reason.value == "task_closed"
    assert "expired" in refused.detail
    assert campaign.state.ledger.surplus == {"task_closed": 1}


def test_handing_back_and_waiting_for_a_worker_spend_no_attempt(bench: Callable[..., Any]) -> None:
    """A worker that is stopped, or a class without workers, may happen any number of times."""
    campaign = bench(dispatch={"max_attempts": 1}).open(1)
    for attempt in range(1, 20, 2):
        campaign.apply(campaign.report(1, attempt, "handed_back"), campaign.reissued(1, attempt + 1, "no_worker"))
    assert (_counts(campaign)["out"], campaign.state.ledger.open[1].attempt) == (1, 21)
    assert campaign.state.ledger.open[1].failures == 0
    campaign.apply(campaign.report(1, 21, "failed"))
    assert _counts(campaign)["rejected"] == 1


def test_a_decision_about_an_attempt_that_is_over_changes_nothing(bench: Callable[..., Any]) -> None:
    """A report or a re-issue that crossed with an update or with a later attempt is out of date, not an error."""
    campaign = bench(**FEDBUFF).open(2)
    campaign.apply(campaign.update(1), campaign.reissued(2, 1))
    before = _counts(campaign)
    effects = campaign.apply(
        campaign.reissued(1, 1), campaign.reissued(2, 1), campaign.report(1, 1), campaign.report(2, 1),
        campaign.report(2, 2, campaign="other"), campaign.report(2, 2, task_id="2-000000000000"),
    )  # fmt: skip
    assert effects.reopened == []
    assert _counts(campaign) == before
    assert campaign.state.ledger.open[2].attempt == 2


def test_a_reissue_goes_to_the_queue_that_was_decided(bench: Callable[..., Any]) -> None:
    """A task of a class without workers moves to the queue in the event, at its time, and says why in the history."""
    campaign = bench(dispatch={"queues": ["default", "gpu"]}).open(1)
    body = {"task": 1, "attempt": 1, "queue": "gpu", "reason": "no_worker"}
    entry = campaign.event("reissued", body)
    campaign.apply(entry)
    task = campaign.state.ledger.open[1]
    assert (task.queue, task.issued_ms) == ("gpu", entry.milliseconds)
    assert campaign.history[-1] == {"kind": "reissue", "seconds": 1.0, "task": 1, "attempt": 2, "reason": "no_worker"}


# -- forged and damaged entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["paused", "stopped", "issued", "evaluated"])
def test_an_event_that_no_coordinator_signed_changes_nothing(bench: Callable[..., Any], kind: str) -> None:
    """Without the campaign's secret nobody pauses, stops or issues; the attempt is counted as malformed."""
    campaign = bench(**FEDBUFF).open(2)
    body = {"reason": "asked", "queues": ["default"], "version": 0, "loss": 0.0, "accuracy": 1.0, "control": "9-9"}
    genuine = campaign.event(kind, body, sequence=3)
    before = _counts(campaign)
    for forged in (
        campaign.event(kind, body, sequence=3, key=b"guess"),
        replace(genuine, payload=b""),
        replace(genuine, payload=genuine.payload[:-1] + bytes([genuine.payload[-1] ^ 1])),
        replace(genuine, header=genuine.header.replace(b"digits-1", b"digits-2")),
        replace(genuine, header=b""),
    ):
        (refused,) = campaign.apply(forged).refusals
        assert refused.reason.value == "malformed"
    assert _counts(campaign) == {**before, "surplus": 5}
    assert (campaign.state.phase, campaign.state.sequence, campaign.state.control_position) == ("running", 2, "0-0")
    campaign.apply(genuine)
    assert campaign.state.sequence == 3


def test_an_event_out_of_sequence_changes_nothing(bench: Callable[..., Any]) -> None:
    """A commit that was repeated after its answer got lost takes effect once; a gap is not jumped."""
    campaign = bench(**FEDBUFF).open(2)
    campaign.apply(campaign.event("issued", {"queues": ["default"]}, sequence=2))
    campaign.apply(campaign.event("issued", {"queues": ["default"]}, sequence=1))
    campaign.apply(campaign.event("issued", {"queues": ["default"]}, sequence=4))
    assert (_counts(campaign)["issued"], campaign.state.sequence) == (2, 2)
    assert _counts(campaign)["surplus"] == 0
    campaign.apply(campaign.event("issued", {"queues": ["default"]}, sequence=3))
    assert (_counts(campaign)["issued"], campaign.state.sequence) == (3, 3)


@pytest.mark.parametrize(("kind", "header"), [("?", b""), ("r", b"\x80"), ("r", b"\xff" * 50), ("u", b"rubbish")])
def test_rubbish_in_the_log_is_counted_and_passed_over(bench: Callable[..., Any], kind: str, header: bytes) -> None:
    """Whatever a stranger appends, the campaign counts it and goes on."""
    campaign = bench(**FEDBUFF).open(1)
    entry = campaign.entry(kind, header)
    campaign.apply(entry)
    assert campaign.state.ledger.surplus == {"malformed": 1}
    assert campaign.state.position == entry.position
    assert campaign.apply(campaign.update(1)).closed == [1]


def test_a_refused_update_cannot_make_the_coordinator_drop_without_bound(bench: Callable[..., Any]) -> None:
    """A payload to be dropped later is never larger than the codec allows, whatever its sender declares."""
    campaign = bench(**FEDBUFF).open(1)
    effects = campaign.apply(campaign.update(1, payload_bytes=2**52, blob=campaign.blob_name(1)))
    assert effects.refusals
    assert effects.blob is None or effects.blob[1] <= 4 * NUM_ELEMENTS


def test_a_payload_beside_the_log_is_dropped_when_covered(bench: Callable[..., Any]) -> None:
    """The blob of a merged update, and of a duplicate, is named for removal; a stranger's blob name is not."""
    campaign = bench(**FEDBUFF).open(2)
    name = campaign.blob_name(1)
    assert campaign.apply(campaign.update(1, blob=name)).blob == (name, 4 * NUM_ELEMENTS)
    assert campaign.apply(campaign.update(1, blob=name)).blob == (name, 4 * NUM_ELEMENTS)
    assert campaign.apply(campaign.update(2, blob=name)).blob is None


def test_a_broker_that_is_away_leaves_the_state_as_it_was(bench: Callable[..., Any]) -> None:
    """When a payload cannot be read, nothing has changed, and the same entry can be applied again."""
    campaign = bench(**FEDBUFF).open(1)
    entry = campaign.update(1, blob=campaign.blob_name(1))
    before = campaign.fingerprint()
    campaign.blobs.is_away = True
    with pytest.raises(BrokerUnavailable):
        campaign.state.apply(entry)
    assert campaign.fingerprint() == before
    campaign.blobs.is_away = False
    assert campaign.apply(entry).closed == [1]


# -- phases --------------------------------------------------------------------------------------------------------


def test_a_paused_campaign_takes_late_updates(bench: Callable[..., Any]) -> None:
    """Pausing cancels nothing: what is out still counts, and resuming goes on."""
    campaign = bench(**FEDBUFF).open(2)
    campaign.apply(campaign.event("paused", {"control": "5-0"}))
    assert (campaign.state.phase, campaign.state.accepts) == (Phase.PAUSED, True)
    campaign.apply(campaign.update(1), campaign.update(2))
    assert campaign.state.strategy.version == 1
    campaign.apply(campaign.event("paused"), campaign.event("resumed", {"control": "5-1"}))
    assert (campaign.state.phase, campaign.state.control_position) == (Phase.RUNNING, "5-1")
    assert [line["state"] for line in _kinds(campaign, "phase")] == ["paused", "running"]


def test_an_interrupted_campaign_cancels_and_can_be_resumed(bench: Callable[..., Any]) -> None:
    """Ctrl-C ends what is out as cancelled and keeps the buffer; after a resume new tasks fill it up."""
    campaign = bench(**FEDBUFF).open(3)
    campaign.apply(campaign.update(1))
    effects = campaign.apply(campaign.event("interrupted", {"control": ""}))
    assert effects.closed == [2, 3]
    assert (campaign.state.phase, campaign.state.phase.is_over, campaign.state.accepts) == ("interrupted", False, False)
    (refused,) = campaign.apply(campaign.update(2)).refusals
    assert (refused.reason.value, "cancelled" in refused.detail) == ("task_closed", True)
    campaign.apply(campaign.event("resumed"), campaign.issued(1))
    campaign.apply(campaign.update(4))
    assert campaign.state.strategy.version == 1
    assert campaign.values[:5] == [0.0, 0.5, 0.0, 0.0, 0.5]
    assert campaign.state.stop_reason == ""


def test_tasks_issued_just_before_the_end_are_cancelled(bench: Callable[..., Any]) -> None:
    """Decisions that were written before the end was known end with it."""
    campaign = bench(**FEDBUFF).open(1)
    campaign.apply(campaign.event("stopped", {"reason": "asked", "control": "7-0"}))
    effects = campaign.apply(campaign.issued(2))
    assert effects.closed == [2, 3]
    assert _counts(campaign)["cancelled"] == 3
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.STOPPED, "asked")


def test_stopping_merges_what_waits_and_then_nothing(bench: Callable[..., Any]) -> None:
    """The end flushes the buffer, cancels what is out, and a late update is surplus: task_closed."""
    campaign = bench(**FEDBUFF).open(2)
    campaign.apply(campaign.update(1), campaign.event("stopped", {"reason": "seconds", "control": ""}))
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.FINISHED, "seconds")
    assert (_counts(campaign)["merged"], _counts(campaign)["cancelled"], _counts(campaign)["out"]) == (1, 1, 0)
    ended, version = campaign.state.course.ended_ms, campaign.state.strategy.version
    campaign.apply(campaign.update(2), campaign.event("resumed"), campaign.event("stopped", {"reason": "asked"}))
    assert campaign.state.ledger.surplus == {"task_closed": 1}
    assert (campaign.state.phase, campaign.state.course.ended_ms) == (Phase.FINISHED, ended)
    assert campaign.state.strategy.version == version
    assert len(_kinds(campaign, "end")) == 1


# -- stop conditions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", [1, 3, 4])
@pytest.mark.parametrize("sections", [FEDBUFF, FEDASYNC, FEDAVG], ids=["fedbuff", "fedasync", "fedavg"])
def test_a_campaign_of_n_updates_merges_exactly_n(
    bench: Callable[..., Any], sections: dict[str, Any], updates: int
) -> None:
    """stop.updates = N ends with N merged, also when N is no multiple of the buffer, and the rest is surplus."""
    campaign = bench(**sections, stop={"updates": updates}).open(6)
    campaign.apply(*(campaign.update(number) for number in range(1, 7)))
    assert (campaign.state.ledger.merged, campaign.state.strategy.buffer_count) == (updates, 0)
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.FINISHED, "updates")
    assert campaign.state.ledger.surplus == {"task_closed": 6 - updates}


def test_a_campaign_of_n_versions_ends_at_version_n(bench: Callable[..., Any]) -> None:
    """stop.versions = 2 with K = 2 takes four updates."""
    campaign = bench(**FEDBUFF, stop={"versions": 2}).open(6)
    campaign.apply(*(campaign.update(number) for number in range(1, 5)))
    assert (campaign.state.strategy.version, campaign.state.stop_reason) == (2, "versions")
    assert _counts(campaign)["cancelled"] == 2


EVALUATED = {"stop": {"accuracy": 0.9}, "evaluation": {"data": "a:b"}}


def _evaluated(bench: Any, version: int, loss: float, accuracy: float | None) -> LogEntry:
    return bench.event("evaluated", {"version": version, "loss": loss, "accuracy": accuracy, "num_examples": 10})


def test_scores_remember_the_best_and_when(bench: Callable[..., Any]) -> None:
    """Loss and accuracy have a last and a best value each; the first time at each percent stays."""
    campaign = bench(**FEDBUFF).open(1)
    campaign.apply(_evaluated(campaign, 0, 2.0, 0.03), _evaluated(campaign, 1, 0.5, 0.02))
    campaign.apply(_evaluated(campaign, 2, 1.0, 0.04))
    scores = campaign.state.scores
    assert (scores.version, scores.loss, scores.best_loss, scores.accuracy) == (2, 1.0, 0.5, 0.04)
    assert scores.best_accuracy == 0.04
    assert scores.seconds_to == {"0.01": 1.0, "0.02": 1.0, "0.03": 1.0, "0.04": 2.0}
    campaign.apply(_evaluated(campaign, 3, 1.0, None))
    assert (scores.accuracy, scores.best_accuracy) == (None, 0.04)


def test_the_wanted_accuracy_ends_the_campaign(bench: Callable[..., Any]) -> None:
    """Exactly the accuracy that was asked for is enough; less is not; without classes there is none."""
    campaign = bench(**FEDBUFF, **EVALUATED).open(1)
    campaign.apply(_evaluated(campaign, 0, 1.0, 0.8999), _evaluated(campaign, 0, 1.0, None))
    assert campaign.state.phase is Phase.RUNNING
    campaign.apply(_evaluated(campaign, 1, 1.0, 0.9))
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.FINISHED, "accuracy")
    assert campaign.state.scores.seconds_to["0.90"] == 2.0


def test_the_wanted_loss_ends_the_campaign(bench: Callable[..., Any]) -> None:
    """A loss at or below stop.loss ends the campaign; one that is not a number does not."""
    campaign = bench(**FEDBUFF, stop={"loss": 0.5}, evaluation={"data": "a:b"}).open(1)
    campaign.apply(_evaluated(campaign, 0, float("nan"), None), _evaluated(campaign, 0, 0.6, None))
    assert campaign.state.phase is Phase.RUNNING
    campaign.apply(_evaluated(campaign, 0, 0.5, None))
    assert campaign.state.stop_reason == "loss"


def test_a_loss_that_is_not_a_number_is_never_the_best(bench: Callable[..., Any]) -> None:
    """A campaign whose first evaluation gives NaN still learns its best loss from the ones that follow."""
    campaign = bench(**FEDBUFF).open(1)
    campaign.apply(_evaluated(campaign, 0, float("nan"), None), _evaluated(campaign, 1, 2.0, None))
    assert campaign.state.scores.best_loss == 2.0


# -- barrier -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        lambda b: b.update(3),
        lambda b: b.update(3, values=np.full(NUM_ELEMENTS, np.inf)),
        lambda b: b.report(3),
        lambda b: b.reissued(3, 1, "deadline"),
    ],
    ids=["update", "rejected", "failed", "expired"],
)
def test_a_cohort_merges_when_its_last_task_has_ended(
    bench: Callable[..., Any], last: Callable[[Any], LogEntry]
) -> None:
    """FedAvg waits for the whole cohort, and merges what came however the last task ended."""
    campaign = bench(**FEDAVG, dispatch={"max_attempts": 1}).open(3)
    campaign.apply(campaign.update(1, num_examples=30), campaign.update(2, num_examples=10))
    assert campaign.state.strategy.version == 0
    effects = campaign.apply(last(campaign))
    assert [merge.version for merge in effects.merges] == [1]
    expected = [0.0, 0.6, 0.2, 0.2] if campaign.values[3] else [0.0, 0.75, 0.25, 0.0]
    assert campaign.values[:4] == pytest.approx(expected, rel=1e-6)
    assert (_counts(campaign)["out"], campaign.state.ledger.buffered) == (0, [])


def test_a_cohort_without_any_update_makes_no_version(bench: Callable[..., Any]) -> None:
    """When every task failed there is nothing to merge, and the next cohort starts from the same version."""
    campaign = bench(**FEDAVG, dispatch={"max_attempts": 1}).open(2)
    campaign.apply(campaign.report(1), campaign.report(2))
    assert (campaign.state.strategy.version, _counts(campaign)["out"]) == (0, 0)


def test_a_resumed_cohort_does_not_wait_for_ever(bench: Callable[..., Any]) -> None:
    """Interrupting cancels the rest of a cohort; once resumed, nothing waits in it that no task will ever complete."""
    campaign = bench(**FEDAVG).open(3)
    campaign.apply(campaign.update(1), campaign.event("interrupted", {"control": ""}), campaign.event("resumed"))
    # The dispatcher issues the next cohort only when none is open and none is buffered.
    assert campaign.state.ledger.open == {}
    assert campaign.state.ledger.buffered == []


def test_an_interrupted_campaign_merges_nothing(bench: Callable[..., Any]) -> None:
    """Between interruption and resume, a stranger's entry does not move the model."""
    campaign = bench(**FEDAVG).open(3)
    campaign.apply(campaign.update(1), campaign.event("interrupted", {"control": ""}))
    before = campaign.state.strategy.version
    campaign.apply(campaign.update(2), campaign.update(99))
    assert campaign.state.strategy.version == before


def test_a_version_made_by_an_ending_counts_for_stop_versions(bench: Callable[..., Any]) -> None:
    """The campaign ends at version N also when the merge was caused by a task that expired, failed or was refused."""
    campaign = bench(**FEDAVG, dispatch={"max_attempts": 1}, stop={"versions": 1}).open(2)
    campaign.apply(campaign.update(1), campaign.reissued(2))
    assert (campaign.state.strategy.version, campaign.state.phase) == (1, Phase.FINISHED)


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_an_exported_state_does_not_change_later(bench: Callable[..., Any]) -> None:
    """A checkpoint is written while the campaign goes on: its plain values are of the moment of the export."""
    campaign = bench(**FEDBUFF).open(4)
    campaign.apply(campaign.update(1), _evaluated(campaign, 0, 2.0, 0.03))
    _, meta = campaign.state.export()
    before = msgpack.packb(meta)
    campaign.apply(campaign.update(2), campaign.reissued(3), campaign.update(1), _evaluated(campaign, 1, 1.0, 0.5))
    assert msgpack.packb(meta) == before


# -- any course of events ------------------------------------------------------------------------------------------

ACTIONS = (
    ["issue"] * 3 + ["update"] * 8 + ["stale"] * 2 + ["bad", "again", "failed", "handed_back", "lost", "no_worker"]
)
ACTIONS += ["forged", "repeated", "skipped", "rubbish", "paused", "resumed", "evaluated", "blob", "merge_due"]
ENDS = ["interrupted", "stopped"]
STEPS = st.lists(
    st.tuples(st.sampled_from(ACTIONS * 3 + ENDS), st.integers(0, 200), st.integers(0, 3)), min_size=5, max_size=60
)
SECTIONS = st.sampled_from(
    [
        FEDBUFF,
        {"aggregation": {"buffer_size": 3}, "stop": {"updates": 8}},
        {"aggregation": {"buffer_size": 2, "max_staleness": 1}, "server_optimizer": {"name": "adam"}},
        FEDASYNC,
        FEDAVG,
        {**FEDAVG, "stop": {"versions": 3}},
        {
            "training": {"method": "partial", "method_args": {"groups": [["weight"]]}},
            "aggregation": {"strategy": "partial", "buffer_size": 3},
        },
    ]
)


def _next_entry(bench: Any, action: str, pick: int, variant: int) -> LogEntry:
    ledger = bench.state.ledger
    number = pick % (ledger.issued + 2)  # also 0 and one that was never issued
    if ledger.open and variant:
        number = list(ledger.open)[pick % len(ledger.open)]
    attempt = ledger.open[number].attempt if number in ledger.open and pick % 4 else 1 + pick % 2
    version = bench.state.strategy.version
    values = np.zeros(NUM_ELEMENTS, np.float32)
    values[number % NUM_ELEMENTS] = 1.0 + pick / 7
    match action:
        case "issue":
            return bench.issued(1 + variant)
        case "update":
            return bench.update(number, attempt, values, worker=f"worker-{variant}", num_examples=1 + pick)
        case "stale":
            lag = 0 if bench.state.strategy.barrier else variant
            return bench.update(number, attempt, values, base_version=max(0, version - lag))
        case "blob":
            return bench.update(number, attempt, values, blob=bench.blob_name(number, attempt))
        case "bad":
            wrong = [{"sends": "parameters" if bench.state.strategy.sends == "delta" else "delta"}, {"codec": "zip"}]
            wrong += [{"payload": b"123"}, {"base_version": version + 1}]
            return bench.update(number, attempt, **wrong[variant])
        case "again" if bench.entries:
            return replace(bench.entries[pick % len(bench.entries)], position=bench.entry("?", b"").position)
        case "failed" | "handed_back":
            return bench.report(number, attempt, action)
        case "lost" | "no_worker":
            return bench.reissued(number, attempt, action)
        case "forged":
            return bench.event("stopped", {"reason": "asked"}, sequence=bench.sequence + 1, key=b"guess")
        case "repeated":
            return bench.event("issued", {"queues": ["default"]}, sequence=max(1, bench.sequence))
        case "skipped":
            return bench.event("stopped", {"reason": "asked"}, sequence=bench.sequence + 2)
        case "merge_due":
            return bench.event("merge_due", {"version": max(0, version - variant // 3)})
        case "evaluated":
            return _evaluated(bench, version, 1.0 + pick, pick / 250)
        case "stopped":
            return bench.event("stopped", {"reason": "asked" if variant else "seconds", "control": ""})
        case "paused" | "resumed" | "interrupted":
            return bench.event(action, {"control": f"{pick}-{variant}"})
        case _:
            return bench.entry("ru?"[variant % 3], bytes([pick]) * variant)


def _play(bench: Callable[..., Any], sections: dict[str, Any], steps: list[tuple[str, int, int]]) -> Any:
    campaign = bench(**sections, dispatch={"max_attempts": 2}).open(3)
    for action, pick, variant in steps:
        campaign.apply(_next_entry(campaign, action, pick, variant))
    return campaign


@given(SECTIONS, STEPS)
def test_the_ledger_adds_up_whatever_happens(
    bench: Callable[..., Any], sections: dict[str, Any], steps: list[tuple[str, int, int]]
) -> None:
    """After every entry of any log the identity holds, no task is answered twice, and no ended task opens again."""
    campaign = bench(**sections, dispatch={"max_attempts": 2}).open(3)
    ended: set[int] = set()
    answered = 0
    for action, pick, variant in steps:
        before = campaign.state.ledger.merged + len(campaign.state.ledger.buffered)
        effects = campaign.apply(_next_entry(campaign, action, pick, variant))
        ledger = campaign.state.ledger
        assert not ended & set(effects.closed), "a task has ended twice"
        assert len(set(effects.closed)) == len(effects.closed)
        ended |= set(effects.closed)
        assert ended | set(ledger.open) == set(range(1, ledger.issued + 1))
        assert not ended & set(ledger.open), "an ended task is open"
        taken = ledger.merged + len(ledger.buffered) - before
        assert taken in ((0, 1) if action in ("update", "stale", "blob", "again") else (0,))
        answered += taken
        assert campaign.state.strategy.buffer_count == len(ledger.buffered)
        assert answered == ledger.merged + len(ledger.buffered)
        if campaign.state.phase.is_over:
            assert ledger.out == 0
    assert campaign.state.num_entries == len(campaign.entries)
    assert (
        ledger.merged
        == campaign.state.contributions.staleness.total()
        == campaign.state.contributions.merged_by_worker.total()
    )
    assert campaign.state.strategy.version == len(_kinds(campaign, "merge"))
    merged = [number for line in _kinds(campaign, "merge") for number in line["tasks"]]
    assert len(set(merged)) == len(merged) == ledger.merged


@given(STEPS)
def test_no_update_is_in_the_model_twice(bench: Callable[..., Any], steps: list[tuple[str, int, int]]) -> None:
    """With one place of the vector per task and K = 1, every place holds 0 or exactly what its task sent once."""
    campaign = bench(aggregation={"buffer_size": 1, "staleness": "constant"}).open(8)
    sent: dict[int, set[float]] = {}
    for action, pick, variant in steps:
        entry = _next_entry(campaign, action, pick, variant)
        if action in ("update", "stale", "blob"):
            places = np.frombuffer(entry.payload or next(iter(reversed(campaign.blobs.values()))), np.float32)
            sent.setdefault(int(places.argmax()), {0.0}).add(float(places.max()))
        campaign.apply(entry)
    if campaign.state.ledger.issued < NUM_ELEMENTS:
        for place, value in enumerate(campaign.values):
            assert value in sent.get(place, {0.0})


@given(SECTIONS, STEPS)
def test_the_same_log_gives_the_same_bits(
    bench: Callable[..., Any], sections: dict[str, Any], steps: list[tuple[str, int, int]]
) -> None:
    """Applied again from the beginning, a log leads to the same arrays, the same values and the same history."""
    campaign = _play(bench, sections, steps)
    again = campaign.new_state()
    history = [line for entry in campaign.entries for line in again.apply(entry).history]
    assert campaign.fingerprint(again) == campaign.fingerprint()
    assert history == campaign.lines


@settings(max_examples=100)
@given(SECTIONS, STEPS, st.floats(0, 1))
def test_a_resume_at_any_entry_gives_the_same_bits(
    bench: Callable[..., Any], sections: dict[str, Any], steps: list[tuple[str, int, int]], share: float
) -> None:
    """Exported, packed, restored and continued at any cut, a campaign ends as if it had never stopped."""
    campaign = _play(bench, sections, steps)
    cut = round(share * len(campaign.entries))
    first = campaign.new_state()
    history = [line for entry in campaign.entries[:cut] for line in first.apply(entry).history]
    tensors, meta = first.export()
    kept = {name: np.array(array) for name, array in tensors.items()}
    packed = msgpack.packb(meta)
    for entry in campaign.entries[cut : cut + 3]:
        first.apply(entry)  # the one that goes on must not disturb what was kept
    second = campaign.new_state()
    second.restore(kept, msgpack.unpackb(packed, strict_map_key=False))
    history += [line for entry in campaign.entries[cut:] for line in second.apply(entry).history]
    assert campaign.fingerprint(second) == campaign.fingerprint()
    assert history == campaign.lines
    second.ledger.verify()


def test_an_entry_that_was_applied_in_part_is_never_kept(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strategy that raises in the middle of a merge: no later entry is taken, and there is no checkpoint of it."""
    campaign = bench(**FEDBUFF).open(3)
    campaign.apply(campaign.update(1))
    before = campaign.state.position

    def offer(contribution: Any) -> None:
        campaign.state.strategy.parameters.values[:] = 7
        raise UserCodeError("aggregation.strategy = 'a:b': offer(contribution) raised")

    monkeypatch.setattr(campaign.state.strategy, "offer", offer)
    with pytest.raises(UserCodeError):
        campaign.state.apply(campaign.update(2))
    assert campaign.state.position == before, "the entry does not count"
    with pytest.raises(InvariantError, match="was applied in part"):
        campaign.state.export()
    with pytest.raises(InvariantError, match="was applied in part"):
        campaign.state.apply(campaign.update(3))
