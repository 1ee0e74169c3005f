"""The guard against divergence: when the model goes back, what that drops, and that a replay takes the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.campaign.course import Phase
from coordinator.campaign.judging.delivery import Delivery
from coordinator.campaign.judging.guard import Guard
from fl_core.aggregation import build_strategy
from fl_core.codecs.half import Bf16
from fl_core.spec import StopMetric, parse_spec
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

NUM_ELEMENTS = 64
NAN = float("nan")
SECTIONS: dict[str, Any] = {
    "aggregation": {"buffer_size": 2, "staleness": "constant"},
    "evaluation": {"data": "a:b"},
    "guard": {"factor": 3.0, "max_rollbacks": 2},
}


def _made(bench: Callable[..., Any], count: int = 40, **sections: Any) -> Any:
    merged = {name: {**SECTIONS.get(name, {}), **values} for name, values in {**SECTIONS, **sections}.items()}
    return bench(**merged).open(count)


def _evaluate(campaign: Any, loss: float, version: int | None = None, accuracy: float | None = None) -> Any:
    version = campaign.state.strategy.version if version is None else version
    return campaign.apply(
        campaign.event("evaluated", {"version": version, "loss": loss, "accuracy": accuracy, "num_examples": 10})
    )


def _merge(campaign: Any, size: float = 1.0, **changes: Any) -> None:
    """Two updates, whose mean is ``size`` everywhere: one version."""
    first = next(iter(campaign.state.ledger.open))
    for number in (first, first + 1):
        campaign.apply(campaign.update(number, values=np.full(NUM_ELEMENTS, size), **changes))


def _rollbacks(campaign: Any) -> list[dict[str, Any]]:
    return [line for line in campaign.history if line["kind"] == "rollback"]


def _diverged(bench: Callable[..., Any], loss: float = NAN, **sections: Any) -> Any:
    """Version 0 was good, 1 was good, 2 was good; 3 and 4 are not, and an update waits."""
    campaign = _made(bench, **sections)
    for _ in range(2):
        _evaluate(campaign, 1.0)
        _merge(campaign)
    _evaluate(campaign, 1.0)
    _merge(campaign, 100.0)
    _merge(campaign, 100.0)
    number = next(iter(campaign.state.ledger.open))
    campaign.apply(campaign.update(number))
    _evaluate(campaign, loss, version=3)
    return campaign


@pytest.mark.parametrize("loss", [NAN, float("inf"), 3.0001])
def test_a_diverged_campaign_goes_back_to_the_last_good_version(bench: Callable[..., Any], loss: float) -> None:
    """The parameters are the good ones to the bit, the version is a new one, and the server's rate is half."""
    campaign = _diverged(bench, loss)
    state = campaign.state
    good = _rollbacks(campaign)[0]["good_version"]
    assert good == 1, "the last that a later evaluation has proven"
    assert campaign.values == [float(good)] * NUM_ELEMENTS
    assert (state.strategy.version, state.phase) == (5, Phase.RUNNING)
    assert _rollbacks(campaign)[0] | {"seconds": 0} == {
        "kind": "rollback", "seconds": 0, "version": 5, "good_version": 1, "rate_factor": 0.5,
    }  # fmt: skip
    _merge(campaign, 1.0)
    assert campaign.values == [good + 0.5] * NUM_ELEMENTS
    assert state.strategy.version == 6


def test_a_loss_of_just_the_factor_is_no_divergence(bench: Callable[..., Any]) -> None:
    """Three times the first loss is still allowed, and a bad loss below it too."""
    campaign = _diverged(bench, loss=3.0)
    assert _rollbacks(campaign) == []
    assert campaign.state.strategy.version == 4


def test_losses_below_zero_are_compared_by_their_distance(bench: Callable[..., Any]) -> None:
    """A log-likelihood density may be negative: from -1 the limit is +1, not -3."""
    campaign = _made(bench)
    for loss in (-1.0, -0.5, -4.0, 0.99):
        _evaluate(campaign, loss)
        _merge(campaign)
    assert _rollbacks(campaign) == []
    _evaluate(campaign, 1.01)
    assert len(_rollbacks(campaign)) == 1


def test_what_waited_is_cancelled_and_counted(bench: Callable[..., Any]) -> None:
    """The update in the buffer came from the diverged model; it ends as cancelled and the identity holds."""
    campaign = _diverged(bench)
    ledger = campaign.state.ledger
    assert (ledger.cancelled, ledger.buffered, campaign.state.strategy.buffer_count) == (1, [], 0)
    assert ledger.issued == ledger.merged + ledger.num_rejected + ledger.expired + ledger.cancelled + ledger.out
    _merge(campaign)
    merges = [line for line in campaign.history if line["kind"] == "merge"]
    assert len(merges[-1]["workers"]) == 2, "the next merge is credited to its own two"


