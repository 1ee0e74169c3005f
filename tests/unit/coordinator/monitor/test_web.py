"""The monitor's answers, without a broker: what is asked for is bounded, and control needs token, request and state."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")


from coordinator.monitor.answers import FILES, integer
from coordinator.monitor.observer import Observer, Snapshot
from coordinator.monitor.settings import Access
from coordinator.monitor.web import build_app
from fl_core.broker.connection import connect
from fl_core.wire.status import Status

NOWHERE = "redis://127.0.0.1:1/0"
TOKEN = "t" * 16


def _app(control: str | None = None) -> Any:
    observer = Observer(connect(NOWHERE))
    observer.snapshot = Snapshot(
        sequence=1, campaigns={"a": Status(state="running", merged=3), "over": Status(state="finished")}
    )
    return build_app(observer, NOWHERE, Access("127.0.0.1", control=control))


def _ask(app: Any, path: str, method: str = "GET", body: bytes = b"", token: str = "") -> tuple[int, bytes]:
    """What the application answers, spoken to as a server does."""
    name, _, query = path.partition("?")
    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": method, "path": name, "query_string": query.encode(), "headers": headers}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_pages_files_and_overview() -> None:
    """Its own files and no others; numbers of all campaigns; an unknown one is a sentence."""
    app = _app()
    assert all(_ask(app, f"/static/{name}")[0] == 200 for name in FILES)
    assert _ask(app, "/static/web.py")[0] == 404
    rows = {row["campaign"]: row for row in json.loads(_ask(app, "/api/overview")[1])["campaigns"]}
    assert (rows["a"]["state"], rows["a"]["merged"]) == ("running", 3)
    assert _ask(app, "/api/campaigns/none")[0] == _ask(app, "/api/live?campaign=none")[0] == 404
    assert json.loads(_ask(app, "/api/workers?page=9999999999&size=x")[1])["rows"] == []
    assert _ask(app, "/api/campaigns/a/control", "POST")[0] == 403
    assert _ask(app, "/healthz") == (200, b"ok")


@pytest.mark.parametrize(
    ("token", "campaign", "body", "status", "said"),
    [
        ("wrong", "a", {"request": "pause"}, 401, "not the one of --control"),
        (TOKEN, "none", {"request": "pause"}, 404, "there is no campaign"),
        (TOKEN, "a", {"request": "readmit"}, 400, "must be one of pause, resume, stop"),
        (TOKEN, "a", {"request": "x" * 5000}, 400, "must be one of"),
        (TOKEN, "a", ["pause"], 400, "must be one of"),
        (TOKEN, "a", {"request": "resume"}, 409, "campaign a is running; resume does not apply"),
        (TOKEN, "over", {"request": "stop"}, 409, "campaign over is finished; stop does not apply"),
        (TOKEN, "a", {"request": "pause"}, 503, ""),  # all is well, and the broker is away
    ],
)
def test_control(token: str, campaign: str, body: Any, status: int, said: str) -> None:
    """Each refusal is a sentence, and nothing is asked for before all of it holds."""
    raw = json.dumps(body).encode()
    found, answer = _ask(_app(TOKEN), f"/api/campaigns/{campaign}/control", "POST", raw, token)
    assert (found, said in json.loads(answer)["error"]) == (status, True)


@pytest.mark.parametrize(
    ("text", "value"), [(None, 7), ("", 7), ("12", 12), ("-1", 7), ("9" * 9, 7), ("٣", 7), ("x", 7)]
)
def test_counts_in_a_query(text: str | None, value: int) -> None:
    """Small, of ASCII digits; anything else is the default."""
    assert integer(text, 7) == value
