"""FADAS: an adaptive server step on a buffer of updates, shorter when the buffer holds very stale ones.

Wang, Wang, Lu and Chen, "FADAS: Towards Federated Adaptive Asynchronous Optimization", ICML 2024, arXiv 2407.18365.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from fl_core.aggregation.buffer import Buffer
from fl_core.aggregation.buffered import BufferedStrategy, verify_defaults
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.optimizer.rules import SGD
from fl_core.aggregation.strategy import Merge, Tensors, restore_vector, verify_strategy
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import BLOCK, Delta, FloatArray, Parameters
from fl_core.vectors.layout import Layout

_ONCE_OTHERS = ("delay_threshold", "delay_rule")
"""Settings whose defaults were others in a release whose checkpoints do not say what they were."""


DelayRule: TypeAlias = Literal["inverse", "proportional", "paper", "off"]


class FadasArgs(Section):
    """``[aggregation.args]``; the defaults are those of the authors' program, but for the bias correction."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    delay_threshold: int = Field(default=1, ge=1)
    delay_rule: DelayRule = "inverse"
    bias_correction: bool = False


class Fadas(BufferedStrategy):
    """One step of AMSGrad per buffer of K, on the plain mean of its deltas::

        Δ <- Σ Δ_i / K
        m <- β1 m + (1 - β1) Δ
        v <- β2 v + (1 - β2) Δ²
        v̂ <- max(v̂, v)
        x <- x + η_τ m / (√v̂ + ε)

    m, v and v̂ start at 0. There is no staleness weight, and as in the paper's algorithm no bias correction; the
    authors' program (github.com/yujiaw98/FADAS) has one, that of torch's AMSGrad, and ``bias_correction`` adds it: at
    the t-th step m / (1 - β1^t) and √v̂ / √(1 - β2^t) stand in their places.

    The rate looks at τ_max, the largest staleness in the buffer. Up to the threshold τ_c it is η,
    the learning rate, and beyond it ``delay_rule`` decides. ``inverse``: η / τ_max, with τ_c = 1 as in
    the authors' program. ``paper``: min(η, 1 / τ_max), which changes nothing where η is as small as such a rate usually
    is. ``proportional``: η τ_c / τ_max, which has no jump at τ_c. ``off``: η.

    Args:
        layout, initial: as of ``Strategy``.
        buffer_size: K.
        learning_rate: η, above 0 and below 1.
        beta1, beta2, epsilon: β1, β2 and ε.
        delay_threshold: τ_c.
        delay_rule, bias_correction: as above.

    Raises:
        SpecError: a setting lies outside of its range; the rate of 1 that suits other strategies does.
    """

    name = "fadas"
    _buffer: Buffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        buffer_size: int = 10,
        learning_rate: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.99,
        epsilon: float = 1e-8,
        delay_threshold: int = 1,
        delay_rule: DelayRule = "inverse",
        bias_correction: bool = False,
    ) -> None:
        settings = {
            "beta1": beta1, "beta2": beta2, "epsilon": epsilon, "delay_threshold": delay_threshold,
            "delay_rule": delay_rule, "bias_correction": bias_correction,
        }  # fmt: skip
        self._args = parse_section(FadasArgs, settings, "Fadas")
        self._given: frozenset[str] = frozenset(settings)
        if not 0 < learning_rate < 1:
            raise SpecError(
                f"server_optimizer.learning_rate = {learning_rate} would move each parameter by about that much per "
                "merge in strategy 'fadas'; set it to 0.01, for instance."
            )
        self._moments = Moments(layout.num_parameters, beta1, beta2, epsilon, bias_correction)
        # Its rule is its own; of the server optimizer it has the rate, and the state is that of none.
        super().__init__(
            layout, initial, Buffer(layout.num_elements), buffer_size=buffer_size, optimizer=SGD(learning_rate),
            moments=self._moments,
        )  # fmt: skip
        self.held_vectors = 4

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With what the spec says of buffer and rate, and its own settings."""
        args = read_args(spec, FadasArgs)
        rate, size = spec.server_optimizer.learning_rate, spec.aggregation.buffer_size
        strategy = cls(layout, initial, buffer_size=size, learning_rate=rate, **dict(args))
        strategy._given = frozenset(args.model_fields_set)
        return strategy

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add Δ_i; the K-th merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        self._buffer.add(
            contribution.delta, weight=1.0, num_examples=contribution.num_examples, staleness=contribution.staleness
        )
        return self._merge_if_full()

    def mean(self, share: float) -> Delta:
        return self._buffer.mean(self._buffer_size)

    def step(self, mean: Delta) -> None:
        rate = delayed_rate(self._optimizer.rule.learning_rate, max(self._buffer.staleness), self._args)
        self._moments.step(self.parameters.values, mean.values, rate)

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state, and the settings it came under; the arrays are views."""
        tensors, meta = super().export_state()
        return tensors, {**meta, "args": {key: getattr(self._args, key) for key in _ONCE_OTHERS}}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy or model, or was made under other defaults.
        """
        verify_strategy(self.name, meta)
        given = {key: getattr(self._args, key) for key in _ONCE_OTHERS}
        verify_defaults(self.name, meta, given, self._given)
        super().restore_state(tensors, meta)


def delayed_rate(rate: float, staleness: int, args: FadasArgs) -> float:
    """η_τ for the largest staleness in a buffer.

    >>> [delayed_rate(0.1, staleness, FadasArgs()) for staleness in (0, 1, 2, 10)]
    [0.1, 0.1, 0.05, 0.01]
    """
    if args.delay_rule == "off" or staleness <= args.delay_threshold:
        return rate
    if args.delay_rule == "paper":
        return min(rate, 1.0 / staleness)
    return rate * (args.delay_threshold if args.delay_rule == "proportional" else 1) / staleness


class Moments:
    """AMSGrad's m, v and v̂, float32 of shape ``(num_parameters,)`` each, and how many steps they have seen."""

    def __init__(
        self, num_parameters: int, beta1: float, beta2: float, epsilon: float, bias_correction: bool = False
    ) -> None:
        self._exact = beta1, beta2
        self._betas = np.float32(beta1), np.float32(beta2)
        self._rests = np.float32(1.0 - beta1), np.float32(1.0 - beta2)
        self._epsilon = np.float32(epsilon)
        self._bias_correction = bias_correction
        self._num_steps = 0
        self._state: dict[str, FloatArray] = {
            name: np.zeros(num_parameters, np.float32) for name in ("first", "second", "largest_second")
        }

    def step(self, parameters: FloatArray, delta: FloatArray, rate: float) -> None:
        """x <- x + rate · m / (√v̂ + ε), in place, after the moments have taken the delta in."""
        (beta1, beta2), (rest1, rest2) = self._betas, self._rests
        self._num_steps += 1
        root_correction = np.float32(1.0)
        if self._bias_correction:
            first_left, second_left = (beta**self._num_steps for beta in self._exact)
            rate /= 1.0 - first_left
            root_correction = np.float32(math.sqrt(1.0 - second_left))
        with np.errstate(all="ignore"):
            for start in range(0, parameters.size, BLOCK):
                where = slice(start, start + BLOCK)
                block = delta[where]
                first, second, largest = (state[where] for state in self._state.values())
                np.multiply(first, beta1, out=first)
                np.add(first, rest1 * block, out=first)
                np.multiply(second, beta2, out=second)
                np.add(second, rest2 * (block * block), out=second)
                np.maximum(largest, second, out=largest)
                root = np.sqrt(largest) / root_correction
                parameters[where] += np.float32(rate) * (first / (root + self._epsilon))

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The three vectors, as views, and the number of steps."""
        return dict(self._state), {"num_steps": self._num_steps}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: a vector is missing or has another size.
        """
        for name, array in self._state.items():
            restore_vector(array, tensors, name)
        self._num_steps = int(meta.get("num_steps", 0))  # an earlier release had no use for it and wrote none
