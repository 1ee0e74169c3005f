"""What an update costs the coordinator as the fleet grows, at one rate of updates.

    python benchmarks/scale.py --workers 1000
    python benchmarks/scale.py --workers 1000 --rate 0

Light workers (``light_workers.py``) do at the broker all that real ones do; a task takes them so long that together
they would deliver ``--rate`` updates per second. The coordinator and the server are the real programs. With a rate of 0
tasks take no time: what comes is what coordinator, server and two programs of light workers manage on this machine.

``limit_updates_per_second`` and ``limit_cpu_seconds_per_update`` are ``limit.py``'s, with as many connections: what
bare sockets reach, and the processor time that merging alone takes there.
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

from limit import measure_limit
from processes import cpu_seconds, peak_rss_bytes
from trial import HERE, trial

from fl_core.broker.server.embedded import EmbeddedServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--params", type=int, default=10_000)
    parser.add_argument(
        "--rate", type=float, default=100.0, help="updates per second that the fleet could deliver; 0: without a bound"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to count")
    parser.add_argument("--limit-seconds", type=float, default=3.0, help="how long the limit is measured")
    options = parser.parse_args()
    result = measure(options)
    print(json.dumps(result), flush=True)
    print(table(result), file=sys.stderr)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the campaign, and read the processes' counters at both ends of the interval."""
    task_seconds = options.workers / options.rate if options.rate else 0.0
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
        program = [sys.executable, str(HERE / "light_workers.py"), server.url]
        # One program is enough for 100 updates per second; without a bound two use what the machine has.
        shares = [options.workers] if options.rate else [options.workers - options.workers // 2, options.workers // 2]
        hosts = [
            subprocess.Popen([*program, str(share), str(task_seconds), "0.5", f"light-{index}"], cwd=HERE)
            for index, share in enumerate(shares)
        ]
        try:
            with trial(Path(temporary), spec, broker=server.url) as campaign:
                campaign.wait_for_merge(120 + 2 * task_seconds)
                campaign.watch(2 * task_seconds)  # every worker has had its first task
                before = _look(campaign, server.pid, hosts)
                campaign.watch(options.seconds)
                after = _look(campaign, server.pid, hosts)
                memory = peak_rss_bytes(campaign.pid)
                summary = campaign.end()
        finally:
            for host in hosts:
                host.kill()
                host.wait()
    num_updates = after["updates"] - before["updates"]
    seconds = after["time"] - before["time"]
    limit = measure_limit(options.params, options.workers, options.limit_seconds)
    per_update = {name: (after[name] - before[name]) / max(1, num_updates) for name in ("coordinator", "server")}
    return {
        "benchmark": "scale",
        "workers": options.workers,
        "params": options.params,
        "offered_updates_per_second": options.rate or None,
        "task_seconds": task_seconds,
        "num_updates": num_updates,
        "updates_per_second": round(num_updates / seconds, 2),
        "coordinator_cpu_seconds_per_update": round(per_update["coordinator"], 6),
        "limit_updates_per_second": round(limit.updates_per_second, 1),
        "limit_cpu_seconds_per_update": round(limit.merger_cpu_seconds_per_update, 6),
        "limit_cpu_ratio": round(per_update["coordinator"] / limit.merger_cpu_seconds_per_update, 1),
        "coordinator_cpu_share": round((after["coordinator"] - before["coordinator"]) / seconds, 3),
        "server_cpu_seconds_per_update": round(per_update["server"], 6),
        "workers_cpu_share": round((after["host"] - before["host"]) / seconds, 3),
        "coordinator_peak_rss_bytes": memory,
        "server_peak_rss_bytes": after["server_rss"],
        "reissued": summary["reissued"],
        "rejected": summary["rejected"],
    }


def _look(campaign: Any, server: int, hosts: list[subprocess.Popen[bytes]]) -> dict[str, float]:
    return {
        "time": time.monotonic(),
        "updates": len(campaign.series().update_seconds),
        "coordinator": cpu_seconds(campaign.pid),
        "server": cpu_seconds(server),
        "host": sum(cpu_seconds(host.pid) for host in hosts),
        "server_rss": peak_rss_bytes(server),
    }


def table(result: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{result['workers']:>5} workers: {result['updates_per_second']:7.2f} updates/s, coordinator "
        f"{1000 * result['coordinator_cpu_seconds_per_update']:.2f} ms of processor time per update "
        f"({100 * result['coordinator_cpu_share']:.0f} % of a core; bare sockets "
        f"{1000 * result['limit_cpu_seconds_per_update']:.2f} ms at "
        f"{result['limit_updates_per_second']:.0f} updates/s), "
        f"{result['coordinator_peak_rss_bytes'] / 2**20:.0f} MiB; server "
        f"{1000 * result['server_cpu_seconds_per_update']:.2f} ms, {result['server_peak_rss_bytes'] / 2**20:.0f} MiB; "
        f"all workers {100 * result['workers_cpu_share']:.0f} % of a core"
    )


if __name__ == "__main__":
    main()
