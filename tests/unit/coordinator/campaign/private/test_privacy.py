"""A private campaign's fold: the whole merge against a reference, what it costs whom, and the same bits again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fedtide.testing.log import CAMPAIGN, NUM_ELEMENTS, LogByHand
from fl_core.errors import InvariantError, Reason, SpecError
from fl_core.privacy.accountant import epsilon_of
from fl_core.privacy.adaptive_clip import bits_cost, update_multiplier
from fl_core.wire.log_entry import LogEntry
from tests.unit.coordinator.campaign.private import reference

NOISE = b"n" * 32
Z = 0.5


def campaign(**sections: Any) -> LogByHand:
    """Three updates make a version; the noise is small enough that the mean shows."""
    privacy = {"mode": "central", "noise_multiplier": Z, "clip": 2.0, **sections.pop("privacy", {})}
    aggregation = {"buffer_size": 3, **sections.pop("aggregation", {})}
    log = LogByHand(privacy=privacy, aggregation=aggregation, **sections)
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = NOISE
    return log


def values(seed: int, scale: float = 0.1) -> np.ndarray:
    """An update."""
    drawn: np.ndarray = np.random.default_rng(seed).normal(0, scale, NUM_ELEMENTS).astype(np.float32)
    return drawn


def merged(log: LogByHand) -> np.ndarray:
    """The model, a copy."""
    return np.array(log.state.strategy.parameters.values)


def refusal(log: LogByHand, entry: LogEntry) -> Reason | None:
    """Why an update is refused; None where it is not."""
    refused = log.apply(entry).refusals
    return refused[0].reason if refused else None


def test_a_merge_is_the_reference() -> None:
    """Two merges, the second of a fresh and two stale updates: every element, by integers and a second sampler."""
    log = campaign().open(8)
    first = [log.update(i, values=values(i), worker=f"w{i}") for i in (1, 2, 3)]
    log.apply(*first)
    one = merged(log)
    stale = [log.update(i, values=values(i), worker=f"w{i}", base_version=0) for i in (4, 5)]
    log.apply(*stale, fresh := log.update(6, values=values(6), worker="w6"))
    half = 2.0**-0.5
    told = [
        [(each.position, each.payload, 1.0) for each in first],
        [(each.position, each.payload, weight) for each, weight in zip([*stale, fresh], (half, half, 1), strict=True)],
    ]
    updates = [[values(i) for i in (1, 2, 3)], [values(i) for i in (4, 5, 6)]]
    expected = [
        reference.mean(
            updates[n], [weight for *_, weight in told[n]], reference.key_of(NOISE, CAMPAIGN, n + 1, told[: n + 1]),
            clip=2.0, z=Z, k=3,
        )
        for n in (0, 1)
    ]  # fmt: skip
    np.testing.assert_array_equal(one, expected[0].astype(np.float32))
    np.testing.assert_array_equal(merged(log), one + expected[1].astype(np.float32))


def test_each_device_spends_by_its_weight() -> None:
    """(s / z)² for each merge that took it; the release has a name, and the history says whose it was."""
    log = campaign().open(8)
    effects = log.apply(*(log.update(i, worker=f"w{i}") for i in (1, 2, 3)))
    (spend,) = effects.spends
    assert (spend.version, dict(spend.costs)) == (1, dict.fromkeys(("w1", "w2", "w3"), 1 / Z**2))
    log.apply(log.update(4, worker="w1", base_version=0), log.update(5, worker="w4"), log.update(6, worker="w5"))
    assert log.state.privacy is not None
    budgets = log.state.privacy.budgets
    assert budgets.filter.spent["w1"] == pytest.approx(1.5 / Z**2)
    assert budgets.filter.largest_epsilon == epsilon_of(math.sqrt(budgets.filter.spent["w1"]), 1e-6)
    assert len(budgets.releases) == 2


def test_an_update_that_is_too_long_counts_as_one_clip() -> None:
    """Whatever it holds, one device moves the sum by no more than C: the bound is on the integers."""
    for size in (10.0, 1e30):
        log = campaign(privacy={"noise_multiplier": 1e-4, "max_participations": 10**9}).open(3)
        log.apply(log.update(1, values=np.full(NUM_ELEMENTS, size, np.float32), worker="w1"))
        assert log.state.privacy is not None
        total = log.state.export()[0]["privacy.sum"]
        assert reference.R * 0.999 < np.linalg.norm(total.astype(float)) <= reference.R


@pytest.mark.parametrize("codec", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_counts_as_zeros(codec: str, value: float) -> None:
    """A refusal would tell of the data; it spends as any other update."""
    log = campaign(codec={"name": codec}).open(3)
    update = np.zeros(NUM_ELEMENTS, np.float32)
    if codec == "int8":
        payload = np.concatenate([np.full(4, 0, np.uint8), np.zeros(NUM_ELEMENTS, np.uint8)])
        payload[:4] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
        entry = log.update(1, worker="w1", payload=payload.tobytes())
    else:
        update[3] = value
        entry = log.update(1, values=update, worker="w1")
    assert refusal(log, entry) is None
    assert log.state.merging.num_waiting == 1
    assert not log.state.export()[0]["privacy.sum"].any()


def test_what_is_malformed_is_refused_and_spends_nothing() -> None:
    """Its form is not its data."""
    log = campaign().open(3)
    assert refusal(log, log.update(1, worker="w1", payload=b"abc")) is Reason.MALFORMED
    assert log.state.privacy is not None
    assert not log.state.privacy.budgets.rests_until


def test_a_device_is_in_a_merge_once_and_rests() -> None:
    """``min_separation`` versions lie between two; nobody's second update waits in the same buffer."""
    log = campaign(privacy={"min_separation": 2}).open(20)
    assert refusal(log, log.update(1, worker="a")) is None
    assert refusal(log, log.update(2, worker="a")) is Reason.RESTING
    log.apply(log.update(3, worker="b"), log.update(4, worker="c"))
    assert log.state.strategy.version == 1
    assert refusal(log, log.update(5, worker="a")) is Reason.RESTING
    log.apply(*(log.update(i, worker=f"w{i}") for i in (6, 7, 8)))
    assert refusal(log, log.update(9, worker="a")) is None
    assert log.state.ledger.rejected == {"resting": 2}
    assert log.state.fruitless.failures == 0


