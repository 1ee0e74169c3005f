"""Server optimizers by their settings: ``SGD(1.0)``, ``Adam(0.01)``, and the others of ``server_optimizer.name``.

Reddi et al., "Adaptive Federated Optimization", 2021, arXiv 2003.00295: minus the mean delta is a pseudo-gradient, and
any first-order optimizer can follow it. ``FedAdam``, ``FedAdagrad`` and ``Yogi`` are those of their algorithm 2
(``fedopt.py``). ``Adam`` and ``Adagrad`` are torch's own: v starts at 0 rather than at ε², Adam corrects the bias of
both moments, and Adagrad has no first moment. Where a delta is long beside ε, a first step of ``Adam`` has length η in
each element, and one of ``FedAdam`` η (1 - β1) / √(1 - β2), which with the default betas is η too.

A rule holds settings and nothing else, so one object may serve several strategies; each keeps a ``ServerOptimizer`` of
its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar, Self

from fl_core.built_in import SERVER_OPTIMIZERS
from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.spec import ServerOptimizerSection

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ServerRule(ABC):
    """What each rule has: a rate, and how torch does it.

    Attributes:
        name: as a spec and a checkpoint name it.
        learning_rate: η, above 0.

    Raises:
        SpecError: a setting lies outside of its range.
    """

    name: ClassVar[str]
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool):
                continue
            above_zero = each.name in ("learning_rate", "epsilon")
            if not (0 < value < float("inf") if above_zero else 0 <= value < 1):
                bounds = "above 0" if above_zero else "at least 0 and below 1"
                raise SpecError(
                    f"{type(self).__name__}({each.name}={value!r}) is not accepted; give a number {bounds}."
                )

    @classmethod
    def from_spec(cls, section: ServerOptimizerSection) -> Self:
        """The rule with a section's settings."""
        return cls(**{each.name: getattr(section, each.name) for each in fields(cls)})

    def slow(self, factor: float) -> Self:
        """The same rule with ``factor`` times the rate."""
        return replace(self, learning_rate=self.learning_rate * factor)

    @property
    def is_plain(self) -> bool:
        """Whether it is x <- x - η g, which needs neither a memory nor torch."""
        return False

    @abstractmethod
    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """The rule at work on one vector."""


@dataclass(frozen=True)
class SGD(ServerRule):
    """m <- μ m + g, x <- x - η m; without momentum μ this is FedAvg's and FedBuff's own step.

    >>> SGD(0.5).slow(0.5)
    SGD(learning_rate=0.25, momentum=0.0)
    """

    name = "sgd"
    momentum: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Where there is no momentum."""
        return not self.momentum

    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """torch's own."""
        import torch

        # foreach would allocate its temporaries for nothing: there is one tensor.
        return torch.optim.SGD([parameter], lr=self.learning_rate, momentum=self.momentum, foreach=False)


@dataclass(frozen=True)
class Adam(ServerRule):
    """torch's Adam: Kingma and Ba, ICLR 2015, arXiv 1412.6980; with ``amsgrad`` that of Reddi, Kale and Kumar 2018."""

    name = "adam"
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-3
    amsgrad: bool = False

    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """torch's own."""
        import torch

        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(
            [parameter], lr=self.learning_rate, betas=betas, eps=self.epsilon, amsgrad=self.amsgrad, foreach=False
        )


@dataclass(frozen=True)
class Adagrad(ServerRule):
    """torch's Adagrad: Duchi, Hazan and Singer, JMLR 2011."""

    name = "adagrad"
    epsilon: float = 1e-3

    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """torch's own."""
        import torch

        return torch.optim.Adagrad([parameter], lr=self.learning_rate, eps=self.epsilon, foreach=False)


@dataclass(frozen=True)
class FedAdam(ServerRule):
    """FedAdam as published (``fedopt.py``)."""

    name = "fedadam"
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-3

    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """Our own."""
        from fl_core.aggregation.optimizer.fedopt import FedOpt

        return FedOpt(
            [parameter], rule="fedadam", lr=self.learning_rate, betas=(self.beta1, self.beta2), eps=self.epsilon
        )


@dataclass(frozen=True)
class FedAdagrad(ServerRule):
    """FedAdagrad as published (``fedopt.py``)."""

    name = "fedadagrad"
    beta1: float = 0.9
    epsilon: float = 1e-3

    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """Our own; its v forgets nothing, so β2 is not read."""
        from fl_core.aggregation.optimizer.fedopt import FedOpt

        return FedOpt([parameter], rule="fedadagrad", lr=self.learning_rate, betas=(self.beta1, 0.0), eps=self.epsilon)


@dataclass(frozen=True)
class Yogi(ServerRule):
    """FedYogi as published (``fedopt.py``)."""

    name = "yogi"
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-3

    def optimizer(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        """Our own."""
        from fl_core.aggregation.optimizer.fedopt import FedOpt

        return FedOpt([parameter], rule="yogi", lr=self.learning_rate, betas=(self.beta1, self.beta2), eps=self.epsilon)


def server_rule(section: ServerOptimizerSection) -> ServerRule:
    """The rule that a spec names, with its settings.

    >>> server_rule(ServerOptimizerSection(name="sgd", momentum=0.9))
    SGD(learning_rate=1.0, momentum=0.9)
    """
    rule: ServerRule = resolve(SERVER_OPTIMIZERS[section.name], "server_optimizer.name").from_spec(section)  # type: ignore[attr-defined]
    return rule
