"""FedAdagrad, FedAdam and FedYogi as published: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2
(arXiv 2003.00295), which torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch

Rule = Literal["fedadagrad", "fedadam", "yogi"]


class FedOpt(torch.optim.Optimizer):
    """One step on the gradient g = -Δ, with m starting at 0 and v at ε²; the paper's τ is our ε, and it asks for
    v >= τ² at the start::

        m <- β1 m + (1 - β1) g
        v <- v + g²                            (fedadagrad)
             β2 v + (1 - β2) g²                (fedadam)
             v - (1 - β2) g² sign(v - g²)      (yogi)
        x <- x - η m / (√v + ε)

    There is no bias correction. Where Adam's v forgets geometrically, Yogi's moves by at most (1 - β2) g² per step
    (Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018).
    """

    def __init__(
        self, params: Iterable[torch.Tensor], *, rule: Rule, lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self._rule = rule

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply the gradients that are set; ``closure`` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, parameter.grad, group)

    def _step_one(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        beta1, beta2 = group["betas"]
        epsilon = group["eps"]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.full_like(parameter, epsilon**2)
        first, second = state["exp_avg"], state["exp_avg_sq"]
        first.mul_(beta1).add_(gradient, alpha=1.0 - beta1)
        square = gradient * gradient
        if self._rule == "fedadagrad":
            second.add_(square)
        elif self._rule == "fedadam":
            second.mul_(beta2).add_(square.mul_(1.0 - beta2))
        else:
            second.sub_((second - square).sign_().mul_(square).mul_(1.0 - beta2))
        parameter.addcdiv_(first, second.sqrt().add_(epsilon), value=-group["lr"])
