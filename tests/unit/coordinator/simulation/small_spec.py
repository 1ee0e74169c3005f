"""A spec whose simulation takes a moment, as people write it."""

from __future__ import annotations


def small_spec(seed: int, updates: int) -> str:
    """The content of its file."""
    return f"""
[campaign]
name = "sim"
seed = {seed}
[model]
factory = "fl_core.models:mlp"
args = {{ inputs = 64, hidden = [], classes = 10 }}
[training]
local_steps = 2
[evaluation]
data = "fl_core.data:digits"
data_args = {{ split = "test" }}
[stop]
updates = {updates}
"""
