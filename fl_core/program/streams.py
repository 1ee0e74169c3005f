"""Standard streams as programs are given them: closed, of an odd encoding, or with a reader that goes away."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def prepare_streams() -> None:
    """Call it first: afterwards there are three streams, and any character can be written to two of them.

    A program that is started with a stream closed would be given its number for the next file or socket that it opens,
    and whatever is printed would go there. A character that a stream's encoding lacks is written as a question mark.
    """
    for number, mode in enumerate("rww"):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        name = ("stdin", "stdout", "stderr")[number]
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a test's stream has no encoding to choose
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def outlive_readers() -> None:
    """For programs whose work is more than their output: when nobody reads that any more, they go on without."""
    sys.stdout = cast(TextIO, _Outliving(sys.stdout))
    sys.stderr = cast(TextIO, _Outliving(sys.stderr))


class _Outliving:
    """A text stream on which writing never fails: once its reader is gone, or the terminal, it leads nowhere.

    A full disk behind it may be freed again; until then lines are dropped.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._surviving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._surviving():
            self._stream.flush()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            # What waits in the stream's buffer is written somewhere, or the interpreter fails on it when it ends.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
