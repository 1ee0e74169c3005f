"""Accuracy against epsilon: handwritten digits on 359 devices of four examples each, in virtual time.

    python benchmarks/privacy_digits.py --seeds 3

A linear softmax model, FedBuff with 120 updates to a merge, 359 tasks out at a time (an update is about two versions
old), five local steps at rate 0.5, updates clipped to 0.5, twenty updates of each device, delta 0.001. The
coordinator and the training are those of a deployment; played are the broker, the clock and the devices. Each row is
the mean of its seeds, with what they span. ``epsilon`` is that of the device that has spent most, by what was
merged of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import fedtide
from fedtide import SimulatedDevice
from fl_core.data import digits
from fl_core.privacy.budget import Budget, PrivacyFilter, cost
from fl_core.privacy.terms import Terms
from fl_core.spec import CampaignSpec, parse_spec

DEVICES = 359
PARTICIPATIONS = 20
BUFFER = 120
MARK = "<!-- benchmarks/privacy_digits.py -->"
CASES: dict[str, dict[str, Any]] = {
    "without privacy": {},
    "central, epsilon 8": {"mode": "central", "epsilon": 8.0},
    "central, epsilon 4": {"mode": "central", "epsilon": 4.0},
    "central, epsilon 2": {"mode": "central", "epsilon": 2.0},
    "central, epsilon 1": {"mode": "central", "epsilon": 1.0},
    "local, epsilon 32": {"mode": "local", "epsilon": 32.0},
    "local, epsilon 8": {"mode": "local", "epsilon": 8.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE", help="leave the other rows out")
    parser.add_argument("--into", type=Path, metavar="PAGE", help=f"put the table between two marks {MARK}")
    options = parser.parse_args()
    rows = []
    for name in options.only or CASES:
        begun = time.monotonic()
        runs = [measure(name, seed) for seed in range(1, options.seeds + 1)]
        row = {"benchmark": "privacy_digits", "case": name, "runs": runs}
        rows.append(row)
        print(json.dumps(row), flush=True)
        print(f"{line(row)}  {time.monotonic() - begun:.0f} s", file=sys.stderr)
    if options.into is not None:
        write(options.into, table(rows))


def spec_of(name: str, seed: int) -> CampaignSpec:
    """The campaign of one row."""
    privacy = CASES[name]
    if privacy:
        privacy = {"clip": 0.5, "delta": 1e-3, "max_participations": PARTICIPATIONS, **privacy}
    return parse_spec(
        {
            "campaign": {"name": "digits", "seed": seed},
            "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [], "classes": 10}},
            "training": {"local_steps": 5, "batch_size": 4, "learning_rate": 0.5},
            "aggregation": {"buffer_size": BUFFER},
            "dispatch": {"concurrency": DEVICES},
            "evaluation": {"data": "fl_core.data:digits", "data_args": {"split": "test"}},
            "stop": {"updates": DEVICES * PARTICIPATIONS // BUFFER * BUFFER},
            "privacy": privacy,
        }
    )


def measure(name: str, seed: int) -> dict[str, Any]:
    """One campaign: its last accuracy, and what the devices have spent."""
    shards = [digits("train", shard, DEVICES, seed=seed, min_examples=1) for shard in range(DEVICES)]
    # Unequal speeds, or all of them would arrive at the same moments.
    devices = [
        SimulatedDevice(f"device-{i}", shard, 1.0 + (i * 37 % DEVICES) / DEVICES) for i, shard in enumerate(shards)
    ]
    spec = spec_of(name, seed)
    run = fedtide.simulate(spec, devices, training="together")
    scores = [row["metrics"]["accuracy"] for row in run.history() if row["kind"] == "evaluation"]
    merges = [row for row in run.history() if row["kind"] == "merge"]
    return {"accuracy": scores[-1], "merges": len(merges), "epsilon": spent(spec, merges)}


def spent(spec: CampaignSpec, merges: list[dict[str, Any]]) -> float | None:
    """Epsilon of the device that has spent most, by the updates that were merged; None without privacy."""
    terms = Terms.of(spec.privacy)
    if terms is None:
        return None
    spending = PrivacyFilter(Budget(float("inf"), terms.delta))
    for row in merges:
        for worker, staleness in zip(row["workers"], row["staleness"], strict=True):
            weight = (1 + staleness) ** -spec.aggregation.polynomial_exponent
            spending.spend(worker, terms.cost if terms.is_local else cost(terms.noise_multiplier, weight))
    return spending.largest_epsilon


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    scores, spent = ([run[key] for run in row["runs"]] for key in ("accuracy", "epsilon"))
    epsilon = "-" if spent[0] is None else f"{max(spent):.2f}"
    return f"| {row['case']} | {epsilon} | {statistics.mean(scores):.3f} | {min(scores):.3f} to {max(scores):.3f} |"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a page has them."""
    head = "| privacy | largest epsilon spent, delta = 0.001 | accuracy | seeds |\n|---|---|---|---|\n"
    return head + "\n".join(map(line, rows)) + "\n"


def write(page: Path, rows: str) -> None:
    """Replace what stands between the marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARK)
    _, mark, after = rest.partition(MARK)
    if not mark:
        raise SystemExit(f"{page} has no two marks {MARK}.")
    page.write_text(f"{before}{MARK}\n\n{rows}\n{MARK}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
