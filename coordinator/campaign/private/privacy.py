"""Central differential privacy of one campaign: the sum, its noise, and what it costs whom.

Each update is clipped to C on a grid of integers and added with its staleness weight s. A merge adds rounded Gaussian
noise of deviation z C to the sum, divides by K, the same K for every merge, and hands the mean to the strategy: what
follows (server optimizer, schedule, guard, codecs) touches private data no more. A device spends (s / z)² with each
merge that took an update of its own (``fl_core/privacy``); what was refused, expired or dropped out is in no release,
and spends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from coordinator.campaign.private.budgets import Budgets
from coordinator.campaign.private.mechanism import noise_and_budget, noisy_mean
from coordinator.campaign.private.sum import ClippedSum
from coordinator.campaign.private.transcript import EMPTY, evidence, extended, noise_key
from fl_core.aggregation import Contribution
from fl_core.aggregation.staleness import constant, staleness_weight
from fl_core.errors import InvariantError, SpecError
from fl_core.privacy.adaptive_clip import bits_cost, bits_deviation, next_clip, update_multiplier
from fl_core.privacy.budget import cost
from fl_core.privacy.grid import RESOLUTION, IntArray
from fl_core.privacy.noise import rounded_gaussian
from fl_core.privacy.spend import Spend
from fl_core.program.extras import need
from fl_core.secure_aggregation.masked_sum import in_steps
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import STRONG_DIGITS, Bytes, strong_digest


@dataclass(frozen=True, slots=True)
class Release:
    """One merge: the noisy mean, and of whom it is.

    Attributes:
        mean: float32 ``(num_parameters,)``.
        staleness, weights: of each update, in the order of arrival.
        spend: what it costs whom.
    """

    mean: Delta
    staleness: tuple[int, ...]
    weights: tuple[float, ...]
    spend: Spend


class Privacy:
    """The mechanism and its budgets.

    Args:
        campaign: its id.
        spec, layout: the campaign's.

    Attributes:
        multiplier: z: a fresh update costs 1 / z².
        clip: C at present.
        buffer_size: K.
        budgets: of the devices.
        noise_secret: 32 bytes, drawn at the launch; empty once the campaign is over.

    Raises:
        SpecError: ``privacy.adaptive_clip`` asks for more than its noise allows.
    """

    def __init__(self, campaign: str, spec: CampaignSpec, layout: Layout) -> None:
        need("privacy.mode = 'central'", "cryptography", "blake3")
        settings, barrier = spec.privacy, spec.aggregation.strategy == "fedavg"
        self._campaign = campaign
        self._adaptive = settings.adaptive_clip
        self.buffer_size = spec.dispatch.concurrency if barrier else spec.aggregation.buffer_size
        self.barrier = barrier
        self.multiplier, budget = noise_and_budget(spec)
        self._update_multiplier, self._bits_cost = self.multiplier, 0.0
        if self._adaptive:
            key = "dispatch.concurrency" if barrier else "aggregation.buffer_size"
            try:
                self._update_multiplier = update_multiplier(self.multiplier, self.buffer_size)
            except InvariantError:
                raise SpecError(
                    f"privacy.adaptive_clip = true reads norms from buffers of {self.buffer_size}, which costs more "
                    f"than noise of z = {self.multiplier:.4g} allows; raise {key} above {10 * self.multiplier:.0f}, or "
                    "remove it."
                ) from None
            self._bits_cost = bits_cost(self.buffer_size)
        weigh = staleness_weight(spec.aggregation) if spec.aggregation.strategy == "fedbuff" else constant()
        self._weigh = in_steps(weigh) if spec.secure_aggregation.is_on else weigh
        self._max_staleness = spec.aggregation.max_staleness
        self._sum = ClippedSum(layout.num_parameters, count_bits=self._adaptive)
        self._num_parameters = layout.num_parameters
        self._transcript = EMPTY
        self.clip = settings.clip
        self.budgets = Budgets(budget, settings.min_separation)
        self.noise_secret = b""

    @classmethod
    def of(cls, campaign: str, spec: CampaignSpec, layout: Layout) -> Self | None:
        """Of a campaign with ``privacy.mode = "central"``; None for any other."""
        return cls(campaign, spec, layout) if spec.privacy.is_central else None

    # -- updates that wait -----------------------------------------------------------------------------------------

    @property
    def num_waiting(self) -> int:
        """How many updates wait for a merge."""
        return self._sum.count

    @property
    def is_full(self) -> bool:
        """Whether they make a version by their number."""
        return not self.barrier and self._sum.count >= self.buffer_size

    def cost(self, staleness: int) -> float:
        """What a contribution of that staleness costs its device."""
        return cost(self._update_multiplier, self._weigh(staleness)) + self._bits_cost

    def verify(self, worker: str, staleness: int, version: int) -> None:
        """Refuse an update of a device that may not contribute now.

        Raises:
            RejectedUpdate: its budget is spent, or it rests.
        """
        self.budgets.verify(worker, version, self.cost(staleness))

    def evidence(self, position: str, payload: Bytes, declared: str, staleness: int) -> bytes:
        """What stands for an update in the transcript.

        Args:
            position: of its log entry.
            payload: its bytes.
            declared: their digest, which has been checked.
        """
        # Of an update that nobody signed the digest finds accidents only, and two updates may be made to share one.
        strong = declared if len(declared) == STRONG_DIGITS else strong_digest(payload)
        return evidence(position, bytes.fromhex(strong), self._weigh(staleness))

    def add(self, contribution: Contribution, proof: bytes, version: int) -> None:
        """Take one update into the sum.

        Args:
            proof: its ``evidence``.
            version: the campaign's.
        """
        self._sum.add(
            contribution.delta.vector,
            clip=self.clip,
            weight=self._weigh(contribution.staleness),
            staleness=contribution.staleness,
            worker=contribution.worker,
            evidence=proof,
        )
        self.budgets.rest(contribution.worker, version)

    def drop(self) -> None:
        """What waits is not merged."""
        self.budgets.wake(self._sum.workers)
        self._sum.clear()

    # -- merging ---------------------------------------------------------------------------------------------------

    def release(self, version: int) -> Release:
        """The noisy mean of what waits, however few; they have spent what it costs.

        Args:
            version: which the merge makes.
        """
        waiting = self._sum
        transcript = extended(self._transcript, waiting.evidence)
        spend = self.sent(version, transcript.hex(), waiting.workers, waiting.staleness)
        mean = noisy_mean(
            waiting.total, self._key(version, transcript, "sum"),
            clip=self.clip, multiplier=self._update_multiplier, divisor=self.buffer_size,
        )  # fmt: skip
        if self._adaptive:
            deviation = bits_deviation(self.buffer_size) * RESOLUTION
            noise = int(rounded_gaussian(self._key(version, transcript, "bits"), 1, deviation)[0])
            self.clip = next_clip(self.clip, waiting.bits + noise, self.buffer_size)
        self._transcript = transcript
        merged = Release(mean, tuple(waiting.staleness), tuple(waiting.weights), spend)
        waiting.clear()
        return merged

    def _key(self, version: int, transcript: bytes, use: str) -> bytes:
        if not self.noise_secret:
            raise InvariantError("a private sum was to be released without a secret for its noise")
        return noise_key(self.noise_secret, self._campaign, version, transcript, use)

    def end(self) -> None:
        """The campaign is over: nobody can take the noise off its versions any more."""
        self._sum.clear()
        self.noise_secret = b""

    def sent(self, version: int, order: str, workers: Sequence[str], staleness: Sequence[int]) -> Spend:
        """A sum counts as released. A masked one does when it goes to its keepers, whose noise is in what comes back.

        Args:
            version: which it will make.
            order: what names it: of a masked sum the digest of its order.
        """
        costs = {worker: self.cost(tau) for worker, tau in zip(workers, staleness, strict=True)}
        spend = Spend(version=version, release=order, costs=costs)
        self.budgets.spend(spend)
        return spend

    # -- other lives -----------------------------------------------------------------------------------------------

    def charge(self, spends: Iterable[Spend]) -> int:
        """Count releases that this life's log does not lead to; how many there were.

        A device that waits may have nothing left then: what waits is dropped by the caller (``is_overdrawn``).
        """
        return sum(self.budgets.charge(spend) for spend in spends)

    @property
    def is_overdrawn(self) -> bool:
        """Whether a device that waits cannot pay any more."""
        waiting = zip(self._sum.workers, self._sum.staleness, strict=True)
        return any(not self.budgets.filter.may_spend(worker, self.cost(tau)) for worker, tau in waiting)

    @property
    def noise_to_clip(self) -> float:
        """The length of a merge's noise against the most that one fresh device can move, z √d."""
        return self._update_multiplier * math.sqrt(self._num_parameters)

    # -- who may contribute ----------------------------------------------------------------------------------------

    @property
    def spent(self) -> frozenset[str]:
        """Devices that have not enough left for another fresh update."""
        return frozenset(self.budgets.spent(self.cost(0)))

    def resting(self, version: int) -> dict[str, int]:
        """The others that have to wait, and until which version.

        Args:
            version: the campaign's.
        """
        waits = {worker: until for worker, until in self.budgets.rests_until.items() if until > version}
        spent = self.spent if waits else frozenset()
        return {worker: until for worker, until in waits.items() if worker not in spent}

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> tuple[dict[str, IntArray], dict[str, Any]]:
        """All state: arrays by name, and plain values."""
        tensors, waiting = self._sum.export()
        return tensors, {
            "waiting": waiting,
            "transcript": self._transcript,
            "clip": self.clip,
            "budgets": self.budgets.export(),
            "noise_secret": self.noise_secret,
        }

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``.

        Raises:
            CampaignError: the sum is missing, or of another model.
        """
        self._sum.restore(tensors, meta["waiting"])
        self._transcript, self.clip = meta["transcript"], meta["clip"]
        self.budgets.restore(meta["budgets"])
        self.noise_secret = meta["noise_secret"]
