"""Merged updates per second without training, and how far that is from what the machine allows.

    python benchmarks/throughput.py --params 1000000 --workers 4

One embedded server, one coordinator, worker daemons: the programs of ``fedtide run --fleet``, with the defaults of the
spec (append-only file, checkpoints, digests, ledger) where no option says otherwise. ``limit_updates_per_second`` is
measured right after, by ``limit.py``.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from limit import measure_limit
from trial import merged_per_second, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--params", type=int, default=1_000_000, help="float32 elements of the model")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--codec", default="fp32")
    parser.add_argument("--strategy", default="fedasync", choices=["fedasync", "fedbuff"])
    parser.add_argument(
        "--seconds",
        type=float,
        help="how long after the first merge  [default: 3 per million params, 10 to 60]",
    )
    parser.add_argument("--concurrency", type=int, help="tasks out at once  [default: twice the workers]")
    parser.add_argument("--limit-seconds", type=float, default=5.0, help="0 leaves the limit out")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="any other key (TOML)")
    parser.add_argument("--keep", type=Path, help="leave the run's files in this new folder")
    options = parser.parse_args()
    # A large model's memory is new to the machine at first, which some (virtual ones) are slow to hand out.
    options.seconds = options.seconds or min(60.0, max(10.0, 3e-6 * options.params))
    result = measure(options)
    print(json.dumps(result), flush=True)
    print(table(result), file=sys.stderr)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the campaign, then the limit."""
    with tempfile.TemporaryDirectory(prefix="fedtide-throughput-") as temporary:
        folder = Path(temporary)
        if options.keep is not None:
            folder = options.keep.absolute()
            folder.mkdir(parents=True)
        fleet = [{"name": "bench", "data": "no_training:one_example", "threads": 1, "count": options.workers}]
        with trial(folder, spec_of(options), fleet=fleet) as campaign:
            first_merge = campaign.wait_for_merge(120)
            campaign.look()
            before = copy.deepcopy(campaign.usage)
            campaign.watch(options.seconds)
            series = campaign.series()
            summary = campaign.end()
    num_updates, rate = merged_per_second(series)
    received = max(1, summary["merged"])
    usage = campaign.usage
    result = {
        "benchmark": "throughput",
        "params": options.params,
        "workers": options.workers,
        "concurrency": options.concurrency or 2 * options.workers,
        "strategy": options.strategy,
        "codec": options.codec,
        "num_updates": num_updates,
        "updates_per_second": round(rate, 3),
        "seconds_to_first_merge": round(first_merge, 2),
        "bytes_up_per_update": round(summary["bytes_up"] / received),
        "bytes_down_per_update": round(summary["bytes_down"] / received),
        "coordinator_peak_rss_bytes": usage.coordinator,
        "worker_peak_rss_bytes": max(usage.workers.values(), default=0),
        "server_peak_rss_bytes": max(usage.servers.values(), default=0),
        **{
            f"{group}_cpu_seconds_per_update": round(seconds / max(1, num_updates), 6)
            for group, seconds in usage.spent(before).items()
        },
        "rejected": summary["rejected"],
        "staleness_mean": summary["staleness"]["mean"],
    }
    if options.limit_seconds:
        limit = measure_limit(options.params, options.workers, options.limit_seconds).updates_per_second
        result |= {"limit_updates_per_second": round(limit, 3), "limit_ratio": round(limit / rate, 2) if rate else None}
    return result


def spec_of(options: argparse.Namespace) -> dict[str, Any]:
    """The campaign: no training, no evaluation, no end."""
    args: dict[str, Any] = {"num_elements": options.params}
    if options.codec != "fp32" or options.strategy == "fedbuff":  # else all deltas are zero, and the model stands still
        args["drift"] = 1e-6
    spec: dict[str, Any] = {
        "campaign": {"name": "throughput"},
        "model": {"factory": "no_training:flat", "args": args},
        "training": {"loss": "mse", "local_steps": 1},
        "aggregation": {"strategy": options.strategy, "max_staleness": 1000},
        "dispatch": {"concurrency": options.concurrency or 2 * options.workers},
        "codec": {"name": options.codec},
    }
    for setting in options.set:
        key, _, value = setting.partition("=")
        section, _, name = key.partition(".")
        spec.setdefault(section, {}).update(tomllib.loads(f"{name} = {value}"))
    return spec


def table(result: dict[str, Any]) -> str:
    """One line for people."""
    mebibytes = 2**20
    return (
        f"{result['params']:>11,} params {result['codec']:>5} {result['strategy']:>8} x{result['workers']}: "
        f"{result['updates_per_second']:8.2f} updates/s (limit {result.get('limit_updates_per_second', 0):.2f}, "
        f"ratio {result.get('limit_ratio')})  first merge {result['seconds_to_first_merge']:.1f} s  "
        f"up {result['bytes_up_per_update'] / 1e6:.2f} MB  down {result['bytes_down_per_update'] / 1e6:.2f} MB  "
        f"coordinator {result['coordinator_peak_rss_bytes'] / mebibytes:.0f} MiB  "
        f"worker {result['worker_peak_rss_bytes'] / mebibytes:.0f} MiB"
    )


if __name__ == "__main__":
    main()
