"""The monitor against a real broker: bounded reads, history after a restart, control only with the token."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from rich.console import Console

pytest.importorskip("starlette", reason="the extra `monitor` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `monitor` is not installed")

from coordinator.monitor.answers import FILES  # noqa: E402
from coordinator.monitor.observer import Observer  # noqa: E402
from coordinator.monitor.settings import Access  # noqa: E402
from coordinator.monitor.web import build_app  # noqa: E402
from coordinator.telemetry.staleness_histogram import staleness_histogram  # noqa: E402
from coordinator.telemetry.timing import Timing  # noqa: E402
from coordinator.terminal.top import choose, gather, picture  # noqa: E402
from fl_core.broker import keys  # noqa: E402
from fl_core.broker.connection import connect  # noqa: E402
from fl_core.broker.overview import feed  # noqa: E402
from fl_core.broker.server.embedded import EmbeddedServer  # noqa: E402

TOKEN = "a-token-of-some-length"
CAMPAIGN = "digits-1"
STATUS = {
    "campaign": CAMPAIGN, "state": "running", "stop_reason": "", "strategy": "fedbuff", "versions": 2, "issued": 4,
    "merged": 4, "rejected": {}, "expired": 0, "cancelled": 0, "out": 0, "reissued": 0, "surplus": {},
    "wall_seconds": 3.0, "updates_per_second": 1.0, "staleness": {"mean": 0.0, "p50": 0, "p95": 0, "max": 0},
    "final_accuracy": 0.5, "best_accuracy": 0.5, "final_loss": 1.0, "best_loss": 1.0, "bytes_up": 1, "bytes_down": 1,
    "merged_by_worker": {f"w{n}": 1 for n in range(500)}, "queues": ["default"], "written_ms": 1,
    "staleness_histogram": staleness_histogram([(0, 4)]).to_map(), "timing": Timing().export().to_map(),
}  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with one campaign in it."""
    with EmbeddedServer(Path(tmp_path_factory.mktemp("broker")), persistent=False) as server:
        client = connect(server.url)
        campaign_keys = keys.CampaignKeys(CAMPAIGN)
        client.zadd(keys.CAMPAIGNS, {CAMPAIGN: 1})
        client.set(campaign_keys.status, msgpack.packb(STATUS))
        for count, merged in ((1, 2), (2, 4), (2, 4)):  # the last commit was repeated
            line = {"kind": "merges", "seconds": float(merged), "version": merged // 2, "merged": merged, "updates": 2,
                    "merges": 1, "staleness": [[0, 2]], "workers": {"w0": [2, 0, 1.0]}}  # fmt: skip
            for command in feed.feed_commands(campaign_keys, 1, count, f"{merged}-0", [line]):
                client.execute_command(*command)
        yield server.url


@contextmanager
def _monitor(broker: str, control: str | None = None) -> Iterator[str]:
    observer = Observer(connect(broker))
    observer.poll()
    observer.start()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        app = build_app(observer, broker, Access("127.0.0.1", control=control))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            observer.stop()


