"""The few steps that Redis must take as one: the files of ``lua/``, each loaded once and called by its digest.

Time in them is always the server's own, so no two clocks need to agree. Each file says what its keys and arguments are
and what it answers. ``common.lua`` stands before each of them, and so do the numbers below that it mentions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from fl_core.broker.connection import Client
from fl_core.broker.line.short_way import Word

# Upper bounds, in milliseconds, of the histogram of waits that is kept per queue; one more bucket holds the rest.
WAIT_BOUNDS_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
# The last waits themselves, newest first: so many characters of numbers and commas, which are a hundred or more.
RECENT_WAITS_CHARACTERS = 600
# The log of a campaign that the server does not know, and payloads that it names: the coordinator comes back sooner, or
# the campaign was dropped for good.
UNKNOWN_SECONDS = 24 * 3600
# So many patches does a claim follow. Their bytes end a chain earlier; the bound is for a broken one, because nobody
# else is served meanwhile.
MAX_PATCHES = 8
# A worker that has been silent for so long is forgotten.
FORGET_MS = 24 * 3600 * 1000
# A queue that nobody has beaten for in so long has no register of workers any more.
UNSERVED_MS = 600_000

_FOLDER = Path(__file__).with_name("lua")
_NUMBERS = {
    "WAIT_BOUNDS_MS": "{" + ", ".join(map(str, WAIT_BOUNDS_MS)) + "}",
    "RECENT_WAITS_CHARACTERS": RECENT_WAITS_CHARACTERS,
    "UNKNOWN_SECONDS": UNKNOWN_SECONDS,
    "MAX_PATCHES": MAX_PATCHES,
    "FORGET_MS": FORGET_MS,
    "UNSERVED_MS": UNSERVED_MS,
}


def _read(name: str) -> str:
    """A script as the server gets it."""
    common, own = ((_FOLDER / f"{file}.lua").read_text(encoding="utf-8") for file in ("common", name))
    numbers = "".join(f"local {word} = {value}\n" for word, value in _NUMBERS.items() if word in own)
    return numbers + common + own


CLAIM = _read("claim")
DELIVER = _read("deliver")
MOVING = _read("moving")
ARRIVED = _read("arrived")
REPORT = _read("report")
BEAT = _read("beat")
FENCED = _read("fenced")
ACQUIRE = _read("acquire")
RENEW = _read("renew")
RELEASE = _read("release")
CONTINUE = _read("continue")
DROP_ORPHANED = _read("drop_orphaned")
READ_SMALL = _read("read_small")
STREAM_END = _read("stream_end")


class Script:
    """One of the scripts above, called by its digest and loaded where the server does not know it yet."""

    def __init__(self, client: Client, text: str) -> None:
        self._client = client
        self._text = text
        self._digest = hashlib.sha1(text.encode()).hexdigest()

    def __call__(self, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """Run it, by the short way."""
        words = (self._digest, len(keys), *keys, *args)
        try:
            return self._client.quick("EVALSHA", *words)
        except redis.exceptions.NoScriptError:
            self._client.script_load(self._text)
            return self._client.quick("EVALSHA", *words)
