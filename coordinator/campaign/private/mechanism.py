"""From a sum of integers to a step of the model, and from a spec to the noise and the budgets that go with it."""

from __future__ import annotations

from fl_core.errors import InvariantError
from fl_core.privacy.budget import Budget, cost
from fl_core.privacy.grid import RESOLUTION, IntArray, from_grid
from fl_core.privacy.noise import add_rounded_gaussian
from fl_core.privacy.terms import Terms
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta


def noisy_mean(total: IntArray, key: bytes, *, clip: float, multiplier: float, divisor: float) -> Delta:
    """The one place where a sum of integers becomes a step of the model.

    Args:
        total: int64 ``(num_parameters,)``, a sum on the grid of ``fl_core.privacy.grid``; it is overwritten.
        key: of the noise, used once.
        clip: C.
        multiplier: the noise's deviation, in clips; 0 for none.
        divisor: how many updates of weight 1 the mean is over, however many there are.

    Returns:
        float32 ``(num_parameters,)``.
    """
    add_rounded_gaussian(total, key, multiplier * RESOLUTION)
    return Delta(from_grid(total, clip, divisor))


def noise_and_budget(spec: CampaignSpec) -> tuple[float, Budget]:
    """z and what each device may spend, from the one of both that the spec gives."""
    settings, terms = spec.privacy, Terms.of(spec.privacy)
    if terms is None:
        raise InvariantError("a budget was asked for where the spec gives none")
    multiplier = terms.noise_multiplier
    if settings.epsilon is not None:
        return multiplier, Budget.of_epsilon(settings.epsilon, settings.delta)
    return multiplier, Budget.of_participations(settings.max_participations, cost(multiplier), settings.delta)
