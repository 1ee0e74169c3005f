"""Who may reach the monitor: a token that others could guess is refused, and so is a foreign name on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")

from coordinator.monitor.guard import HEADERS, RequestGuard
from coordinator.monitor.settings import MIN_TOKEN_LENGTH, check_settings, is_loopback
from fl_core.errors import SpecError


@pytest.mark.parametrize(
    ("host", "control", "said"),
    [
        ("127.0.0.1", None, ""), ("0.0.0.0", None, ""), ("127.0.0.1", "short", ""), ("::1", "short", ""),
        ("0.0.0.0", "x" * MIN_TOKEN_LENGTH, ""), ("127.0.0.1", "", "is empty"),
        ("0.0.0.0", "short", "has 5 characters"), ("example.org", "short", "needs at least 16"),
    ],
)  # fmt: skip
def test_tokens(host: str, control: str | None, said: str) -> None:
    """On loopback any will do; where others reach the page it is long; an empty one is a mistake."""
    if not said:
        return check_settings(host, control)
    with pytest.raises(SpecError, match=said):
        check_settings(host, control)
    return None


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
    ],
)  # fmt: skip
def test_foreign_names_and_headers(host: bytes, only_local_names: bool, status: int) -> None:
    """A page that rebinds a name of its own to loopback gets nothing; every answer has the security headers once."""
    found, headers = _answer(host, only_local_names=only_local_names)
    assert found == status
    assert headers.keys() >= {name.lower().encode() for name in HEADERS}
    assert headers[b"cache-control"] == (b"no-cache" if status == 200 else b"no-store")