def test_updates_of_dropped_versions_are_refused_and_older_ones_admitted(bench: Callable[..., Any]) -> None:
    """Versions 2 to 4 are gone; one that started from 5 is fresh, from 1 or 0 merely stale."""
    campaign = _diverged(bench)
    numbers = iter(list(campaign.state.ledger.open))
    for base in (2, 3, 4):
        (refused,) = campaign.apply(campaign.update(next(numbers), base_version=base)).refusals
        assert refused.reason.value == "rolled_back"
    for base, staleness in ((5, 0), (1, 4), (0, 6)):
        number = next(numbers)
        effects = campaign.apply(campaign.update(number, base_version=base))
        assert effects.refusals == []
        assert effects.admitted.contribution.staleness == staleness
    assert campaign.state.ledger.rejected == {"rolled_back": 3}


def test_evaluations_of_dropped_versions_say_nothing(bench: Callable[..., Any]) -> None:
    """They cannot roll back again, set no record and meet no target; the history has them all the same."""
    campaign = _diverged(bench, stop={"accuracy": 0.9})
    best, lines = campaign.state.scores.best_accuracy, len(campaign.history)
    _evaluate(campaign, NAN, version=4)
    _evaluate(campaign, 0.001, version=4, accuracy=0.99)
    assert len(_rollbacks(campaign)) == 1
    assert campaign.state.phase is Phase.RUNNING
    assert (campaign.state.scores.best_accuracy, campaign.state.scores.best_loss) == (best, 1.0)
    assert campaign.state.scores.version == 3
    assert len(campaign.history) == lines + 2
    _evaluate(campaign, 1.0, accuracy=0.95)
    assert campaign.state.stop_reason == "accuracy"


def test_too_many_rollbacks_end_the_campaign(bench: Callable[..., Any]) -> None:
    """After max_rollbacks = 2 the third divergence stops it, and what is delivered is the last good version."""
    campaign = _diverged(bench)
    _merge(campaign, 100.0)
    _evaluate(campaign, NAN)
    assert [line["rate_factor"] for line in _rollbacks(campaign)] == [0.5, 0.25]
    _merge(campaign, 100.0)
    number = next(iter(campaign.state.ledger.open))
    campaign.apply(campaign.update(number))
    _evaluate(campaign, 99.0)
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.STOPPED, "diverged")
    assert campaign.values == [1.0] * NUM_ELEMENTS
    assert campaign.state.ledger.out == 0
    versions = [line["version"] for line in campaign.history if line["kind"] in ("merge", "rollback")]
    assert versions == sorted(set(versions))


def test_a_second_divergence_keeps_what_started_after_the_first(bench: Callable[..., Any]) -> None:
    """The version made by going back is as good as the one that it was made from: its devices' work counts."""
    campaign = _diverged(bench)
    _merge(campaign, 100.0)
    _evaluate(campaign, NAN)
    assert campaign.state.strategy.version == 7
    numbers = iter(list(campaign.state.ledger.open))
    assert campaign.apply(campaign.update(next(numbers), base_version=5)).refusals == []
    (refused,) = campaign.apply(campaign.update(next(numbers), base_version=6)).refusals
    assert refused.reason.value == "rolled_back"


def test_a_version_that_meets_the_target_stands(bench: Callable[..., Any]) -> None:
    """A loss that has exploded while the accuracy is what was asked for ends the campaign well."""
    campaign = _made(bench, stop={"accuracy": 0.9})
    _evaluate(campaign, 1.0)
    _merge(campaign)
    _evaluate(campaign, 50.0, accuracy=0.95)
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.FINISHED, "accuracy")
    assert _rollbacks(campaign) == []


@pytest.mark.parametrize("sections", [{"guard": {"enabled": False}}, {"evaluation": {"data": None}}])
def test_without_evaluations_or_switched_off_nothing_is_kept(
    bench: Callable[..., Any], sections: dict[str, Any]
) -> None:
    """No copy of the parameters, no going back."""
    campaign = _diverged(bench, **sections)
    assert _rollbacks(campaign) == []
    assert campaign.state.strategy.version == 4
    assert not [name for name in campaign.state.export()[0] if name.startswith("guard.")]


@pytest.mark.parametrize("strategy", ["fedasync", "fedavg", "fadas", "asyncfeded", "ca2fl"])
def test_other_strategies_go_back_too(bench: Callable[..., Any], strategy: str) -> None:
    """A new strategy at the good parameters, with half of whatever its rate is, restored to the bit from an export."""
    rate = {"server_optimizer": {"learning_rate": 0.1}} if strategy == "fadas" else {}
    campaign = _made(bench, aggregation={"strategy": strategy}, **rate)
    _evaluate(campaign, 1.0)
    for number in (1, 2, 3, 4):
        campaign.apply(campaign.update(number))
    _evaluate(campaign, NAN)
    assert len(_rollbacks(campaign)) == 1
    assert not any(campaign.values)
    assert campaign.fingerprint(campaign.resumed()) == campaign.fingerprint()


