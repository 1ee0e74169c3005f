"""Admission: every reason for which an update can be refused, and that the cheap checks come before the payload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.campaign.admission import Admission
from coordinator.campaign.effects import Admitted, Refused
from coordinator.campaign.ledger import task_id
from fl_core.aggregation import Contribution
from fl_core.errors import BrokerUnavailable, Reason, RejectedUpdate
from fl_core.vectors import Delta, Parameters, SoftLabels
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate

NUM_ELEMENTS = 64
NUM_BYTES = 4 * NUM_ELEMENTS
NOT_FINITE = np.zeros(NUM_ELEMENTS, np.float32)
NOT_FINITE[63] = np.inf
NAN = np.full(NUM_ELEMENTS, np.nan, np.float32)
LONG = np.full(NUM_ELEMENTS, 1.0, np.float32)  # its norm is 8


def _admit(bench: Any, entry: LogEntry, admission: Admission | None = None) -> Admitted:
    return (admission or bench.admission).admit(entry, bench.state.ledger, bench.state.strategy, bench.state.guard)


def _readmit(campaign: Any, entry: LogEntry) -> tuple[ModelUpdate, Contribution]:
    """A parked update, whose task is named by its id."""
    number = int(ModelUpdate.from_bytes(entry.header).task_id.partition("-")[0])
    readmitted: tuple[ModelUpdate, Contribution]
    readmitted = campaign.admission.readmit(number, entry.header, entry.payload, campaign.state.strategy, 0)
    return readmitted


def _refused(bench: Any, entry: LogEntry) -> Refused:
    before = bench.fingerprint()
    with pytest.raises(Refused) as caught:
        _admit(bench, entry)
    assert bench.fingerprint() == before, "a check has changed the state"
    return caught.value


@pytest.fixture
def campaign(bench: Callable[..., Any]) -> Any:
    """At version 3: tasks 1-3 were merged, 4 has expired, 5 is at its second attempt, 6-8 are out."""
    made = bench(
        aggregation={"buffer_size": 1, "max_staleness": 2, "max_update_norm": 5.0}, dispatch={"max_attempts": 2}
    ).open(8)
    made.apply(*(made.update(number) for number in (1, 2, 3)))
    made.apply(made.reissued(4, 1), made.reissued(4, 2), made.reissued(5, 1))
    assert (made.state.strategy.version, made.state.ledger.expired, made.state.ledger.open[5].attempt) == (3, 1, 2)
    return made


def test_a_good_update_is_admitted(campaign: Any) -> None:
    """Its values, example count, staleness and worker come out as they were sent; nothing is changed by looking."""
    values = np.linspace(-0.5, 0.5, NUM_ELEMENTS, dtype=np.float32)
    admitted = _admit(campaign, campaign.update(6, values=values, base_version=1, worker="pi"))
    assert admitted.task is campaign.state.ledger.open[6]
    contribution = admitted.contribution
    assert isinstance(contribution.values, Delta)
    assert contribution.values.values.tobytes() == values.tobytes()
    assert (contribution.num_examples, contribution.staleness, contribution.worker) == (10, 2, "pi")
    assert 6 in campaign.state.ledger.open


def test_a_strategy_that_wants_parameters_gets_parameters(bench: Callable[..., Any]) -> None:
    """What FedAsync is offered is of the type that cannot be added to a model by mistake."""
    campaign = bench(aggregation={"strategy": "fedasync"}).open(1)
    assert isinstance(_admit(campaign, campaign.update(1)).contribution.values, Parameters)


def test_a_payload_beside_the_log_is_fetched(campaign: Any) -> None:
    """A large payload is read by its blob's name and size, and then checked like any other."""
    name = campaign.blob_name(6)
    admitted = _admit(campaign, campaign.update(6, blob=name))
    assert campaign.blobs.fetched == [name]
    assert admitted.contribution.values.values[6] == 1.0


