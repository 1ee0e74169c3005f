"""Who may reach the monitor: a token that others could guess is refused, and so is a foreign name on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")

from coordinator.monitor.guard import HEADERS, RequestGuard
from coordinator.monitor.settings import MIN_TOKEN_LENGTH, Access, is_loopback
from fl_core.errors import SpecError

LONG, OTHER = "x" * MIN_TOKEN_LENGTH, "y" * MIN_TOKEN_LENGTH


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        ("127.0.0.1", {}, ""), ("127.0.0.1", {"control": "short"}, ""), ("::1", {"control": "short"}, ""),
        ("127.0.0.1", {"control": ""}, "--control is empty"),
        ("0.0.0.0", {"login": LONG, "control": OTHER}, ""), ("example.org", {"behind_proxy": "X-Forwarded-User"}, ""),
        ("0.0.0.0", {"login": LONG, "control": "short"}, "has 5 characters; .* needs at least 16"),
        ("127.0.0.1", {"login": LONG}, ""), ("127.0.0.1", {"behind_proxy": "Remote-User"}, ""),
        ("0.0.0.0", {}, "--login TOKEN .or FEDTIDE_MONITOR_LOGIN., or --behind-proxy HEADER"),
        ("::", {"control": LONG}, "nothing asks who they are"),
        ("127.0.0.1", {"login": ""}, "--login has 0 characters"), ("0.0.0.0", {"login": "short"}, "has 5 characters"),
        ("0.0.0.0", {"login": "spaces are not taken"}, "no spaces"), ("0.0.0.0", {"login": "é" * 16}, "ASCII"),
        ("0.0.0.0", {"login": LONG, "control": LONG}, "the same token"),
        ("0.0.0.0", {"login": LONG, "behind_proxy": "X-User"}, "exclude each other"),
        *(("0.0.0.0", {"behind_proxy": name}, "not a header that names a user")
          for name in ("", "Host", "user-agent", "X-Forwarded-For", "Sec-Fetch-Site", "X User", "X-User:", "é")),
    ],
)  # fmt: skip
def test_who_may_be_let_in(host: str, options: dict[str, str], said: str) -> None:
    """On loopback anybody, and any token of --control; elsewhere only who is asked by a login or a proxy."""
    if not said:
        access = Access(host, **options)
        assert not set(options.values()) & set(repr(access).replace("'", " ").split()) - {access.behind_proxy}
        return
    with pytest.raises(SpecError, match=said):
        Access(host, **options)


def test_remarks() -> None:
    """What the monitor itself cannot see to is said at the start, where others reach it."""
    assert Access("127.0.0.1", behind_proxy="X-User").remark() == ""
    assert "write any name into X-User: let the proxy alone" in Access("0.0.0.0", behind_proxy="X-User").remark()
    assert "unencrypted unless" in Access("0.0.0.0", login=LONG).remark()


@pytest.mark.parametrize(("name", "local"), [("localhost", True), ("127.8.9.1", True), ("[::1]", False), ("::1", True)])
def test_loopback(name: str, local: bool) -> None:
    """Addresses and the one name."""
    assert is_loopback(name) == local


def _answer(host: bytes, *, only_local_names: bool) -> tuple[int, dict[bytes, bytes]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-cache")]})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host)]}
    asyncio.run(RequestGuard(app, only_local_names=only_local_names)(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("host", "only_local_names", "status"),
    [
        (b"127.0.0.1:8080", True, 200), (b"localhost", True, 200), (b"[::1]:8080", True, 200),
        (b"evil.example", True, 421), (b"evil.example", False, 200), (b"", True, 421), (b"\xff\xfe", True, 421),
        (b"[", True, 421),
    ],
)  # fmt: skip
def test_foreign_names_and_headers(host: bytes, only_local_names: bool, status: int) -> None:
    """A page that rebinds a name of its own to loopback gets nothing; every answer has the security headers once."""
    found, headers = _answer(host, only_local_names=only_local_names)
    assert found == status
    assert headers.keys() >= {name.lower().encode() for name in HEADERS}
    assert headers[b"cache-control"] == (b"no-cache" if status == 200 else b"no-store")
