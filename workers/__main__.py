"""``python -m workers`` and the program ``fedtide-worker``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from fl_core.program.streams import outlive_readers, prepare_streams
    from workers.cli import worker

    prepare_streams()
    outlive_readers()
    sys.exit(worker.main(standalone_mode=True))


if __name__ == "__main__":
    main()
