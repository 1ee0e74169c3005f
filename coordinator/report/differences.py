"""What distinguishes runs: the keys of their specs that differ, as names for tables and pages."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

MAX_LENGTH = 60
_NEVER = "checkpoint."
"""Where a run keeps its files says nothing of what it did."""


def names_by_difference(specs: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """A name for each run: the keys that differ between the specs, with its values.

    Args:
        specs: the text of each run's ``spec.toml``; empty where there is none.
        otherwise: what runs are called whose specs say the same as another's, or too much.

    >>> names_by_difference(['[training]\\nlearning_rate = 0.1', '[training]\\nlearning_rate = 0.5'], ["a", "b"])
    ['learning_rate = 0.1', 'learning_rate = 0.5']
    """
    found = [_flat(_read(spec)) for spec in specs]
    keys = sorted({key for each in found for key in each if not key.startswith(_NEVER)})
    differ = [key for key in keys if any(each.get(key) != found[0].get(key) for each in found)]
    short = Counter(key.rpartition(".")[2] for key in differ)
    words = {key: last if short[last := key.rpartition(".")[2]] == 1 else key for key in differ}
    names = [", ".join(f"{words[key]} = {each.get(key, '–')}" for key in differ) for each in found]
    times = Counter(names)
    return [
        name if name and len(name) <= MAX_LENGTH and times[name] == 1 else other
        for name, other in zip(names, otherwise, strict=True)
    ]


def _read(spec: str) -> dict[str, Any]:
    try:
        return tomllib.loads(spec)
    except ValueError:  # somebody has changed it by hand since
        return {}


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
