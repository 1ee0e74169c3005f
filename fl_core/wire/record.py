"""The base of all records: one strict msgpack map each, every field with a check of its own."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import msgpack

from fl_core.errors import Reason, RejectedUpdate
from fl_core.wire.checks import (
    MAX_LIST_ITEMS,
    MAX_MAP_ITEMS,
    Check,
)

FORMAT_VERSION = 1


MAX_RECORD_BYTES = 64 * 1024


# A hostile value is shown in part only: its full repr may be long, or nested beyond Python's recursion limit.
brief = reprlib.Repr()


brief.maxstring = brief.maxother = 80


def malformed(detail: str) -> RejectedUpdate:
    return RejectedUpdate(Reason.MALFORMED, detail)


def checked(check: Check, **more: Any) -> Any:
    return field(metadata={"check": check}, **more)


_CHECKS: dict[type, dict[str, Check]] = {}


def checks_of(record: type[Record]) -> dict[str, Check]:
    """The record's fields by name, each with its check."""
    if record not in _CHECKS:
        _CHECKS[record] = {field.name: field.metadata["check"] for field in dataclasses.fields(record)}
    return _CHECKS[record]


_DEFAULTS: dict[type[Record], dict[str, Any]] = {}


def _defaults(record: type[Record]) -> dict[str, Any]:
    """What stands for the fields that the format before does not have."""
    if record not in _DEFAULTS:
        new = [field for field in dataclasses.fields(record) if field.name in record.since]
        _DEFAULTS[record] = {
            field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            for field in new
        }
    return _DEFAULTS[record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the records share: a strict msgpack map, each field with its own check.

    A record whose ``since`` names fields reads the format before it as well, which has none of them. Where all of them
    are at their defaults it is written in that format, so that programs which know no other go on understanding it.
    """

    max_bytes: ClassVar[int] = MAX_RECORD_BYTES
    max_items: ClassVar[int] = MAX_LIST_ITEMS
    version: ClassVar[int] = FORMAT_VERSION
    # The fields that ``version`` has brought; each has a default.
    since: ClassVar[tuple[str, ...]] = ()

    def to_bytes(self) -> bytes:
        """The record as one msgpack map.

        Raises:
            RejectedUpdate: a field does not pass its own check, so no receiver would take it (malformed).
        """
        fields = {name: getattr(self, name) for name in checks_of(type(self))}
        self._verify(fields)
        version = self.version
        if self.since and all(fields[name] == default for name, default in _defaults(type(self)).items()):
            version -= 1
            fields = {name: value for name, value in fields.items() if name not in self.since}
        packed: bytes = msgpack.packb({"v": version, **fields})
        if len(packed) > self.max_bytes:
            raise malformed(f"{type(self).__name__} takes {len(packed)} bytes, more than {self.max_bytes}")
        return packed

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Self:
        """Decode one record; nothing in ``data`` is trusted.

        Raises:
            RejectedUpdate: ``data`` is not exactly one such record (malformed).
        """
        if len(data) > cls.max_bytes:
            raise malformed(f"{cls.__name__} of {len(data)} bytes, more than {cls.max_bytes}")
        try:
            fields = msgpack.unpackb(
                data,
                raw=False,
                strict_map_key=True,
                max_ext_len=0,
                max_map_len=MAX_MAP_ITEMS,
                max_array_len=cls.max_items,
            )
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise malformed(f"{cls.__name__} is not msgpack: {str(error)[:100] or type(error).__name__}") from None
        if not isinstance(fields, dict):
            raise malformed(f"{cls.__name__} is a {type(fields).__name__}, not a map")
        version = fields.pop("v", None)
        if cls.since and type(version) is int and version == cls.version - 1:
            if found := fields.keys() & set(cls.since):
                raise malformed(f"{cls.__name__} field {brief.repr(sorted(found)[0])} is unknown")
            fields |= _defaults(cls)
        elif type(version) is not int or version != cls.version:
            shown = brief.repr(version)
            raise malformed(f"{cls.__name__} has format version {shown}, this program reads {cls.version}")
        cls._verify(fields)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})

    @classmethod
    def _verify(cls, fields: Mapping[str, Any]) -> None:
        known = checks_of(cls)
        if fields.keys() != known.keys():
            wrong = sorted(fields.keys() ^ known.keys(), key=str)[0]
            verdict = "unknown" if wrong in fields else "missing"
            raise malformed(f"{cls.__name__} field {brief.repr(wrong)} is {verdict}")
        for name, check in known.items():
            if not check(fields[name]):
                raise malformed(f"{cls.__name__} field {name!r} has the unacceptable value {brief.repr(fields[name])}")
