"""``python -m coordinator`` and the program ``fedtide``."""

from __future__ import annotations

from coordinator.cli import fedtide


def main() -> None:
    """Run the command line."""
    fedtide()


if __name__ == "__main__":
    main()
