"""Yogi (Zaheer et al., "Adaptive Methods for Nonconvex Optimization", NeurIPS 2018), which torch does not have.

The form is that of FedYogi: Reddi et al., "Adaptive Federated Optimization", 2021, arXiv 2003.00295, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Yogi(torch.optim.Optimizer):
    """One step on the gradient g, with v starting at ε²::

        m <- β1 m + (1 - β1) g
        v <- v - (1 - β2) g² sign(v - g²)
        x <- x - η m / (√v + ε)

    There is no bias correction, as in algorithm 2 of Reddi et al., whose τ is our ε and which asks for v >= τ² at the
    start. Where Adam's v forgets geometrically, this one moves by at most (1 - β2) g² per step.
    """

    def __init__(self, params: Iterable[torch.Tensor], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

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
        second.sub_((second - square).sign_().mul_(square).mul_(1.0 - beta2))
        parameter.addcdiv_(first, second.sqrt().add_(epsilon), value=-group["lr"])
