"""The guard against divergence: which version was the last good one, and when to go back to it.

An evaluation says how good a version was that the model has left since. So two copies of the parameters are kept: the
last good one, and a candidate that becomes good once an evaluation of it or of a later version is. Weights are kept in
bfloat16, both copies in the memory of one model: a model that starts again does not need the lower bits. Buffers that
move are kept as they are, and what never moves is not kept. Like everything that decides a campaign's course, the
guard sees only what the log says, in its order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fl_core.aggregation import Strategy, build_strategy
from fl_core.codecs.half import Bf16
from fl_core.codecs.model_payload import decode_version, encode_version
from fl_core.errors import SpecError, UserCodeError
from fl_core.spec import CampaignSpec, GuardSection
from fl_core.vectors import FloatArray, Parameters, read_all
from fl_core.vectors.layout import Layout

Kept: TypeAlias = npt.NDArray[np.uint8]
_CODEC = Bf16()

Verdict = Literal["fine", "diverged", "hopeless"]


class Guard:
    """Judges evaluations.

    A version has diverged when its loss is not finite, or above l + (``factor`` - 1) |l|, with l the loss of the first
    evaluation; where losses are positive that is ``factor`` · l. With ``guard.metric``, that metric takes the place of
    the loss; if higher is better, it has diverged below b - (1 - 1 / ``factor``) |b|, with b the best of all, which is
    b / ``factor`` where it is positive. A version without that metric is judged by its loss being finite alone.

    Args:
        settings: the spec's ``[guard]``.
        evaluated: whether the campaign evaluates at all; without evaluations nothing is kept.
        higher: ``guard.metric`` is one of which higher is better.

    Attributes:
        num_rollbacks: how often the model went back; each time the server's rate shrinks by ``rate_factor``.
        refused: spans (good version, restart): updates from versions between the two come from a diverged model.
    """

    def __init__(self, settings: GuardSection, *, evaluated: bool, higher: bool = False) -> None:
        self._settings = settings
        self._active = settings.enabled and evaluated
        self._higher = higher
        # The first loss, or with a metric the first or the best of it.
        self._first_loss: float | None = None
        self._good: tuple[int, Kept] | None = None
        self._candidate: tuple[int, Kept] | None = None
        self.num_rollbacks = 0
        self.refused: list[tuple[int, int]] = []

    def begin(self, strategy: Strategy) -> None:
        """The campaign opens: until something better is proven, where it starts is good."""
        if self._active:
            self._good = (strategy.version, _keep(strategy))

    def judge(self, version: int, loss: float, strategy: Strategy, metric: float | None = None) -> Verdict:
        """Take an evaluation in.

        Args:
            version: what was evaluated.
            loss: its loss; it may be NaN or infinite.
            strategy: as it stands now, some versions later.
            metric: its ``guard.metric``, if there is one and it could be had.

        Returns:
            ``"diverged"``: go back; ``"hopeless"``: that has been done too often, end the campaign.
        """
        if self._good is None or self.is_refused(version):
            return "fine"
        value = loss if self._settings.metric is None else metric
        if math.isfinite(loss) and (value is None or self._is_good(value)):
            self._accept(version, value, strategy)
            return "fine"
        return "diverged" if self.num_rollbacks < self._settings.max_rollbacks else "hopeless"

    def _is_good(self, value: float) -> bool:
        first, factor = self._first_loss, self._settings.factor
        if first is None:
            return True
        if self._higher:
            return value >= first - (1 - 1 / factor) * abs(first)
        return value <= first + (factor - 1) * abs(first)

    def is_refused(self, base_version: int) -> bool:
        """Whether a version was dropped by going back."""
        return any(good < base_version < restart for good, restart in self.refused)

    def _accept(self, version: int, value: float | None, strategy: Strategy) -> None:
        if value is not None and (self._first_loss is None or (self._higher and value > self._first_loss)):
            self._first_loss = value
        if self._candidate is not None and version >= self._candidate[0]:
            self._good, self._candidate = self._candidate, None
        if self._candidate is None:
            self._candidate = (strategy.version, _keep(strategy))

    def roll_back(self, spec: CampaignSpec, layout: Layout, strategy: Strategy) -> tuple[Strategy, int]:
        """A new strategy at the last good parameters, one version further, at the smaller rate; and which version
        those parameters were."""
        if self._good is None:
            raise AssertionError("judge() says when there is something to go back to")
        version, kept = self._good
        values = strategy.parameters.values.copy()  # what never moves is in it
        values[layout.moving] = decode_version(_CODEC, layout, kept.data)
        self.num_rollbacks += 1
        self._candidate = None
        restart = strategy.version + 1
        self.refused.append((version, restart))
        self._good = (restart, kept)  # the same parameters under their newest number
        fresh = self.strategy(spec, layout, Parameters(values))
        tensors, meta = fresh.export_state()
        fresh.restore_state({name: np.array(array) for name, array in tensors.items()}, {**meta, "version": restart})
        return fresh, version

    def strategy(self, spec: CampaignSpec, layout: Layout, parameters: Parameters) -> Strategy:
        """The spec's strategy at the rate that is left after the rollbacks so far."""
        try:
            strategy = build_strategy(spec, layout, parameters)
        except SpecError as error:  # the launch built the same: only a user's own code can raise now
            raise UserCodeError(f"{str(error).rstrip('.')}; mend it and go on with --resume.") from error
        if self.num_rollbacks:
            strategy.slow(self._settings.rate_factor**self.num_rollbacks)
        return strategy

    def export(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All state: arrays by name, and plain values."""
        kept = {"good": self._good, "candidate": self._candidate}
        tensors = {name: pair[1] for name, pair in kept.items() if pair is not None}
        return tensors, {
            "first_loss": self._first_loss,
            "num_rollbacks": self.num_rollbacks,
            "refused": [list(span) for span in self.refused],
            "versions": {name: pair[0] for name, pair in kept.items() if pair is not None},
            "what": "moving",
        }

    def restore(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], layout: Layout) -> None:
        """The inverse of ``export``; an earlier release kept the whole model in bfloat16."""
        kept = {name: (version, np.array(tensors[name])) for name, version in meta["versions"].items()}
        if "what" not in meta:
            kept = {name: (version, _moving_of(whole, layout)) for name, (version, whole) in kept.items()}
        self._good, self._candidate = kept.get("good"), kept.get("candidate")
        self._first_loss = meta["first_loss"]
        self.num_rollbacks = meta["num_rollbacks"]
        self.refused = [(good, restart) for good, restart in meta["refused"]]


def _keep(strategy: Strategy) -> Kept:
    return _encoded(strategy.parameters.values, strategy.layout)


def _encoded(values: FloatArray, layout: Layout) -> Kept:
    return np.frombuffer(encode_version(_CODEC, layout, values[layout.moving], 0), np.uint8)


def _moving_of(whole: Kept, layout: Layout) -> Kept:
    return _encoded(read_all(_CODEC.decode(whole.data, layout.num_elements)), layout)
