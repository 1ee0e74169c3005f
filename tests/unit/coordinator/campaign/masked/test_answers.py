"""Sums that keepers open move the model by exactly what devices sent; what else comes in their name changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.campaign.course import Phase
from fl_core.errors import Reason
from fl_core.identity.certificates import Role
from fl_core.identity.domain import Domain
from fl_core.identity.signer import Signer
from fl_core.privacy.grid import from_grid
from tests.unit.coordinator.campaign.masked.masked_log import MaskedLog


@pytest.fixture
def masked(tmp_path: Path) -> MaskedLog:
    return MaskedLog(tmp_path)


def moved(masked: MaskedLog, *numbers: int) -> list[float]:
    """What the model moves by where these updates are summed in plain integers."""
    total = np.sum([masked.plain[number] for number in numbers], axis=0)
    return from_grid(total, masked.federation.clip, 16.0 * 3).tolist()


@pytest.mark.parametrize("away", ["", "keeper-0", "keeper-1", "keeper-2"])
def test_the_model_moves_by_the_plain_sum_bit_for_bit(masked: MaskedLog, away: str) -> None:
    """Whoever is away; with no version before the last mask is off."""
    one = masked.fill(1, 2, 3)
    assert masked.log.state.strategy.version == 0
    assert masked.log.values == [0.0] * 64
    (merge,) = masked.open_sum(one, [name for name in masked.federation.names if name != away]).merges
    assert (merge.version, merge.num_updates, merge.weights) == (1, 3, (1.0, 1.0, 1.0))
    assert masked.log.values == moved(masked, 1, 2, 3)
    assert masked.log.history[-1]["workers"] == ["dev-1", "dev-2", "dev-3"]
    assert masked.log.state.contributions.device_scores == {}


def test_stale_updates_count_in_16ths(masked: MaskedLog) -> None:
    """By the staleness at their admission, whenever the sum is opened."""
    masked.open_sum(masked.fill(1, 2, 3))
    before = np.array(masked.log.values, np.float32)
    masked.log.apply(masked.update(4), masked.update(5, base_version=0), masked.update(6, base_version=0))
    (merge,) = masked.open_sum(masked.masked.waiting[0]).merges
    assert merge.weights == (1.0, 11 / 16, 11 / 16)
    step = np.array(moved(masked, 4, 5, 6), np.float32)
    assert np.array_equal(np.array(masked.log.values, np.float32), before + step)


def test_the_next_sum_fills_meanwhile_and_sums_are_opened_in_their_order(masked: MaskedLog) -> None:
    """Answers to the second one come first, and wait."""
    first, second = masked.fill(1, 2, 3), masked.fill(4, 5, 6)
    assert masked.masked.is_crowded
    assert masked.open_sum(second).merges == []
    merges = masked.open_sum(first).merges
    assert [merge.version for merge in merges] == [1, 2]
    assert masked.log.state.ledger.merged == 6


def test_what_is_no_answer_changes_nothing(masked: MaskedLog) -> None:
    """Other signers, seeds that the keeper lacks, other lengths, other digests, unknown orders, a second answer."""
    one = masked.fill(1, 2, 3)
    other = masked.fill(4, 5, 6)
    before = masked.log.fingerprint()[0]
    eve = masked.federation.device("eve")
    good = masked.answer(one, "keeper-0", (1, 2))
    forgeries = [
        masked.answer(one, "keeper-0", (1, 2), signer=eve),
        masked.answer(one, "keeper-0", (1, 2), signer=masked.federation.identities["keeper-1"]),
        masked.answer(one, "keeper-0", (1, 2), signer=masked.federation.member("keeper-0", Role.COORDINATOR)),
        masked.answer(one, "keeper-0", (1, 2), seeds=(0,)),
        masked.answer(one, "keeper-0", (1, 2), payload=b"short"),
        masked.answer(one, "keeper-0", (1, 2), payload=bytes(260)),
        masked.answer(one, "keeper-0", (1, 2), order="f" * 64),
        masked.log.entry("k", good.header, good.payload[:-1] + b"x"),
        masked.log.entry("k", b"rubbish", b""),
        masked.log.entry("k", Signer(masked.federation.identities["keeper-0"]).seal(Domain.UNMASKED, b"x"), b""),
    ]
    for entry in forgeries:
        assert masked.log.apply(entry).merges == []
        assert masked.log.fingerprint()[0] == before
    masked.log.apply(good)
    after = masked.log.fingerprint()[0]
    masked.log.apply(good)
    assert masked.log.fingerprint()[0] == after != before
    masked.open_sum(one)
    masked.open_sum(other)
    assert masked.log.state.strategy.version == 2


def test_a_keeper_that_answers_wrong_spoils_a_sum_and_no_more(masked: MaskedLog) -> None:
    """It is told, all updates in it end as rejected, the model stays; and so do the sums before and after."""
    one, next_one = masked.fill(1, 2, 3), masked.fill(4, 5, 6)
    masked.log.apply(masked.answer(one, "keeper-0", (1, 2), payload=bytes(256)))
    effects = masked.log.apply(masked.answer(one, "keeper-1", (0,)))
    assert effects.merges == []
    assert "has norm" in effects.unopened
    assert masked.log.state.ledger.rejected == {Reason.NORM_EXCEEDED.value: 3}
    assert masked.log.values == [0.0] * 64
    masked.open_sum(next_one)
    assert masked.log.values == moved(masked, 4, 5, 6)


def test_a_sum_that_nobody_opens_ends_its_tasks(masked: MaskedLog) -> None:
    """One keeper that refuses is made up for; two of three are not."""
    one, next_one = masked.fill(1, 2, 3), masked.fill(4, 5, 6)
    for keeper in ("keeper-0", "keeper-1"):
        seeds = one.terms.held_by(keeper)
        effects = masked.log.apply(masked.answer(one, keeper, seeds, payload=b"", refused="not with me."))
        assert "not with me" in effects.unopened
    assert masked.log.state.ledger.rejected == {Reason.NOT_OPENED.value: 3}
    assert masked.masked.waiting == [next_one]
    masked.open_sum(next_one)
    assert masked.log.state.strategy.version == 1


def test_a_campaign_goes_on_between_two_answers_to_the_same_bits(masked: MaskedLog) -> None:
    """From a checkpoint in which one sum is half opened, and another one fills; and from the first entry on."""
    one = masked.fill(1, 2, 3)
    masked.log.apply(masked.update(4))
    first, second = masked.answer(one, "keeper-0", (1, 2)), masked.answer(one, "keeper-1", (0,))
    masked.log.apply(first)
    resumed = masked.log.resumed()
    assert resumed.masked is not None
    assert resumed.masked.waiting[0].order == one.order
    assert resumed.keepers == masked.log.state.keepers != ()
    rest = [second, masked.update(5), masked.update(6)]
    for entry in rest:
        masked.log.apply(entry)
        resumed.apply(entry)
    assert masked.log.fingerprint(resumed) == masked.log.fingerprint()
    again = masked.log.new_state()
    masked.log.admission.signers.restore({"signers": {"authority": b"", "number": 0, "revoked": []}})
    for entry in masked.log.entries:
        again.apply(entry)
    assert masked.log.fingerprint(again) == masked.log.fingerprint()


def test_a_model_that_goes_back_drops_sums_and_late_answers_find_none(masked: MaskedLog) -> None:
    """What waited came from the model before."""
    one = masked.fill(1, 2, 3)
    answer = masked.answer(one, "keeper-0", (1, 2))
    masked.log.state.merging.go_on_with(masked.log.state.strategy)
    masked.log.state.ledger.verify()
    assert masked.log.state.merging.num_waiting == 0
    assert masked.log.apply(answer).merges == []
    assert masked.log.state.ledger.cancelled == 3


def test_seats_are_kept_for_other_devices(tmp_path: Path) -> None:
    """A quick device may fill a sum but for the seats that the others need."""
    masked = MaskedLog(tmp_path, aggregation={"buffer_size": 4}, secure_aggregation={"min_devices": 3})
    for number in (1, 2):
        assert masked.log.apply(masked.update(number, device="quick")).refusals == []
    (refused,) = masked.log.apply(masked.update(3, device="quick")).refusals
    assert refused.reason is Reason.RESTING
    for number in (4, 5):
        masked.log.apply(masked.update(number))
    assert len(masked.masked.waiting) == 1
    masked.open_sum(masked.masked.waiting[0])
    assert masked.log.state.strategy.version == 1


def test_what_is_not_masked_for_these_keepers_is_refused(masked: MaskedLog) -> None:
    """Another codec, another length, a box too few."""
    for changes in ({"codec": "fp32"}, {"payload": bytes(252)}, {"boxes": (b"x",)}):
        (refused,) = masked.log.apply(masked.update(1 + len(masked.log.entries), **changes)).refusals  # type: ignore[arg-type]
        assert refused.reason is Reason.MALFORMED


def test_the_end_counts_what_was_merged(tmp_path: Path) -> None:
    """Sums that wait are not: the campaign ends with the merge that reaches the number, and cancels the rest."""
    masked = MaskedLog(tmp_path, stop={"updates": 6})
    first, second = masked.fill(1, 2, 3), masked.fill(4, 5, 6)
    masked.log.apply(masked.update(7))
    assert masked.log.state.accepts
    masked.open_sum(first)
    assert masked.log.state.accepts
    masked.open_sum(second)
    assert masked.log.state.phase is Phase.FINISHED
    assert (masked.log.state.ledger.merged, masked.log.state.ledger.out) == (6, 0)


def test_with_privacy_keepers_add_the_noise_and_a_sum_is_paid_for_when_it_is_sent(tmp_path: Path) -> None:
    """The sum that the coordinator sees is noisy; a device is in one sum at a time, whichever is opened first."""
    privacy = {"mode": "central", "noise_multiplier": 2.0, "clip": 0.5, "delta": 1e-5}
    masked = MaskedLog(tmp_path, privacy=privacy)
    for number in (1, 2):
        assert masked.log.apply(masked.update(number)).spends == []
    (spend,) = masked.log.apply(masked.update(3)).spends
    assert spend.costs == {f"dev-{number}": pytest.approx(0.25) for number in (1, 2, 3)}
    (refused,) = masked.log.apply(masked.update(4, device="dev-1")).refusals
    assert refused.reason is Reason.RESTING
    one = masked.masked.waiting[0]
    assert spend.release == one.digest
    masked.open_sum(one)
    noise = one.total.view(np.int32).astype(np.int64) - sum(masked.plain[number] for number in (1, 2, 3))
    assert float(noise.std()) == pytest.approx(2.0 * 16 * 2**16 * 3**0.5, rel=0.35)
    assert masked.log.state.strategy.version == 1
    assert masked.log.apply(masked.update(5, device="dev-1")).refusals == []
