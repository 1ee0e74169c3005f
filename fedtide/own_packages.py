"""Importing this fails in one sentence where a script's folder hides a package of ours.

A script's own folder is searched before what is installed, and what it imports from there is the script's business: so
the order stays as it is here, unlike that of the programs (``fl_core/namesakes.py``).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path


def _verify() -> None:
    """Look at the packages that this one stands on, and import none.

    Raises:
        ImportError: something else has the name of one.
    """
    for name in ("coordinator", "fl_core"):
        spec = importlib.util.find_spec(name)
        found = spec.origin if spec is not None else None
        if found is None or Path(found).parents[1] != Path(__file__).parents[1]:
            raise ImportError(
                f"fedtide needs its own package {name!r}, but that name is taken here by {found}; rename yours.",
                name=name,
            )


_verify()