def test_the_answer_to_an_earlier_attempt_is_still_an_answer(campaign: Any) -> None:
    """A worker that was given up and delivers after all has done the work: attempt 1 counts while attempt 2 is out."""
    assert _admit(campaign, campaign.update(5, attempt=1)).task.number == 5


# Each case: what is wrong, its reason, what the entry is, and whether the update ends the task that it names. All of
# them point to a blob where they can, so that a fetch would show.
CASES: list[tuple[str, Reason, Callable[[Any], LogEntry], bool]] = [
    ("no record", Reason.MALFORMED, lambda b: b.entry("u", b"\x00\xff", b""), False),
    ("another campaign", Reason.WRONG_CAMPAIGN, lambda b: b.update(6, campaign="other", blob=b.blob_name(6)), False),
    ("a guessed id", Reason.UNKNOWN_TASK, lambda b: b.update(6, task_id="6-000000000000", blob=b.blob_name(6)), False),
    ("text as id", Reason.UNKNOWN_TASK, lambda b: b.update(6, task_id="six", blob=b.blob_name(6)), False),
    ("a task to come", Reason.UNKNOWN_TASK, lambda b: b.update(9, blob=b.blob_name(9)), False),
    ("an attempt to come", Reason.UNKNOWN_TASK, lambda b: b.update(6, attempt=2, blob=b.blob_name(6, 2)), False),
    ("answered before", Reason.DUPLICATE, lambda b: b.update(1, blob=b.blob_name(1)), False),
    ("expired before", Reason.TASK_CLOSED, lambda b: b.update(4, blob=b.blob_name(4)), False),
    ("another model", Reason.WRONG_LAYOUT, lambda b: b.update(6, layout_digest="0" * 32, blob=b.blob_name(6)), True),
    ("parameters, not a delta", Reason.MALFORMED, lambda b: b.update(6, sends="parameters", blob=b.blob_name(6)), True),
    ("another codec", Reason.MALFORMED, lambda b: b.update(6, codec="int8", blob=b.blob_name(6)), True),
    ("a huge payload", Reason.MALFORMED, lambda b: b.update(6, payload_bytes=2**50, blob=b.blob_name(6)), True),
    ("one byte too many", Reason.MALFORMED, lambda b: b.update(6, payload_bytes=NUM_BYTES + 1), True),
    ("a future version", Reason.FUTURE_VERSION, lambda b: b.update(6, base_version=4, blob=b.blob_name(6)), True),
    ("too old", Reason.TOO_STALE, lambda b: b.update(6, base_version=0, blob=b.blob_name(6)), True),
    ("from a version that was dropped", Reason.ROLLED_BACK, lambda b: _rolled_back(b, b.blob_name(6)), True),
    ("a part that is none", Reason.MALFORMED, lambda b: b.update(6, part=1, blob=b.blob_name(6)), True),
    ("another task's blob", Reason.MALFORMED, lambda b: b.update(6, blob=b.blob_name(7)), True),
    ("another attempt's blob", Reason.MALFORMED, lambda b: b.update(6, blob=b.blob_name(6, 2)), True),
]
PAYLOAD_CASES: list[tuple[str, Reason, Callable[[Any], LogEntry]]] = [
    ("a blob that is gone", Reason.MISSING_PAYLOAD, lambda b: _without_blob(b, b.update(6, blob=b.blob_name(6)))),
    ("shorter than declared", Reason.MALFORMED, lambda b: b.update(6, payload=b"1234", payload_bytes=8)),
    ("nothing inline", Reason.MALFORMED, lambda b: b.update(6, payload=b"", payload_bytes=NUM_BYTES)),
    ("another digest", Reason.WRONG_DIGEST, lambda b: b.update(6, payload_digest="0" * 32)),
    ("no whole vector", Reason.MALFORMED, lambda b: b.update(6, payload=b"123")),
    ("empty", Reason.MALFORMED, lambda b: b.update(6, payload=b"")),
    ("half a vector", Reason.MALFORMED, lambda b: b.update(6, payload=bytes(NUM_BYTES // 2))),
    ("infinity", Reason.NOT_FINITE, lambda b: b.update(6, values=NOT_FINITE)),
    ("NaN", Reason.NOT_FINITE, lambda b: b.update(6, values=NAN)),
    ("too long a step", Reason.NORM_EXCEEDED, lambda b: b.update(6, values=LONG)),
]


def _rolled_back(bench: Any, blob: str) -> LogEntry:
    bench.state.guard.refused.append((1, 3))
    return bench.update(6, base_version=2, blob=blob)


def _without_blob(bench: Any, entry: LogEntry) -> LogEntry:
    bench.blobs.clear()
    return entry


@pytest.mark.parametrize(("reason", "make", "ends"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_header_is_refused_before_the_payload_is_read(
    campaign: Any, reason: Reason, make: Callable[[Any], LogEntry], ends: bool
) -> None:
    """What the header alone tells costs no fetch; an open task ends with it, a stranger's update ends none."""
    refused = _refused(campaign, make(campaign))
    assert refused.reason is reason
    assert campaign.blobs.fetched == []
    assert (refused.task is not None) == ends


@pytest.mark.parametrize(("reason", "make"), [c[1:] for c in PAYLOAD_CASES], ids=[c[0] for c in PAYLOAD_CASES])
def test_a_bad_payload_ends_its_task(campaign: Any, reason: Reason, make: Callable[[Any], LogEntry]) -> None:
    """A payload that is missing, cut, damaged, not finite or too far away is refused for exactly that."""
    refused = _refused(campaign, make(campaign))
    assert refused.reason is reason
    assert refused.task is campaign.state.ledger.open[6]
    assert refused.update is not None
    assert refused.update.task_id == task_id(b"s" * 32, 6)


def test_every_reason_has_its_case() -> None:
    """No reason exists that nothing is refused for.

    training_failed is the ledger's own, for attempts that failed; those of signatures are in test_signers, those of
    privacy in private/test_privacy, those of keepers in masked/test_answers.
    """
    elsewhere = {Reason.TRAINING_FAILED, Reason.BAD_SIGNATURE, Reason.UNKNOWN_WORKER, Reason.REVOKED}
    elsewhere |= {Reason.RESTING, Reason.BUDGET_SPENT, Reason.WRONG_BASE, Reason.NOT_OPENED}
    assert {case[1] for case in CASES} | {case[1] for case in PAYLOAD_CASES} == set(Reason) - elsewhere


def test_the_bounds_themselves_are_inside(campaign: Any) -> None:
    """Staleness exactly at its bound, the newest version, and a norm exactly at its bound are admitted."""
    step = np.zeros(NUM_ELEMENTS, np.float32)
    step[0] = 5.0
    assert _admit(campaign, campaign.update(6, base_version=1)).contribution.staleness == 2
    assert _admit(campaign, campaign.update(6, values=step, base_version=3)).contribution.staleness == 0


def test_without_a_bound_any_age_and_length_is_admitted(bench: Callable[..., Any]) -> None:
    """Where the spec sets no limit, none is applied."""
    campaign = bench(aggregation={"buffer_size": 1, "max_staleness": None}).open(60)
    campaign.apply(*(campaign.update(number) for number in range(1, 56)))
    assert _admit(campaign, campaign.update(57, base_version=0, values=LONG * 1e6)).contribution.staleness == 55


@given(
    concurrency=st.integers(1, 6),
    mixing=st.floats(0.1, 1.0),
    lags=st.lists(st.integers(0, 8), min_size=1, max_size=14),
    seed=st.integers(0, 2**32 - 1),
)
def test_parameters_are_measured_from_the_version_that_they_started_from(
    bench: Callable[..., Any], concurrency: int, mixing: float, lags: list[int], seed: int
) -> None:
    """Against float64: the bound is on the way from an update's own base, or from the oldest version that is kept."""
    random, bound = np.random.default_rng(seed), 5.0
    aggregation = {"strategy": "fedasync", "mixing": mixing, "max_update_norm": bound, "staleness": "constant"}
    campaign = bench(aggregation=aggregation, dispatch={"concurrency": concurrency}).open(len(lags))
    versions = [np.zeros(NUM_ELEMENTS)]
    for number, lag in enumerate(lags, start=1):
        staleness = min(lag, len(versions) - 1)
        base = versions[-1 - staleness]
        step = random.normal(size=NUM_ELEMENTS)
        values = (base + step * random.choice([0.9, 1.1]) * bound / np.linalg.norm(step)).astype(np.float32)
        measured_from = versions[-1 - min(staleness, concurrency)]
        fits = np.linalg.norm(values - measured_from) <= bound
        entry = campaign.update(number, values=values, base_version=len(versions) - 1 - staleness)
        campaign.apply(entry)
        assert (campaign.state.strategy.version == len(versions)) == fits
        if fits:
            versions.append((1 - mixing) * versions[-1] + mixing * values.astype(np.float64))
    np.testing.assert_allclose(campaign.state.strategy.parameters.values, versions[-1], rtol=1e-4, atol=1e-4)


def test_what_parameters_are_measured_from_outlives_a_checkpoint(bench: Callable[..., Any]) -> None:
    """The old versions are state: a resumed campaign measures the same update as the one that was not stopped."""
    sections = {"aggregation": {"strategy": "fedasync", "mixing": 1.0, "max_update_norm": 5.0}}
    campaign = bench(**sections).open(5)
    for number in (1, 2, 3):
        campaign.apply(campaign.update(number, values=LONG * 0.5 * number))  # each goes 4 on, to a norm of 12
    resumed = campaign.resumed()
    far = campaign.update(4, values=LONG * 0.4, base_version=0)  # 3.2 from where it began, 8.8 from the present model
    for state in (campaign.state, resumed):
        admitted = campaign.admission.admit(far, state.ledger, state.strategy, state.guard)
        assert admitted.contribution.staleness == 3


def test_a_way_from_parameters_is_no_length_of_the_model(bench: Callable[..., Any]) -> None:
    """For a strategy that sends parameters the norm is of the way they have moved, not of the model."""
    campaign = bench(aggregation={"strategy": "fedasync", "mixing": 1.0, "max_update_norm": 5.0}).open(5)
    campaign.apply(campaign.update(1, values=LONG * 0.5))  # the norm of the way from zero is 4
    assert campaign.state.strategy.version == 1
    assert _admit(campaign, campaign.update(2, values=LONG)).contribution.staleness == 0  # 8 long, 4 away
    assert _refused(campaign, campaign.update(3, values=LONG * 1.2)).reason is Reason.NORM_EXCEEDED  # 5.6 away


def test_a_cohort_s_update_that_is_stale_is_refused(bench: Callable[..., Any]) -> None:
    """With a barrier every device starts from the current version; one that claims otherwise costs itself only."""
    campaign = bench(aggregation={"strategy": "fedavg"}).open(1)
    campaign.apply(campaign.update(1), campaign.issued(2))
    assert campaign.state.strategy.version == 1
    assert _refused(campaign, campaign.update(2, base_version=0)).reason is Reason.TOO_STALE


def test_a_broker_that_is_away_is_no_rejection(campaign: Any) -> None:
    """When the payload cannot be read now, the update is neither admitted nor refused: it is asked for again."""

    def away(name: str, num_bytes: int) -> memoryview:
        raise BrokerUnavailable("reading a blob: the broker does not answer.")

    entry = campaign.update(6, blob=campaign.blob_name(6))
    with pytest.raises(BrokerUnavailable):
        _admit(campaign, entry, campaign.new_admission(away))
    assert _admit(campaign, entry).task.number == 6


def test_the_declared_size_is_what_is_fetched(campaign: Any) -> None:
    """The reader of blobs is asked for as many bytes as were declared, which the codec's bound has limited."""
    asked: list[tuple[str, int]] = []

    def fetch(name: str, num_bytes: int) -> memoryview:
        asked.append((name, num_bytes))
        return memoryview(campaign.blobs[name])

    name = campaign.blob_name(6)
    _admit(campaign, campaign.update(6, blob=name), campaign.new_admission(fetch))
    assert asked == [(name, NUM_BYTES)]


@pytest.mark.parametrize("sent", [b"", b"\x80", b"\xff" * 200, bytes(70_000), b"\x91" * 1010 + b"\xc0"])
def test_hostile_headers_are_refused(campaign: Any, sent: bytes) -> None:
    """Rubbish, nothing, too much and nested bombs are malformed, and name no task."""
    refused = _refused(campaign, campaign.entry("u", sent))
    assert refused.reason is Reason.MALFORMED
    assert (refused.task, refused.update) == (None, None)


# -- parts and soft labels -----------------------------------------------------------------------------------------

PARTIAL = {
    "training": {"method": "partial", "method_args": {"groups": [["weight"]]}},
    "aggregation": {"strategy": "partial", "buffer_size": 1},
}


def test_a_part_is_admitted_with_its_number(bench: Callable[..., Any]) -> None:
    """It reaches the strategy, which knows its size; part 0 is the whole model."""
    campaign = bench(**PARTIAL).open(4)
    assert _admit(campaign, campaign.update(1, part=1)).contribution.part == 1
    assert _admit(campaign, campaign.update(2)).contribution.part == 0


@pytest.mark.parametrize("part", [2, 2**52])
def test_a_part_that_the_model_has_not_is_malformed(bench: Callable[..., Any], part: int) -> None:
    """However large its number, and its blob is dropped within the bound of a whole model."""
    campaign = bench(**PARTIAL).open(2)
    refused = _refused(campaign, campaign.update(1, part=part, blob=campaign.blob_name(1)))
    assert (refused.reason, campaign.blobs.fetched) == (Reason.MALFORMED, [])
    assert "part" in refused.detail
    effects = campaign.apply(campaign.update(1, part=part, payload_bytes=2**50, blob=campaign.blob_name(1)))
    assert effects.blob is not None
    assert effects.blob[1] == NUM_BYTES


@pytest.mark.parametrize("payload", [bytes(NUM_BYTES + 4), bytes(NUM_BYTES - 4), b""])
def test_a_part_of_another_length_is_malformed(bench: Callable[..., Any], payload: bytes) -> None:
    """A part has exactly as many elements as its tensors."""
    campaign = bench(**PARTIAL).open(1)
    assert _refused(campaign, campaign.update(1, part=1, payload=payload)).reason is Reason.MALFORMED


def test_a_part_comes_back_out_of_quarantine(bench: Callable[..., Any]) -> None:
    """An operator's readmission keeps the part, and refuses one that is none."""
    campaign = bench(**PARTIAL).open(2)
    update, contribution = _readmit(campaign, campaign.update(1, part=1))
    assert (update.part, contribution.part) == (1, 1)
    with pytest.raises(RejectedUpdate, match="part 2 of the model, which is none"):
        _readmit(campaign, campaign.update(2, part=2))


def test_soft_labels_are_bounded_by_the_public_set(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size is examples times classes, not the model's; they come out as their own type."""
    campaign = bench(aggregation={"buffer_size": 1}).open(4)
    strategy = campaign.state.strategy
    monkeypatch.setattr(type(strategy), "sends", "soft_labels")
    monkeypatch.setattr(type(strategy), "update_elements", lambda self, part: 6 if part == 0 else None, raising=False)
    labels = np.full(6, 0.5, np.float32)
    assert isinstance(_admit(campaign, campaign.update(1, values=labels)).contribution.values, SoftLabels)
    for wrong in (campaign.update(2, values=np.zeros(NUM_ELEMENTS)), campaign.update(2, payload_bytes=25)):
        assert _refused(campaign, wrong).reason is Reason.MALFORMED
    assert _refused(campaign, campaign.update(3, values=labels, part=1)).reason is Reason.MALFORMED
    assert _refused(campaign, campaign.update(3, values=labels * np.nan)).reason is Reason.NOT_FINITE
