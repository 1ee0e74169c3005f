"""The examples' folder: beside the packages in a checkout, inside this package in a wheel."""

from __future__ import annotations

from pathlib import Path

from fl_core.errors import SpecError


def example(name: str) -> Path:
    """The folder of one example, with its ``campaign.toml`` and ``fleet.toml``.

    Raises:
        SpecError: this installation has no such example.
    """
    here = Path(__file__).parents[1]  # the package
    for folder in (here.parent / "examples" / name, here / "_examples" / name):
        if (folder / "campaign.toml").is_file():
            return folder
    raise SpecError(f"the example {name!r} is not installed here; install fedtide again, or work in a checkout of it.")
