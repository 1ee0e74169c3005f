"""Records that lie in plain maps (the lines of histories and feeds, events, statuses): fields, each with its check.

A map is decoded once, where it enters a program (``from_map``), and is a frozen record from then on. Fields that a
record does not know are another release's and are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from fl_core.wire.checks import MAX_EVENT_ITEMS, Check, is_count, is_finite
from fl_core.wire.record import brief

MAX_NAME_CHARACTERS = 400


class BadMap(ValueError):
    """A map that has not the form of its kind: nobody wrote it who should."""


def optional(check: Check, default: Any = None) -> Any:
    """A field that a map may lack; where it is None, it is left out."""
    return field(default=default, metadata={"check": or_none(check) if default is None else check, "optional": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What they share.

    Attributes:
        kind: which record it is; its name on the wire.
    """

    kind: ClassVar[str] = ""

    def to_map(self) -> dict[str, Any]:
        """Plain JSON and msgpack types, in the order in which they are written."""
        found: dict[str, Any] = {}
        for each in _fields(type(self)):
            value = getattr(self, each.name)
            if value is None and each.is_optional:
                continue
            found[each.name] = list(value) if isinstance(value, tuple) else value
        return found

    @classmethod
    def from_map(cls, found: Mapping[str, Any]) -> Self:
        """The inverse; nothing in the map is trusted.

        Raises:
            BadMap: a field is missing, or not what it must be.
        """
        values: dict[str, Any] = {}
        for each in _fields(cls):
            if each.name not in found:
                if each.is_optional:
                    continue
                raise BadMap(f"{cls.kind!r} without {each.name!r}")
            value = found[each.name]
            if not each.check(value):
                raise BadMap(f"{cls.kind!r} whose {each.name!r} is {brief.repr(value)}")
            values[each.name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    check: Check
    is_optional: bool


_KNOWN: dict[type[Mapped], tuple[_Field, ...]] = {}


def _fields(record: type[Mapped]) -> tuple[_Field, ...]:
    if record not in _KNOWN:
        _KNOWN[record] = tuple(
            _Field(each.name, each.metadata["check"], "optional" in each.metadata)
            for each in dataclasses.fields(record)
            if "check" in each.metadata
        )
    return _KNOWN[record]


# -- checks --------------------------------------------------------------------------------------------------------


def or_none(check: Check) -> Check:
    """Nothing, or what passes the check."""
    return lambda value: value is None or check(value)


def is_number(value: Any) -> bool:
    """A number, finite or not: an earlier release wrote NaN where a score could not be had."""
    return type(value) in (int, float)


def is_name(value: Any) -> bool:
    """Text of a bounded length. What shows it escapes it."""
    return isinstance(value, str) and len(value) <= MAX_NAME_CHARACTERS


def are_names(value: Any) -> bool:
    """A list of them."""
    return isinstance(value, (list, tuple)) and len(value) <= MAX_EVENT_ITEMS and all(map(is_name, value))


def are_counts(value: Any) -> bool:
    """A list of whole numbers from 0 on."""
    return isinstance(value, (list, tuple)) and len(value) <= MAX_EVENT_ITEMS and all(map(is_count, value))


def are_numbers(value: Any) -> bool:
    """A list of finite numbers."""
    return isinstance(value, (list, tuple)) and len(value) <= MAX_EVENT_ITEMS and all(map(is_finite, value))


def finite(value: float | None) -> float | None:
    """A number for people and for JSON, which have no word for NaN and infinity: those are absent."""
    return value if value is not None and math.isfinite(value) else None
