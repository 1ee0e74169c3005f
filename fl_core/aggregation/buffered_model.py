"""A model with a buffer before it and a server optimizer behind: the state of every strategy that merges deltas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.server_optimizer import ServerOptimizer
from fl_core.aggregation.strategy import Merge, Tensors
from fl_core.errors import CampaignError
from fl_core.layout import Layout
from fl_core.spec import ServerOptimizerSection
from fl_core.vectors import Parameters


class BufferedModel:
    """Parameters, version, buffer and server optimizer, moved together and kept together.

    Args:
        optimizer: the server optimizer's section of the spec.
        layout: the model's.
        parameters: version 0; this object owns and changes them.

    Attributes:
        parameters: the current version, float32 of shape ``(num_elements,)``.
        version: how many merges it has had.
        buffer: the updates that wait.
    """

    def __init__(self, optimizer: ServerOptimizerSection, layout: Layout, parameters: Parameters) -> None:
        self.parameters = parameters
        self.version = 0
        self.buffer = Buffer(layout.num_elements)
        self._layout = layout
        self._optimizer = ServerOptimizer(optimizer, layout)

    def merge(self, divisor: float) -> Merge:
        """One step of the server optimizer on Σ w_i Δ_i / divisor; empties the buffer.

        Raises:
            InvariantError: the buffer is empty.
        """
        self._optimizer.step(self.parameters, self.buffer.mean(divisor))
        self._layout.clamp_variances(self.parameters.values)
        self.version += 1
        merge = Merge(self.version, self.buffer.count, tuple(self.buffer.staleness), tuple(self.buffer.weights))
        self.buffer.clear()
        return merge

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views, named with a prefix for the part that they belong to."""
        buffer_tensors, buffer_meta = self.buffer.export_state()
        optimizer_tensors, optimizer_meta = self._optimizer.export_state()
        tensors: Tensors = {"parameters": self.parameters.values}
        tensors |= {f"buffer.{name}": array for name, array in buffer_tensors.items()}
        tensors |= {f"server_optimizer.{name}": array for name, array in optimizer_tensors.items()}
        return tensors, {"version": self.version, "buffer": buffer_meta, "server_optimizer": optimizer_meta}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another model or another server optimizer.
        """
        restore_parameters(self.parameters, tensors)
        self.buffer.restore_state(_with_prefix(tensors, "buffer."), meta["buffer"])
        self._optimizer.restore_state(_with_prefix(tensors, "server_optimizer."), meta["server_optimizer"])
        self.version = int(meta["version"])


def restore_parameters(parameters: Parameters, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copy a checkpoint's parameters into ``parameters``.

    Raises:
        CampaignError: they are missing or have another size.
    """
    saved = tensors.get("parameters")
    if saved is None or saved.shape != parameters.values.shape:
        raise CampaignError(
            f"The checkpoint's parameters do not fit a model of {parameters.values.size} elements; "
            "resume with the spec that wrote it."
        )
    np.copyto(parameters.values, saved)


def verify_strategy(name: str, meta: Mapping[str, Any]) -> None:
    """Refuse another strategy's checkpoint.

    Raises:
        CampaignError: it is one.
    """
    if meta["strategy"] != name:
        raise CampaignError(
            f"The checkpoint is of aggregation.strategy = {meta['strategy']!r}, the spec says {name!r}; "
            "resume with the spec that wrote it."
        )


def _with_prefix(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
