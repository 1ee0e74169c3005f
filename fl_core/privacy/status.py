"""What a campaign has spent of its devices' privacy budgets so far, as its summary and its status say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fl_core.wire.lenient import Lenient, known, when


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**53


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyStatus(Lenient):
    """Of a campaign with ``privacy.mode = "central"``.

    Attributes:
        epsilon: what the device that has spent most has spent, rounded up.
        budget: the epsilon that no device may pass.
        delta: for which both are said.
        noise_multiplier: z, the noise's deviation in clips.
        clip: C at present.
        noise_to_clip: the length of a merge's noise against the most that one fresh device can move, z √d.
        releases: merges that were made, of other lives too.
        devices: how many have spent anything.
        spent: devices that have not enough left for another fresh update.
        resting: devices that wait for later versions before they may contribute again.
    """

    epsilon: float = known(when(_is_number), 0.0)
    budget: float = known(when(_is_number), 0.0)
    delta: float = known(when(_is_number), 0.0)
    noise_multiplier: float = known(when(_is_number), 0.0)
    clip: float = known(when(_is_number), 0.0)
    noise_to_clip: float = known(when(_is_number), 0.0)
    releases: int = known(when(_is_count), 0)
    devices: int = known(when(_is_count), 0)
    spent: int = known(when(_is_count), 0)
    resting: int = known(when(_is_count), 0)

    @property
    def sentence(self) -> str:
        """All of it in a line, for people.

        >>> PrivacyStatus(epsilon=1.5, budget=8.0, delta=1e-6, noise_multiplier=3.69, clip=1.0, releases=4).sentence
        'epsilon 1.5 of 8 at delta 1e-06, 4 releases, z 3.69, clip 1'
        """
        idle = [f"{count} {word}" for count, word in ((self.spent, "spent"), (self.resting, "resting")) if count]
        told = f"epsilon {self.epsilon:.4g} of {self.budget:.4g} at delta {self.delta:g}, {self.releases} releases"
        if self.devices:
            told += f", {self.devices} devices" + (f" ({', '.join(idle)})" if idle else "")
        return f"{told}, z {self.noise_multiplier:.4g}, clip {self.clip:.4g}"
