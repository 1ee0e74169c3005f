"""The programs ``fedtide``, which ``python -m fedtide`` is too, ``fedtide-worker`` and ``fedtide-keeper``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Lead and watch campaigns."""
    _start("coordinator")


def worker() -> None:
    """Serve campaigns on a device."""
    _start("workers")


def keeper() -> None:
    """Keep seeds for secure aggregation."""
    _start("keepers")


def _start(package: str) -> None:
    """Run the package beside this one, whatever else has its name (fl_core/namesakes.py)."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    program = importlib.import_module(f"{package}.__main__")
    del sys.path[0]
    program.main()


if __name__ == "__main__":
    main()
