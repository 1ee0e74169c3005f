"""How many keepers, seeds and updates there may be."""

from __future__ import annotations

from fl_core.wire.checks import MAX_BOXES

MASKED = "masked"
"""How an order and an update name this way of writing a vector: four bytes per element, and nothing to be read."""

MAX_KEEPERS = MAX_BOXES

MAX_SEEDS = 64
"""A device expands each seed over the whole model."""

WEIGHTS = 16
"""s(τ) = 1 in weight steps: an update's weight is a whole number from 1 up to this."""

MAX_UPDATES = 2047
"""So many updates of the highest weight, each of norm 2**16 on the grid, add up to less than 2**31."""
