"""What an update costs the coordinator as the fleet grows, at one rate of updates.

    python benchmarks/scale.py --workers 1000

Light workers (``light_workers.py``) do at the broker all that real ones do; a task takes them so long that together
they would deliver ``--rate`` updates per second. The coordinator and the server are the real programs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import cpu_seconds, peak_rss_bytes
from trial import HERE, trial

from fl_core.broker.embedded import EmbeddedServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--params", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=100.0, help="updates per second that the fleet could deliver")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to count")
    options = parser.parse_args()
    result = measure(options)
    print(json.dumps(result), flush=True)
    print(table(result), file=sys.stderr)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the campaign, and read the processes' counters at both ends of the interval."""
    task_seconds = options.workers / options.rate
    spec = {
        "campaign": {"name": "scale"},
        "model": {"factory": "no_training:flat", "args": {"num_elements": options.params}},
        "aggregation": {"strategy": "fedbuff", "buffer_size": 10, "max_staleness": 100_000},
        "dispatch": {"concurrency": options.workers, "task_timeout_seconds": 60.0 + 10 * task_seconds},
    }
    with (
        tempfile.TemporaryDirectory(prefix="fedtide-scale-") as temporary,
        EmbeddedServer(Path(temporary) / "broker") as server,
    ):
        command = [sys.executable, str(HERE / "light_workers.py"), server.url, str(options.workers), str(task_seconds)]
        host = subprocess.Popen(command, cwd=HERE)
        try:
            with trial(Path(temporary), spec, broker=server.url) as campaign:
                campaign.wait_for_merge(120 + 2 * task_seconds)
                campaign.watch(2 * task_seconds)  # every worker has had its first task
                before = _look(campaign, server.pid, host.pid)
                campaign.watch(options.seconds)
                after = _look(campaign, server.pid, host.pid)
                memory = peak_rss_bytes(campaign.pid)
                summary = campaign.end()
        finally:
            host.kill()
            host.wait()
    num_updates = after["updates"] - before["updates"]
    seconds = after["time"] - before["time"]
    per_update = {name: (after[name] - before[name]) / max(1, num_updates) for name in ("coordinator", "server")}
    return {
        "benchmark": "scale",
        "workers": options.workers,
        "params": options.params,
        "task_seconds": task_seconds,
        "num_updates": num_updates,
        "updates_per_second": round(num_updates / seconds, 2),
        "coordinator_cpu_seconds_per_update": round(per_update["coordinator"], 6),
        "coordinator_cpu_share": round((after["coordinator"] - before["coordinator"]) / seconds, 3),
        "server_cpu_seconds_per_update": round(per_update["server"], 6),
        "workers_cpu_share": round((after["host"] - before["host"]) / seconds, 3),
        "coordinator_peak_rss_bytes": memory,
        "server_peak_rss_bytes": after["server_rss"],
        "reissued": summary["reissued"],
        "rejected": summary["rejected"],
    }


def _look(campaign: Any, server: int, host: int) -> dict[str, float]:
    return {
        "time": time.monotonic(),
        "updates": sum(len(merge["workers"]) for merge in campaign.history("merge")),
        "coordinator": cpu_seconds(campaign.pid),
        "server": cpu_seconds(server),
        "host": cpu_seconds(host),
        "server_rss": peak_rss_bytes(server),
    }


def table(result: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{result['workers']:>5} workers: {result['updates_per_second']:7.2f} updates/s, coordinator "
        f"{1000 * result['coordinator_cpu_seconds_per_update']:.2f} ms of processor time per update "
        f"({100 * result['coordinator_cpu_share']:.0f} % of a core), "
        f"{result['coordinator_peak_rss_bytes'] / 2**20:.0f} MiB; server "
        f"{1000 * result['server_cpu_seconds_per_update']:.2f} ms, {result['server_peak_rss_bytes'] / 2**20:.0f} MiB; "
        f"all workers {100 * result['workers_cpu_share']:.0f} % of a core"
    )


if __name__ == "__main__":
    main()
