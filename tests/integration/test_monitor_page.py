"""The page in a real browser, on a live campaign whose worker is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from fl_core.broker.access.member_list import Listed, publish_members
from fl_core.broker.connection import connect
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview.feed import feed_commands

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
def test_a_killed_worker_is_seen_silent_and_its_task_re_issued(lab: Any, browser: Any) -> None:
    """Without a reload, within ten seconds of the kill; and nothing on the page asks another host for anything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = lab.spec(
        stop={"updates": None, "seconds": 120.0},
        dispatch={"lease_seconds": 4.0},
        evaluation={"data": "fl_core.data:digits"},
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
    page.locator("#feed li").nth(2).wait_for(timeout=30_000)  # the page's policy forbids what evaluates text
    page.evaluate("window.notReloaded = true")

    os.killpg(dies.process.pid, signal.SIGKILL)
    page.wait_for_selector("tr[data-worker=dies] .pill.bad:text('silent')", timeout=10_000)
    page.wait_for_selector("#feed li[data-kind=worker]:has-text('dies fell silent')", timeout=10_000)
    page.wait_for_selector("#feed li[data-kind=reissue]", timeout=10_000)
    assert page.evaluate("window.notReloaded")
    assert "adds up" in page.inner_text("#ledger")
    assert asked == {f"127.0.0.1:{port}"}
    assert errors == []
    assert stays.process.poll() is None
    assert run.process.poll() is None


@pytest.mark.timeout(120)
def test_a_hole_in_the_ledger_is_seen(lab: Any, browser: Any) -> None:
    """A task that is nowhere is drawn, said, and turns the campaign's health red; devices' names stay text.

    So are scores: any metric, its direction and its target, and a dash for what is absent. The page is one that asks
    for a login.
    """
    client, campaign_keys = connect(lab.url), CampaignKeys("holed-1")
    status = {
        "state": "running", "strategy": "fedbuff", "versions": 2, "issued": 9, "merged": 4, "expired": 0, "out": 3,
        "cancelled": 0, "reissued": 0, "rejected": {"too_stale": 1}, "surplus": {}, "wall_seconds": 9.0,
        "updates_per_second": 1.0, "staleness": {"mean": 0, "p50": 0, "p95": 0, "max": 0}, "final_accuracy": None,
        "best_accuracy": None, "final_loss": 0.5, "best_loss": 0.5, "live_workers": 1, "written_ms": 1,
        "queues": ["default"], "targets": [{"metric": "rmse", "bound": 1.5, "higher_is_better": False}],
        "metrics": {"auc": {"final": None, "best": 0.75, "higher_is_better": True},
                    "rmse": {"final": 3.0, "best": 3.0, "higher_is_better": False}},
    }  # fmt: skip
    evil = "<img src=x onerror=document.title=1>"
    client.zadd("fedtide:campaigns", {"holed-1": 1})
    client.set(campaign_keys.status, msgpack.packb(status))
    event = {"kind": "reissue", "seconds": 1.0, "task": 1, "attempt": 2, "reason": evil}
    scores = [(9.0, 0.5, 4.0), (None, None, None), (0.5, 0.75, 1.0), (0.4, None, 3.0)]
    evaluations = [
        {"kind": "evaluation", "seconds": 2.0 * n, "version": n, "merged": n, "loss": loss, "accuracy": None,
         "metrics": {"auc": auc, "rmse": rmse}}
        for n, (loss, auc, rmse) in enumerate(scores)
    ]  # fmt: skip
    refused = {"kind": "rejections", "seconds": 9.0, "reasons": {"revoked": 3}, "workers": {"gone": 3}}
    refused["untrusted"] = {"gone": 3}
    publish_members(client, {"gone": Listed("device", "revoked", 1, "ab")})
    for command in feed_commands(campaign_keys, 1, 1, "1-0", [event, *evaluations, refused]):
        client.execute_command(*command)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, url = "a-token-of-those-who-watch", f"http://127.0.0.1:{port}"
    asks = ("--port", str(port), "--login", token)
    monitor = lab.program("coordinator", "monitor", *asks, "--broker", lab.url, name="monitor")
    _until_up(f"{url}/healthz", monitor)
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(url)
    page.fill("#token", "another token")
    page.press("#token", "Enter")
    assert "not the one of --login" in page.inner_text("#said")
    page.fill("#token", token)
    page.click("button:has-text('Log in')")
    page.wait_for_url(f"{url}/")
    assert token not in str(context.cookies())
    page.goto(f"{url}/#/c/holed-1")
    page.wait_for_selector("#ledger .hole", timeout=30_000)
    assert "issued 9 ≠" in page.inner_text("#ledger")
    assert "1 missing" in page.inner_text("#ledger")
    page.wait_for_selector(".health.bad:has-text('does not add up')")
    assert evil in page.inner_text("#feed")
    assert page.inner_text("tr[data-worker=gone] .identity") == "revoked 3 refused"
    assert "auc ↑, best 0.75" in page.inner_text(".tiles")  # the newest is absent, and that is a dash
    assert "50 %\nof rmse at most 1.5" in page.inner_text(".tiles")
    assert "auc ↑" in page.inner_text("#scores h2 small")
    assert "3, best 3" in page.inner_text("#scores .thumbnail[data-metric=rmse]")  # every other metric, in small
    page.click("#scores .thumbnail[data-metric=rmse] button")
    assert "rmse ↓" in page.inner_text("#scores h2 small")
    assert "–, best 0.75" in page.inner_text("#scores .thumbnail[data-metric=auc]")
    page.select_option("#scores select", "auc")
    page.select_option("#scores select", "rmse")
    assert "target rmse 1.5" in (page.text_content("#scores svg") or "")
    told = page.text_content("main") or ""
    assert not any(word in told for word in ("NaN", "null", "undefined", "None"))
    assert page.query_selector("main img") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing sticks out on a phone
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("Tab")
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    other = context.new_page()
    other.goto(url)
    other.click("#logout button")
    other.wait_for_selector("#token")
    page.wait_for_selector("#token", timeout=30_000)  # its stream ended, and it asks again


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
