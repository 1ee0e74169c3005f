"""Import paths: ``"package.module:callable"`` is how a spec names code that is installed on a machine.

Code never travels: the spec carries the name, each machine resolves it in its own environment. On a device the names
come from the network, and pass a gate: only what its owner allows is imported and called (``allowance.py``).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fl_core.allowance import AllowList
from fl_core.errors import SpecError
from fl_core.namesakes import hidden, verify_named
from fl_core.program.extras import EXTRAS, need
from fl_core.user_code import RAISED, describe, log_traceback, was_entered

INHERITED = "FEDTIDE_FOLDERS"
"""Folders of modules, one a line, for the processes that are started here: PYTHONPATH cannot name one with a colon."""

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

# The process's own and no thread's: what a task starts in a thread passes the same gate.
_gate: AllowList | None = None


@contextlib.contextmanager
def gate(allowed: AllowList | None) -> Iterator[None]:
    """While the block runs, names resolve only where ``allowed`` has them; None is for words of this machine's owner.

    It holds for the whole process, which does one task at a time.
    """
    global _gate
    before, _gate = _gate, allowed
    try:
        yield
    finally:
        _gate = before


def split_import_path(path: str, key: str) -> tuple[str, str]:
    """``"a.b:c"`` as ``("a.b", "c")``.

    Raises:
        SpecError: ``path`` is not of that form; ``key`` says where it was written.

    >>> split_import_path("fl_core.models:mlp", "model.factory")
    ('fl_core.models', 'mlp')
    """
    if not _IMPORT_PATH.fullmatch(path):
        raise SpecError(f"{key} = {path!r} is not an import path; write it as 'package.module:callable'.")
    module, _, name = path.partition(":")
    return module, name


def add_working_directory(*beside: Path) -> None:
    """Let import paths name modules beside the place where the program was started.

    Args:
        beside: folders that count too, such as the spec's; processes started from here find their modules as well.
    """
    folders = [str(folder.resolve()) for folder in beside]
    with contextlib.suppress(FileNotFoundError):  # somebody has removed it
        folders.insert(0, str(Path.cwd()))
    folders += [folder for folder in os.environ.get(INHERITED, "").split("\n") if folder]
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)
    if beside:
        os.environ[INHERITED] = "\n".join(dict.fromkeys(folders))


def check_import_path(path: str, key: str) -> None:
    """Refuse a path whose top-level package is not installed, without importing it (cheap at start-up).

    Raises:
        SpecError: the form is wrong, the package cannot be found, or its name is that of one of ours.
    """
    module, _ = split_import_path(path, key)
    package = module.partition(".")[0]
    # The module that was started as the program is another one on every machine, so it cannot be named.
    if package in EXTRAS:
        need(f"{key} = {path!r}", package)
    verify_named(path, key)
    if package == "__main__" or importlib.util.find_spec(package) is None:
        raise SpecError(
            f"{key} = {path!r}: there is no module {package!r} here; install it or start where it can be imported."
        )


def resolve(path: str, key: str) -> Callable[..., Any]:
    """Import what ``path`` names.

    Raises:
        SpecError: the gate does not let it through, the module or the name does not exist, the module cannot be
            imported, or the name is not callable.
    """
    module_name, name = split_import_path(path, key)
    if _gate is not None and not _gate.may_import(path):
        raise SpecError(
            f"{key} = {path!r} is not allowed on this device; start its worker with --allow {path} to let tasks use it."
        )
    verify_named(path, key)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        remedy = hidden(error.name or "") or "install it on this machine"
        raise SpecError(f"{key} = {path!r}: {error}; {remedy}.") from error
    except SpecError as error:  # a class that has another form than its base class
        raise SpecError(f"{key} = {path!r}: {error}") from error
    except RAISED as error:
        log_traceback(key, path, error)
        raise SpecError(
            f"{key} = {path!r}: importing {module_name} raised {describe(error, path)}; mend it."
        ) from error
    target = getattr(module, name, None)
    if _gate is not None and callable(target) and not _gate.may_call(path, target):
        raise SpecError(
            f"{key} = {path!r} is not allowed on this device, since it was defined in "
            f"{getattr(target, '__module__', None)!s}; start its worker with --allow {path} to let tasks use it."
        )
    if not callable(target):
        names = ", ".join(n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n)))
        why = hidden(module_name) or f"it has {names or 'none'}"
        raise SpecError(f"{key} = {path!r}: {module_name} has no callable {name!r}; {why}.")
    resolved: Callable[..., Any] = target
    return resolved


def call(path: str, arguments: Mapping[str, Any], key: str) -> Any:
    """Resolve ``path`` and call it with ``arguments`` as keywords.

    Raises:
        SpecError: it cannot be resolved, refuses these arguments, or raises anything else.
    """
    factory = resolve(path, key)
    try:
        return factory(**arguments)
    except SpecError:
        raise
    except RAISED as error:
        if was_entered(error):
            log_traceback(key, path, error)
        raise SpecError(f"{key} = {path!r} failed with {dict(arguments)!r}: {describe(error, path)}.") from error
