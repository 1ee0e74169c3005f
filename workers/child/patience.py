"""Patience with the broker: what needs it is repeated for as long as it is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from fl_core.errors import BrokerUnavailable

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0
FIRST_WORD_SECONDS = 10.0
WORD_SECONDS = 60.0

T = TypeVar("T")

log = structlog.get_logger()


def patiently(action: Callable[[], T]) -> T:
    """Repeat until the broker answers, and say now and then that it does not."""
    pause, since = FIRST_PAUSE_SECONDS, time.monotonic()
    next_word = since + FIRST_WORD_SECONDS
    while True:
        try:
            return action()
        except BrokerUnavailable as error:
            if time.monotonic() >= next_word:
                log.warning("waiting for the broker", seconds=round(time.monotonic() - since), reason=str(error))
                next_word = time.monotonic() + WORD_SECONDS
            time.sleep(pause)
            pause = min(LAST_PAUSE_SECONDS, pause * 1.5)