def test_a_budget_ends_a_device() -> None:
    """After ``max_participations`` fresh updates; a stale one costs less, and still fits."""
    log = campaign(privacy={"max_participations": 2, "noise_multiplier": 1.0}, aggregation={"buffer_size": 1}).open(9)
    for number in (1, 2):
        assert refusal(log, log.update(number, worker="a", base_version=0)) is None
    assert log.state.privacy is not None
    spent = log.state.privacy.budgets
    assert spent.filter.spent["a"] == pytest.approx(1.5)
    assert spent.spent(log.state.privacy.cost(0)) == ["a"]
    assert refusal(log, log.update(3, worker="a")) is Reason.BUDGET_SPENT
    assert refusal(log, log.update(4, worker="a", base_version=0)) is None  # a third
    assert spent.filter.largest_epsilon <= spent.filter.budget.epsilon


def test_exactly_as_many_participations_as_were_paid_for() -> None:
    """Noise that follows from epsilon lets each device in so often, rounding or not."""
    privacy = {"mode": "central", "epsilon": 8.0, "max_participations": 32}
    log = LogByHand(privacy=privacy, aggregation={"buffer_size": 1}).open(40)
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = NOISE
    said = [refusal(log, log.update(number, worker="a")) for number in range(1, 35)]
    assert said == [None] * 32 + [Reason.BUDGET_SPENT] * 2
    assert log.state.privacy.budgets.filter.largest_epsilon <= 8.0
    assert log.state.privacy.budgets.filter.largest_epsilon > 7.999


def test_a_flush_of_fewer_has_the_same_noise_and_divisor() -> None:
    """One update of three at the end: a third of a step, and the noise of a full buffer."""
    log = campaign().open(3)
    log.apply(only := log.update(1, values=values(1), worker="w1"))
    log.apply(log.event("stopped", {"reason": "asked"}))
    told = [[(only.position, only.payload, 1.0)]]
    key = reference.key_of(NOISE, CAMPAIGN, 1, told)
    expected = reference.mean([values(1)], [1.0], key, clip=2.0, z=Z, k=3)
    np.testing.assert_array_equal(merged(log), expected.astype(np.float32))


