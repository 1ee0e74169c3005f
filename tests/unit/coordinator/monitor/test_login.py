"""Logging in to the monitor: nothing but the form is seen without it, and what it allows is to look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")

from coordinator.monitor import live, login, tokens
from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.settings import Access
from coordinator.monitor.web import build_app
from fl_core.broker.connection import connect
from fl_core.wire.status import Status
from tests.unit.coordinator.stand_ins import FakeClock

NOWHERE = "redis://127.0.0.1:1/0"
LOGIN, CONTROL = "token-of-those-who-watch", "token-of-those-who-steer"
PATHS = (
    "/", "/static/app.js", "/static/index.html", "/metrics", "/api/overview", "/api/live", "/api/workers",
    "/api/campaigns/a", "/api/campaigns/a/rejected", "/nowhere",
)  # fmt: skip
STEER = "/api/campaigns/over/control"  # the campaign is over: a request that is let through is answered with 409


class Visitor:
    """Speaks to the application as a server does, for a browser that keeps the cookies it is given."""

    def __init__(self, app: Any, address: str = "192.0.2.1") -> None:
        self.app = app
        self.address = address
        self.cookies: dict[str, str] = {}
        self.sent: list[Any] = []

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> int:
        """The status; headers and body stay in ``sent``."""
        given = {"host": "monitor.example.org", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"", "scheme": "http",
            "client": (self.address, 1),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        }  # fmt: skip
        self.sent.clear()
        heard = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(heard, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            self.sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """Of the last answer."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> str:
        """Of the last answer."""
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    def log_in(self, token: str = LOGIN, **headers: str) -> int:
        """Send the form, and keep what comes back."""
        status = self.ask("/login", "POST", urlencode({"token": token}).encode(), **headers)
        for name, morsel in SimpleCookie(self.headers.get("set-cookie", "")).items():
            self.cookies[name] = morsel.value
        return status


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch) -> Observer:
    monkeypatch.setattr(tokens, "WRONG_DELAY_SECONDS", 0.0)
    observer = Observer(connect(NOWHERE))
    observer.snapshot = Snapshot(sequence=1, campaigns={"a": Status(state="running"), "over": Status(state="finished")})
    return observer


@pytest.fixture
def visitor(observer: Observer, clock: FakeClock) -> Visitor:
    """Somebody at a browser, in front of a monitor that asks for a login."""
    return Visitor(build_app(observer, NOWHERE, Access("0.0.0.0", control=CONTROL, login=LOGIN), clock))


def test_strangers_see_the_form_alone(visitor: Visitor) -> None:
    """The page leads to it, and all else is refused; the form needs no script."""
    for path in PATHS:
        assert visitor.ask(path) == (303 if path == "/" else 401), path
        assert visitor.headers.get("location") == ("/login" if path == "/" else None)
    assert visitor.ask("/login") == 200
    assert "<script" not in visitor.body
    assert [visitor.ask(f"/static/{name}") for name in ("style.css", "icon.svg")] == [200, 200]
    assert visitor.ask("/login", "POST") == 401
    # A path is what the request's line says, whatever the header Host makes of it.
    assert visitor.ask("/api/overview", host="x/healthz?") == visitor.ask("/metrics", host="x/login#") == 401


def test_health_needs_no_login_and_names_no_address(visitor: Visitor, observer: Observer) -> None:
    """What is wrong with the broker is for those who are in."""
    assert (visitor.ask("/healthz"), visitor.body) == (200, "ok")
    observer.snapshot = Snapshot(sequence=2, error=f"the broker at {NOWHERE} does not answer")
    assert visitor.ask("/healthz") == 503
    assert NOWHERE not in visitor.body
    visitor.log_in()
    assert visitor.ask("/api/overview") == 200
    assert NOWHERE in visitor.body


def test_a_session_opens_all_until_it_ends(visitor: Visitor, clock: FakeClock) -> None:
    """Its cookie is random, and for this site and no script; logging out ends it, and so does time."""
    assert (visitor.log_in(), visitor.headers["location"]) == (303, "/")
    cookie = visitor.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/", f"max-age={login.SESSION_SECONDS}"} <= set(cookie.split("; "))
    assert "secure" not in cookie
    assert LOGIN not in cookie
    for path in set(PATHS) - {"/api/live", "/api/campaigns/a", "/api/campaigns/a/rejected", "/nowhere"}:
        assert visitor.ask(path) == 200, path
    assert visitor.ask("/api/overview") == 200
    assert json.loads(visitor.body)["login"]
    first = visitor.cookies.copy()
    visitor.log_in()
    assert visitor.cookies != first
    clock.now += login.SESSION_SECONDS - 1
    assert visitor.ask("/metrics") == 200
    assert (visitor.ask("/logout", "POST"), visitor.headers["location"]) == (303, "/login")
    assert visitor.ask("/metrics") == 401  # the cookie that was kept is good for nothing
    visitor.cookies = first
    assert visitor.ask("/metrics") == 200
    clock.now += 1
    assert visitor.ask("/metrics") == 401


