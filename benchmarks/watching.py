"""What watching costs: a campaign's speed with and without open pages, and the page's own speed with a big fleet.

::

    python -m benchmarks.watching --pages 3 --pairs 20 --seconds 2
    python -m benchmarks.watching --workers 10000

The first half runs a real campaign (embedded server, coordinator, light workers that wait instead of training) at about
100 merges per second, and measures it in short windows that are watched and not watched, in the order ABBA, so that
what else this machine does falls on both. While it is watched, a monitor runs with so many open pages, each of which
reads its events and asks for its page of the workers' table every two seconds; otherwise the monitor's process is
stopped (SIGSTOP). A slower answer of the server or the coordinator makes the next task come later: the rate falls. What
watching takes of the processors is told as well, in percent of one core: the monitor's time, and what coordinator and
server take more than in the window beside; on a machine that is full this is what the campaign would miss.

The second half registers a fleet and takes the time to the first byte of what a page asks for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fl_core.broker import keys
from fl_core.broker.connection import Client, connect
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.wire.messages import Beat

sys.path.insert(0, str(Path(__file__).parent))

from processes import cpu_seconds
from trial import Trial, trial

SETTLE_SECONDS = 0.5
# Tasks of very different length would make the rate of a short window a matter of chance.
SPREAD = 0.05
SPEC: dict[str, Any] = {
    "campaign": {"name": "watched"},
    "model": {"factory": "no_training:flat", "args": {"num_elements": 10_000}},
    "training": {"loss": "mse", "local_steps": 1},
    "aggregation": {"strategy": "fedasync", "max_staleness": 1000},
}


def register_workers(client: Client, count: int) -> None:
    """As many workers as asked for, all alive."""
    now = time.time() * 1000
    pipeline = client.pipeline(transaction=False)
    for index in range(count):
        beat = Beat(
            worker=f"worker-{index:05}", state="training", queues=("default",), holding="", host="h", pid=1,
            started_ms=1, threads=1, device="cpu", num_done=1, num_failed=0, bytes_up=1, bytes_down=1,
        )  # fmt: skip
        pipeline.hset(keys.device(beat.worker), mapping={"row": f"{now:.0f}|0a|", "beat": beat.to_bytes()})
        pipeline.zadd(keys.DEVICES, {f"{beat.worker} 0a": now})
    pipeline.execute()


def server_seconds(client: Client) -> float:
    """Processor time that the server has used."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


# -- pages -------------------------------------------------------------------------------------------------------------


events = Counter[str]()


def read_page(url: str, campaign: str, stop: threading.Event, opened: threading.Semaphore) -> None:
    """An open page: reads its events and, every two seconds, its page of the workers' table."""
    told = 0
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"{url}/api/live?campaign={campaign}", timeout=30) as stream,
    ):
        for line in stream:
            if stop.is_set():
                return
            if line.startswith(b"data:"):
                told += 1
                events[campaign] += 1
                if told == 1:
                    opened.release()
                if told % 2:
                    urllib.request.urlopen(f"{url}/api/workers?campaign={campaign}", timeout=30).read()


@contextlib.contextmanager
def monitor(broker: str) -> Iterator[tuple[str, int]]:
    """A monitor of its own process: its address and its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", "coordinator", "monitor", "--port", str(port), "--broker", broker]
    process = subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 30
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=2).read()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def watching(broker: str, campaign: str, num_pages: int) -> Iterator[int]:
    """So many pages open on a campaign; gives the monitor's process id. Readers of a stopped monitor just wait."""
    stop, opened = threading.Event(), threading.Semaphore(0)
    with monitor(broker) as (url, pid):
        for _ in range(num_pages):
            threading.Thread(target=read_page, args=(url, campaign, stop, opened), daemon=True).start()
        for _ in range(num_pages):
            opened.acquire(timeout=30)
        yield pid
        stop.set()


# -- the campaign ------------------------------------------------------------------------------------------------------


def merged_so_far(campaign: Trial) -> int:
    """Updates merged, as the history's newest whole lines say."""
    path = campaign.history_path
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        lines = [line for line in file.read().split(b"\n")[1:-1] if line.startswith(b'{"kind":"merge"')]
    return int(json.loads(lines[-1])["merged"])


def window(campaign: Trial, client: Client, seconds: float) -> dict[str, float]:
    """Rates over some seconds: merges per second, processor time per merge of coordinator and server."""
    started, merged = time.monotonic(), merged_so_far(campaign)
    coordinator, server = cpu_seconds(campaign.pid), server_seconds(client)
    time.sleep(seconds)
    merged, took = merged_so_far(campaign) - merged, time.monotonic() - started
    return {
        "merges_per_second": merged / took,
        "coordinator_us": 1e6 * (cpu_seconds(campaign.pid) - coordinator) / merged,
        "server_us": 1e6 * (server_seconds(client) - server) / merged,
    }


