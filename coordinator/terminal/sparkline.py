"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """The last of each of ``width`` equal parts, as bars from the lowest to the highest.

    >>> sparkline([0.0, 0.5, 1.0], 10)
    '▁▅█'
    """
    if not values:
        return ""
    count = min(width, len(values))
    shown = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    low, span = min(shown), (max(shown) - min(shown)) or 1.0
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1) + 0.5)] for value in shown)
