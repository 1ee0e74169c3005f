"""One campaign with all its programs (server, coordinator, worker daemons), as ``fedtide run --fleet`` starts them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from processes import cpu_seconds, descendants, peak_rss_bytes

from coordinator.report.series import Series, read_series

HERE = Path(__file__).resolve().parent


@dataclass
class Usage:
    """The largest values seen so far, by process id."""

    coordinator: int = 0
    coordinator_cpu_seconds: float = 0.0
    workers: dict[int, int] = field(default_factory=dict)
    servers: dict[int, int] = field(default_factory=dict)
    worker_cpu_seconds: dict[int, float] = field(default_factory=dict)
    server_cpu_seconds: dict[int, float] = field(default_factory=dict)

    def spent(self, before: Usage | None = None) -> dict[str, float]:
        """Processor seconds by group, since an earlier look if one is given."""
        now = {
            "coordinator": self.coordinator_cpu_seconds,
            "worker": sum(self.worker_cpu_seconds.values()),
            "server": sum(self.server_cpu_seconds.values()),
        }
        return now if before is None else {group: now[group] - was for group, was in before.spent().items()}

    def look(self, pid: int) -> None:
        """Read /proc once more for the coordinator and everything below it."""
        self.coordinator = max(self.coordinator, peak_rss_bytes(pid))
        self.coordinator_cpu_seconds = max(self.coordinator_cpu_seconds, cpu_seconds(pid))
        for child, command in descendants(pid).items():
            group = self.workers if "workers/__main__.py" in command else self.servers if "-server" in command else None
            if group is not None:
                times = self.worker_cpu_seconds if group is self.workers else self.server_cpu_seconds
                group[child] = max(group.get(child, 0), peak_rss_bytes(child))
                times[child] = max(times.get(child, 0.0), cpu_seconds(child))


class Trial:
    """A running campaign and its history file.

    Attributes:
        usage: memory and processor time, as of the last ``look``.
        started: ``time.monotonic()`` at the launch of the command.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._process = process
        self.usage = Usage()
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def history_path(self) -> Path:
        return self._folder / "run" / "history.jsonl"

    def look(self) -> bool:
        """Note what the processes use; False when the campaign has ended."""
        self.usage.look(self.pid)
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Until the campaign ends by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the campaign still runs after {seconds} s; it said:\n{self.output()[-3000:]}") from None

    def series(self) -> Series:
        """The history so far."""
        return read_series(self.history_path) if self.history_path.exists() else Series()

    def wait_for_merge(self, seconds: float) -> float:
        """Seconds from the launch to the first merge."""
        path = self.history_path
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            if path.exists() and b'"merge"' in path.read_bytes():
                return time.monotonic() - self.started
            time.sleep(0.01)
        raise SystemExit(f"no merge within {seconds} s; the coordinator said:\n{self.output()[-3000:]}")

    def watch(self, seconds: float) -> None:
        """Let the campaign go on for so long, or to its end."""
        deadline = time.monotonic() + seconds
        while self.look() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(0.25, left))

    def end(self) -> dict[str, Any]:
        """Interrupt the campaign if it still runs, and return its summary."""
        self.look()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the coordinator does not end; it said:\n{self.output()[-3000:]}") from None
        path = self._folder / "run" / "summary.json"
        if not path.exists():
            raise SystemExit(f"the campaign left no summary; the coordinator said:\n{self.output()[-3000:]}")
        summary: dict[str, Any] = json.loads(path.read_text())
        return summary

    def output(self) -> str:
        """What the coordinator printed."""
        return (self._folder / "coordinator.out").read_text(errors="replace")


@contextlib.contextmanager
def trial(
    folder: Path, spec: dict[str, Any], *, fleet: list[dict[str, Any]] | None = None, broker: str | None = None
) -> Iterator[Trial]:
    """Launch a campaign; everything that it started ends with the block.

    Args:
        folder: must be there; gets the spec and the run.
        spec, fleet: the documents for ``fedtide run``. The programs run in the benchmarks' folder, so that they can
            name its modules.
        broker: a server that is there already; without it the command starts an embedded one.
    """
    (folder / "spec.toml").write_text(tomli_w.dumps(spec))
    command = [sys.executable, "-P", "-m", "coordinator", "run", str(folder / "spec.toml")]
    command += ["--out", str(folder / "run"), *(("--broker", broker) if broker else ("--port", "0"))]
    if fleet is not None:
        (folder / "fleet.toml").write_text(tomli_w.dumps({"worker": fleet}))
        command += ["--fleet", str(folder / "fleet.toml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("FEDTIDE_BROKER", "FEDTIDE_CONFIG", "FEDTIDE_OUT"):
        environment.pop(name, None)
    with (folder / "coordinator.out").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        yield Trial(folder, process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def merged_per_second(series: Series) -> tuple[int, float]:
    """Updates merged after the first merge, and how many per second, by the server's clock."""
    merged = series.update_seconds
    num_updates = sum(seconds > merged[0] for seconds in merged)
    seconds = merged[-1] - merged[0] if merged else 0.0
    return num_updates, num_updates / seconds if seconds else 0.0
