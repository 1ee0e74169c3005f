"""The base of the lines of histories and feeds: a kind and a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fl_core.wire.checks import is_finite
from fl_core.wire.mapped import Mapped
from fl_core.wire.record import checked

# A campaign of thirty thousand years.
MAX_SECONDS = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Mapped):
    """What every line has.

    Attributes:
        seconds: when, in seconds since the campaign was opened.
    """

    seconds: float = checked(lambda value: is_finite(value) and 0 <= value <= MAX_SECONDS)

    def to_map(self) -> dict[str, Any]:
        """Plain types, its kind first."""
        return {"kind": self.kind, **super(Line, self).to_map()}
