"""The coordinator's side: masked updates are added up, and a full sum waits until keepers have told its masks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fl_core.errors import CampaignError
from fl_core.privacy.grid import RESOLUTION
from fl_core.secure_aggregation.bounds import WEIGHTS
from fl_core.secure_aggregation.masks import Residues, whole_numbers
from fl_core.secure_aggregation.orders import UnmaskOrder
from fl_core.secure_aggregation.seeds import shared_out
from fl_core.secure_aggregation.terms import Terms
from fl_core.vectors import BLOCK
from fl_core.wire.digest import strong_digest

# How far the norm of a sum of clipped updates may lie above its bound: floating-point arithmetic, and the noise's own
# spread, which is less than this many standard deviations but once in 10**15 sums.
_ROUNDING = 1e-9
_SPREAD = 8.0


def weight_steps(weight: float) -> int:
    """An update weight in (0, 1] as the whole number of 16ths that masked updates are multiplied by, from 1 up.

    >>> weight_steps(1.0), weight_steps(0.5), weight_steps(0.001)
    (16, 8, 1)
    """
    return min(WEIGHTS, max(1, round(WEIGHTS * weight)))


def in_steps(weigh: Callable[[int], float]) -> Callable[[int], float]:
    """A staleness weight as masked updates have it: rounded to 16ths.

    >>> in_steps(lambda staleness: 1 / 3)(0)
    0.3125
    """
    return lambda staleness: weight_steps(weigh(staleness)) / WEIGHTS


class MaskedSum:
    """One sum on its way: open to updates first, then closed, and in the end opened.

    Args:
        terms: the campaign's.

    Attributes:
        headers, weights, staleness, devices: of the updates in it: as signed, in 16ths, in versions, by name.
        total: Σ w_i y_i modulo 2**32; once all masks are off it, Σ w_i q_i.
        missing: the seeds whose masks are still on it.
        refused_by: keepers that will not tell masks of this sum.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.headers: list[bytes] = []
        self.weights: list[int] = []
        self.staleness: list[int] = []
        self.devices: list[str] = []
        self.total: Residues = np.zeros(terms.num_elements, np.uint32)
        self.missing = set(range(terms.num_seeds))
        self.refused_by: set[str] = set()
        self._order = b""

    @property
    def count(self) -> int:
        """How many updates are in it."""
        return len(self.weights)

    @property
    def num_devices(self) -> int:
        """How many different devices they came from."""
        return len(set(self.devices))

    def add(self, masked: Residues, weight: int, *, header: bytes, staleness: int, device: str) -> None:
        """Σ <- Σ + w y.

        Args:
            masked: y, as it came.
            weight: w, in 16ths.
        """
        for start in range(0, masked.size, BLOCK):
            self.total[start : start + BLOCK] += masked[start : start + BLOCK] * np.uint32(weight)
        self.headers.append(header)
        self.weights.append(weight)
        self.staleness.append(staleness)
        self.devices.append(device)

    # -- once it is closed -----------------------------------------------------------------------------------------

    @property
    def order(self) -> bytes:
        """The ``UnmaskOrder`` for all that is in it; ask for it when nothing more is added."""
        if not self._order:
            self._order = UnmaskOrder(
                terms=self.terms.to_bytes(), headers=tuple(self.headers), weights=tuple(self.weights)
            ).to_bytes()
        return self._order

    @property
    def digest(self) -> str:
        """The order's name."""
        return strong_digest(self.order)

    def asked(self, preferred: Sequence[str], seeds: Collection[int] | None = None) -> dict[str, tuple[int, ...]]:
        """Who is asked for which seeds.

        Args:
            preferred: keepers, the first before the others; those that have refused are left out.
            seeds: only these; None for all that are missing.
        """
        names, terms = self.terms.keepers, self.terms
        order = [names.index(name) for name in preferred if name not in self.refused_by]
        wanted = self.missing if seeds is None else seeds
        shares = shared_out(wanted, order, len(names), terms.colluders)
        return {names[keeper]: seeds for keeper, seeds in shares.items()}

    @property
    def is_hopeless(self) -> bool:
        """So many keepers have refused that some seed has no holder left who might tell."""
        told = self.asked(self.terms.keepers).values()
        return {seed for seeds in told for seed in seeds} != self.missing

    def take(self, seeds: Iterable[int], masks: Residues) -> bool:
        """Take the masks of some seeds off; False, and nothing has changed, where one of them is off already.

        Args:
            masks: Σ over these seeds and all updates of w · mask, less the noise.
        """
        taken = set(seeds)
        if not taken or not taken <= self.missing:
            return False
        self.total -= masks
        self.missing -= taken
        return True

    @property
    def norm_bound(self) -> float:
        """No sum of clipped updates, with its noise, has a larger norm on the grid."""
        noise = self.terms.noise * self.terms.num_seeds**0.5
        spread = noise * (self.terms.num_elements**0.5 + _SPREAD) if noise else 0.0
        return (RESOLUTION * sum(self.weights) + spread) * (1 + _ROUNDING)

    def norm(self) -> float:
        """The 2-norm of the opened sum, on the grid."""
        square = 0.0
        for start in range(0, self.total.size, BLOCK):
            block = whole_numbers(self.total[start : start + BLOCK]).astype(np.float64)
            square += float(np.dot(block, block))
        return float(square**0.5)

    # -- checkpoint ------------------------------------------------------------------------------------------------

    def export(self) -> dict[str, Any]:
        """All but ``total``, as plain values."""
        return {
            "headers": list(self.headers),
            "weights": list(self.weights),
            "staleness": list(self.staleness),
            "devices": list(self.devices),
            "missing": sorted(self.missing),
            "refused_by": sorted(self.refused_by),
        }

    @classmethod
    def restored(cls, terms: Terms, meta: Mapping[str, Any], total: Residues | None) -> MaskedSum:
        """The inverse of ``export``.

        Raises:
            CampaignError: the sum is not there, or has another size.
        """
        made = cls(terms)
        for name in ("headers", "weights", "staleness", "devices"):
            getattr(made, name).extend(meta[name])
        made.missing, made.refused_by = set(meta["missing"]), set(meta["refused_by"])
        if made.count:
            if total is None or total.shape != made.total.shape:
                raise CampaignError(
                    f"The checkpoint's masked sum does not fit a model of {terms.num_elements} elements; resume with "
                    "the spec that wrote it."
                )
            np.copyto(made.total, total)
        return made
