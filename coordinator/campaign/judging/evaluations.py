"""Consequences of evaluations: records, plateaus, targets that are met, and going back when a model has diverged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.campaign.course import Course, Phase
from coordinator.campaign.effects import Effects
from coordinator.campaign.judging.delivery import Delivery
from coordinator.campaign.judging.guard import Guard
from coordinator.campaign.judging.scores import Scores
from coordinator.campaign.ledger import Ledger
from coordinator.campaign.merging import Merging
from fl_core.aggregation.strategy import with_prefix
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.events import Evaluated
from fl_core.wire.history import EvaluationLine, RollbackLine
from fl_core.wire.mapped import finite

# What the names of these arrays begin with in a checkpoint; the strategy's own have no prefix.
GUARD, DELIVERY = "guard.", "delivery."


class Evaluations:
    """Judges versions by their scores.

    Args:
        spec, layout, ledger, merging, course: the campaign's.

    Attributes:
        scores: the newest and the best.
        guard: which version was the last good one.
        delivery: which version the campaign delivers.
        num_plateaus: how often the loss has stood still, so that devices' learning rate goes down.
    """

    def __init__(self, spec: CampaignSpec, layout: Layout, ledger: Ledger, merging: Merging, course: Course) -> None:
        self._spec = spec
        self._layout = layout
        self._ledger = ledger
        self._merging = merging
        self._course = course
        self._flat = 0
        self.scores = Scores()
        self.guard = Guard(
            spec.guard,
            evaluated=spec.evaluation.data is not None,
            higher=spec.guard.metric is not None and spec.is_higher_better(spec.guard.metric),
        )
        self.delivery = Delivery()
        self.num_plateaus = 0

    def begin(self) -> None:
        """The campaign opens."""
        self.guard.begin(self._merging.strategy)

    def pin(self, effects: Effects) -> None:
        """What the model is now is going to be evaluated, and may be what is delivered (event ``evaluating``)."""
        self.delivery.pin(self._merging.strategy)
        effects.pinned = self._merging.strategy.version

    def take(self, event: Evaluated, effects: Effects) -> None:
        """A version was evaluated."""
        version, is_of_old = event.version, event.is_of_old
        metrics = {name: finite(value) for name, value in event.metrics.items()}
        dropped = self.guard.is_refused(version)
        verdict = "fine"
        if self._course.accepts and not dropped:
            score = metrics.get(self._spec.guard.metric or "")
            verdict = self.guard.judge(version, event.loss, self._merging.strategy, score)
        loss = finite(event.loss)
        merged = self._ledger.merged
        effects.history.append(
            EvaluationLine(
                seconds=effects.seconds, version=version, merged=merged, loss=loss, metrics=metrics, is_of_old=is_of_old
            )
        )
        if dropped:
            self.delivery.release()
            return  # nobody has this version any more: it sets no record and meets no target
        self._note_scores(version, loss, metrics, effects.seconds)
        if target := self._meets_target(version, {"loss": loss, **metrics}, is_of_old=is_of_old):
            self._course.end(Phase.FINISHED, target, effects, target_met=True)
            return
        self.delivery.release()
        if verdict != "fine":
            self._roll_back(effects)
            if verdict == "hopeless":
                self._course.end(Phase.STOPPED, "diverged", effects)  # what is delivered is the last good version

    def _note_scores(
        self, version: int, loss: float | None, metrics: Mapping[str, float | None], seconds: float
    ) -> None:
        if self.scores.note(version, loss, metrics, seconds, self._spec.is_higher_better):
            self._flat = 0
            return
        self._flat += 1
        if self._flat >= self._spec.training.schedule_period:
            self._flat = 0
            self.num_plateaus += 1

    def _meets_target(self, version: int, scores: Mapping[str, float | None], *, is_of_old: bool) -> str:
        """The target of ``stop`` that a version met which the campaign delivers, if it was not over before."""
        for target in self._spec.stop.targets if self._course.accepts else ():
            value = scores.get(target.name)
            if value is None or not target.is_met_by(value):
                continue
            # An earlier release ended here, and delivered what the model was by now: its log says the same again.
            if self.delivery.meet(version, target, value, self._merging.strategy) or is_of_old:
                return target.name
        return ""

    def _roll_back(self, effects: Effects) -> None:
        """Go on from the last good version."""
        self.delivery.release()
        strategy, good = self.guard.roll_back(self._spec, self._layout, self._merging.strategy)
        self._merging.go_on_with(strategy)
        factor = self._spec.guard.rate_factor**self.guard.num_rollbacks
        effects.history.append(
            RollbackLine(seconds=effects.seconds, version=strategy.version, good_version=good, rate_factor=factor)
        )

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All state: arrays by name, and plain values."""
        guard_tensors, guard_meta = self.guard.export()
        delivery_tensors, delivery_meta = self.delivery.export()
        tensors = {f"{GUARD}{name}": array for name, array in guard_tensors.items()}
        tensors |= {f"{DELIVERY}{name}": array for name, array in delivery_tensors.items()}
        return tensors, {
            "guard": guard_meta,
            "scores": self.scores.export(),
            "delivery": delivery_meta,
            "num_plateaus": self.num_plateaus,
            "flat_evaluations": self._flat,
        }

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``; a strategy whose model went back is built as it was then, at the smaller rate."""
        self.guard.restore(with_prefix(tensors, GUARD), meta["guard"], self._layout)
        if self.guard.num_rollbacks:
            strategy = self._merging.strategy
            self._merging.strategy = self.guard.strategy(self._spec, self._layout, strategy.parameters)
        if "delivery" in meta:  # else an earlier release wrote it
            self.delivery.restore(with_prefix(tensors, DELIVERY), meta["delivery"])
        self.scores = Scores.restore(meta["scores"])
        self.num_plateaus, self._flat = meta["num_plateaus"], meta["flat_evaluations"]
