"""The login: one token for all who watch, typed into a form, and a session's cookie for it.

======  ========  =====================================================================================================
method  path      answer
======  ========  =====================================================================================================
GET     /login    the form
POST    /login    ``token=...`` as a form sends it: a session, and on to the page
POST    /logout   the end of the session
======  ========  =====================================================================================================

Programs give the token in ``Authorization: Bearer`` instead. Requests to steer a campaign bring the token of --control,
which is checked where they are answered: neither a session nor the login's token is good for them, and they need none.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.monitor.answers import json_answer, page_text, small_body
from coordinator.monitor.guard import HEALTH
from coordinator.monitor.tokens import TokenCheck, bearer
from fl_core.clock import MACHINE, Clock

COOKIE = "fedtide_session"
SESSION_SECONDS = 12 * 3600
MAX_SESSIONS = 1000
STILL_IN = "fedtide.still_in"
"""In a request's scope: a function that says whether the session goes on, for answers that last."""

# What the form itself is made of.
_WITHOUT_LOGIN = (HEALTH, "/static/style.css", "/static/icon.svg")


class Sessions:
    """Who has logged in, by the random name in their cookie. They end with the monitor."""

    def __init__(self, clock: Clock = MACHINE) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def open(self) -> str:
        """A new one; of too many, the oldest ends."""
        while len(self._ends) >= MAX_SESSIONS:
            del self._ends[next(iter(self._ends))]
        name = secrets.token_urlsafe(32)
        self._ends[name] = self._clock.monotonic() + SESSION_SECONDS
        return name

    def goes_on(self, name: str) -> bool:
        """Whether it was opened, not closed, and not too long ago."""
        if self._clock.monotonic() < self._ends.get(name, 0.0):
            return True
        self.close(name)
        return False

    def close(self, name: str) -> None:
        """End it, if there is one."""
        self._ends.pop(name, None)


class LoginGate:
    """Answers those who have logged in or give the token; shows all others the form."""

    def __init__(self, app: ASGIApp, token: str, check: TokenCheck, clock: Clock = MACHINE) -> None:
        self._app = app
        self._token = token
        self._check = check
        self._sessions = Sessions(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer = await self._answer(Request(scope, receive))
        return await (self._app if answer is None else answer)(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        """None where the application answers."""
        # Not `request.url`: older releases of Starlette put its path together from what the header Host says.
        path, posts = request.scope["path"], request.method == "POST"
        if path == "/login":
            return await self._log_in(request) if posts else _form()
        if path == "/logout" and posts:
            return self._log_out(request)
        if path in _WITHOUT_LOGIN or (posts and path.endswith("/control")):
            return None
        session, token = request.cookies.get(COOKIE, ""), bearer(request)
        if self._sessions.goes_on(session):
            request.scope[STILL_IN] = lambda: self._sessions.goes_on(session)
            return None
        if token is not None:
            refusal = await self._check.refuse(request, token, self._token, "--login")
            if refusal is None:
                return None
            return json_answer({"error": refusal.sentence}, refusal.status, refusal.headers)
        if path == "/":
            return RedirectResponse("/login", status_code=303)
        return json_answer(
            {"error": "log in first, or give the token of --login."}, 401, {"WWW-Authenticate": "Bearer"}
        )

    async def _log_in(self, request: Request) -> Response:
        body = await small_body(request)
        try:
            given = parse_qs((body or b"").decode(), max_num_fields=4).get("token", [""])[0]
        except ValueError:
            given = ""
        refusal = await self._check.refuse(request, given.strip(), self._token, "--login")
        if refusal is not None:
            return _form(refusal.sentence, refusal.status, refusal.headers)
        answer = RedirectResponse("/", status_code=303)
        # Whether the browser came by TLS is what it says itself; a proxy that ends TLS is not asked, and nobody else's
        # browser can be made to say it.
        by_tls = request.scope["scheme"] == "https" or request.headers.get("origin", "").startswith("https://")
        answer.set_cookie(
            COOKIE, self._sessions.open(), max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=by_tls
        )
        return answer

    def _log_out(self, request: Request) -> Response:
        self._sessions.close(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", status_code=303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def still_in(request: Request) -> Callable[[], bool]:
    """Whether whoever sent the request may go on reading the answer; always where there is no session."""
    goes_on: Callable[[], bool] = request.scope.get(STILL_IN, lambda: True)
    return goes_on


def _form(said: str = "", status: int = 200, headers: dict[str, str] | None = None) -> Response:
    sentence = html.escape(said[:1].upper() + said[1:])
    page = page_text("login.html").replace("<!-- said -->", sentence)
    return Response(page, status_code=status, headers=headers, media_type="text/html")
