"""The server optimizer at work: it applies a mean delta to the parameters by one of the rules of ``rules.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.optimizer.rules import ServerRule
from fl_core.errors import CampaignError
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.arithmetic import add_scaled
from fl_core.vectors.layout import Layout

if TYPE_CHECKING:
    import torch


class ServerOptimizer:
    """x <- x - η · rule(-mean delta).

    Plain SGD, x <- x + η · mean, is done by the blocked kernel: it needs no state, no gradient vector and no torch, and
    it rounds the product before it adds, where ``torch.optim.SGD`` may fuse the two.

    >>> from fl_core.aggregation.optimizer.rules import SGD
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> optimizer = ServerOptimizer(SGD(0.5), Layout((TensorSpec("w", (1,)),)))
    >>> x = Parameters(np.array([1.0], np.float32))
    >>> optimizer.step(x, Delta(np.array([2.0], np.float32)))
    >>> x.values.tolist()
    [2.0]
    """

    def __init__(self, rule: ServerRule, layout: Layout) -> None:
        self.rule = rule
        self._layout = layout
        self._optimizer: torch.optim.Optimizer | None = None
        self._parameter: torch.nn.Parameter | None = None
        if not rule.is_plain:
            import torch

            self._parameter = torch.nn.Parameter(torch.zeros(layout.num_parameters))
            self._optimizer = rule.optimizer(self._parameter)

    def slow(self, factor: float) -> None:
        """Take steps at ``factor`` times the rate from now on."""
        self.rule = self.rule.slow(factor)
        if self._optimizer is not None:
            self._optimizer.param_groups[0]["lr"] = self.rule.learning_rate

    def step(self, parameters: Parameters, mean_delta: Delta) -> None:
        """Apply one mean delta to ``parameters``, in place.

        Args:
            parameters: float32 of shape ``(num_parameters,)``.
            mean_delta: the same shape. Its sign is turned and turned back, so it must be writable.
        """
        if self._optimizer is None or self._parameter is None:
            add_scaled(parameters.values, mean_delta.values, self.rule.learning_rate)
        else:
            import torch

            pseudo_gradient = mean_delta.values
            np.negative(pseudo_gradient, out=pseudo_gradient)
            # Both share memory with the vectors; the optimizer keeps its state by the identity of the Parameter.
            self._parameter.data = torch.from_numpy(parameters.values)
            self._parameter.grad = torch.from_numpy(pseudo_gradient)
            self._optimizer.step()
            self._parameter.grad = None
            np.negative(pseudo_gradient, out=pseudo_gradient)

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The optimizer's vectors (views, by torch's names) and plain values."""
        tensors: dict[str, npt.NDArray[Any]] = {}
        meta: dict[str, Any] = {"name": self.rule.name}
        if self._optimizer is not None:
            for key, value in self._optimizer.state_dict()["state"].get(0, {}).items():
                if key == "step":
                    meta["step"] = int(value)
                elif value is not None:
                    tensors[key] = value.numpy()
        return tensors, meta

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is another optimizer's, or of another size.
        """
        if meta["name"] != self.rule.name or (tensors and self._optimizer is None):
            raise CampaignError(
                f"The checkpoint is of server_optimizer.name = {meta['name']!r}, the spec says {self.rule.name!r}; "
                "resume with the spec that wrote it."
            )
        if self._optimizer is None:
            return
        import torch

        state: dict[str, Any] = {}
        for key, array in tensors.items():
            if array.shape != (self._layout.num_parameters,):
                raise CampaignError(
                    f"The checkpoint's server optimizer has {key!r} of shape {list(array.shape)}, the model has "
                    f"{self._layout.num_parameters} trainable elements; resume with the spec that wrote it."
                )
            state[key] = torch.from_numpy(np.array(array, np.float32))
        if "step" in meta:
            state["step"] = torch.tensor(float(meta["step"]), dtype=torch.float32)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": {0: state} if state else {}, "param_groups": groups})
