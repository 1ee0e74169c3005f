"""The terms on which a campaign's devices take part: what an order says of privacy, read with bounds by the device.

With ``mode = "local"`` the device itself clips its update and adds noise before anything leaves it, and counts what
it has given away. Two updates of the same norm can be 2 clips apart and are to look alike, so that a participation
costs (2/z)² of μ², and k of them are the Gaussian mechanism with μ = 2 √k / z. With ``mode = "central"`` the device
leaves out what it would say beside the update, and the coordinator does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from fl_core.errors import SpecError
from fl_core.privacy.accountant import noise_multiplier
from fl_core.privacy.budget import Budget, cost

if TYPE_CHECKING:
    from fl_core.spec import PrivacySection

LOCAL_SENSITIVITY = 2.0
"""Clips by which one update can differ from any other."""
MAX_CLIP, MAX_MULTIPLIER, MAX_PARTICIPATIONS = 1e9, 1e6, 10**9


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device is told.

    Attributes:
        mode: who adds the noise.
        clip: C, the norm to which an update is clipped.
        noise_multiplier: z, the noise's deviation in clips.
        delta: the δ for which the campaign says ε.
        max_participations: so many updates of weight 1 may come from one device.
        metrics: whether devices may say their loss and number of examples, outside of the promise.
    """

    mode: Literal["central", "local"]
    clip: float
    noise_multiplier: float
    delta: float
    max_participations: int
    metrics: bool = False

    @classmethod
    def of(cls, section: PrivacySection) -> Terms | None:
        """What a spec's section comes to; None where it is off."""
        if section.mode == "off":
            return None
        sensitivity = LOCAL_SENSITIVITY if section.mode == "local" else 1.0
        z = section.noise_multiplier
        if z is None:
            assert section.epsilon is not None  # the section has one of the two
            z = noise_multiplier(section.epsilon, section.delta, section.max_participations, sensitivity)
        return cls(section.mode, section.clip, z, section.delta, section.max_participations, section.metrics)

    @classmethod
    def read(cls, order: Mapping[str, Any]) -> Terms | None:
        """What an order says; None where it says nothing.

        Raises:
            SpecError: it says what no spec can, names the key and its value.
        """
        if not order:
            return None
        keys = {
            "mode": lambda it: it in ("central", "local"),
            "clip": lambda it: isinstance(it, float) and 0 < it <= MAX_CLIP,
            "noise_multiplier": lambda it: isinstance(it, float) and 0 < it <= MAX_MULTIPLIER,
            "delta": lambda it: isinstance(it, float) and 0 < it < 1,
            "max_participations": lambda it: type(it) is int and 0 < it <= MAX_PARTICIPATIONS,
            "metrics": lambda it: isinstance(it, bool),
        }
        for key in sorted(keys.keys() | order.keys(), key=str):
            if key not in order or key not in keys or not keys[key](order[key]):
                said = f"{order[key]!r:.80}" if key in order else "missing"
                raise SpecError(f"the task's privacy is not to be understood: {key!r:.80} is {said}.")
        return cls(**cast(dict[str, Any], dict(order)))

    def order(self) -> dict[str, Any]:
        """As an order has it, in plain values.

        >>> Terms.read(Terms("local", 1.0, 8.0, 1e-6, 32).order()).noise_multiplier
        8.0
        """
        return asdict(self)

    @property
    def is_local(self) -> bool:
        """Whether the device adds the noise."""
        return self.mode == "local"

    @property
    def cost(self) -> float:
        """What one local participation costs: (2/z)²."""
        return cost(self.noise_multiplier, sensitivity=LOCAL_SENSITIVITY)

    @property
    def budget(self) -> Budget:
        """What all local participations may cost together.

        >>> round(Terms("local", 1.0, 10.0, 1e-5, 10).budget.epsilon, 4)
        2.5944
        """
        return Budget.of_participations(self.max_participations, self.cost, self.delta)

    def noise_to_signal(self, num_parameters: int) -> float:
        """How long the noise in one local update is against the longest update there can be: z √d."""
        return self.noise_multiplier * math.sqrt(num_parameters)
