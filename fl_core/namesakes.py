"""A user's own folder or file that has the name of a package of ours, or of another one that is installed.

Python takes the first of a name that it finds, so one of the two is hidden. The programs find their own packages
whatever else has the name; where a spec or a user's code means the hidden one, a sentence says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

from fl_core.errors import SpecError

OWN = ("coordinator", "fedtide", "fl_core", "keepers", "workers")
"""The packages of this project."""

ROOT = Path(__file__).parents[1]
"""Where they lie, all of them."""


def search_ours_first() -> None:
    """Let modules be searched in the working directory, and wherever a namesake of ours lies, after our own folder.

    ``python -m`` and PYTHONPATH put folders before what is installed. Processes of ``multiprocessing`` take the order
    over.
    """
    early: list[str] = []
    late: list[str] = []
    for entry in sys.path:
        (late if _hides_ours(entry) else early).append(entry)
    if str(ROOT) not in early:
        early.append(str(ROOT))
    sys.path[:] = early + late


def verify_named(path: str, key: str) -> None:
    """Refuse an import path into one of our packages that has no such module.

    Args:
        path: ``"package.module:callable"``.
        key: where it was written.

    Raises:
        SpecError: it means something of the user's that has the name of ours, or nothing.
    """
    module = path.partition(":")[0]
    package, *inner = module.split(".")
    if package not in OWN:
        return
    place = ROOT.joinpath(package, *inner)
    if inner and _is_module(place):
        return
    said = f"{key} = {path!r}: {package!r} is a package of fedtide's own, and has no such module"
    if theirs := _elsewhere(module, str(ROOT / package)):
        raise SpecError(f"{said}; yours at {theirs} cannot have that name, so rename it.")
    raise SpecError(f"{said}; mend the name.")


def hidden(module: str) -> str:
    """What explains that a module, or something in it, is not found: a namesake of it. Otherwise nothing.

    Returns:
        The end of a sentence, such as ``"'data' is /usr/lib/data.py here, which hides yours at /home/me/data; rename
        yours"``.
    """
    name = module.partition(".")[0]
    taken = sys.modules.get(name)
    if taken is None:
        return ""
    here = _place(getattr(taken, "__file__", None), getattr(taken, "__path__", ()))
    theirs = _elsewhere(module, here)
    where = f"{here} here" if here else "built into Python"
    return f"{name!r} is {where}, which hides yours at {theirs}; rename yours" if theirs else ""


def _hides_ours(entry: str) -> bool:
    if entry == str(ROOT):
        return False
    try:
        if entry in ("", os.getcwd()):  # noqa: PTH109 - a string beside strings
            return True
    except FileNotFoundError:  # somebody has removed it
        pass
    found = [PathFinder.find_spec(name, [entry]) for name in OWN]
    return any(spec is not None and spec.origin is not None for spec in found)


def _elsewhere(module: str, here: str) -> str:
    """Where else than ``here`` the package lies that has a module; the first of those that are searched in vain."""
    package, *inner = module.split(".")
    for entry in sys.path:
        spec = PathFinder.find_spec(package, [entry or "."])
        if spec is None:
            continue
        place = _place(spec.origin, spec.submodule_search_locations or ())
        if here and Path(here).exists() and Path(place).samefile(here):
            continue
        if _is_module(Path(place, *inner)) or (not inner and spec.origin is not None):
            return place
    return ""


def _is_module(place: Path) -> bool:
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def _place(file: str | None, folders: Iterable[str]) -> str:
    """The folder of a package, the file of a module."""
    return next(iter(folders), file or "")
