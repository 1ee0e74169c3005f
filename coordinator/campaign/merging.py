"""Admitted updates become versions: who waits in the strategy's buffer, and to whom each merge is credited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.campaign.contributions import Contributions
from coordinator.campaign.effects import Effects
from coordinator.campaign.ledger import Ledger
from coordinator.campaign.masked.sums import MaskedSums
from coordinator.campaign.private.privacy import Privacy
from fl_core.aggregation import Contribution, Merge, Strategy
from fl_core.errors import Reason
from fl_core.secure_aggregation.masked_sum import MaskedSum
from fl_core.wire.history import MergeLine, RejectionLine


class Merging:
    """The strategy at work.

    Args:
        strategy: at version 0, or restored.
        ledger, contributions: where merges are counted.
        privacy: adds noise to each sum; None where updates are merged as they are.
        masked: the sums of masked updates; None where updates have no masks.

    Attributes:
        strategy: as above; going back to an earlier version makes another one.
        privacy, masked: as above.
        waits_since_ms: when the oldest update in the buffer came in; campaign time.
    """

    def __init__(
        self,
        strategy: Strategy,
        ledger: Ledger,
        contributions: Contributions,
        privacy: Privacy | None = None,
        masked: MaskedSums | None = None,
    ) -> None:
        self.strategy = strategy
        self.privacy = privacy
        self.masked = masked
        self._ledger = ledger
        self._contributions = contributions
        self._workers: list[str] = []
        self.waits_since_ms = 0

    @property
    def num_waiting(self) -> int:
        """How many updates wait for a merge."""
        if self.masked is not None:
            return self.masked.num_waiting
        return self.strategy.buffer_count if self.privacy is None else self.privacy.num_waiting

    def offer(self, worker: str, contribution: Contribution, effects: Effects, evidence: bytes = b"") -> None:
        """Take one update in. Its task is in the ledger's buffer already.

        Args:
            evidence: what stands for it in the transcript of a private campaign.
        """
        if not self._workers:
            self.waits_since_ms = effects.moment_ms
        self._workers.append(worker)
        if self.masked is not None:
            self._add_masked(self.masked, contribution, effects)
        elif self.privacy is not None:
            self.privacy.add(contribution, evidence, self.strategy.version)
            if self.privacy.is_full:
                self._release(self.privacy, effects)
        elif (merge := self.strategy.offer(contribution)) is not None:
            self._record(merge, effects)

    def flush(self, effects: Effects, share: float = 1.0) -> bool:
        """Merge what waits in the buffer; False where that made no version, because nothing or too little waits.

        Args:
            share: how much of a cohort has come in, in (0, 1].
        """
        if self.masked is not None:
            if self.masked.can_be_opened:
                self._send(self.masked, effects)
            return False  # it moves the model when keepers have opened it
        if self.privacy is not None:
            # K alone sets the step: half a cohort moves the model half as far, and with the same noise.
            if self.privacy.num_waiting:
                self._release(self.privacy, effects)
                return True
            return False
        merge = self.strategy.flush(share)
        if merge is not None:
            self._record(merge, effects)
        return merge is not None

    def _release(self, privacy: Privacy, effects: Effects) -> None:
        release = privacy.release(self.strategy.version + 1)
        effects.spends.append(release.spend)
        self._record(self.strategy.advance(release.mean, release.staleness, release.weights), effects)

    # -- masked sums -----------------------------------------------------------------------------------------------

    def _add_masked(self, masked: MaskedSums, contribution: Contribution, effects: Effects) -> None:
        masked.add(contribution)
        if self.privacy is not None:
            # Not before the sum after this one: those that wait make versions first.
            self.privacy.budgets.rest(contribution.worker, self.strategy.version + len(masked.waiting))
        if masked.is_full:
            self._send(masked, effects)

    def _send(self, masked: MaskedSums, effects: Effects) -> None:
        """The sum that fills is full; its keepers are asked."""
        sent = masked.close()
        if self.privacy is not None:
            version = self.strategy.version + len(masked.waiting)
            effects.spends.append(self.privacy.sent(version, sent.digest, sent.devices, sent.staleness))

    def merge_open(self, masked: MaskedSums, effects: Effects) -> None:
        """Move the model by each sum whose turn it is and whose masks are all off."""
        while (opened := masked.oldest_open) is not None:
            if (norm := opened.norm()) > opened.norm_bound:
                detail = f"the opened sum has norm {norm:.4g} on the grid, and clipped updates {opened.norm_bound:.4g}"
                self.give_up(masked, opened, Reason.NORM_EXCEEDED, detail, effects)
                continue
            masked.waiting.remove(opened)
            weights = masked.weights(opened)
            self._record(self.strategy.advance(masked.mean(opened), opened.staleness, weights), effects)

    def give_up(self, masked: MaskedSums, given_up: MaskedSum, reason: Reason, detail: str, effects: Effects) -> None:
        """A sum comes to nothing: the tasks of all updates in it end as rejected."""
        place = masked.waiting.index(given_up)
        before = sum(one.count for one in masked.waiting[:place])
        masked.waiting.remove(given_up)
        workers = self._workers[before : before + given_up.count]
        del self._workers[before : before + given_up.count]
        numbers = self._ledger.reject_buffered(before, given_up.count, reason)
        effects.unopened = detail
        for worker, number in zip(workers, numbers, strict=True):
            effects.history.append(
                RejectionLine(seconds=effects.seconds, reason=reason.value, worker=worker, task=str(number))
            )

    def _record(self, merge: Merge, effects: Effects) -> None:
        workers = self._workers[: merge.num_updates]
        tasks = self._ledger.buffered[: merge.num_updates]
        del self._workers[: merge.num_updates]
        self.waits_since_ms = effects.moment_ms
        self._ledger.merge_buffered(merge.num_updates)
        self._contributions.merge(workers, merge.staleness)
        effects.merges.append(merge)
        effects.history.append(
            MergeLine(
                seconds=effects.seconds,
                version=merge.version,
                merged=self._ledger.merged,
                staleness=tuple(merge.staleness),
                weights=tuple(round(weight, 6) for weight in merge.weights),
                workers=tuple(workers),
                tasks=tuple(tasks),
                epsilon=None if self.privacy is None else round(self.privacy.budgets.filter.largest_epsilon, 6),
            )
        )

    def go_on_with(self, strategy: Strategy) -> None:
        """Merge into another model from now on; what waits in the buffer came from the one before, and is dropped."""
        self.drop()
        self.strategy = strategy

    def drop(self) -> None:
        """What waits is never merged."""
        self._ledger.cancel_buffered()
        self._workers.clear()
        if self.masked is not None:
            dropped = self.masked.drop()
            if self.privacy is not None:
                self.privacy.budgets.wake(dropped)
        elif self.privacy is not None:
            self.privacy.drop()

    def export(self) -> dict[str, Any]:
        """Who waits and since when, as plain values; the strategy's state is its own."""
        return {"buffered_since_ms": self.waits_since_ms, "buffered_workers": list(self._workers)}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        self.waits_since_ms, self._workers = meta["buffered_since_ms"], list(meta["buffered_workers"])
