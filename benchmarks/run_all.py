"""All benchmarks, several times each, and a page of medians.

    python benchmarks/run_all.py --repeat 3 --write benchmarks/RESULTS.md

Runs of one kind are spread over the whole time (first everything once, then everything again), so that a busy minute
does not spoil all runs of one kind. Raw JSON lines go to standard output.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fl_core.broker.server.binary import find_binary

HERE = Path(__file__).resolve().parent

Row = dict[str, Any]
FLEETS = (50, 200, 1000)
SIZES = (100_000, 1_000_000, 10_000_000, 50_000_000)
CODECS = (("fp32", "fedbuff"), ("fp16", "fedbuff"), ("bf16", "fedbuff"), ("int8", "fedbuff"), ("topk", "fedbuff"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    # Only run when it is named: Flower, which is installed from the package index, and what takes 16 GB of memory.
    default = [kind for kind in _COMMANDS if not kind.startswith("flower") and kind != "gigabyte"]
    parser.add_argument("--only", nargs="*", choices=list(_COMMANDS), default=default)
    parser.add_argument("--quick", action="store_true", help="two seconds each and one size, to see that all works")
    parser.add_argument("--venv", type=Path, help="Flower's environment, for all its runs")
    parser.add_argument("--write", type=Path, help="write the page to this file")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    results: dict[str, list[Row]] = {}
    for number in range(options.repeat):
        for kind in options.only:
            for command in _COMMANDS[kind]:
                seed = ["--seed", str(number)] if kind == "stragglers" else []
                if kind.startswith("flower") and options.venv is not None:
                    seed = ["--venv", str(options.venv.absolute())]
                for row in _run([*(_quick(command) if options.quick else command), *seed]):
                    results.setdefault(kind, []).append(row)
    page = render(results, options.repeat, load_before)
    if options.write is not None:
        options.write.write_text(page)
    print(page, file=sys.stderr)


_COMMANDS: dict[str, list[list[str]]] = {
    "throughput": [["throughput.py", "--params", str(size)] for size in SIZES],
    "codecs": [
        ["throughput.py", "--params", "10000000", "--codec", codec, "--strategy", strategy, "--limit-seconds", "0"]
        for codec, strategy in CODECS
    ],
    "stragglers": [["stragglers.py", "--strategy", strategy] for strategy in ("fedbuff", "fedasync")],
    "merge": [["merge.py"]],
    "scale": [
        ["scale.py", "--rate", rate, "--seconds", "10", "--workers", str(count)]
        for rate in ("100", "0")
        for count in FLEETS
    ],
    "flower": [["against_flower.py", "--params", str(size)] for size in SIZES[:3]],
    "flower_stragglers": [["against_flower.py", "--work", "stragglers"]],
    "gigabyte": [["throughput.py", "--params", "250000000", "--workers", "1", "--concurrency", "1", "--seconds", "20"]],
}


def _quick(command: list[str]) -> list[str]:
    small = [str(min(int(word), 200_000)) if word.isdigit() and len(word) > 5 else word for word in command]
    match command[0]:
        case "throughput.py":
            return [*small, "--seconds", "2", "--limit-seconds", "1"]
        case "scale.py":
            return [*small[:-1], "20", "--seconds", "2"]
        case "against_flower.py":
            return [*small, "--seconds", "2", "--rounds", "2", "--limit", "60"]
        case _:
            return small


def _run(command: list[str]) -> list[Row]:
    print(f"# {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, *command], cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, end="", flush=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


# -- the page ----------------------------------------------------------------------------------------------------------


def render(results: dict[str, list[Row]], repeat: int, load_before: float) -> str:
    """The page, in Markdown."""
    parts = [
        "# Results",
        f"{_setting()} Medians of {repeat} runs; in brackets the lowest and the highest. The load average before the "
        f"first run was {load_before:.1f}. What each benchmark does: [README.md](README.md).",
    ]
    for kind, (title, keys, columns) in _TABLES.items():
        if rows := results.get(kind):
            parts += [f"## {title}", _table(rows, keys, columns)]
    return "\n\n".join(parts) + "\n"


def _setting() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("torch", "numpy", "celery", "redis", "hiredis")
    server = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=False).stdout.split()
    versions = [f"{name} {version(name)}" for name in names]
    versions.append(f"server {next((word[2:] for word in server if word.startswith('v=')), 'unknown')}")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{today}, fedtide {version('fedtide')}, Python {platform.python_version()}, {', '.join(versions)}, "
        f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB, {platform.system()}, everything on one machine."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


# column title -> (field, factor, decimals)
Columns = dict[str, tuple[str, float, int]]
_MIB = 1 / 2**20
_TABLES: dict[str, tuple[str, tuple[str, ...], Columns]] = {
    "throughput": (
        "Throughput without training: FedAsync, fp32, 4 workers",
        ("params",),
        {
            "updates/s": ("updates_per_second", 1, 2),
            "limit, updates/s": ("limit_updates_per_second", 1, 2),
            "limit / ours": ("limit_ratio", 1, 2),
            "first merge, s": ("seconds_to_first_merge", 1, 1),
            "coordinator, MiB": ("coordinator_peak_rss_bytes", _MIB, 0),
            "worker, MiB": ("worker_peak_rss_bytes", _MIB, 0),
            "up, MB/update": ("bytes_up_per_update", 1e-6, 2),
            "down, MB/update": ("bytes_down_per_update", 1e-6, 2),
        },
    ),
    "codecs": (
        "Codecs: FedBuff (K = 10), 10 M parameters, 4 workers",
        ("codec",),
        {
            "updates/s": ("updates_per_second", 1, 2),
            "up, MB/update": ("bytes_up_per_update", 1e-6, 2),
            "down, MB/update": ("bytes_down_per_update", 1e-6, 2),
            "coordinator, MiB": ("coordinator_peak_rss_bytes", _MIB, 0),
            "worker, MiB": ("worker_peak_rss_bytes", _MIB, 0),
        },
    ),
    "stragglers": (
        "Stragglers: eight devices, handwritten digits",
        ("strategy",),
        {
            "s to 0.90": ("seconds_to_0.90", 1, 2),
            "updates": ("updates_to_0.90", 1, 0),
            "s to 0.93": ("seconds_to_0.93", 1, 2),
            "updates to 0.93": ("updates_to_0.93", 1, 0),
            "updates/s": ("updates_per_second", 1, 1),
            "possible": ("perfect_updates_per_second", 1, 1),
            "synchronous floor to 0.90, s": ("synchronous_floor_seconds_to_0.90", 1, 0),
            "to 0.93, s": ("synchronous_floor_seconds_to_0.93", 1, 0),
        },
    ),
    "merge": (
        "Merging 50 M elements on one thread",
        ("codec",),
        {
            "merge, GB/s": ("merge_gb_per_second", 1, 1),
            "triad on one thread, GB/s": ("triad_gb_per_second", 1, 1),
            "share": ("merge_share", 1, 2),
            "triad on all, GB/s": ("triad_all_threads_gb_per_second", 1, 1),
            "share of it": ("merge_share_of_all_threads", 1, 2),
            "check, GB/s of payload": ("check_gb_per_second", 1, 2),
        },
    ),
    "scale": (
        "Fleets of light workers, 10 000 parameters: 100 updates/s offered, and as many as the machine takes",
        ("workers", "offered_updates_per_second"),
        {
            "updates/s": ("updates_per_second", 1, 1),
            "limit, updates/s": ("limit_updates_per_second", 1, 0),
            "coordinator, CPU ms/update": ("coordinator_cpu_seconds_per_update", 1000, 2),
            "bare merging, CPU ms/update": ("limit_cpu_seconds_per_update", 1000, 2),
            "coordinator, MiB": ("coordinator_peak_rss_bytes", _MIB, 0),
            "server, CPU ms/update": ("server_cpu_seconds_per_update", 1000, 2),
            "server, MiB": ("server_peak_rss_bytes", _MIB, 0),
        },
    ),
    "gigabyte": (
        "One gigabyte: 250 M parameters, FedAsync, one worker",
        ("params",),
        {
            "updates/s": ("updates_per_second", 1, 3),
            "limit, updates/s": ("limit_updates_per_second", 1, 3),
            "coordinator, MiB": ("coordinator_peak_rss_bytes", _MIB, 0),
            "worker, MiB": ("worker_peak_rss_bytes", _MIB, 0),
            "server, MiB": ("server_peak_rss_bytes", _MIB, 0),
        },
    ),
    "flower_stragglers": (
        "Stragglers beside Flower in deployment mode: FedAvg there, FedBuff here",
        ("peer",),
        {
            "fedtide, s to 0.90": ("fedtide_seconds_to_0.90", 1, 2),
            "Flower, s to 0.90": ("flower_seconds_to_0.90", 1, 0),
            "ratio": ("ratio_to_0.90", 1, 0),
            "fedtide, s to 0.93": ("fedtide_seconds_to_0.93", 1, 2),
            "Flower, s to 0.93": ("flower_seconds_to_0.93", 1, 0),
            "Flower, s a round": ("flower_seconds_per_round", 1, 2),
        },
    ),
    "flower": (
        "Beside Flower in deployment mode: FedAvg there, FedAsync here, fp32, 4 clients, no training",
        ("params", "peer"),
        {
            "fedtide, updates/s": ("fedtide_updates_per_second", 1, 2),
            "Flower, updates/s": ("flower_updates_per_second", 1, 3),
            "ratio": ("ratio", 1, 0),
            "first merge, s": ("fedtide_seconds_to_first_merge", 1, 1),
            "Flower's, s": ("flower_seconds_to_first_merge", 1, 1),
            "coordinator, MiB": ("fedtide_coordinator_peak_rss_bytes", _MIB, 0),
            "Flower's server, MiB": ("flower_server_peak_rss_bytes", _MIB, 0),
        },
    ),
}


def _table(rows: list[Row], keys: tuple[str, ...], columns: Columns) -> str:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    lines = [f"| {' | '.join([*keys, *columns])} |", f"|{'---|' * (len(keys) + len(columns))}"]
    for names, group in groups.items():
        cells = [f"{name:,}" if isinstance(name, int | float) else str(name or "all") for name in names]
        for place, (field, factor, decimals) in enumerate(columns.values()):
            values = [row[field] * factor for row in group if row.get(field) is not None]
            cell = f"{statistics.median(values):,.{decimals}f}" if len(values) == len(group) else "not reached"
            if place == 0 and len(values) == len(group) > 1:
                cell += f" ({min(values):,.{decimals}f}-{max(values):,.{decimals}f})"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
