"""Predicates for the fields of records, each bounded, for what arrives from the network."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

MAX_DETAIL_CHARACTERS = 8_000


MAX_LABEL_CHARACTERS = 400


# Of a masked update: one for each keeper, with a key, a seal, and at most 64 seeds.
MAX_BOXES = 16


MAX_BOX_BYTES = 32 + 16 + 64 * 32


MAX_MAP_ITEMS = 1024


MAX_LIST_ITEMS = 4096


# One event may issue a whole campaign's tasks, one list entry each: dispatch.concurrency goes up to 100 000.
MAX_EVENT_ITEMS = 2**17


_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}")


_BLOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,319}")
_HEX_DIGEST = re.compile(r"[0-9a-f]{16,64}")


_MAX_INT = 2**53


# No update, model or count of examples is larger; the sum over a campaign stays far below what msgpack and JSON hold.
_MAX_SIZE = 2**40


# What a device measures of itself is smaller; sums of squares of it stay finite.
MAX_MEASURE = 1e15


_MAX_DEPTH = 16


Check = Callable[[Any], bool]


def is_identifier(value: Any) -> bool:
    """Whether this may name a campaign, a task, a worker, a queue or a codec."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def is_name_or_empty(value: Any) -> bool:
    return value == "" or is_identifier(value)


def is_blob_or_empty(value: Any) -> bool:
    """Whether this may name a payload: two names and a little more."""
    return value == "" or (isinstance(value, str) and _BLOB.fullmatch(value) is not None)


def is_digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX_DIGEST.fullmatch(value) is not None


def is_digest_or_empty(value: Any) -> bool:
    return value == "" or is_digest(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_DETAIL_CHARACTERS and is_utf8(value)


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_INT


def is_positive(value: Any) -> bool:
    return type(value) is int and 0 < value < _MAX_INT


def is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_SIZE


def is_positive_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_SIZE


def are_boxes(value: Any) -> bool:
    """A box for each keeper, with at most as many seeds as there can be."""
    return (
        isinstance(value, (list, tuple))
        and len(value) <= MAX_BOXES
        and all(isinstance(box, bytes) and len(box) <= MAX_BOX_BYTES for box in value)
    )


def is_label(value: Any) -> bool:
    """One line of text that a screen can take."""
    return isinstance(value, str) and len(value) <= MAX_LABEL_CHARACTERS and value.isprintable()


def is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def is_share(value: Any) -> bool:
    return is_finite(value) and 0 < value <= 1


def is_utf8(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in a file name that is not text
        return False
    return True


def bytes_of(*lengths: int) -> Check:
    """Bytes, exactly so many."""
    return lambda value: isinstance(value, bytes) and len(value) in lengths


def bytes_up_to(limit: int) -> Check:
    """Bytes, at least one and at most so many."""
    return lambda value: isinstance(value, bytes) and 0 < len(value) <= limit


def is_plain(value: Any, max_items: int, depth: int = 0) -> bool:
    """What msgpack has without extensions, in bounds that every receiver takes."""
    kind = type(value)
    if kind is str:  # the commonest first: this is done for every task and update
        return is_utf8(value)
    if kind is float or kind is bool:
        return True
    match value:
        case None | bool() | float() | bytes():
            return True
        case str():
            return is_utf8(value)
        case int():
            return -(2**63) <= value < 2**64
        case dict():
            if depth >= _MAX_DEPTH or len(value) > MAX_MAP_ITEMS:
                return False
            for key, item in value.items():
                if not (isinstance(key, str) and is_utf8(key) and is_plain(item, max_items, depth + 1)):
                    return False
            return True
        case _:
            items = type(value) in (list, tuple) and depth < _MAX_DEPTH and len(value) <= max_items
            return items and all(is_plain(item, max_items, depth + 1) for item in value)


def is_map(value: Any) -> bool:
    return isinstance(value, dict) and is_plain(value, MAX_LIST_ITEMS)


def is_event_body(value: Any) -> bool:
    return isinstance(value, dict) and is_plain(value, MAX_EVENT_ITEMS)


def are_numbers(value: Any) -> bool:
    return (
        isinstance(value, dict) and len(value) <= 64 and are_short_names(value) and all(map(is_measure, value.values()))
    )


def is_measure(value: Any) -> bool:
    return is_finite(value) and abs(value) <= MAX_MEASURE


def are_short_names(value: Any) -> bool:
    return all(isinstance(key, str) and len(key) <= 64 and key.isprintable() for key in value)


def are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= 64 and all(is_identifier(name) for name in value)


def is_one_of(*choices: str) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, str) and value in choices

    return check
