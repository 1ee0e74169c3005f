"""A sweep: simulations of one spec over all combinations of some settings, each with several seeds."""

from __future__ import annotations

import csv
import itertools
import multiprocessing
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_core.errors import CampaignError, FedtideError, SpecError

MAX_RUNS = 10_000
# What of a summary is told of each run.
MEASURES = (
    "final_accuracy",
    "best_accuracy",
    "final_loss",
    "wall_seconds",
    "merged",
    "versions",
    "bytes_up",
    "bytes_down",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What all runs of a sweep have in common.

    Attributes:
        spec: the file.
        changes: values by dotted key, in the place of those in the file.
        devices, profile, trace, way: as of ``simulate_campaign``.
    """

    spec: Path
    changes: Mapping[str, Any]
    devices: int | None
    profile: Path | None
    trace: Path | None
    way: Any


@dataclass(slots=True)
class Ran:
    """One run of a sweep.

    Attributes:
        settings: what was set for it, by dotted key.
        seed: the campaign's.
        folder: what it left.
        measures: of its summary; empty where it failed.
        error: why it failed; empty where it did not.
    """

    settings: dict[str, Any]
    seed: int
    folder: Path
    measures: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def combinations(axes: Iterable[tuple[str, Sequence[Any]]]) -> list[dict[str, Any]]:
    """All combinations of the axes' values; one without settings where there is no axis.

    Raises:
        SpecError: an axis is there twice.

    >>> combinations([("a.b", [1, 2]), ("c.d", [3])])
    [{'a.b': 1, 'c.d': 3}, {'a.b': 2, 'c.d': 3}]
    """
    axes = list(axes)
    keys = [key for key, _ in axes]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise SpecError(f"--grid {twice} is there twice; name all its values in one.")
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]


def run_sweep(
    plan: Plan,
    axes: Iterable[tuple[str, Sequence[Any]]],
    num_seeds: int,
    out: Path,
    at_once: int,
    on_done: Callable[[Ran, int, int], None] = lambda ran, done, all_of_them: None,
) -> list[Ran]:
    """Run all of them, and leave ``sweep.csv`` and a page.

    A run that fails is told in its row, and costs no other. A run that has ended is not repeated when the sweep is
    started again.

    Args:
        axes: dotted keys of the spec, with their values.
        num_seeds: each combination runs with so many seeds, from the spec's on.
        out: gets a folder for each run.
        at_once: how many run at a time, each in a process.
        on_done: called with each run that has ended, how many have, and how many there are.

    Raises:
        SpecError: there are too many, or one of them is no spec.
        CampaignError: the folder cannot be written.
    """
    from fl_core.spec import load_spec

    settings = combinations(axes)
    if (number := len(settings) * num_seeds) > MAX_RUNS:
        raise SpecError(f"the sweep has {number:,} runs, more than {MAX_RUNS:,}; leave some values out.")
    firsts = [load_spec(plan.spec, {**plan.changes, **some}).campaign.seed for some in settings]
    runs = [
        Ran(some, seed, out / f"{number:04d}-seed-{seed}")
        for number, (some, first) in enumerate(zip(settings, firsts, strict=True))
        for seed in range(first, first + num_seeds)
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(_run, plan, ran): ran for ran in runs}
            for done, future in enumerate(as_completed(waiting), start=1):
                ran = waiting[future]
                ran.measures, ran.error = future.result()
                on_done(ran, done, len(runs))
        _write(out, runs)
    except BrokenProcessPool:
        raise CampaignError(
            "a process of the sweep was ended, perhaps for want of memory; start it again with the same --out and "
            "fewer --jobs: what has ended is not repeated."
        ) from None
    except OSError as error:
        raise CampaignError(f"{out} cannot be written ({error.strerror or error}); make room there.") from error
    return runs


def _run(plan: Plan, ran: Ran) -> tuple[dict[str, Any], str]:
    """One simulation, in a process of its own."""
    import json

    from coordinator.simulation.launch import simulate_campaign
    from coordinator.storage.run_folder import RunFolder
    from fl_core.factory import add_working_directory
    from fl_core.program.logs import configure_logs
    from fl_core.spec import load_spec
    from fl_core.user_code import RAISED

    configure_logs("error")
    add_working_directory(plan.spec.parent)
    folder = RunFolder(ran.folder)
    try:
        spec = load_spec(plan.spec, {**plan.changes, **ran.settings, "campaign.seed": ran.seed})
        if folder.summary.is_file():
            before = load_spec(folder.spec)
            if before != spec.model_copy(update={"checkpoint": before.checkpoint}):
                return {}, f"{ran.folder} holds another run; give another --out"
            summary = json.loads(folder.summary.read_text(encoding="utf-8"))
        else:
            summary, _ = simulate_campaign(
                spec, plan.devices, plan.profile, folder, trace=plan.trace, way=plan.way, pictures=False
            )
    except RAISED as error:
        return {}, str(error) if isinstance(error, FedtideError) else f"{type(error).__name__}: {error}"
    return {**{name: summary.get(name) for name in MEASURES}, "staleness_p95": summary["staleness"]["p95"]}, ""


def _write(out: Path, runs: Sequence[Ran]) -> None:
    keys = list(runs[0].settings)
    with (out / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*keys, "seed", *MEASURES, "staleness_p95", "folder", "error"])
        for ran in runs:
            cells = [ran.measures.get(name) for name in (*MEASURES, "staleness_p95")]
            table.writerow([*ran.settings.values(), ran.seed, *cells, ran.folder.name, ran.error])


@dataclass(frozen=True, slots=True)
class Row:
    """What the seeds of one combination came to: means, and standard deviations where there are several."""

    settings: dict[str, Any]
    runs: int
    failed: int
    means: dict[str, float]
    deviations: dict[str, float]


def rows(runs: Sequence[Ran]) -> list[Row]:
    """A row for each combination, in the sweep's order."""
    found: list[Row] = []
    for settings in [dict(some) for some in dict.fromkeys(tuple(ran.settings.items()) for ran in runs)]:
        mine = [ran for ran in runs if ran.settings == settings]
        values = {
            name: [float(ran.measures[name]) for ran in mine if ran.measures.get(name) is not None] for name in MEASURES
        }
        found.append(
            Row(
                settings, len(mine), sum(bool(ran.error) for ran in mine),
                {name: statistics.mean(some) for name, some in values.items() if some},
                {name: statistics.stdev(some) for name, some in values.items() if len(some) > 1},
            )
        )  # fmt: skip
    return found