def test_the_cookie_of_a_browser_that_came_by_tls_goes_back_by_tls_alone(visitor: Visitor) -> None:
    """A proxy that ends TLS is seen by where the form says that it is from."""
    visitor.log_in(origin="https://monitor.example.org")
    assert "secure" in visitor.headers["set-cookie"].lower()
    visitor.log_in(x_forwarded_proto="https")
    assert "secure" not in visitor.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_fetch_site": "same-origin", "origin": "null"}, 303), ({"sec_fetch_site": "none"}, 303), ({}, 303),
        ({"origin": "http://monitor.example.org"}, 303), ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403), ({"sec_fetch_site": "cross-site"}, 403), ({"sec_fetch_site": "same-site"}, 403),
    ],
)  # fmt: skip
def test_other_sites_post_nothing(visitor: Visitor, headers: dict[str, str], status: int) -> None:
    """Not a login, not a logout, and no request to a campaign, whatever cookies go with them."""
    assert visitor.log_in(**headers) == status
    visitor.cookies.clear()
    assert visitor.log_in() == 303
    assert visitor.ask(STEER, "POST", b'{"request": "stop"}', authorization=f"Bearer {CONTROL}", **headers) == (
        409 if status == 303 else 403
    )
    assert visitor.ask("/logout", "POST", **headers) == status


def test_who_may_look_may_not_steer(visitor: Visitor) -> None:
    """Neither the session nor the login's token steers; the token of --control does, with a session and without one."""
    stop = b'{"request": "stop"}'
    assert visitor.ask(STEER, "POST", stop) == 401
    assert visitor.ask(STEER, "POST", stop, authorization=f"Bearer {LOGIN}") == 401
    assert visitor.ask(STEER, "POST", stop, authorization=f"Bearer {CONTROL}") == 409
    assert visitor.ask("/metrics", authorization=f"Bearer {CONTROL}") == 401
    visitor.log_in()
    assert visitor.ask(STEER, "POST", stop) == 401
    assert visitor.ask(STEER, "POST", stop, authorization=f"Bearer {LOGIN}") == 401
    assert visitor.ask(STEER, "POST", stop, authorization=f"Bearer {CONTROL}") == 409


def test_programs_give_the_token_in_a_header(visitor: Visitor) -> None:
    """As Prometheus does; in a URL it is nothing."""
    assert visitor.ask("/metrics", authorization=f"Bearer {LOGIN}") == 200
    assert visitor.ask("/metrics", authorization="Bearer nothing") == 401
    assert visitor.ask("/metrics", authorization=f"Basic {LOGIN}") == 401
    assert "not the one of --login" not in visitor.body
    assert visitor.ask(f"/metrics?token={LOGIN}") == 401
    assert visitor.headers["www-authenticate"] == "Bearer"


def test_wrong_tokens_are_limited_in_number(visitor: Visitor, clock: FakeClock) -> None:
    """By form, header and --control together; who is in stays in, others are not touched, and it passes."""
    inside, elsewhere = Visitor(visitor.app, visitor.address), Visitor(visitor.app, "192.0.2.2")
    inside.log_in()
    for _ in range(tokens.MAX_WRONG - 2):
        assert visitor.log_in("<wrong>") == 401
        assert "not the one of --login" in visitor.body
    assert visitor.ask("/metrics", authorization="Bearer wrong") == 401
    assert visitor.ask(STEER, "POST", authorization="Bearer wrong") == 401
    assert visitor.log_in() == visitor.ask("/metrics", authorization=f"Bearer {LOGIN}") == 429
    assert visitor.ask(STEER, "POST", authorization=f"Bearer {CONTROL}") == 429
    assert int(visitor.headers["retry-after"]) == tokens.WINDOW_SECONDS
    assert inside.ask("/metrics") == 200
    assert elsewhere.log_in() == 303
    clock.now += tokens.WINDOW_SECONDS
    assert visitor.log_in() == 303


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff", True), ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True), ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)  # fmt: skip
def test_whose_wrong_tokens_are_counted_together(visitor: Visitor, one: str, other: str, together: bool) -> None:
    """Those of a network of IPv6 that one customer has, and those of an address in either form."""
    for _ in range(tokens.MAX_WRONG):
        Visitor(visitor.app, one).log_in("wrong")
    assert Visitor(visitor.app, other).log_in() == (429 if together else 303)


