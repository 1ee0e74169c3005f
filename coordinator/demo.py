"""``fedtide demo``: eight unequal workers train handwritten digits, without a barrier and then with one.

Both campaigns run on one broker and one fleet, with the same model, data and local training, until the same accuracy.
Before them every worker does one task of a campaign that nobody counts: a worker loads torch at its first task, which
takes seconds on a small machine and would be held against whichever campaign came first. From then on time counts from
each campaign's launch.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coordinator.curves import draw_comparison
from coordinator.examples import example
from coordinator.fleet import Fleet, load_fleet
from coordinator.leavings import leave_pictures
from coordinator.progress import Display, summary_table
from coordinator.run import lead, local_fleet, open_broker
from coordinator.run_folder import RunFolder
from coordinator.tables import new_table, number
from fl_core.broker.connection import connect
from fl_core.broker.roster import BEAT_SECONDS, Roster
from fl_core.broker.url import public_url
from fl_core.errors import CampaignError
from fl_core.logs import configure_logs
from fl_core.spec import CampaignSpec, load_spec, parse_spec

PREFERRED_PORT = 6399
IDLE_SECONDS = 60.0
WARM_UP_ATTEMPTS = 5
WARM_UP_SECONDS = 60.0
INTERRUPTED_EXIT_CODE = 130

Summary = dict[str, Any]


def run_demo(out: Path, *, synchronous: bool, quiet: bool) -> dict[str, Any]:
    """Run the demonstration; files go to ``out/asynchronous`` and ``out/synchronous``.

    Args:
        out: the folder for everything.
        synchronous: run the comparison as well.
        quiet: say nothing.

    Returns:
        ``asynchronous`` and ``synchronous``: the summaries (the latter None if it was left out), ``target``: the
        accuracy, ``seconds_to_target`` by campaign, and ``ratio``: synchronous by asynchronous seconds, None if one of
        them is not known.

    Raises:
        SystemExit: Ctrl-C; code 130, after all processes have ended.
        SpecError, CampaignError, BrokerUnavailable: something that it needs is not there.
    """
    console = Console(quiet=quiet, highlight=False)
    folder = example("digits")
    spec = load_spec(folder / "campaign.toml")
    workers = load_fleet(folder / "fleet.toml")
    names = [worker.name for worker in workers]
    configure_logs("error")
    with (
        open_broker(None, out / "broker", PREFERRED_PORT) as (public, url),
        local_fleet(workers, url, out / "workers") as fleet,
    ):
        console.print(
            f"broker  [bold]{public_url(public)}[/]   (other terminals: export FEDTIDE_BROKER={public})", soft_wrap=True
        )
        with console.status(f"starting {len(names)} workers; each loads torch at its first task"):
            _warm_up(spec, url, RunFolder(out / "warm-up"), fleet, names)
            _wait_until_idle(url, fleet, names)
        results = {"asynchronous": _campaign(spec, url, out / "asynchronous", fleet, quiet)}
        _show_asynchronous(console, results["asynchronous"], out / "asynchronous", folder)
        if synchronous:
            console.print(
                "\nThe same fleet again, synchronously: FedAvg, each version waits for the slowest of all eight.\n"
                "This takes about two minutes; Ctrl-C leaves it out.\n"
            )
            _wait_until_idle(url, fleet, names)
            results["synchronous"] = _campaign(
                synchronous_spec(spec, cohort=len(names)), url, out / "synchronous", fleet, quiet
            )
    return _compare(console, results, out, spec.stop.accuracy or 0.9)


def synchronous_spec(spec: CampaignSpec, *, cohort: int, **stop: Any) -> CampaignSpec:
    """The same campaign with a barrier: FedAvg over the whole fleet, server learning rate 1.

    Args:
        cohort: tasks per version.
        stop: replaces the stop conditions; without any they stay.
    """
    document = spec.model_dump(mode="json")
    document["campaign"]["name"] = f"{spec.campaign.name}-synchronous"
    document["aggregation"] = {"strategy": "fedavg", "buffer_size": cohort}
    document["server_optimizer"] = {"name": "sgd", "learning_rate": 1.0}
    document["dispatch"]["concurrency"] = cohort
    if stop:
        document["campaign"]["name"] = f"{spec.campaign.name}-warm-up"
        document["evaluation"] = {}
        document["stop"] = stop
    return parse_spec(document, source="the demonstration's spec")


def _warm_up(spec: CampaignSpec, url: str, folder: RunFolder, fleet: Fleet, names: list[str]) -> None:
    """Have every worker do one task."""
    warm_up = synchronous_spec(spec, cohort=len(names), versions=1, seconds=WARM_UP_SECONDS)
    cold = set(names)
    for _ in range(WARM_UP_ATTEMPTS):
        _wait_until_idle(url, fleet, names)
        summary = lead(warm_up, url, folder, fleet, on_launch=lambda *_: None, on_progress=lambda _: None)
        _end_if_interrupted(summary)
        cold -= summary["merged_by_worker"].keys()
        if not cold:
            return
    raise CampaignError(f"worker {min(cold)} did no task; see the logs of the workers beside {folder.path}.")


def _wait_until_idle(url: str, fleet: Fleet, names: list[str]) -> None:
    """Until every worker has said, from now on, that it has nothing in hand (a campaign's end wakes no sleeper)."""
    roster, started = Roster(connect(url)), time.monotonic()
    busy = set(names)
    while busy:
        waited = time.monotonic() - started
        busy -= {
            seen.beat.worker
            for seen in roster.present()
            if seen.beat.state == "idle"
            and not seen.beat.holding
            and seen.is_alive
            # One that is idle says so rarely; had it taken a task since, it would have said that by now.
            and (seen.silent_seconds < waited or waited > 2 * BEAT_SECONDS)
        }
        fleet.check()
        if waited > IDLE_SECONDS:
            raise CampaignError(f"worker {min(busy)} is not ready after {IDLE_SECONDS:.0f} s; see its log.")
        time.sleep(0.05)


def _campaign(spec: CampaignSpec, url: str, path: Path, fleet: Fleet, quiet: bool) -> Summary:
    folder = RunFolder(path)
    if quiet:
        summary = lead(spec, url, folder, fleet, on_launch=lambda *_: None, on_progress=lambda _: None)
    else:
        display = Display(spec, path)
        configure_logs("info", stream=display.log_stream)
        with display:
            summary = lead(spec, url, folder, fleet, on_launch=display.show_launch, on_progress=display.show_progress)
    leave_pictures(folder, summary, title=_title(spec, summary))
    _end_if_interrupted(summary)
    return summary


def _title(spec: CampaignSpec, summary: Summary) -> str:
    num_workers = len(summary["merged_by_worker"])
    return f"{summary['campaign']}: {spec.aggregation.strategy}, {summary['merged']} updates of {num_workers} workers"


def _end_if_interrupted(summary: Summary) -> None:
    if summary["state"] == "interrupted":
        Console(stderr=True).print("interrupted; the broker and the workers are being stopped.")
        raise SystemExit(INTERRUPTED_EXIT_CODE)


# -- what is said --------------------------------------------------------------------------------------------------


def _show_asynchronous(console: Console, summary: Summary, path: Path, files: Path) -> None:
    console.print(summary_table(summary))
    if (path / "curves.png").is_file():
        console.print(f"picture: {path / 'curves.png'}")
    console.print("the same campaign by hand, with files to change:", end="\n\n")
    console.print(f"    {_next_command(files)}", soft_wrap=True)


def _next_command(files: Path) -> str:
    program = "fedtide" if shutil.which("fedtide") else _short(Path(sys.argv[0]))
    return shlex.join([program, "run", _short(files / "campaign.toml"), "--fleet", _short(files / "fleet.toml")])


def _short(path: Path) -> str:
    """The path as somebody would type it here."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _compare(console: Console, results: dict[str, Summary], out: Path, target: float) -> dict[str, Any]:
    seconds = {label: summary["seconds_to"].get(f"{target:.2f}") for label, summary in results.items()}
    fast, slow = seconds["asynchronous"], seconds.get("synchronous")
    ratio = round(slow / fast, 2) if fast and slow else None
    if "synchronous" in results:
        console.print(_comparison_table(results, seconds, target))
        if ratio is not None:
            console.print(
                f"{target:.2f} of the held-out digits right after [bold]{fast:.1f} s[/] asynchronously and after "
                f"[bold]{slow:.1f} s[/] synchronously: {ratio:.1f} times as long.\n"
                "Seconds count from each campaign's launch, with all workers idle and torch loaded."
            )
        else:
            console.print(f"no ratio: not every campaign reached {target:.2f} in its time.")
        picture = out / "comparison.png"
        title = f"Handwritten digits on eight unequal devices: time to {target:.2f}"
        histories = {label: RunFolder(out / label).history for label in results}
        if draw_comparison(histories, picture, title, target):
            console.print(f"picture: {picture}")
    return {
        "asynchronous": results["asynchronous"],
        "synchronous": results.get("synchronous"),
        "target": target,
        "seconds_to_target": seconds,
        "ratio": ratio,
    }


def _comparison_table(results: dict[str, Summary], seconds: dict[str, float | None], target: float) -> Table:
    table = new_table("", *results)
    rows: dict[str, list[str]] = {
        "strategy": [str(summary["strategy"]) for summary in results.values()],
        f"seconds to {target:.2f}": [number(seconds[label], 1) for label in results],
        "updates merged": [str(summary["merged"]) for summary in results.values()],
        "merged per second": [number(summary["updates_per_second"], 1) for summary in results.values()],
        "versions": [str(summary["versions"]) for summary in results.values()],
        "staleness p50 / p95 / max": [
            " / ".join(str(summary["staleness"][name]) for name in ("p50", "p95", "max"))
            for summary in results.values()
        ],
        "final accuracy": [number(summary["final_accuracy"]) for summary in results.values()],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
