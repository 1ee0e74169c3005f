"""What devices have spent on a release, as the spend journal keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fl_core.wire.checks import is_count
from fl_core.wire.mapped import Mapped, is_name, is_number
from fl_core.wire.record import checked


def _are_costs(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_name(name) and is_number(cost) and cost >= 0 for name, cost in value.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend(Mapped):
    """One merge's.

    Attributes:
        version: which the merge made.
        release: hex digits that name the merge and its updates; another life's merge of that number has others.
        costs: by device, the square of sensitivity over deviation (``fl_core/privacy/budget.py``).
    """

    kind: ClassVar[str] = "spend"

    version: int = checked(is_count)
    release: str = checked(is_name)
    costs: Mapping[str, float] = checked(_are_costs)
