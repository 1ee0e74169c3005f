"""The section ``[privacy]``: differential privacy of each device, at the coordinator or on the device itself."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fl_core.spec.section import Section


class PrivacySection(Section):
    """What a published version may tell of any one device: (epsilon, delta) for all that it ever contributes.

    ``mode`` says who adds the noise: ``"central"`` the coordinator, to each sum before it moves the model; ``"local"``
    each device, to its own update. ``clip`` bounds an update's 2-norm. The noise has the standard deviation
    z times ``clip``: z is ``noise_multiplier``, or follows from ``epsilon``, ``delta`` and ``max_participations``.
    """

    mode: Literal["off", "central", "local"] = "off"
    clip: float = Field(default=1.0, gt=0, le=1e9)
    epsilon: float | None = Field(default=None, gt=0)
    noise_multiplier: float | None = Field(default=None, gt=0, le=1e6)
    delta: float = Field(default=1e-6, gt=0, lt=1)
    max_participations: int = Field(default=32, ge=1, le=10**9)
    min_separation: int = Field(default=1, ge=1)
    adaptive_clip: bool = False
    metrics: bool = False

    @model_validator(mode="after")
    def _mode_is_chosen(self) -> Self:
        # Whoever gives a budget and forgets the mode would believe in a promise that nobody makes.
        given = sorted(self.model_fields_set)
        if given and "mode" not in given:
            raise ValueError(f"{given[0]} is given without mode; add mode = 'central' or 'local', or 'off'")
        return self

    @model_validator(mode="after")
    def _one_measure_of_noise(self) -> Self:
        if self.mode == "off":
            return self
        if self.epsilon is None and self.noise_multiplier is None:
            raise ValueError("epsilon and noise_multiplier are both missing; give the budget epsilon, or the noise")
        if self.epsilon is not None and self.noise_multiplier is not None:
            raise ValueError("epsilon and noise_multiplier are both set; keep one of them, the other one follows")
        return self

    @property
    def is_central(self) -> bool:
        """Whether the coordinator adds the noise."""
        return self.mode == "central"
