"""Forms of the monitor's answers and requests: JSON, an event, a file of the page; what is asked for is bounded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from coordinator.storage.strict_json import strict_json

FILES = {
    "index.html": "text/html; charset=utf-8",
    "login.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SCRIPTS = ("app", "campaign", "charts", "events", "overview", "pieces", "scores", "tables", "text")
FILES |= {f"{name}.js": "text/javascript; charset=utf-8" for name in SCRIPTS}


def json_answer(value: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A value as JSON that every reader takes."""
    return Response(strict_json(value), status_code=status_code, headers=headers, media_type="application/json")


def event(name: str, value: Any) -> bytes:
    """A server-sent event."""
    return f"event: {name}\ndata: {strict_json(value)}\n\n".encode()


def page_file(name: str) -> Response:
    """One of the page's own files, and no other."""
    if name not in FILES:
        return Response("There is no such file.", status_code=404, media_type="text/plain")
    return Response(page_text(name), media_type=FILES[name], headers={"Cache-Control": "no-cache"})


def page_text(name: str) -> str:
    """One of the page's own files, as it is stored."""
    return (resources.files("coordinator.monitor") / "page" / name).read_text(encoding="utf-8")


def not_found(campaign: str) -> Response:
    """404, in words."""
    return json_answer({"error": f"there is no campaign {campaign!r}."}, status_code=404)


def integer(text: str | None, default: int) -> int:
    """A small count in a query, or the default."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 8 else default


async def small_body(request: Request, limit: int = 1000) -> bytes | None:
    """The body, if it is short."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > limit:
            return None
    return data


async def small_json(request: Request) -> Any:
    """The body, if it is JSON and short."""
    data = await small_body(request)
    try:
        return None if data is None else json.loads(data)
    except ValueError:
        return None
