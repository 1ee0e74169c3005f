"""By which rules a log leads to its state: a number, so that a replay under other rules says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RULES = 2
"""Raised with every change of a rule or a default by which the same log comes to another state.

2: going back leaves buffers as they were; ``asyncfeded`` keeps as many versions as tasks are out; a campaign whose few
devices all fail ends sooner.
"""


def rules_of(before: Mapping[str, Any] | None) -> list[int]:
    """By which rules a campaign's entries were or will be applied, which its checkpoints say.

    Args:
        before: what the checkpoint says that it goes on from.
    """
    return sorted({RULES} if before is None else {RULES, *before.get("rules", [1])})
