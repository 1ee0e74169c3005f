"""The few steps that Redis must take as one: the files of ``lua/``, which are one library of Redis Functions.

Time in them is always the server's own, so no two clocks need to agree. Each file says what its keys and arguments are
and what it answers; it is the body of the function of its name. ``common.lua`` stands before all of them, and so do the
numbers below.

The names of the library and of its functions end in the library's digest: releases that differ live side by side on one
server, and nobody's functions are replaced while they are called. Coordinators load the library, and load it again on a
server that has lost it. Devices only call it: their rights have no place for a script of their own
(``fl_core/broker/access/rules.py``), so they wait for a coordinator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.line.short_way import Word
from fl_core.errors import BrokerUnavailable

# Upper bounds, in milliseconds, of the histogram of waits that is kept per queue; one more bucket holds the rest.
WAIT_BOUNDS_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
# The last waits themselves, newest first: so many characters of numbers and commas, which are a hundred or more.
RECENT_WAITS_CHARACTERS = 600
# What a device says of its tasks ends by itself when it has said nothing for so long.
SAID_SECONDS = 24 * 3600
# Where an inbox may hold entries larger than this, each is weighed before it is read.
HUGE_BYTES = 8 * 2**20
# So many more updates than tasks are out, twice, may wait for the coordinator.
INBOX_SLACK = 1000
# So many patches does a claim follow. Their bytes end a chain earlier; the bound is for a broken one, because nobody
# else is served meanwhile.
MAX_PATCHES = 8
# A worker that has been silent for so long is forgotten.
FORGET_MS = 24 * 3600 * 1000
# No field of a device's hash is longer (``Beat`` is the longest).
MAX_FIELD_BYTES = 1024

_FOLDER = Path(__file__).with_name("lua")
_NUMBERS = {
    "WAIT_BOUNDS_MS": "{" + ", ".join(map(str, WAIT_BOUNDS_MS)) + "}",
    "RECENT_WAITS_CHARACTERS": RECENT_WAITS_CHARACTERS,
    "SAID_SECONDS": SAID_SECONDS,
    "INBOX_SLACK": INBOX_SLACK,
    "HUGE_BYTES": HUGE_BYTES,
    "MAX_PATCHES": MAX_PATCHES,
    "FORGET_MS": FORGET_MS,
    "MAX_FIELD_BYTES": MAX_FIELD_BYTES,
}


CLAIM = "claim"
DELIVER = "deliver"
MOVING = "moving"
ARRIVED = "arrived"
REPORT = "report"
BEAT = "beat"
INTAKE = "intake"
SAID = "said"
FENCED = "fenced"
ACQUIRE = "acquire"
RENEW = "renew"
RELEASE = "release"
CONTINUE = "continue"
DROP_ORPHANED = "drop_orphaned"
READ_SMALL = "read_small"
STREAM_END = "stream_end"
DEVICES = "devices"
# Runs ``fenced.lua`` on a server that is out of memory.
FENCED_FREEING = "fenced_freeing"

# By name: the file, and what Redis has to know of the function. Without a flag, one is refused by a server that is out
# of memory: whoever is not trusted must not fill it further. ``no-writes`` is for those who may only read.
_FUNCTIONS: dict[str, tuple[str, str]] = {
    **{name: (name, "") for name in (CLAIM, DELIVER, MOVING, REPORT, BEAT, FENCED, ACQUIRE, RENEW, CONTINUE)},
    **{name: (name, "allow-oom") for name in (ARRIVED, INTAKE, RELEASE, DROP_ORPHANED)},
    FENCED_FREEING: (FENCED, "allow-oom"),
    **{name: (name, "no-writes") for name in (SAID, READ_SMALL, STREAM_END, DEVICES)},
}


def _text(file: str) -> str:
    return (_FOLDER / f"{file}.lua").read_text(encoding="utf-8")


def _library() -> tuple[str, str]:
    """The library as the server gets it, and its version."""
    numbers = "".join(f"local {word} = {value}\n" for word, value in _NUMBERS.items())
    bodies = {name: f"function(KEYS, ARGV)\n{_text(file)}end" for name, (file, _) in _FUNCTIONS.items()}
    version = hashlib.sha256("\0".join([numbers, _text("common"), *bodies.values()]).encode()).hexdigest()[:8]
    registered = [
        f"redis.register_function{{function_name='{name}_{version}', flags={{{_quoted(flag)}}},\n"
        f"callback={bodies[name]}}}"
        for name, (_, flag) in _FUNCTIONS.items()
    ]
    return "\n".join([f"#!lua name=fedtide_{version}", numbers, _text("common"), *registered]), version


def _quoted(flag: str) -> str:
    return f"'{flag}'" if flag else ""


LIBRARY, VERSION = _library()


def load(client: Client) -> None:
    """Put the library on the server, where it is not there yet; this client loads it again wherever it is missing.

    Raises:
        BrokerRefused: this user may not load functions.
        BrokerUnfit: the server has no functions.
        BrokerUnavailable: the server is away.
    """
    client.loads_functions = True
    with broker_errors("looking for fedtide's functions"):
        if client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", f"fedtide_{VERSION}"):
            return  # a server that is out of memory loads nothing
    _load(client)


def _load(client: Client) -> None:
    with broker_errors("loading fedtide's functions"):
        client.execute_command("FUNCTION", "LOAD", "REPLACE", LIBRARY)


def is_missing(error: redis.ResponseError) -> bool:
    """Whether a server says that it lacks the library."""
    return "function not found" in str(error).lower()


class Script:
    """One of the functions above.

    Args:
        client: one that ``load`` was called with loads the library wherever it is missing.
        name: of the function.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._command = "FCALL_RO" if _FUNCTIONS[name][1] == "no-writes" else "FCALL"
        self._name = f"{name}_{VERSION}"

    def __call__(self, keys: Sequence[str], args: Sequence[Word]) -> Any:
        """Run it, by the short way.

        Raises:
            BrokerUnavailable: the server lacks the library, and it is not this client's to load.
        """
        words = self.words(keys, args)
        try:
            return self._client.quick(*words)
        except redis.ResponseError as error:
            self.supply(error)
        return self._client.quick(*words)

    def words(self, keys: Sequence[str], args: Sequence[Word]) -> tuple[Word, ...]:
        """The command."""
        return (self._command, self._name, len(keys), *keys, *args)

    def supply(self, error: redis.ResponseError) -> None:
        """Load the library, if that it is missing is what was answered.

        Raises:
            redis.ResponseError: it is not.
            BrokerUnavailable: it is, and it is not this client's to load.
        """
        if not is_missing(error):
            raise error
        if not self._client.loads_functions:
            raise BrokerUnavailable(
                f"the broker lacks the functions of this release of fedtide (fedtide_{VERSION}); a coordinator of the "
                "same release loads them."
            ) from error
        _load(self._client)
