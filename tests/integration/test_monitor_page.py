"""The page in a real browser, on a live campaign whose worker is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("uvicorn", reason="the extra `monitor` is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no browser is installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.timeout(180)
def test_a_killed_worker_is_seen_lost_and_its_task_re_issued(lab: Any, browser: Any) -> None:
    """Without a reload, within ten seconds of the kill; and nothing on the page asks another host for anything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = lab.spec(
        stop={"updates": None, "seconds": 120.0}, dispatch={"lease_seconds": 4.0}, evaluation={"data": "fl_core.data:digits"}
    )
    run = lab.run(spec)
    stays, dies = lab.worker("stays", delay=0.3), lab.worker("dies", shard=1, delay=20.0)
    monitor = lab.program("coordinator", "monitor", "--port", str(port), "--broker", lab.url, name="monitor")
    url = f"http://127.0.0.1:{port}"
    _until_up(f"{url}/healthz", monitor)

    page = browser.new_page()
    asked, errors = set[str](), list[str]()
    page.on("request", lambda request: asked.add(request.url.split("/")[2]))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.click("td a[href^='#/c/trial']", timeout=60_000)
    page.wait_for_selector("tr[data-worker=dies] .pill.good", timeout=60_000)  # it trains
    page.wait_for_function("document.querySelectorAll('#feed li').length > 2", timeout=30_000)
    page.evaluate("window.notReloaded = true")

    os.killpg(dies.process.pid, signal.SIGKILL)
    page.wait_for_selector("tr[data-worker=dies] .pill.bad:text('lost')", timeout=10_000)
    page.wait_for_selector("#feed li[data-kind=worker]:has-text('dies is lost')", timeout=10_000)
    page.wait_for_selector("#feed li[data-kind=reissue]", timeout=10_000)
    assert page.evaluate("window.notReloaded")
    assert "adds up" in page.inner_text("#ledger")
    assert asked == {f"127.0.0.1:{port}"}
    assert errors == []
    assert stays.process.poll() is None
    assert run.process.poll() is None


def _until_up(url: str, program: Any) -> None:
    import time

    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and program.process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(program.output)