def test_what_strangers_leave_behind_is_bounded(
    visitor: Visitor, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses with wrong tokens and sessions: the oldest make room. A long form is not read."""
    monkeypatch.setattr(tokens, "MAX_ADDRESSES", 2)
    monkeypatch.setattr(tokens, "MAX_WRONG", 1)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        Visitor(visitor.app, address).log_in("wrong")
    assert [Visitor(visitor.app, f"192.0.2.{n}").log_in() for n in (1, 2, 3)] == [303, 429, 429]
    monkeypatch.setattr(login, "MAX_SESSIONS", 2)
    sessions = login.Sessions(clock)
    names = [sessions.open() for _ in range(3)]
    assert [sessions.goes_on(name) for name in names] == [False, True, True]
    for body in (b"token=" + LOGIN.encode() + b"&x=" + b"y" * 2000, b"\xff", b"&" * 50 + b"token=x"):
        assert Visitor(visitor.app, f"198.51.100.{len(body) % 200}").ask("/login", "POST", body) == 401


def test_an_open_page_hears_nothing_after_the_logout(
    visitor: Visitor, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream of events ends; the one of a program goes on."""
    monkeypatch.setattr(live, "TICK_SECONDS", 0.001)
    visitor.log_in()
    (gate,) = (visitor.app._app,)
    scope = {"type": "http", "method": "GET", "path": "/api/live", "scheme": "http", "query_string": b"", "headers": [
        (b"cookie", f"{login.COOKIE}={visitor.cookies[login.COOKIE]}".encode())
    ]}  # fmt: skip

    async def heard() -> list[bytes]:
        request = login.Request(scope)
        assert await gate._answer(request) is None

        async def connected() -> bool:
            return False

        request.is_disconnected = connected  # type: ignore[method-assign]
        stream = live.events(request, observer, lambda: {"sequence": 1}, "", still_in=login.still_in(request))
        parts = [await anext(stream)]
        gate._sessions.close(visitor.cookies[login.COOKIE])
        return [*parts, *[part async for part in stream]]

    assert [part[:12] for part in asyncio.run(asyncio.wait_for(heard(), 10))] == [b"event: hello"]
    assert login.still_in(login.Request({"type": "http"}))()


@pytest.fixture
def behind(observer: Observer) -> Iterator[Visitor]:
    """Somebody whom a proxy has to name."""
    return Visitor(build_app(observer, NOWHERE, Access("0.0.0.0", control=CONTROL, behind_proxy="X-User")))


def test_a_proxy_says_who_somebody_is(behind: Visitor) -> None:
    """Whoever it does not name sees nothing; steering needs its token besides, and there is no form."""
    for path in (*PATHS, "/login", "/static/style.css"):
        assert behind.ask(path) == behind.ask(path, x_user=" ") == 401, path
    assert behind.ask("/healthz") == 200
    assert behind.ask("/", x_user="ann") == behind.ask("/metrics", x_user="ann") == 200
    assert behind.ask("/login", x_user="ann") == 404
    assert behind.ask(STEER, "POST", authorization=f"Bearer {CONTROL}") == 401
    assert behind.ask(STEER, "POST", x_user="ann") == 401
    assert behind.ask(STEER, "POST", b'{"request": "stop"}', x_user="ann", authorization=f"Bearer {CONTROL}") == 409
    # One that came from outside beside the proxy's own.
    assert behind.ask("/", x_user="ann", X_USER="eve") == 401


def test_loopback_is_as_before(observer: Observer) -> None:
    """No login, unless one was asked for."""
    for access, status in ((Access("127.0.0.1"), 200), (Access("127.0.0.1", login=LOGIN), 401)):
        visitor = Visitor(build_app(observer, NOWHERE, access))
        assert visitor.ask("/metrics", host="127.0.0.1") == status
        assert visitor.ask("/metrics", host="monitor.example.org") == 421
