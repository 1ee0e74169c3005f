"""``python -m coordinator`` and the program ``fedtide``."""

from __future__ import annotations

from coordinator.cli import fedtide
from fl_core.program.streams import prepare_streams


def main() -> None:
    """Run the command line."""
    prepare_streams()
    fedtide()


if __name__ == "__main__":
    main()