def measure_campaign(options: argparse.Namespace) -> dict[str, Any]:
    """The paired windows of one campaign."""
    spec = {**SPEC, "dispatch": {"concurrency": options.light}}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedtide-watching-")))
        server = stack.enter_context(EmbeddedServer(folder / "broker", persistent=True))
        campaign = stack.enter_context(trial(folder, spec, broker=server.url))
        arguments = [server.url, str(options.light), str(options.light / options.rate), str(SPREAD)]
        light = subprocess.Popen([sys.executable, str(Path(__file__).parent / "light_workers.py"), *arguments])
        stack.callback(light.wait)
        stack.callback(light.terminate)
        campaign.wait_for_merge(60)
        client = connect(server.url)
        name = client.zrevrange(keys.CAMPAIGNS, 0, 0)[0].decode()
        time.sleep(3)
        pid = stack.enter_context(watching(server.url, name, options.pages))
        stack.callback(os.kill, pid, signal.SIGCONT)
        rows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for pair in range(options.pairs):
            for is_watched in (False, True) if pair % 2 == 0 else (True, False):
                os.kill(pid, signal.SIGCONT if is_watched else signal.SIGSTOP)
                time.sleep(SETTLE_SECONDS)
                awake, deadline = events[name] + 2 * options.pages, time.monotonic() + 15
                while is_watched and events[name] < awake and time.monotonic() < deadline:
                    time.sleep(0.05)
                before, started, told = cpu_seconds(pid), time.monotonic(), events[name]
                row = window(campaign, client, options.seconds)
                row["monitor_share"] = (cpu_seconds(pid) - before) / (time.monotonic() - started)
                row["events_per_second"] = (events[name] - told) / (time.monotonic() - started)
                rows[is_watched].append(row)
        os.kill(pid, signal.SIGCONT)
        light.terminate()
        campaign.end()
    return paired(rows[False], rows[True], options)


def paired(
    alone: list[dict[str, float]], watched: list[dict[str, float]], options: argparse.Namespace
) -> dict[str, Any]:
    """What the windows come to: means, and by pairs the slowdown and the processor time that watching adds."""
    pairs = list(zip(alone, watched, strict=True))
    slow = [100 * (1 - b["merges_per_second"] / a["merges_per_second"]) for a, b in pairs]
    added = [100 * (b["monitor_share"] + _busy_share(b) - _busy_share(a)) for a, b in pairs]

    def means(rows: list[dict[str, float]]) -> dict[str, float]:
        return {name: round(statistics.fmean(row[name] for row in rows), 3) for name in rows[0]}

    return {
        "pages": options.pages,
        "pairs": options.pairs,
        "window_seconds": options.seconds,
        "alone": means(alone),
        "watched": means(watched),
        "slowdown_percent": _estimate(slow),
        "added_percent_of_a_core": _estimate(added),
    }


def _busy_share(row: dict[str, float]) -> float:
    """Of a core, what coordinator and server took."""
    return row["merges_per_second"] * (row["coordinator_us"] + row["server_us"]) / 1e6


def _estimate(values: list[float]) -> dict[str, float]:
    """Mean, median and the mean's 95 % interval (normal: use two dozen pairs or more)."""
    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    return {
        "mean": round(mean, 2),
        "median": round(statistics.median(values), 2),
        "low": round(mean - 1.96 * error, 2),
        "high": round(mean + 1.96 * error, 2),
    }


# -- the big fleet -----------------------------------------------------------------------------------------------------


def first_byte_milliseconds(url: str) -> dict[str, float]:
    """Median and worst of 25 requests."""
    times = []
    for _ in range(25):
        started = time.perf_counter()
        urllib.request.urlopen(url, timeout=30).read(1)
        times.append(1000 * (time.perf_counter() - started))
        time.sleep(0.1)
    return {"median": round(statistics.median(times), 1), "worst": round(max(times), 1)}


def measure_fleet(options: argparse.Namespace) -> dict[str, Any]:
    """Time to the first byte of what the overview asks for, with so many registered workers, and of the last page."""
    last = options.workers // 25
    paths = {
        "page": "/", "overview": "/api/overview", "workers": "/api/workers?size=25", "metrics": "/metrics",
        "last workers by name": f"/api/workers?size=25&page={last}", "slowest first": "/api/workers?sort=-seen",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder), persistent=False) as server:
        client = connect(server.url)
        register_workers(client, options.workers)
        alone = server_seconds(client)
        with monitor(server.url) as (url, pid):
            started, used = time.monotonic(), cpu_seconds(pid)
            times = {name: first_byte_milliseconds(url + path) for name, path in paths.items()}
            took = time.monotonic() - started
            share = (cpu_seconds(pid) - used) / took
        return {
            "workers": options.workers,
            "first_byte_milliseconds": times,
            "monitor_share": round(share, 3),
            "server_share": round((server_seconds(client) - alone) / took, 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=20, help="of windows; 0 leaves the campaign out")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each window")
    parser.add_argument("--rate", type=float, default=110.0, help="merges per second that the light workers aim at")
    parser.add_argument("--light", type=int, default=40, help="light workers")
    parser.add_argument("--workers", type=int, default=10_000, help="registered for the first byte; 0 leaves it out")
    options = parser.parse_args()
    result: dict[str, Any] = {"load_average": os.getloadavg()}
    if options.pairs:
        result["campaign"] = measure_campaign(options)
    if options.workers:
        result["fleet"] = measure_fleet(options)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
