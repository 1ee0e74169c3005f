"""The stream to an open page: all series at first, and then about once a second what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from coordinator.monitor import views
from coordinator.monitor.answers import event
from coordinator.monitor.observer import Observer
from coordinator.monitor.track import Track
from fl_core.errors import BrokerError

TICK_SECONDS = 0.2
# A line now and then, also while nothing changes, tells proxies and browsers that the connection is alive.
KEEPALIVE_SECONDS = 15.0


async def events(
    request: Request,
    observer: Observer,
    overview: Callable[[], Mapping[str, Any]],
    campaign: str,
    *,
    still_in: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """Server-sent events until the page is closed, or whoever reads them has logged out.

    Args:
        overview: what every page is sent; made once per look of the observer.
        campaign: the one that the page is about; empty for none.
        still_in: whether the reader may go on.
    """
    sent, quiet, news = (-1, False), 0.0, News()
    while still_in() and not await request.is_disconnected():
        seen, trouble = observer.snapshot, bool(observer.trouble())
        if (seen.sequence, trouble) == sent:
            await asyncio.sleep(TICK_SECONDS)
            quiet += TICK_SECONDS
            if quiet >= KEEPALIVE_SECONDS:
                quiet = 0.0
                yield b": still here\n\n"
            continue
        message = dict(overview())
        if campaign:
            try:
                await run_in_threadpool(observer.follow, campaign)
            except BrokerError as error:
                message["error"] = str(error)
            message["campaign"] = views.campaign_now(seen, campaign)
            with observer.lock:
                track = observer.track(campaign)
                message["news"] = None if track is None else news.since_last(track)
        first, sent, quiet = sent[0] < 0, (seen.sequence, trouble), 0.0
        if first:
            message["queue_series"] = views.queue_series(observer)
        yield event("hello" if first else "now", message)


class News:
    """Remembers what one page has been sent of a track, so that it is sent only the rest."""

    def __init__(self) -> None:
        self._generation = -1
        self._evaluations = self._intervals = self._event = 0

    def since_last(self, track: Track) -> dict[str, Any]:
        """New points. ``whole``: replace everything; otherwise replace from the index on (the last may have grown)."""
        series = track.series()
        whole = track.generation != self._generation
        first_evaluation = 0 if whole else self._evaluations
        first_interval = 0 if whole else max(0, self._intervals - 1)
        events = [
            row
            for row, (number, _) in zip(series["events"], track.events, strict=True)
            if whole or number > self._event
        ]
        self._generation = track.generation
        self._evaluations, self._intervals = len(track.evaluations), len(track.intervals)
        self._event = track.num_events
        return {
            "whole": whole,
            "bounds": series["bounds"],
            "first_evaluation": first_evaluation,
            "evaluations": series["evaluations"][first_evaluation:],
            "first_interval": first_interval,
            "intervals": series["intervals"][first_interval:],
            "events": events,
        }
