"""``python -m coordinator`` and the program ``fedtide``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run the command line."""
    # The fl_core beside this package, whatever else has that name (fl_core/namesakes.py).
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from fl_core.namesakes import search_ours_first

    del sys.path[0]
    search_ours_first()
    from coordinator.cli import fedtide
    from fl_core.program.streams import prepare_streams

    prepare_streams()
    fedtide()


if __name__ == "__main__":
    main()
