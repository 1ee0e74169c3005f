"""How a model's state (``fl_core/vectors/buffers.py``) follows what devices send of theirs: never by adding up deltas.

A device that takes 40 steps replaces a running statistic nearly whole. Its delta is then about (its own - its base),
and the sum of several stale ones overshoots: means run away and variances fall below 0. So devices send values, and
the model's move *towards* them: m <- m + r (v - m) with r in (0, 1] and v a mean of the devices' values. Whatever the
staleness, m stays within what devices have measured, and a variance never falls below 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.codecs.model_payload import ModelState, write_state
from fl_core.errors import CampaignError
from fl_core.vectors import FloatArray
from fl_core.vectors.buffers import is_variance
from fl_core.vectors.layout import Layout


class Statistics:
    """The state of a model, and that of the updates which wait for a merge.

    With the weights s_i = s(τ_i) of the updates in the buffer and a = ``rate``, a merge does for the role ``mean``::

        v = Σ s_i v_i / Σ s_i          r = 1 - Π (1 - a s_i)
        W <- (1 - r) W + r             m <- m + (r / W) (v - m)

    W begins at 0 where the model's statistics are those of a new layer, so that the first merge replaces what nobody
    has measured (as Adam's correction of the bias does), and at 1 where they are not, as in a model that was trained
    before.

    For the role ``latest`` a merge takes each tensor from the update with the smallest staleness among those that bring
    it, of equals from the last.

    Args:
        layout: the model's.
        values: float32 ``(num_elements,)``, the model's parameters; their state is changed in place.
        rate: a, in (0, 1].

    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> layout = Layout((TensorSpec("w", (1,)), TensorSpec("running_mean", (1,), role="mean")))
    >>> x = np.array([5.0, 0.0], np.float32)
    >>> statistics = Statistics(layout, x, rate=0.5)
    >>> for value in (4.0, 10.0):
    ...     statistics.add(ModelState(np.array([value], np.float32), {}), worker="a", weight=1.0, staleness=0)
    ...     statistics.merge()
    ...     print(x.tolist())
    [5.0, 4.0]
    [5.0, 8.0]
    """

    def __init__(self, layout: Layout, values: FloatArray, *, rate: float) -> None:
        self._layout = layout
        self._values = values
        self._rate = rate
        self._measured = measured_before(layout, values)
        self._rows: list[FloatArray] = []
        self._weights: list[float] = []
        self._latest: dict[int, tuple[int, FloatArray]] = {}

    def add(self, state: ModelState, *, worker: str, weight: float, staleness: int) -> None:
        """Take one update's state in.

        Args:
            state: checked by ``unfit``; it is kept.
            worker: whose it is; it makes no difference here.
            weight: s(τ), in (0, 1].
            staleness: τ.
        """
        if self._rows:
            self._rows[0] += state.means * np.float32(weight)
        else:
            self._rows.append(state.means * np.float32(weight))
        self._weights.append(weight)
        for place, values in state.latest.items():
            if place not in self._latest or staleness <= self._latest[place][0]:
                self._latest[place] = staleness, values

    def merge(self) -> None:
        """Move the model's state towards what was taken in, and forget that."""
        mean = self._values[self._layout.means]
        if self._weights and mean.size:
            value = self._rows[0] / np.float32(sum(self._weights))
            self._measured = move_towards(mean, value, self._measured, self._rate, self._weights)
        latest = {place: values for place, (_, values) in self._latest.items()}
        write_state(self._layout, ModelState(mean, latest), self._values)
        self.clear()

    def clear(self) -> None:
        """Forget what was taken in."""
        self._rows, self._weights, self._latest = [], [], {}

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All but the model's own state: arrays by name, and plain values."""
        tensors: dict[str, npt.NDArray[Any]] = {}
        if self._rows:
            tensors["rows"] = np.stack(self._rows)
        tensors |= {f"latest.{place}": values for place, (_, values) in self._latest.items()}
        staleness = [[place, staleness] for place, (staleness, _) in self._latest.items()]
        return tensors, {"measured": self._measured, "weights": list(self._weights), "latest": staleness}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the arrays are of another model.
        """
        self.clear()
        self._measured = float(meta["measured"])
        self._weights = [float(weight) for weight in meta["weights"]]
        rows, means = tensors.get("rows"), self._values[self._layout.means]
        if rows is not None and rows.shape[1:] != means.shape:
            raise CampaignError("The checkpoint's statistics are another model's; resume with the spec that wrote it.")
        self._rows = [] if rows is None else [np.array(row, np.float32) for row in rows]
        self._latest = {
            int(place): (int(staleness), np.array(tensors[f"latest.{place}"], np.float32))
            for place, staleness in meta["latest"]
        }


def unfit(layout: Layout, state: ModelState, present: FloatArray) -> str | None:
    """Why a device's state cannot be taken in; None where it can.

    Args:
        state: from an untrusted sender, of this layout.
        present: float32 ``(num_elements,)``, the model as it stands: where that is not finite, as an observer's
            extremes are before it has seen anything, the same value is fine.
    """
    beside = layout.num_parameters
    values = np.zeros(beside + layout.num_state, np.float32)
    values[layout.state] = present[layout.state]
    write_state(layout, state, values)
    for spec, where in zip(layout.tensors, layout.slices, strict=True):
        if spec.role not in ("mean", "latest"):
            continue
        new = values[where]
        if not (np.isfinite(new) | (new == present[where]) | (np.isnan(new) & np.isnan(present[where]))).all():
            return f"the buffer {spec.name!r} holds NaN or infinite values"
        if spec.role == "mean" and is_variance(spec.name) and (new < 0).any():
            return f"the variance {spec.name!r} is below 0"
    return None


def move_towards(mean: FloatArray, value: FloatArray, measured: float, rate: float, weights: Sequence[float]) -> float:
    """Move the model's means, in place, towards the devices'.

    Args:
        mean, value: m and v, float32 of one shape.
        measured: W.
        rate: a.
        weights: s_i.

    Returns:
        The next W.
    """
    step = 1.0 - float(np.prod([1.0 - rate * weight for weight in weights]))
    measured = (1.0 - step) * measured + step
    mean += np.float32(step / measured) * (value - mean)
    return measured


def measured_before(layout: Layout, values: FloatArray) -> float:
    """W at the beginning: 0 where nothing was measured (means are 0 and variances 1, as in a new layer), else 1."""
    expected = np.zeros(layout.num_elements, np.float32)
    for where in layout.variances:
        expected[where] = 1.0
    return 0.0 if (values[layout.means] == expected[layout.means]).all() else 1.0
