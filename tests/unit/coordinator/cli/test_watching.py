"""Looking at a broker: once, or again and again until Ctrl-C."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli import watching
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.roster import Roster
from fl_core.wire.messages import Beat
from tests.unit.coordinator.stand_ins import FakeClock


@pytest.fixture
def worker(server: MemoryServer) -> str:
    """One that lives."""
    Roster(MemoryClient(server)).beat(
        Beat(
            worker="pi", queues=("default",), state="idle", holding="", host="here", pid=1, started_ms=0, threads=1,
            device="cpu", num_done=0, num_failed=0, bytes_up=0, bytes_down=0,
        )
    )  # fmt: skip
    return "pi"


def test_workers_are_shown_and_one_can_be_asked_for(run: Callable[..., Any], worker: str) -> None:
    """The exit code says whether that one lives, for health checks."""
    (row,) = json.loads(run("workers", "--json").output)
    assert (row["worker"], row["alive"]) == (worker, True)
    assert [run("workers", "--name", name).exit_code for name in (worker, "other")] == [0, 1]


@pytest.mark.usefixtures("server")
def test_a_watch_looks_again_until_ctrl_c(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """After as long as it was told; Ctrl-C is its end and no error."""

    class Impatient(FakeClock):
        def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
            super().wait(seconds, until)
            if len(self.waits) == 3:
                raise KeyboardInterrupt
            return False

    clock = Impatient()
    monkeypatch.setattr(watching, "MACHINE", clock)
    said = run("workers", "--watch", "5", "--json")
    assert (said.exit_code, clock.waits, said.output.count("[]")) == (0, [5.0] * 3, 3)


@pytest.mark.usefixtures("server")
def test_a_page_without_its_packages_names_the_extra(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One sentence, before anything listens."""
    from fl_core.program import extras

    real = extras.importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else real(name))
    said = run("monitor")
    assert (said.exit_code, "fedtide[monitor]" in said.output) == (2, True)


@pytest.mark.usefixtures("server")
def test_a_page_for_others_asks_who_they_are(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Beyond loopback nothing is served to everybody; tokens come from the environment too, and are never shown."""
    web = pytest.importorskip("coordinator.monitor.web", reason="the extra `monitor` is not installed")
    served: list[Any] = []
    monkeypatch.setattr(web, "serve", lambda broker, access, port, **_: served.append((access, port)))
    said = run("monitor", "--host", "0.0.0.0")
    assert (said.exit_code, "--login TOKEN" in said.output, served) == (2, True, [])
    token = "t" * 16
    monkeypatch.setenv("FEDTIDE_MONITOR_LOGIN", token)
    said = run("monitor", "--host", "0.0.0.0")
    assert (said.exit_code, token in said.output, "unencrypted" in said.output) == (0, False, True)
    monkeypatch.delenv("FEDTIDE_MONITOR_LOGIN")
    said = run("monitor", "--host", "0.0.0.0", "--behind-proxy", "X-User", "--port", "8081")
    assert (said.exit_code, "let the proxy alone reach it" in said.output) == (0, True)
    assert [(access.login, access.behind_proxy, port) for access, port in served] == [
        (token, None, 8080), (None, "X-User", 8081)
    ]  # fmt: skip