def _ask(url: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def _events(url: str, count: int) -> list[tuple[str, Any]]:
    found, name = [], ""
    with urllib.request.urlopen(url, timeout=10) as stream:
        for raw in stream:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.append((name, json.loads(line[6:])))
                if len(found) == count:
                    return found
    return found


def test_history_survives_a_restart_of_the_monitor(broker: str) -> None:
    """A monitor that was just started has all of the feed, each entry once; later events bring only news."""
    for _ in range(2):
        with _monitor(broker) as url:
            (name, hello), (_, now) = _events(f"{url}/api/live?campaign={CAMPAIGN}", 2)
            assert name == "hello"
            assert [row[2] for row in hello["news"]["intervals"]] == [2, 4]
            assert (now["news"]["whole"], now["news"]["first_interval"], len(now["news"]["intervals"])) == (False, 1, 1)
            assert "merged_by_worker" not in hello["campaign"]
            status, body, _ = _ask(f"{url}/api/workers?campaign={CAMPAIGN}")
            assert [row["updates"] for row in json.loads(body)["rows"]] == [4]
            assert status == 200


def test_top_draws_a_campaign(broker: str) -> None:
    """Its picture has the ledger, the queues' and the workers' tables, and the name of who merged."""
    observer = Observer(connect(broker))
    assert choose(observer.poll()) == CAMPAIGN
    console = Console(width=140, file=io.StringIO())
    console.print(picture(gather(observer, CAMPAIGN), 140))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (CAMPAIGN, "issued 4 = merged 4", "queue", "worker", "w0", "q ends"):
        assert text in shown, text


def test_watching_writes_nothing_and_names_every_key(broker: str) -> None:
    """Polling, following and scraping leave the data as it is, and never search the key space."""
    client = connect(broker)
    before = {key: client.dump(key) for key in client.keys("*")}
    client.config_resetstat()
    with _monitor(broker) as url:
        _events(f"{url}/api/live?campaign={CAMPAIGN}", 2)
        for path in ("", "api/overview", "metrics", f"api/campaigns/{CAMPAIGN}", f"api/campaigns/{CAMPAIGN}/rejected"):
            assert _ask(f"{url}/{path}")[0] == 200, path
        used = set(client.info("commandstats"))
    assert {key: client.dump(key) for key in client.keys("*")} == before
    assert not used & {f"cmdstat_{name}" for name in ("keys", "scan", "set", "hset", "xadd", "zadd", "del", "unlink")}


def test_a_user_who_may_only_read_can_watch(broker: str) -> None:
    """The user of docs/monitoring.md sees everything, and is refused nothing on the way."""
    client = connect(broker)
    text = (Path(__file__).parents[2] / "docs/monitoring.md").read_text()
    (command,) = re.findall(r"^ACL SETUSER watcher .*$", text, re.MULTILINE)
    client.execute_command(*command.replace("PASSWORD", "secret").split())
    client.acl_log_reset()
    with _monitor(broker.replace("redis://", "redis://watcher:secret@")) as url:
        _events(f"{url}/api/live?campaign={CAMPAIGN}", 2)
        assert _ask(f"{url}/api/campaigns/{CAMPAIGN}/rejected")[0] == 200
    assert client.acl_log() == []


def test_control_needs_the_token(broker: str) -> None:
    """Without --control nothing can be asked for; with it, only by who has the token, by POST, and where it applies."""
    path = f"api/campaigns/{CAMPAIGN}/control"
    with _monitor(broker) as url:
        assert _ask(f"{url}/{path}", {"request": "pause"}, authorization=f"Bearer {TOKEN}")[0] == 403
    with _monitor(broker, TOKEN) as url:
        good = {"authorization": f"Bearer {TOKEN}"}
        assert _ask(f"{url}/{path}")[0] == 405
        assert _ask(f"{url}/{path}", {"request": "pause"})[0] == 401
        assert _ask(f"{url}/{path}", {"request": "pause"}, authorization="Bearer nothing")[0] == 401
        assert _ask(f"{url}/{path}", {"request": "readmit"}, **good)[0] == 400
        assert _ask(f"{url}/{path}", {"request": "resume"}, **good)[0] == 409
        assert _ask(f"{url}/api/campaigns/none/control", {"request": "stop"}, **good)[0] == 404
        client, control = connect(broker), keys.CampaignKeys(CAMPAIGN).control
        assert client.xlen(control) == 0
        assert _ask(f"{url}/{path}", {"request": "pause"}, **good)[0] == 202
        assert [fields[b"request"] for _, fields in client.xrange(control)] == [b"pause"]
        client.delete(control)


def test_page_trusts_nobody(broker: str) -> None:
    """It loads nothing from other hosts, is not served under foreign names, and only its own files are."""
    with _monitor(broker) as url:
        status, page, headers = _ask(f"{url}/")
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b'"/static/style.css"' in page
        assert b'"/static/app.js"' in page
        for name in FILES:
            text = _ask(f"{url}/static/{name}")[1].decode().replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text
            assert "https://" not in text
            assert "innerHTML" not in text
        assert _ask(f"{url}/static/../web.py")[0] == 404
        assert _ask(f"{url}/", host="evil.example")[0] == 421
        assert _ask(f"{url}/api/campaigns/none")[0] == 404


def test_an_outage_is_shown_and_passes(tmp_path: Path) -> None:
    """While the broker is away the page keeps what it saw and says so; health is 503 meanwhile."""
    with EmbeddedServer(tmp_path / "broker", persistent=False) as server, _monitor(server.url) as url:
        assert _ask(f"{url}/healthz")[0] == 200
        server.stop()
        for _ in range(100):
            if _ask(f"{url}/healthz")[0] == 503:
                break
            threading.Event().wait(0.05)
        assert _ask(f"{url}/healthz")[0] == 503
        assert json.loads(_ask(f"{url}/api/overview")[1])["error"]
        assert b"fedtide_broker_up 0.0" in _ask(f"{url}/metrics")[1]
