"""What watching costs: processor time of the broker's server and of the monitor, with open pages and a large fleet.

::

    python -m benchmarks.watching --pages 3 --workers 10000 --seconds 10

A campaign that merges 100 updates per second is written as a coordinator writes it (status and feed), ten thousand
workers are registered, and pages read their events. Processor time is what watching takes from a campaign; it is
compared with the same writing without a monitor, so it does not depend on what else this machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import msgpack

from coordinator.buckets import staleness_histogram
from coordinator.feed import Feed
from coordinator.timing import Timing
from fl_core.broker import keys
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.connection import Client, connect
from fl_core.broker.embedded import EmbeddedServer
from fl_core.messages import Beat

CAMPAIGN = "watched-1"
MERGES_PER_SECOND = 100
PORT = 8499


def register_workers(client: Client, count: int) -> None:
    """As many workers as asked for, all alive."""
    now = time.time() * 1000
    pipeline = client.pipeline(transaction=False)
    for index in range(count):
        beat = Beat(
            worker=f"worker-{index:05}", state="training", queues=("default",), holding="", host="h", pid=1,
            started_ms=1, threads=1, device="cpu", num_done=1, num_failed=0, bytes_up=1, bytes_down=1,
        )  # fmt: skip
        pipeline.hset(keys.BEATS, beat.worker, beat.to_bytes()).zadd(keys.SEEN, {beat.worker: now + 3_600_000})
    pipeline.execute()


class Writer:
    """Writes what a coordinator writes for its monitors."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._broker = CampaignBroker(client, CAMPAIGN)
        self._feed, self._timing = Feed(self._broker.keys), Timing()
        self._started = time.monotonic()
        self._merged = 0

    def step(self) -> None:
        """A twentieth of a second's merges."""
        seconds = time.monotonic() - self._started
        for _ in range(MERGES_PER_SECOND // 20):
            self._merged += 1
            worker = f"worker-{self._merged % 1000:05}"
            self._timing.add_update({"train": 0.4}, life_seconds=0.6, log_seconds=0.01, merge_seconds=0.001)
            self._feed.add_training(worker, 0.4)
            line = {"kind": "merge", "seconds": seconds, "version": self._merged, "merged": self._merged}
            line |= {"staleness": [self._merged % 9], "weights": [1.0], "workers": [worker], "tasks": [self._merged]}
            self._feed.add(f"{self._merged}-0", [line])
        status = {
            "state": "running", "issued": self._merged, "merged": self._merged, "rejected": {}, "expired": 0,
            "cancelled": 0, "out": 0, "reissued": 0, "surplus": {}, "versions": self._merged, "bytes_up": 0,
            "bytes_down": 0, "wall_seconds": seconds, "queues": ["default"], "written_ms": round(time.time() * 1000),
            "timing": self._timing.export(), "staleness_histogram": staleness_histogram([(0, self._merged)]),
        }  # fmt: skip
        commands = self._feed.commands(1, f"{self._merged}-0", seconds)
        for command in [*commands, *self._broker.status_commands(msgpack.packb(status))]:
            self._client.execute_command(*command)


def server_seconds(client: Client) -> float:
    """Processor time that the server has used."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def write_for(writer: Writer, client: Client, seconds: float) -> float:
    """Share of a core that the server uses while the campaign is written."""
    before, started = server_seconds(client), time.monotonic()
    while time.monotonic() - started < seconds:
        writer.step()
        time.sleep(0.05)
    return (server_seconds(client) - before) / (time.monotonic() - started)


def read_page(stop: threading.Event) -> None:
    """An open page: reads its events and, every two seconds, its page of the workers' table."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/live?campaign={CAMPAIGN}", timeout=30) as stream:
        for number, line in enumerate(stream):
            if stop.is_set():
                return
            if number % 6 == 0 and line:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/workers?campaign={CAMPAIGN}", timeout=30).read()


def first_byte_seconds(path: str) -> float:
    """Median time to the first byte."""
    times = []
    for _ in range(15):
        started = time.perf_counter()
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=30).read(1)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder), persistent=False) as server:
        client = connect(server.url)
        register_workers(client, options.workers)
        client.zadd(keys.CAMPAIGNS, {CAMPAIGN: 1})
        writer = Writer(client)
        alone = write_for(writer, client, options.seconds)
        arguments = ["-m", "coordinator", "monitor", "--port", str(PORT), "--broker", server.url]
        monitor = subprocess.Popen([sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
        stop = threading.Event()
        try:
            _await_monitor()
            pages = [threading.Thread(target=read_page, args=(stop,), daemon=True) for _ in range(options.pages)]
            for page in pages:
                page.start()
            watched = write_for(writer, client, options.seconds)
            times = {path: round(1000 * first_byte_seconds(path), 1) for path in ("/", "/api/workers", "/metrics")}
        finally:
            stop.set()
            monitor.terminate()
            monitor.wait(10)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            json.dumps(
                {
                    "pages": options.pages,
                    "workers": options.workers,
                    "server_core_share_alone": round(alone, 4),
                    "server_core_share_watched": round(watched, 4),
                    "monitor_process_seconds": round(used.ru_utime + used.ru_stime, 2),
                    "first_byte_milliseconds": times,
                },
                indent=2,
            )
        )


def _await_monitor() -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=2).read()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main()