def test_after_the_end_nothing_is_left_to_take_the_noise_off() -> None:
    """Neither the secret nor a raw sum, whether the buffer was merged or dropped."""
    log = campaign().open(3)
    log.apply(log.update(1, worker="w1"))
    tensors, meta = log.state.export()
    assert meta["privacy"]["noise_secret"] == NOISE
    assert "privacy.sum" in tensors
    log.apply(log.event("stopped", {"reason": "asked"}))
    tensors, meta = log.state.export()
    assert (meta["privacy"]["noise_secret"], "privacy.sum" in tensors) == (b"", False)
    assert log.resumed().privacy is not None


def test_without_a_secret_nothing_is_released() -> None:
    """A merge without noise is a fault of ours, and no version."""
    log = campaign().open(3)
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = b""
    with pytest.raises(InvariantError, match="without a secret"):
        log.apply(*(log.update(i, worker=f"w{i}") for i in (1, 2, 3)))


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_resume_gives_the_same_bits_at_any_place(adaptive: bool) -> None:
    """From a checkpoint between any two entries."""
    sections = {"privacy": {"adaptive_clip": adaptive, "noise_multiplier": 0.02}, "aggregation": {"buffer_size": 3}}
    log = campaign(**sections).open(12)
    entries = [log.update(i, values=values(i), worker=f"w{i}", base_version=0) for i in range(1, 11)]
    states = []
    for entry in entries:
        states.append(log.resumed())
        log.apply(entry)
    for index, state in enumerate(states):
        for entry in entries[index:]:
            state.apply(entry)
        assert log.fingerprint(state) == log.fingerprint()


def test_another_life_with_other_updates_has_independent_noise() -> None:
    """Both lives reach version 2 from the same checkpoint; equal noise would give the difference of raw sums away."""
    log = campaign().open(12)
    log.apply(*(log.update(i, values=values(i), worker=f"w{i}") for i in (1, 2, 3)))
    lives = [log.resumed(), log.resumed(), log.resumed()]
    common = [log.update(i, values=values(i), worker=f"w{i}") for i in (4, 5)]
    last = log.update(6, values=values(6), worker="w6")
    other = LogEntry(last.position, "u", log.update(6, values=values(7), worker="w6").header, values(7).tobytes())
    later = LogEntry(f"{log.milliseconds + 1}-0", "u", last.header, last.payload)
    before = merged(log).astype(float)
    noise = []
    for life, end in zip(lives, (last, other, later), strict=True):
        for entry in (*common, end):
            life.apply(entry)
        assert life.strategy.version == 2
        raw = values(4) + values(5) + (values(7) if end is other else values(6))
        noise.append(np.array(life.strategy.parameters.values, float) - before - raw.astype(float) / 3)
    for one, two in ((0, 1), (0, 2), (1, 2)):
        # Independent Gaussians of 64 elements differ by about √2 deviations in each; equal ones by grid steps.
        assert np.std(noise[one] - noise[two]) > 0.8 * 2.0 * Z / 3
        assert abs(np.corrcoef(noise[one], noise[two])[0, 1]) < 0.5


def test_a_rolled_back_buffer_has_spent_nothing_and_a_rolled_back_version_has() -> None:
    """It was published; who waited was in no release, and may come again at once."""
    log = campaign().open(12)
    log.apply(*(log.update(i, worker=f"w{i}") for i in (1, 2, 3)))
    log.apply(log.update(4, worker="w4"))
    assert log.state.privacy is not None
    log.state.merging.go_on_with(log.state.strategy)
    assert set(log.state.privacy.budgets.filter.spent) == {"w1", "w2", "w3"}
    assert refusal(log, log.update(5, worker="w4")) is None


def test_another_life_s_releases_are_charged_once() -> None:
    """Those that this life's log leads to are known by their names."""
    log = campaign().open(12)
    (spend,) = log.apply(*(log.update(i, worker=f"w{i}") for i in (1, 2, 3))).spends
    assert log.state.privacy is not None
    privacy, other = log.state.privacy, campaign().open(12)
    (lost,) = other.apply(*(other.update(i, values=values(i), worker=f"w{i}") for i in (1, 2, 4))).spends
    assert spend.release != lost.release
    assert privacy.charge([spend, lost, lost]) == 1
    assert {w: privacy.budgets.filter.spent[w] * Z**2 for w in ("w1", "w3", "w4")} == {"w1": 2.0, "w3": 1.0, "w4": 1.0}


