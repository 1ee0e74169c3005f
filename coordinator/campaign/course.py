"""A campaign's course: its phase, and what ends it: a limit that is reached, a target, an operator, or failure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from coordinator.campaign.effects import Effects
from coordinator.campaign.fruitless import Fruitless, Place
from coordinator.campaign.ledger import Ledger
from coordinator.campaign.merging import Merging
from coordinator.campaign.timeline import Timeline
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.history import EndLine, PhaseLine


class Phase(enum.StrEnum):
    """Where a campaign is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        """Nothing more will be merged, ever."""
        return self in (Phase.FINISHED, Phase.STOPPED)


class Course:
    """The phase, and the rules by which it changes.

    Args:
        spec, layout, timeline, ledger, merging: the campaign's.

    Attributes:
        fruitless: the present stretch of failures.
        stop_reason: why the campaign is over, or interrupted.
        ended_ms: when; campaign time.
    """

    def __init__(
        self, spec: CampaignSpec, layout: Layout, timeline: Timeline, ledger: Ledger, merging: Merging
    ) -> None:
        self._stop = spec.stop
        self._layout = layout
        self._timeline = timeline
        self._ledger = ledger
        self._merging = merging
        self.fruitless = Fruitless(spec)
        self.phase = Phase.RUNNING
        self.stop_reason = ""
        self.ended_ms = 0

    @property
    def accepts(self) -> bool:
        """Whether updates are still merged: a paused campaign takes late ones, an ended one does not."""
        return self.phase in (Phase.RUNNING, Phase.PAUSED)

    def change_phase(self, to: Phase, origin: tuple[Phase, ...], effects: Effects) -> None:
        """Go over from one of these phases to another; nothing happens in any other phase."""
        if self.phase not in origin:
            return
        self.phase = to
        self.stop_reason = ""
        effects.history.append(PhaseLine(seconds=effects.seconds, state=to.value))

    # -- merges that are not the strategy's own doing --------------------------------------------------------------

    def close_cohort(self, effects: Effects) -> None:
        """A strategy with a barrier merges when the last task of the cohort has ended, however it ended."""
        if not self._merging.strategy.barrier or self._ledger.open or not self.accepts:
            return
        if self._merging.flush(effects):
            self.check_limits(effects)

    def merge_due(self, version: int, effects: Effects) -> None:
        """What waits has waited long enough (``aggregation.max_wait_seconds``), unless a merge came first."""
        strategy = self._merging.strategy
        if strategy.version != version or strategy.barrier or not self.accepts:
            return
        if self._merging.flush(effects):
            self.check_limits(effects)
        else:
            self._merging.waits_since_ms = effects.moment_ms  # it has to wait on: due again after as long

    # -- the end ---------------------------------------------------------------------------------------------------

    def check_limits(self, effects: Effects) -> None:
        """End the campaign where enough was merged."""
        # Counting what waits in the buffer makes the campaign end with exactly the number asked for: it is flushed.
        # A masked sum is merged when its keepers have opened it, or never: it does not count before.
        buffered = 0 if self._merging.masked is not None else len(self._ledger.buffered)
        merged = self._ledger.merged + buffered
        if self._stop.updates is not None and merged >= self._stop.updates:
            self.end(Phase.FINISHED, "updates", effects)
        elif self._stop.versions is not None and self._merging.strategy.version >= self._stop.versions:
            self.end(Phase.FINISHED, "versions", effects)

    def end(self, phase: Phase, reason: str, effects: Effects, *, target_met: bool = False) -> None:
        """End the campaign, or interrupt it: open tasks are cancelled, and the buffer is merged if this is the end.

        Args:
            target_met: a version has met a target, and is what is delivered.
        """
        if self.phase.is_over:
            return
        strategy = self._merging.strategy
        cancelled, arrived = self._ledger.cancel_open(), self._merging.num_waiting
        effects.closed += cancelled
        effects.reopened.clear()
        if target_met or (phase.is_over and self._merging.masked is not None):
            # That version stands, and what waited for the next one does not move it any more.
            self._ledger.cancel_buffered()
        # Else what waits is merged at the end. An interrupted campaign keeps its buffer for later, but half a cohort
        # has no later: its other tasks are cancelled.
        elif (
            (phase.is_over or strategy.barrier)
            and arrived
            and not self._merging.flush(effects, arrived / (arrived + len(cancelled)))
        ):
            self._ledger.cancel_buffered()  # too few to be trusted (strategy ``robust``)
        if phase.is_over and self._merging.privacy is not None:
            self._merging.privacy.end()
        self._look_at_model()
        self.phase = phase
        self.stop_reason = reason
        self.ended_ms = effects.moment_ms
        effects.history.append(EndLine(seconds=effects.seconds, state=phase.value, reason=reason))

    def note_failure(self, reason: str, detail: str, worker: str, taken: tuple[str, Place], effects: Effects) -> None:
        """An attempt came to nothing; if none has come to anything for long, that is the end.

        Args:
            reason, detail, worker, taken: as in ``Fruitless.note``.
        """
        if self.fruitless.note(reason, detail, worker, taken, effects.moment_ms):
            self._look_at_model()
            since = self._timeline.seconds(self.fruitless.since_ms)
            effects.fruitless = self.fruitless.describe(since)["sentence"]
        if self.accepts and self.fruitless.ends_campaign(self._ledger, effects.moment_ms):
            self.end(Phase.STOPPED, "fruitless", effects)

    def _look_at_model(self) -> None:
        """See whether the model itself is why updates are not finite; costs a pass over it."""
        self.fruitless.look_at(self._merging.strategy, self._layout)

    def export(self) -> dict[str, Any]:
        """All state, as plain values."""
        return {
            "phase": self.phase.value,
            "stop_reason": self.stop_reason,
            "ended_ms": self.ended_ms,
            "fruitless": self.fruitless.export(),
        }

    def restore(self, meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        self.phase, self.stop_reason = Phase(meta["phase"]), meta["stop_reason"]
        self.ended_ms = meta["ended_ms"]
        if "fruitless" in meta:  # else an earlier release wrote it
            self.fruitless.restore(meta["fruitless"])
