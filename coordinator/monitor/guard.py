"""Access to the monitor: which requests are answered, and to whom."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fl_core.program.host import is_loopback

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Other sites learn nothing. With "no-referrer", browsers would send our own forms with the origin "null".
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Answered without a login: container platforms ask it, and it says nothing but whether all is well.
HEALTH = "/healthz"


class RequestGuard:
    """Outermost: refuses foreign host names on loopback and what other sites have a browser post, and puts the security
    headers on every answer."""

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

        headers = Headers(scope=scope)
        app = self._app
        if self._only_local_names and not is_loopback(_host_name(headers.get("host", ""))):
            said = "This monitor listens on loopback; open it as http://127.0.0.1, or let the proxy send that as Host."
            app = Response(said, status_code=421)
        elif scope["method"] not in ("GET", "HEAD") and not _is_from_this_site(headers):
            app = Response("Another site sent this; a proxy has to pass the header Host on.", status_code=403)
        return await app(scope, receive, send_guarded)


class ProxyGate:
    """Answers those whom the reverse proxy names. A name that is there twice was not set by the proxy alone."""

    def __init__(self, app: ASGIApp, header: str) -> None:
        self._app = app
        self._header = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != HEALTH:
            names = Headers(scope=scope).getlist(self._header)
            if len(names) != 1 or not names[0].strip():
                said = f"No proxy has said in {self._header} who you are."
                return await Response(said, status_code=401, media_type="text/plain")(scope, receive, send)
        return await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_from_this_site(headers: Headers) -> bool:
    """Whether a page of this monitor, or no page at all, sent the request.

    Browsers say so themselves where the page came by TLS or from loopback, and name the origin elsewhere. Programs send
    neither header, and have no cookies that another site could use.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