def test_what_waits_and_cannot_pay_any_more_is_seen() -> None:
    """A charge of another life may take what a waiting device was going to spend."""
    log = campaign(privacy={"max_participations": 1}).open(12)
    log.apply(log.update(1, worker="w1"))
    assert log.state.privacy is not None
    other = campaign().open(12)
    (lost,) = other.apply(*(other.update(i, worker=f"w{i}") for i in (1, 2, 3))).spends
    assert not log.state.privacy.is_overdrawn
    log.state.privacy.charge([lost])
    assert log.state.privacy.is_overdrawn
    log.state.merging.drop()
    log.state.ledger.verify()
    assert (log.state.merging.num_waiting, log.state.ledger.cancelled) == (0, 1)


def test_the_clip_follows_the_norms_and_costs_no_more() -> None:
    """Updates of norm 8 raise a clip of 2, those of norm 0.1 lower one; a fresh update costs 1 / z² as before."""
    for scale, rises in ((1.0, True), (0.01, False)):
        privacy = {"adaptive_clip": True, "noise_multiplier": 0.05, "max_participations": 100}
        log = campaign(privacy=privacy, aggregation={"buffer_size": 20, "staleness": "constant"}).open(100)
        assert log.state.privacy is not None
        log.apply(*(log.update(i, values=values(i, scale), worker=f"w{i}") for i in range(1, 61)))
        assert log.state.strategy.version == 3
        assert (log.state.privacy.clip > 2.2) == rises
        assert (log.state.privacy.clip < 1.8) == (not rises)
        assert log.state.privacy.cost(0) == pytest.approx(1 / 0.05**2)
        assert log.state.privacy.cost(0) == pytest.approx(1 / update_multiplier(0.05, 20) ** 2 + bits_cost(20))


def test_an_adaptive_clip_that_costs_more_than_the_noise_is_refused() -> None:
    """One bit of a buffer of three with noise of z = 1 would already cost more than all of it may."""
    with pytest.raises(SpecError, match=r"raise aggregation\.buffer_size above 10"):
        campaign(privacy={"adaptive_clip": True, "noise_multiplier": 1.0})


@pytest.mark.parametrize("strategy", ["fedbuff", "fadas", "fedavg"])
def test_each_strategy_moves_by_the_noisy_mean(strategy: str) -> None:
    """FADAS has no staleness weight; FedAvg is uniform, and its K is the cohort that was asked for."""
    sections: dict[str, Any] = {"aggregation": {"strategy": strategy}, "dispatch": {"concurrency": 3}}
    if strategy == "fadas":
        sections["server_optimizer"] = {"learning_rate": 0.01}
    log = campaign(**sections).open(3)
    log.apply(*(log.update(i, values=values(i), worker=f"w{i}", num_examples=i) for i in (1, 2, 3)))
    assert log.state.strategy.version == 1
    (line,) = (line for line in log.history if line["kind"] == "merge")
    assert line["weights"] == [1.0, 1.0, 1.0]
    told = [[(each.position, each.payload, 1.0) for each in log.entries if each.kind == "u"]]
    key = reference.key_of(NOISE, CAMPAIGN, 1, told)
    mean = reference.mean([values(i) for i in (1, 2, 3)], [1.0] * 3, key, clip=2.0, z=Z, k=3).astype(np.float32)
    if strategy == "fadas":
        assert (np.sign(merged(log)) == np.sign(mean)).all()
    else:
        np.testing.assert_array_equal(merged(log), mean)


def test_what_a_device_says_beside_its_update_goes_no_further() -> None:
    """Unless the spec says that it may."""
    for told in (False, True):
        log = campaign(privacy={"metrics": told}).open(3)
        effects = log.apply(log.update(1, worker="w1", metrics={"personal_accuracy": 1.0}))
        assert effects.admitted is not None
        assert bool(effects.admitted.update.metrics) == told
        assert effects.admitted.update.num_examples == (10 if told else 1)
        assert bool(log.state.contributions.device_scores) == told
