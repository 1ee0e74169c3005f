"""``fedtide demo``: eight unequal workers train handwritten digits, without a barrier and then with one.

Both campaigns run on one broker and one fleet, with the same model, data and local training, until the same accuracy.
Before them every worker does a task of a campaign that nobody counts, which goes on until each has: a worker loads
torch at its first task, which takes seconds on a small machine and would be held against whichever campaign came first.
From then on time counts from each campaign's launch.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coordinator.launch.examples import example
from coordinator.launch.fleet import load_fleet
from coordinator.launch.fleet_wait import FleetWait
from coordinator.launch.leavings import leave_pictures
from coordinator.launch.options import Callbacks, LaunchOptions
from coordinator.launch.run import lead
from coordinator.launch.surroundings import Surroundings, local_fleet, open_broker
from coordinator.report.curves import draw_comparison
from coordinator.storage.run_folder import RunFolder
from coordinator.telemetry.units import number
from coordinator.terminal.progress import Display, summary_table
from coordinator.terminal.tables import new_table
from fl_core.broker.connection import connect
from fl_core.broker.overview.registry import Registry
from fl_core.broker.overview.roster import Roster
from fl_core.broker.server.embedded_watch import EmbeddedWatch
from fl_core.broker.url import public_url
from fl_core.program.logs import configure_logs
from fl_core.spec import CampaignSpec, StopMetric, load_spec, parse_spec
from fl_core.wire.status import Summary as CampaignSummary

PREFERRED_PORT = 6399
# A worker says within this time, and that of a beat, that it has something in hand; who says nothing new has nothing.
NEWS_SECONDS = 2.0
SAY_SECONDS = 10.0
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
    watches: list[EmbeddedWatch] = []
    with (
        open_broker(None, out / "broker", PREFERRED_PORT, watches) as (public, url),
        local_fleet(workers, url, out / "workers") as fleet,
    ):
        around = Surroundings(url, fleet, watches)
        console.print(
            f"broker  [bold]{public_url(public)}[/]   (other terminals: export FEDTIDE_BROKER={public})", soft_wrap=True
        )
        with _saying(console, f"starting {len(names)} workers; each loads torch at its first task") as say:
            _wait_until_idle(url, FleetWait(fleet, "start", say), names)
            _warm_up(spec, RunFolder(out / "warm-up"), around, names, say)
            _wait_until_idle(url, FleetWait(fleet, "be free", say), names)
        results = {"asynchronous": _campaign(spec, out / "asynchronous", around, quiet)}
        _show_asynchronous(console, results["asynchronous"], out / "asynchronous", folder)
        if synchronous:
            console.print(
                "\nThe same fleet again, synchronously: FedAvg, each version waits for the slowest of all eight.\n"
                "This takes about two minutes; Ctrl-C leaves it out.\n"
            )
            with _saying(console, "waiting until all workers are free") as say:
                _wait_until_idle(url, FleetWait(fleet, "be free", say), names)
            slow = synchronous_spec(spec, cohort=len(names))
            results["synchronous"] = _campaign(slow, out / "synchronous", around, quiet)
    return _compare(console, results, out, spec.stop.accuracy or 0.9)


def synchronous_spec(spec: CampaignSpec, *, cohort: int) -> CampaignSpec:
    """The same campaign with a barrier: FedAvg over the whole fleet, server learning rate 1, ``cohort`` tasks each."""
    document = spec.model_dump(mode="json")
    document["campaign"]["name"] = f"{spec.campaign.name}-synchronous"
    document["aggregation"] = {"strategy": "fedavg", "buffer_size": cohort}
    document["server_optimizer"] = {"name": "sgd", "learning_rate": 1.0}
    document["dispatch"]["concurrency"] = cohort
    return parse_spec(document, source="the demonstration's spec")


def warm_up_spec(spec: CampaignSpec, *, num_workers: int) -> CampaignSpec:
    """The same model and data without a score and without an end."""
    document = spec.model_dump(mode="json")
    document["campaign"]["name"] = f"{spec.campaign.name}-warm-up"
    document["dispatch"]["concurrency"] = num_workers
    return parse_spec({**document, "evaluation": {}, "stop": {}}, source="the warm-up's spec")


def _warm_up(
    spec: CampaignSpec,
    folder: RunFolder,
    around: Surroundings,
    names: list[str],
    say: Callable[[str], None],
) -> None:
    """Have every worker do a task. The broker serves first who has waited longest, so each gets one."""
    registry = Registry(connect(around.url))
    wait = FleetWait(around.fleet, "load torch and do a task", say)
    asked = False
    say("loading torch here as well")

    def look(progress: Any) -> None:
        nonlocal asked
        cold = set(names) - progress.merged_by_worker.keys()
        wait.look(cold, progress.claimed)
        if not cold and not asked:
            asked = True
            registry.request(progress.campaign, "stop")

    spec = warm_up_spec(spec, num_workers=len(names))
    summary = lead(spec, folder, around, LaunchOptions(), Callbacks(on_progress=look))
    _end_if_interrupted(summary)


def _wait_until_idle(url: str, wait: FleetWait, names: list[str]) -> None:
    """Until every worker has nothing in hand (a campaign's end wakes no sleeper)."""
    roster, started = Roster(connect(url)), time.monotonic()
    busy = set(names)
    while busy:
        waited = time.monotonic() - started
        seen = [seen for seen in roster.present() if seen.beat.worker in busy]
        # Idle workers beat rarely: one that has said so before now is free if it would have told of a task since.
        busy -= {
            one.beat.worker
            for one in seen
            if one.beat.state == "idle"
            and not one.beat.holding
            and one.is_alive
            and (one.silent_seconds < waited or waited > NEWS_SECONDS)
        }
        wait.look(busy, tuple(sorted(one.beat.worker for one in seen)))
        time.sleep(0.05)


@contextlib.contextmanager
def _saying(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A line that changes on a terminal, a line now and then elsewhere."""
    said = time.monotonic()

    def say(now: str) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_SECONDS:
            said = time.monotonic()
            console.print(now, soft_wrap=True)

    with console.status(text) as status:
        yield status.update if console.is_terminal else say


def _campaign(spec: CampaignSpec, path: Path, around: Surroundings, quiet: bool) -> Summary:
    folder = RunFolder(path)
    if quiet:
        summary = lead(spec, folder, around, LaunchOptions(), Callbacks())
    else:
        display = Display(spec, path)
        configure_logs("info", stream=display.log_stream)
        with display:
            told = Callbacks(on_launch=display.show_launch, on_progress=display.show_progress)
            summary = lead(spec, folder, around, LaunchOptions(), told)
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
    console.print(summary_table(CampaignSummary.from_map(summary)))
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
                f"[bold]{slow:.1f} s[/] synchronously: {slow / fast:.1f} times as long.\n"
                "Seconds count from each campaign's launch, with all workers idle and torch loaded."
            )
        else:
            console.print(f"no ratio: not every campaign reached {target:.2f} in its time.")
        picture = out / "comparison.png"
        title = f"Handwritten digits on eight unequal devices: time to {target:.2f}"
        histories = {label: RunFolder(out / label).history for label in results}
        if draw_comparison(histories, picture, title, StopMetric(name="accuracy", at_least=target)):
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
