"""Access to the monitor: which requests are answered, and to whom."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fl_core.program.host import is_loopback

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RequestGuard:
    """Outermost: refuses foreign host names on loopback, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, *, only_local_names: bool) -> None:
        self._app = app
        self._only_local_names = only_local_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(each for each in extra if each[0] not in known)]
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode(errors="replace")
        if self._only_local_names and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            refusal = Response("This monitor listens on loopback; open it as http://127.0.0.1.", status_code=421)
            return await refusal(scope, receive, send_guarded)
        return await self._app(scope, receive, send_guarded)
