"""Which code a device lets the network name: a list of modules and callables that its owner has written.

Anyone who can write to a queue can write a task. Without a list, ``"os:system"`` would be a model factory like any
other. Only the device's own settings (its data, its own architecture) need no allowance: they are its owner's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fl_core.errors import SpecError

# What a campaign of built-in parts names. The rest of fl_core opens sockets, starts programs and reads keys: it is no
# part of a model.
BUILT_IN = ("fl_core.codecs", "fl_core.data", "fl_core.models", "fl_core.training")

_WORD = r"[A-Za-z_]\w*"
_ENTRY = re.compile(rf"(?P<module>{_WORD}(?:\.{_WORD})*)(?::(?P<name>{_WORD}))?")
_IMPORT_PATH = re.compile(rf"{_WORD}(?:\.{_WORD})*:{_WORD}")


class AllowList:
    """What tasks may name on this device, beside the built-in parts.

    Args:
        entries: ``"package.module"`` covers what is defined in that module and in its submodules;
            ``"package.module:name"`` covers this name, whatever it is.

    Raises:
        SpecError: an entry has another form.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._modules: set[str] = set(BUILT_IN)
        self._names: set[str] = set()
        for entry in entries:
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise SpecError(f"allow = {entry!r} is not a module; write it as MODULE or as MODULE:NAME.")
            (self._names if match["name"] else self._modules).add(entry)

    def has_name(self, path: str) -> bool:
        """Whether ``"module:name"`` is allowed as it stands."""
        return path in self._names

    def has_module(self, module: str) -> bool:
        """Whether what is defined in a module is allowed. One that is a program is not: importing it would run it.

        >>> AllowList(["mine"]).has_module("mine.models"), AllowList(["mine"]).has_module("minefield")
        (True, False)
        """
        parts = module.split(".")
        if any(part.startswith("__") for part in parts):
            return False
        return any(".".join(parts[:count]) in self._modules for count in range(1, len(parts) + 1))

    def may_import(self, path: str) -> bool:
        """Whether the module of ``"module:name"`` may be imported, to see what the name is."""
        module, _, name = path.partition(":")
        return self.has_name(path) or (self.has_module(module) and not name.startswith("_"))

    def may_call(self, path: str, target: object) -> bool:
        """Whether ``target``, which is what ``"module:name"`` turned out to be, may be called.

        A module also holds what it has imported from elsewhere: that is not its owner's word for it, however it is
        named here.
        """
        return self.has_name(path) or self.has_module(str(getattr(target, "__module__", "")))


def named_code(value: Any) -> Iterator[str]:
    """Every import path in a section of a spec, at any depth.

    >>> list(named_code({"factory": "a.b:c", "args": {"inner": ["d:e", "plain", 1]}}))
    ['a.b:c', 'd:e']
    """
    if isinstance(value, str):
        if _IMPORT_PATH.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from named_code(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from named_code(item)
