"""``python -m keepers`` and the program ``fedtide-keeper``."""

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
    from fl_core.program.streams import outlive_readers, prepare_streams
    from keepers.cli import keeper

    prepare_streams()
    outlive_readers()
    sys.exit(keeper.main(standalone_mode=True))


if __name__ == "__main__":
    main()
