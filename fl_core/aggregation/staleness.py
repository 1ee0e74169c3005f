"""Staleness weights s(τ): how much an update still counts that was computed τ versions ago.

Every s has s(0) = 1, stays in (0, 1] and never increases. The formulas are those of Xie, Koyejo and Gupta,
"Asynchronous Federated Optimization", 2019, arXiv 1903.03934, section 5.2; FedBuff (Nguyen et al., AISTATS 2022,
arXiv 2106.06639) uses the polynomial one with a = 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from fl_core.errors import InvariantError, SpecError
from fl_core.spec import AggregationSection

StalenessWeight: TypeAlias = Callable[[int], float]
"""s: from a staleness, 0 or more, to a weight in (0, 1]. A function of one's own does as well as those below."""


def constant_weight(staleness: int) -> float:
    """s(τ) = 1.

    Raises:
        InvariantError: the staleness is negative.

    >>> constant_weight(7)
    1.0
    """
    _verify_staleness(staleness)
    return 1.0


def polynomial_weight(staleness: int, exponent: float = 0.5) -> float:
    """s(τ) = (1 + τ)^-a.

    With a = 0.5 this is 1/sqrt(1 + τ) as published, not the 1/(1 + sqrt(τ)) that some implementations compute.

    Args:
        staleness: τ in versions.
        exponent: a >= 0; 0 makes every weight 1.

    Raises:
        InvariantError: the staleness is negative.

    >>> polynomial_weight(0), polynomial_weight(3)
    (1.0, 0.5)
    """
    _verify_staleness(staleness)
    return float((1.0 + staleness) ** -exponent)


def hinge_weight(staleness: int, slope: float = 10.0, threshold: int = 4) -> float:
    """s(τ) = 1 if τ <= b, else 1 / (a (τ - b) + 1).

    The paper's form, with the + 1. Without it, as some implementations have it, a slope below 1 would weigh an update
    just past the threshold more than a fresh one.

    Args:
        staleness: τ in versions.
        slope: a > 0.
        threshold: b >= 0, the staleness up to which nothing is taken off.

    Raises:
        InvariantError: the staleness is negative.

    >>> hinge_weight(4), hinge_weight(5, slope=1.0), hinge_weight(13, slope=1.0)
    (1.0, 0.5, 0.1)
    """
    _verify_staleness(staleness)
    if staleness <= threshold:
        return 1.0
    return 1.0 / (slope * (staleness - threshold) + 1.0)


def constant() -> StalenessWeight:
    """s(τ) = 1 for every update, as ``constant_weight``.

    >>> constant()(7)
    1.0
    """
    return constant_weight


def polynomial(exponent: float = 0.5) -> StalenessWeight:
    """s(τ) = (1 + τ)^-a, as ``polynomial_weight``.

    Raises:
        SpecError: a is below 0.

    >>> polynomial(1.0)(1)
    0.5
    """
    if not exponent >= 0:
        raise SpecError(f"polynomial(exponent={exponent!r}) would weigh stale updates more; give 0 or more.")
    return partial(polynomial_weight, exponent=exponent)


def hinge(slope: float = 10.0, threshold: int = 4) -> StalenessWeight:
    """s(τ) = 1 if τ <= b, else 1 / (a (τ - b) + 1), as ``hinge_weight``.

    Raises:
        SpecError: a is not above 0, or b below 0.

    >>> hinge(slope=1.0)(5)
    0.5
    """
    if not (slope > 0 and threshold >= 0):
        raise SpecError(
            f"hinge(slope={slope!r}, threshold={threshold!r}) is not accepted; give a slope above 0 and a threshold of "
            "0 or more."
        )
    return partial(hinge_weight, slope=slope, threshold=threshold)


def staleness_weight(spec: AggregationSection) -> StalenessWeight:
    """The s(τ) that the spec names, with the spec's constants.

    >>> weigh = staleness_weight(AggregationSection(staleness="polynomial", polynomial_exponent=1.0))
    >>> weigh(1)
    0.5
    """
    if spec.staleness == "constant":
        return constant()
    if spec.staleness == "polynomial":
        return polynomial(spec.polynomial_exponent)
    return hinge(spec.hinge_slope, spec.hinge_threshold)


def _verify_staleness(staleness: int) -> None:
    if staleness < 0:
        raise InvariantError(f"The staleness is {staleness}: an update was based on a version that does not exist yet.")