@given(
    st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.9, 50.0, NAN]), st.integers(0, 4)), min_size=2, max_size=14),
    st.floats(0, 1),
)
def test_any_course_is_replayed_and_resumed_to_the_same_bits(
    bench: Callable[..., Any], course: list[tuple[float, int]], share: float
) -> None:
    """Updates of all ages, evaluations good and bad of versions new and old: the ledger adds up, versions rise, and
    the log gives the same bits from the beginning and from any cut."""
    campaign = _made(bench, count=10)
    for loss, count in course:
        for _ in range(count):
            if campaign.state.ledger.open:
                number = next(iter(campaign.state.ledger.open))
                base = max(0, campaign.state.strategy.version - number % 3)
                campaign.apply(campaign.update(number, base_version=base))
        _evaluate(campaign, loss, version=max(0, campaign.state.strategy.version - count % 2))
        if campaign.state.accepts:
            campaign.apply(campaign.issued(2))
    versions = [line["version"] for line in campaign.history if line["kind"] in ("merge", "rollback")]
    assert versions == list(range(1, len(versions) + 1))
    assert campaign.state.strategy.version == len(versions)
    again = campaign.new_state()
    cut = round(share * len(campaign.entries))
    for entry in campaign.entries[:cut]:
        again.apply(entry)
    second = campaign.resumed(again)
    for entry in campaign.entries[cut:]:
        again.apply(entry)
        second.apply(entry)
    assert campaign.fingerprint(again) == campaign.fingerprint()
    assert campaign.fingerprint(second) == campaign.fingerprint()


WHOLE = Layout(
    (
        TensorSpec("w", (4,)),
        TensorSpec("running_mean", (2,), role="mean"),
        TensorSpec("table", (2,), role="latest"),
        TensorSpec("frozen", (3,), role="constant"),
    )
)
# bfloat16 has none of the buffers and constants.
START = np.array([1, -2, 0.5, 3, 40.01, 1e-3, 16777215, -np.inf, 0.1, 1 / 3, 1e5 + 1], np.float32)


def _buffered() -> tuple[Any, Any, Guard]:
    spec = parse_spec({"model": {"factory": "a:b"}, **SECTIONS})
    strategy, guard = build_strategy(spec, WHOLE, Parameters(START)), Guard(spec.guard, evaluated=True)
    guard.begin(strategy)
    return spec, strategy, guard


@pytest.mark.parametrize("release", ["this one", "the one before"])
def test_going_back_moves_nothing_that_is_frozen(release: str) -> None:
    """Constants and buffers have no lower bits to spare: they come back to the bit. A checkpoint of the release before
    has lost those of its buffers, and its constants are the model's all the same."""
    spec, strategy, guard = _buffered()
    strategy.parameters.values[WHOLE.moving] = np.nan
    strategy.version = 3
    tensors, meta = guard.export()
    if release != "this one":
        tensors = {"good": np.frombuffer(Bf16().encode(START, 0), np.uint8)}
        meta = {name: value for name, value in meta.items() if name != "what"}
    again = Guard(spec.guard, evaluated=True)
    again.restore(tensors, meta, WHOLE)
    back, _ = again.roll_back(spec, WHOLE, strategy)
    assert back.version == 4
    values = back.parameters.values
    assert values[WHOLE.trainable].tolist() == START[WHOLE.trainable].tolist()
    assert values[WHOLE.constants].tobytes() == START[WHOLE.constants].tobytes()
    if release == "this one":
        assert values.tobytes() == START.tobytes()
    else:
        np.testing.assert_allclose(values, START, rtol=2**-8)


def test_a_delivered_version_has_the_constants() -> None:
    """The copy that is kept for delivery is of what can move."""
    _, strategy, _ = _buffered()
    delivery = Delivery()
    delivery.pin(strategy)
    assert delivery.meet(0, StopMetric(name="accuracy", at_least=0.5), 0.9, strategy)
    strategy.parameters.values[WHOLE.moving] = 7
    tensors, meta = delivery.export()
    assert tensors["pinned"].size == WHOLE.num_moving
    again = Delivery()
    again.restore(tensors, meta)
    assert again.parameters(strategy).values.tobytes() == START.tobytes()
    again.restore({"pinned": START}, meta)  # as an earlier release has it
    assert again.parameters(strategy).values.tobytes() == START.tobytes()
