"""What privacy costs: processor time of each step, per update and per merge.

    python benchmarks/privacy.py --params 100000 1000000

``clip`` is one update onto the integer grid (the coordinator's or, with local noise, the device's), ``noise`` the
rounded Gaussian of one merge (or of one update with local noise), ``mean`` the sum as the step of the model,
``device`` all that local noise adds to a task, its line in the journal included. ``philox`` is what numpy's own
generator takes for as much noise in float32, which is not the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.privacy.accountant import mu_of
from fl_core.privacy.grid import RESOLUTION, from_grid, to_grid
from fl_core.privacy.local import privatised
from fl_core.privacy.noise import add_rounded_gaussian
from fl_core.privacy.terms import Terms
from fl_core.wire.messages import TaskCall, TrainOrder, TrainTask
from workers.store.spending import SpendingJournal

TERMS = Terms("local", 1.0, 4.0, 1e-6, 10**6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--params", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--repeat", type=int, default=7, help="times each is measured; the medians are printed")
    options = parser.parse_args()
    for num_parameters in options.params:
        found = measure(num_parameters, options.repeat)
        print(json.dumps(found), flush=True)
        steps = ", ".join(f"{name} {found[name]:.1f}" for name in ("clip", "noise", "mean", "device", "philox"))
        print(f"{num_parameters:>10,} parameters, ms of processor time: {steps}", file=sys.stderr)
    seconds = _median(lambda: mu_of(8.0, 1e-6), options.repeat)
    print(json.dumps({"benchmark": "privacy", "budget_milliseconds": round(seconds, 3)}))
    print(f"the budget of epsilon 8 as mu: {seconds:.1f} ms, once per campaign", file=sys.stderr)


def measure(num_parameters: int, repeat: int) -> dict[str, Any]:
    """Medians in milliseconds of processor time, for one size."""
    values = np.random.default_rng(0).standard_normal(num_parameters, dtype=np.float32)
    total, key = to_grid(values, 1.0), bytes(32)
    philox = np.random.Generator(np.random.Philox(1))
    with tempfile.TemporaryDirectory() as folder:
        journal, task = SpendingJournal(Path(folder)), _task()
        steps: dict[str, Callable[[], object]] = {
            "clip": lambda: to_grid(values, 1.0),
            "noise": lambda: add_rounded_gaussian(total, key, TERMS.noise_multiplier * RESOLUTION),
            "mean": lambda: from_grid(total, 1.0, 10),
            "device": lambda: privatised(values, TERMS, journal.spend(task, TERMS)),
            "philox": lambda: philox.standard_normal(num_parameters, np.float32),
        }
        found = {name: round(_median(step, repeat), 3) for name, step in steps.items()}
    return {"benchmark": "privacy", "num_parameters": num_parameters, **found}


def _task() -> TrainTask:
    order = TrainOrder(
        campaign="a", timeout_seconds=1.0, model_factory="a:b", model_args={}, layout_digest="0" * 32,
        training={}, codec="fp32", sends="delta", privacy=TERMS.order(),
    )  # fmt: skip
    return TrainTask.of(TaskCall(campaign="a", task_id="1-x", attempt=1, queue="default"), order)


def _median(step: Callable[[], object], repeat: int) -> float:
    step()
    taken = []
    for _ in range(repeat):
        begun = time.process_time()
        step()
        taken.append(1000 * (time.process_time() - begun))
    return statistics.median(taken)


if __name__ == "__main__":
    main()
