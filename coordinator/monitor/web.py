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
GET     /healthz                        200 while the broker answers, 503 otherwise; without a login
POST    /api/campaigns/ID/control       ``{"request": "pause"}``; only with the token in ``Authorization: Bearer``
======  ==============================  ===============================================================================

With --login, all but /healthz and the last ask for it (``coordinator/monitor/login.py``).
A GET never changes anything. Text that comes from devices is sent as JSON alone and put on the page as text.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from coordinator.monitor import live, views
from coordinator.monitor.answers import integer, json_answer, not_found, page_file, small_json
from coordinator.monitor.guard import HEALTH, ProxyGate, RequestGuard
from coordinator.monitor.login import LoginGate, still_in
from coordinator.monitor.metrics import exposition
from coordinator.monitor.observer import Observer
from coordinator.monitor.quarantine import list_parked
from coordinator.monitor.settings import Access
from coordinator.monitor.tokens import TokenCheck, bearer
from fl_core.broker.connection import connect
from fl_core.broker.overview.registry import Registry
from fl_core.clock import MACHINE, Clock
from fl_core.errors import BrokerError, FedtideError
from fl_core.identity.domain import Seal
from fl_core.program.host import is_loopback
from fl_core.wire.states import STEERING, TAKEN_IN

MAX_PARKED_SHOWN = 30


def build_app(
    observer: Observer, broker: str, access: Access, clock: Clock = MACHINE, seal: Seal | None = None
) -> ASGIApp:
    """The application.

    Args:
        observer: already polling.
        broker: for what is read on demand.
        access: who may see and steer; on loopback, requests under other names are refused (DNS rebinding).
        clock: by which sessions end, and wrong tokens are forgotten.
        seal: signs what the page asks of campaigns; None where it has no identity.
    """
    check = TokenCheck(clock)
    server = _Server(observer, broker, access, check, seal)
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
        Route(HEALTH, server.health),
    ]
    app: ASGIApp = Starlette(routes=routes)
    if access.login is not None:
        app = LoginGate(app, access.login, check, clock)
    if access.behind_proxy is not None:
        app = ProxyGate(app, access.behind_proxy)
    return RequestGuard(app, only_local_names=is_loopback(access.host))


def serve(broker: str, *, access: Access, port: int, seal: Seal | None = None, authority: bytes = b"") -> None:
    """Serve until Ctrl-C.

    Args:
        seal: signs what the page asks of campaigns.
        authority: the certificate of the authority that this program belongs to, DER; empty for none.

    Raises:
        BrokerUnavailable: the broker does not answer at the start; later outages are shown on the page.
    """
    import uvicorn

    observer = Observer(connect(broker, timeout_seconds=5), authority)
    observer.poll()
    app = build_app(observer, broker, access, seal=seal)
    observer.start()
    try:
        # No header says where a request came from or that it came by TLS: anybody can send one.
        uvicorn.run(
            app, host=access.host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=1,
            server_header=False, proxy_headers=False,
        )  # fmt: skip
    finally:
        observer.stop()


