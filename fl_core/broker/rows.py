"""The content of keys, read as hostile: anyone who reaches the broker can have written it.

Each form of row has a reader that takes bytes and gives a value in bounds, or raises ``BadRow``. A bad row costs that
row and is logged now and then; it ends no program. ``too_large`` is asked before a key is read as a whole.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgpack
import redis
import structlog

from fl_core.broker.connection import Client, broker_errors
from fl_core.program.plain_text import shown
from fl_core.wire.checks import is_identifier

log = structlog.get_logger()

T = TypeVar("T")
R = TypeVar("R")

# JSON's and a double's whole numbers.
MAX_NUMBER = 2**53
# A model, a patch or a payload is smaller: its chunks are listed by name.
MAX_BLOB_BYTES = 2**36
# What a key that is read as a whole may take of the server's memory.
MAX_KEY_BYTES = 64 * 2**20
# A status, a name, a token: no string that is read as a whole is longer.
MAX_STRING_BYTES = 2**20
# Where a stream's entry stands after its time: the year 2109, and far from what XADD and XTRIM cannot count on from.
MAX_MILLISECONDS = 2**42

_POSITION = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_MAX_DEPTH = 16
_MAX_ITEMS = 100_000
_TELL_SECONDS = 60.0

_told: dict[str, float] = {}
_telling = threading.Lock()


class BadRow(ValueError):
    """This row was written by no program of ours, or by one of another release."""


# -- forms ---------------------------------------------------------------------------------------------------------


def text(raw: object, limit: int = 500) -> str:
    """UTF-8, printable, of at most ``limit`` bytes.

    Raises:
        BadRow: it is not.
    """
    if not isinstance(raw, bytes) or len(raw) > limit:
        raise BadRow("no text, or too long")
    try:
        found = raw.decode()
    except UnicodeDecodeError:
        raise BadRow("not UTF-8") from None
    if not found.isprintable():
        raise BadRow("not printable")
    return found


def name(raw: object) -> str:
    """A campaign's, a queue's, a worker's or a task's name.

    Raises:
        BadRow: it is none.
    """
    found = text(raw, 128)
    if not is_identifier(found):
        raise BadRow(f"{found[:40]!r} is no name")
    return found


def number(raw: object, limit: int = MAX_NUMBER) -> int:
    """A count from 0 to ``limit``, as Redis writes it.

    Raises:
        BadRow: it is none.
    """
    if not isinstance(raw, bytes) or not raw.isdigit() or len(raw) > 16 or (found := int(raw)) > limit:
        raise BadRow("no count")
    return found


def number_or_zero(raw: object) -> int:
    """A count, 0 for what is none."""
    with contextlib.suppress(BadRow):
        return number(raw)
    return 0


def position(raw: object) -> str:
    """Where an entry stands in a stream.

    Raises:
        BadRow: nowhere that a server's clock can have put it.
    """
    found = text(raw, 41)
    match = _POSITION.fullmatch(found)
    if match is None or int(match[1]) > MAX_MILLISECONDS or int(match[2]) > MAX_NUMBER:
        raise BadRow(f"{found!r} is no position")
    return found


def parts(raw: object, count: int, limit: int = 2048) -> list[bytes]:
    """The ``count`` words of a row of at most ``limit`` bytes, which ``|`` separates; the last may hold more of them.

    Raises:
        BadRow: there are fewer.
    """
    if not isinstance(raw, bytes) or len(raw) > limit:
        raise BadRow("no row, or too long")
    words = raw.split(b"|", count - 1)
    if len(words) != count:
        raise BadRow(f"{len(words)} words")
    return words


def plain(raw: object, max_bytes: int = MAX_STRING_BYTES) -> Any:
    """A msgpack value of plain types, fit for JSON and for a screen.

    Numbers that are not finite become None, characters that no screen should get become ``?``.

    Raises:
        BadRow: it is no such value, or it is too large or too deep.
    """
    if not isinstance(raw, bytes) or len(raw) > max_bytes:
        raise BadRow("no record, or too long")
    try:
        found = msgpack.unpackb(raw, raw=False, strict_map_key=True, max_ext_len=0)
        return _plain(found, 0, [_MAX_ITEMS])
    except BadRow:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadRow(f"not msgpack ({type(error).__name__})") from None


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > _MAX_DEPTH or left[0] < 0:
        raise BadRow("nested too deeply, or too many items")
    if isinstance(value, str):
        return shown(value, 10_000)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):  # True and False, too
        return value if abs(value) <= MAX_NUMBER else None
    if isinstance(value, list):
        return [_plain(item, depth + 1, left) for item in value]
    if isinstance(value, dict):
        return {_plain(key, depth + 1, left): _plain(item, depth + 1, left) for key, item in value.items()}
    return None


# -- many of them --------------------------------------------------------------------------------------------------


def good(key: str, rows: Iterable[R], read: Callable[[R], T]) -> list[T]:
    """The rows that can be read; the others are reported at most once a minute for each key.

    Args:
        key: where they are from.
        read: raises ``BadRow`` for one that cannot be read.
    """
    found: list[T] = []
    bad, why = 0, ""
    for row in rows:
        try:
            found.append(read(row))
        except BadRow as error:
            bad, why = bad + 1, str(error)
    if bad:
        tell(key, f"{bad} of its rows cannot be read; the last one is {why}")
    return found


def tell(key: str, reason: str) -> None:
    """Say what is wrong with a key, at most once a minute."""
    now = time.monotonic()
    with _telling:
        if now - _told.get(key, -_TELL_SECONDS) < _TELL_SECONDS:
            return
        if len(_told) > 1000:
            _told.clear()
        _told[key] = now
    log.warning("somebody else has written to a key of fedtide's", key=shown(key, 200), reason=reason)


# -- sizes ---------------------------------------------------------------------------------------------------------


def too_large(client: Client, names: Sequence[str], limit: int = MAX_KEY_BYTES) -> set[str]:
    """Those of some keys that take more of the server's memory than any of ours can: they are not to be read.

    A cheap look: of a long list the server weighs a sample.

    Raises:
        BrokerUnavailable: unknown.
    """
    with broker_errors("weighing keys"), client.pipeline(transaction=False) as pipeline:
        for key in names:
            pipeline.memory_usage(key)
        answers = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, redis.ResponseError):
            with broker_errors("weighing keys"):
                raise answer
    # A user who may not ask reads on: the right is not one that every watcher has.
    found = {key for key, answer in zip(names, answers, strict=True) if isinstance(answer, int) and answer > limit}
    for key in found:
        tell(key, f"it takes more than {limit >> 20} MiB and is not read")
    return found
