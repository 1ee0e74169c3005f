"""Who has spent how much: a filter that lets no device pass its budget.

What a participation costs is the square of sensitivity over deviation, and costs of one device add up
(``accountant.py``). Whether it is let in depends only on costs, which are public: the weight by staleness and the
noise. So each device may have a bound of its own, and devices, versions and their order may depend on everything that
was released before (Feldman and Zrnic, "Individual Privacy Accounting via a Rényi Filter", NeurIPS 2021, arXiv
2008.11193; Koskela, Tobaben and Honkela, "Individual Privacy Accounting with Gaussian Differential Privacy", ICLR
2023, arXiv 2209.15596; Smith and Thakurta, "Fully Adaptive Composition for Gaussian Differential Privacy", 2022,
arXiv 2210.17520).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fl_core.errors import InvariantError
from fl_core.privacy.accountant import epsilon_of, mu_of

# More than what adding costs one by one rounds off, so that as many participations are let in as were paid for.
_ROOM = 1e-9


def cost(noise_multiplier: float, weight: float = 1.0, *, sensitivity: float = 1.0) -> float:
    """What one participation costs: (``sensitivity`` · ``weight`` / ``noise_multiplier``)², its μ².

    Args:
        noise_multiplier: the noise's deviation in clips; >= 0, where 0 costs an infinite amount.
        weight: of the update in the sum, >= 0.
        sensitivity: in clips: 1 where a device's contribution is replaced by zeros, 2 by any other.

    Raises:
        InvariantError: an argument is out of range.

    >>> cost(2.0), cost(2.0, 0.5), cost(2.0, sensitivity=2)
    (0.25, 0.0625, 1.0)
    """
    if not (noise_multiplier >= 0 and weight >= 0 and sensitivity >= 0):
        raise InvariantError(f"No cost of weight {weight!r} beside noise of {noise_multiplier!r} clips.")
    moved = sensitivity * weight
    if moved == 0:
        return 0.0
    return math.inf if noise_multiplier == 0 else (moved / noise_multiplier) ** 2


@dataclass(frozen=True, slots=True)
class Budget:
    """What one device may spend.

    Attributes:
        mu_squared: the bound on the sum of its costs; infinite where spending is counted and not bounded.
        delta: the δ for which ε is said; in (0, 1).
    """

    mu_squared: float
    delta: float

    @classmethod
    def of_epsilon(cls, epsilon: float, delta: float) -> Budget:
        """As much as costs at most (``epsilon``, ``delta``).

        >>> round(Budget.of_epsilon(8.0, 1e-6).mu_squared, 4)
        2.3456
        """
        return cls(mu_of(epsilon, delta) ** 2, delta)

    @classmethod
    def of_participations(cls, participations: int, each: float, delta: float) -> Budget:
        """So many participations that cost ``each``.

        >>> round(Budget.of_participations(4, 0.25, 1e-5).epsilon, 6)
        4.377178
        """
        return cls(participations * each * (1 + _ROOM), delta)

    @property
    def epsilon(self) -> float:
        """What a device has spent that has nothing left, rounded up."""
        return epsilon_of(math.sqrt(self.mu_squared), self.delta)

    def allows(self, spent: float, each: float) -> bool:
        """Whether a device that has spent so much may spend ``each`` more."""
        return spent + each <= self.mu_squared

    def participations(self, each: float) -> int:
        """How many that cost ``each`` fit into a budget of which nothing is spent; ``each`` is above 0."""
        return math.floor(self.mu_squared / each)


class PrivacyFilter:
    """What each device has spent of the same budget.

    Args:
        budget: of each device.
        spent: what was spent so far, the sum of its costs by device, such as a checkpoint has it.
    """

    def __init__(self, budget: Budget, spent: Mapping[str, float] | None = None) -> None:
        self.budget = budget
        self._spent = dict(spent or {})

    @property
    def spent(self) -> Mapping[str, float]:
        """The sum of costs of each device that has spent anything."""
        return self._spent

    def may_spend(self, device: str, each: float) -> bool:
        """Whether the device may still take part at that cost."""
        return self.budget.allows(self._spent.get(device, 0.0), each)

    def spend(self, device: str, each: float) -> None:
        """Count a participation that is being released.

        Raises:
            InvariantError: the device may not; ``may_spend`` was not asked.
        """
        if not self.may_spend(device, each):
            raise InvariantError(f"Device {device!r} was to spend {each!r} beyond its privacy budget.")
        self.charge(device, each)

    def charge(self, device: str, each: float) -> None:
        """Count what was released already, whether the budget allows it or not: what another life has spent."""
        self._spent[device] = self._spent.get(device, 0.0) + each

    def epsilon(self, device: str) -> float:
        """What the device has spent, as ε at the budget's δ, rounded up."""
        return epsilon_of(math.sqrt(self._spent.get(device, 0.0)), self.budget.delta)

    @property
    def largest_epsilon(self) -> float:
        """ε of the device that has spent most; 0 while none has."""
        return epsilon_of(math.sqrt(max(self._spent.values(), default=0.0)), self.budget.delta)

    def exhausted(self, devices: Iterable[str], each: float) -> list[str]:
        """Those of ``devices`` that may not take part any more at that cost."""
        return [device for device in devices if not self.may_spend(device, each)]
