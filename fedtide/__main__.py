"""``python -m fedtide``, which is the program ``fedtide``."""

from __future__ import annotations

from coordinator.__main__ import main

if __name__ == "__main__":
    main()
