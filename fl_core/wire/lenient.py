"""Records of which every field has a default: what is missing in a map, or of another form, is as good as nothing.

Watchers read such records from a broker to which others write, and from files of earlier releases: one bad
field costs that field, and what comes out can be counted on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

Read = Callable[[Any], Any]
"""Takes what stands in a map, and gives the field's value, or None where that is no value of this field."""


def known(read: Read, default: Any, *, optional: bool = False) -> Any:
    """A field.

    Args:
        optional: it is left out of the map where it is None.
    """
    metadata = {"read": read, "optional": optional}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lenient:
    """What they share."""

    def to_map(self) -> dict[str, Any]:
        """Plain JSON and msgpack types, in the order of the fields."""
        found = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if "read" in each.metadata and not (value is None and each.metadata["optional"]):
                found[each.name] = plain(value)
        return found

    @classmethod
    def from_map(cls, found: object) -> Self:
        """The inverse; nothing in the map is trusted."""
        values = {}
        for each in dataclasses.fields(cls):
            if "read" in each.metadata and isinstance(found, Mapping) and each.name in found:
                value = each.metadata["read"](found[each.name])
                if value is not None:
                    values[each.name] = value
        return cls(**values)


def plain(value: Any) -> Any:
    """A field's value as it is written."""
    if hasattr(value, "to_map"):
        return value.to_map()
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple) else value


# -- readers -------------------------------------------------------------------------------------------------------


def when(check: Callable[[Any], bool]) -> Read:
    """What passes the check, as it is."""
    return lambda value: value if check(value) else None


def record(kind: type[Lenient]) -> Read:
    """Another record, if there is a map."""
    return lambda value: kind.from_map(value) if isinstance(value, dict) else None


def records_by_name(kind: type[Lenient], is_name: Callable[[Any], bool], most: int) -> Read:
    """Records by name; nothing where one of them is none, or where there are too many."""

    def read(value: Any) -> dict[str, Lenient] | None:
        if not isinstance(value, dict) or len(value) > most:
            return None
        if not all(is_name(name) and isinstance(each, dict) for name, each in value.items()):
            return None
        return {name: kind.from_map(each) for name, each in value.items()}

    return read
