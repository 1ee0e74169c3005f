"""`fedtide monitor`: one page, live by server-sent events, and the metrics for Prometheus.

======  ==============================  ===============================================================================
method  path                            answer
======  ==============================  ===============================================================================
GET     /, /static/NAME                 the page and its files
GET     /api/live?campaign=ID           events: ``hello`` with all series, then ``now`` about once a second
GET     /api/overview                   campaigns, queues, workers in numbers
GET     /api/campaigns/ID               one campaign: status and series
GET     /api/campaigns/ID/rejected      the newest of its quarantine
GET     /api/workers?campaign=&page=    one page of the workers' table
GET     /metrics                        Prometheus' text format
GET     /healthz                        200 while the broker answers, 503 otherwise
POST    /api/campaigns/ID/control       ``{"request": "pause"}``; only with the token in ``Authorization: Bearer``
======  ==============================  ===============================================================================

A GET never changes anything. Text that comes from devices is sent as JSON alone and put on the page as text.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from coordinator.monitor import views
from coordinator.monitor.guard import RequestGuard
from coordinator.monitor.metrics import exposition
from coordinator.monitor.observer import Observer
from coordinator.monitor.quarantine import list_parked
from coordinator.monitor.settings import check_settings, is_loopback
from coordinator.monitor.track import Track
from coordinator.storage.strict_json import strict_json
from fl_core.broker.connection import connect
from fl_core.broker.overview.registry import Registry
from fl_core.errors import BrokerError, CampaignError
from fl_core.wire.states import STEERING, TAKEN_IN

FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SCRIPTS = ("app", "campaign", "charts", "events", "overview", "pieces", "tables", "text")
FILES |= {f"{name}.js": "text/javascript; charset=utf-8" for name in SCRIPTS}


TICK_SECONDS = 0.2


# A line now and then, also while nothing changes, tells proxies and browsers that the connection is alive.
KEEPALIVE_SECONDS = 15.0


MAX_PARKED_SHOWN = 30


def build_app(observer: Observer, broker: str, *, host: str, control: str | None) -> ASGIApp:
    """The application.

    Args:
        observer: already polling.
        broker: for what is read on demand.
        host: where it listens; on loopback, requests under other names are refused (DNS rebinding).
        control: the token that allows to pause, resume and stop; None for a page that only shows.

    Raises:
        SpecError: the token is too weak.
    """
    check_settings(host, control)
    server = _Server(observer, broker, control)
    routes = [
        Route("/", server.index),
        Route("/static/{name}", server.static),
        Route("/api/live", server.live),
        Route("/api/overview", server.overview),
        Route("/api/campaigns/{campaign}", server.campaign),
        Route("/api/campaigns/{campaign}/rejected", server.rejected),
        Route("/api/campaigns/{campaign}/control", server.control, methods=["POST"]),
        Route("/api/workers", server.workers),
        Route("/metrics", server.metrics),
        Route("/healthz", server.health),
    ]
    return RequestGuard(Starlette(routes=routes), only_local_names=is_loopback(host))


def serve(broker: str, *, host: str, port: int, control: str | None) -> None:
    """Serve until Ctrl-C.

    Raises:
        SpecError: the token is too weak.
        BrokerUnavailable: the broker does not answer at the start; later outages are shown on the page.
    """
    import uvicorn

    check_settings(host, control)
    observer = Observer(connect(broker, timeout_seconds=5))
    observer.poll()
    app = build_app(observer, broker, host=host, control=control)
    observer.start()
    try:
        uvicorn.run(
            app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=1,
            server_header=False,
        )  # fmt: skip
    finally:
        observer.stop()


class _Server:
    """The answers. What is read on demand goes through a thread, so that a slow broker holds up nobody else."""

    def __init__(self, observer: Observer, broker: str, control: str | None) -> None:
        self._observer = observer
        self._client = connect(broker, timeout_seconds=5)
        self._control = control
        self._overview: tuple[tuple[int, str], dict[str, Any]] = ((-1, ""), {})

    # -- the page --------------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """The page."""
        return _file("index.html")

    async def static(self, request: Request) -> Response:
        """One of its files."""
        return _file(request.path_params["name"])

    # -- data ------------------------------------------------------------------------------------------------------

    def _overview_now(self) -> dict[str, Any]:
        """Made once per look of the observer, however many pages are open."""
        seen, trouble = self._observer.snapshot, self._observer.trouble()
        if self._overview[0] != (seen.sequence, trouble):
            row = views.overview(self._observer, seen)
            self._overview = ((seen.sequence, trouble), {**row, "control": self._control is not None})
        return self._overview[1]

    async def overview(self, request: Request) -> Response:
        """Everything at a glance."""
        return _json(self._overview_now())

    async def campaign(self, request: Request) -> Response:
        """One campaign, now and before."""
        campaign = request.path_params["campaign"]
        seen = self._observer.snapshot
        if campaign not in seen.campaigns:
            return _not_found(campaign)
        try:
            await run_in_threadpool(self._observer.follow, campaign)
        except BrokerError as error:
            return _json({"error": str(error)}, status_code=503)
        with self._observer.lock:
            track = self._observer.track(campaign)
            series = {} if track is None else track.series()
        return _json({**views.campaign_now(seen, campaign), "series": series})

    async def workers(self, request: Request) -> Response:
        """One page of workers."""
        query = request.query_params
        seen, campaign = self._observer.snapshot, query.get("campaign", "")
        with self._observer.lock:
            page = views.worker_page(
                seen,
                self._observer.track(campaign),
                queues=seen.campaigns[campaign].queues if campaign in seen.campaigns else None,
                page=_integer(query.get("page"), 0),
                size=_integer(query.get("size"), 25),
                sort=query.get("sort", "worker"),
                search=query.get("search", ""),
            )
        return _json(page)

    async def rejected(self, request: Request) -> Response:
        """The newest rejected updates of a campaign."""
        campaign = request.path_params["campaign"]
        if campaign not in self._observer.snapshot.campaigns:
            return _not_found(campaign)
        try:
            rows = await run_in_threadpool(list_parked, self._client, campaign, MAX_PARKED_SHOWN)
        except BrokerError as error:
            return _json({"error": str(error)}, status_code=503)
        return _json({"rows": rows})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(exposition(self._observer), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def health(self, request: Request) -> Response:
        """For health checks."""
        error = self._observer.trouble()
        return Response(error or "ok", status_code=503 if error else 200, media_type="text/plain")

    # -- live ------------------------------------------------------------------------------------------------------

    async def live(self, request: Request) -> Response:
        """Server-sent events for one page."""
        campaign = request.query_params.get("campaign", "")
        if campaign and campaign not in self._observer.snapshot.campaigns:
            return _not_found(campaign)
        return StreamingResponse(
            self._events(request, campaign), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def _events(self, request: Request, campaign: str) -> AsyncIterator[bytes]:
        sent, quiet, news = (-1, False), 0.0, _News()
        while not await request.is_disconnected():
            seen, trouble = self._observer.snapshot, bool(self._observer.trouble())
            if (seen.sequence, trouble) == sent:
                await asyncio.sleep(TICK_SECONDS)
                quiet += TICK_SECONDS
                if quiet >= KEEPALIVE_SECONDS:
                    quiet = 0.0
                    yield b": still here\n\n"
                continue
            message = dict(self._overview_now())
            if campaign:
                try:
                    await run_in_threadpool(self._observer.follow, campaign)
                except BrokerError as error:
                    message["error"] = str(error)
                message["campaign"] = views.campaign_now(seen, campaign)
                with self._observer.lock:
                    track = self._observer.track(campaign)
                    message["news"] = None if track is None else news.since_last(track)
            first, sent, quiet = sent[0] < 0, (seen.sequence, trouble), 0.0
            if first:
                message["queue_series"] = views.queue_series(self._observer)
            yield _event("hello" if first else "now", message)

    # -- control ---------------------------------------------------------------------------------------------------

    async def control(self, request: Request) -> Response:
        """Pause, resume or stop a campaign."""
        if self._control is None:
            return _json({"error": "this monitor only shows; start it with --control TOKEN."}, status_code=403)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._control.encode()):
            return _json({"error": "the token is not the one of --control."}, status_code=401)
        campaign = request.path_params["campaign"]
        status = self._observer.snapshot.campaigns.get(campaign)
        if status is None:
            return _not_found(campaign)
        body = await _small_json(request)
        wanted = body.get("request") if isinstance(body, dict) else None
        if wanted not in STEERING:
            return _json({"error": f"request must be one of {', '.join(STEERING)}."}, status_code=400)
        if status.state not in TAKEN_IN[wanted]:
            sentence = f"campaign {campaign} is {status.state or 'unknown'}; {wanted} does not apply."
            return _json({"error": sentence}, status_code=409)
        try:
            await run_in_threadpool(Registry(self._client).request, campaign, wanted)
        except (BrokerError, CampaignError) as error:
            return _json({"error": str(error)}, status_code=503)
        return _json({"campaign": campaign, "request": wanted}, status_code=202)


class _News:
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
        events = [event for event in series["events"] if whole or event["n"] > self._event]
        self._generation = track.generation
        self._evaluations, self._intervals = len(track.evaluations), len(track.intervals)
        self._event = series["events"][-1]["n"] if series["events"] else 0
        return {
            "whole": whole,
            "bounds": series["bounds"],
            "first_evaluation": first_evaluation,
            "evaluations": series["evaluations"][first_evaluation:],
            "first_interval": first_interval,
            "intervals": series["intervals"][first_interval:],
            "events": events,
        }


def _json(value: Any, status_code: int = 200) -> Response:
    return Response(strict_json(value), status_code=status_code, media_type="application/json")


def _event(name: str, value: Any) -> bytes:
    return f"event: {name}\ndata: {strict_json(value)}\n\n".encode()


def _file(name: str) -> Response:
    if name not in FILES:
        return Response("There is no such file.", status_code=404, media_type="text/plain")
    data = (resources.files("coordinator.monitor") / "page" / name).read_bytes()
    return Response(data, media_type=FILES[name], headers={"Cache-Control": "no-cache"})


def _not_found(campaign: str) -> Response:
    return _json({"error": f"there is no campaign {campaign!r}."}, status_code=404)


def _integer(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 8 else default


async def _small_json(request: Request, limit: int = 1000) -> Any:
    """The body, if it is JSON and short."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > limit:
            return None
    try:
        return json.loads(data)
    except ValueError:
        return None