class _Server:
    """The answers. What is read on demand goes through a thread, so that a slow broker holds up nobody else."""

    def __init__(
        self, observer: Observer, broker: str, access: Access, check: TokenCheck, seal: Seal | None = None
    ) -> None:
        self._observer = observer
        self._seal = seal
        self._client = connect(broker, timeout_seconds=5)
        self._access = access
        self._check = check
        self._overview: tuple[tuple[int, str], dict[str, Any]] = ((-1, ""), {})

    # -- the page --------------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """The page."""
        return page_file("index.html")

    async def static(self, request: Request) -> Response:
        """One of its files."""
        return page_file(request.path_params["name"])

    # -- data ------------------------------------------------------------------------------------------------------

    def _overview_now(self) -> dict[str, Any]:
        """Made once per look of the observer, however many pages are open."""
        seen, trouble = self._observer.snapshot, self._observer.trouble()
        if self._overview[0] != (seen.sequence, trouble):
            row = views.overview(self._observer, seen)
            doors = {"control": self._access.control is not None, "login": self._access.login is not None}
            self._overview = ((seen.sequence, trouble), {**row, **doors})
        return self._overview[1]

    async def overview(self, request: Request) -> Response:
        """Everything at a glance."""
        return json_answer(self._overview_now())

    async def campaign(self, request: Request) -> Response:
        """One campaign, now and before."""
        campaign = request.path_params["campaign"]
        seen = self._observer.snapshot
        if campaign not in seen.campaigns:
            return not_found(campaign)
        try:
            await run_in_threadpool(self._observer.follow, campaign)
        except BrokerError as error:
            return json_answer({"error": str(error)}, status_code=503)
        with self._observer.lock:
            track = self._observer.track(campaign)
            series = {} if track is None else track.series()
        return json_answer({**views.campaign_now(seen, campaign), "series": series})

    async def workers(self, request: Request) -> Response:
        """One page of workers."""
        query = request.query_params
        seen, campaign = self._observer.snapshot, query.get("campaign", "")
        with self._observer.lock:
            page = views.worker_page(
                seen,
                self._observer.track(campaign),
                queues=seen.campaigns[campaign].queues if campaign in seen.campaigns else None,
                page=integer(query.get("page"), 0),
                size=integer(query.get("size"), 25),
                sort=query.get("sort", "worker"),
                search=query.get("search", ""),
            )
        return json_answer(page)

    async def rejected(self, request: Request) -> Response:
        """The newest rejected updates of a campaign."""
        campaign = request.path_params["campaign"]
        if campaign not in self._observer.snapshot.campaigns:
            return not_found(campaign)
        try:
            rows = await run_in_threadpool(list_parked, self._client, campaign, MAX_PARKED_SHOWN)
        except BrokerError as error:
            return json_answer({"error": str(error)}, status_code=503)
        return json_answer({"rows": rows})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(exposition(self._observer), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def health(self, request: Request) -> Response:
        """For health checks."""
        error = self._observer.trouble()
        said = error if self._access.is_open else "the broker does not answer"  # strangers get no address of it
        return Response(said if error else "ok", status_code=503 if error else 200, media_type="text/plain")

    # -- live ------------------------------------------------------------------------------------------------------

    async def live(self, request: Request) -> Response:
        """Server-sent events for one page."""
        campaign = request.query_params.get("campaign", "")
        if campaign and campaign not in self._observer.snapshot.campaigns:
            return not_found(campaign)
        return StreamingResponse(
            live.events(request, self._observer, self._overview_now, campaign, still_in=still_in(request)),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    # -- control ---------------------------------------------------------------------------------------------------

    async def control(self, request: Request) -> Response:
        """Pause, resume or stop a campaign."""
        if self._access.control is None:
            return json_answer({"error": "this monitor only shows; start it with --control TOKEN."}, status_code=403)
        refusal = await self._check.refuse(request, bearer(request) or "", self._access.control, "--control")
        if refusal is not None:
            return json_answer({"error": refusal.sentence}, refusal.status, refusal.headers)
        campaign = request.path_params["campaign"]
        status = self._observer.snapshot.campaigns.get(campaign)
        if status is None:
            return not_found(campaign)
        body = await small_json(request)
        wanted = body.get("request") if isinstance(body, dict) else None
        if wanted not in STEERING:
            return json_answer({"error": f"request must be one of {', '.join(STEERING)}."}, status_code=400)
        if status.state not in TAKEN_IN[wanted]:
            sentence = f"campaign {campaign} is {status.state or 'unknown'}; {wanted} does not apply."
            return json_answer({"error": sentence}, status_code=409)
        try:
            await run_in_threadpool(Registry(self._client, self._seal).request, campaign, wanted)
        except BrokerError as error:
            return json_answer({"error": str(error)}, status_code=503)
        except FedtideError as error:  # this monitor's identity is no operator's
            return json_answer({"error": str(error)}, status_code=409)
        return json_answer({"campaign": campaign, "request": wanted}, status_code=202)
