"""The vectors that travel and how they lie in memory: kinds, layout, parts, and the arithmetic on them."""

from __future__ import annotations

from fl_core.vectors.kinds import (
    BLOCK,
    Delta,
    Encoded,
    FloatArray,
    Parameters,
    Sends,
    SoftLabels,
    Vector,
    read_all,
    read_into,
)

__all__ = [
    "BLOCK",
    "Delta",
    "Encoded",
    "FloatArray",
    "Parameters",
    "Sends",
    "SoftLabels",
    "Vector",
    "read_all",
    "read_into",
]
