"""``fedtide simulate`` and ``fedtide sweep``: would this work on my fleet, and with which settings?"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordinator.cli.group import EXIT_WITHOUT_RESULT, fedtide, json_option, print_json, set_option
from coordinator.cli.launching import load_campaign
from fl_core.errors import SpecError
from fl_core.program.command_line import Setting
from fl_core.program.streams import outlive_readers

if TYPE_CHECKING:
    from coordinator.simulation.sweep import Row
    from coordinator.simulation.training import Way


spec_argument = click.argument("spec_path", metavar="SPEC.toml", type=click.Path(path_type=Path))
devices_option = click.option(
    "--devices", metavar="NUMBER", type=click.IntRange(1), help="How many devices there are.  [default: the trace's]"
)
trace_option = click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="When devices are there: a CSV or Parquet file with device, start, end and speed.",
)
profile_option = click.option(
    "--profile",
    metavar="PROFILE.toml",
    type=click.Path(path_type=Path),
    help="What they are like: data, speeds, networks, times.  [default: they differ in speed]",
)
seeds_option = click.option(
    "--seeds", metavar="NUMBER", type=click.IntRange(1, 1000), default=1, help="Run it with so many seeds."
)
training_option = click.option(
    "--training",
    type=click.Choice(["auto", "one-by-one", "together"]),
    default="auto",
    show_default=True,
    help="Train tasks as devices do, or many as one batch, or whatever is faster; each has bits of its own.",
)


@fedtide.command()
@spec_argument
@devices_option
@profile_option
@trace_option
@seeds_option
@training_option
@click.option(
    "--workers",
    "num_processes",
    metavar="NUMBER",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="So many processes train what is trained one by one; the bits are the same.",
)
@set_option
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/NAME-TIME]")
@json_option
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="error", show_default=True
)
def simulate(
    spec_path: Path,
    devices: int | None,
    profile: Path | None,
    trace: Path | None,
    seeds: int,
    training: str,
    num_processes: int,
    settings: tuple[tuple[str, Any], ...],
    out: Path | None,
    as_json: bool,
    log_level: str,
) -> None:
    """Run a campaign in virtual time: the same coordinator, any number of devices, no broker and no waiting."""
    from fl_core.program.extras import need

    outlive_readers()
    need("fedtide simulate", "safetensors", *(() if as_json else ("rich",)))
    from coordinator.launch.resume import new_run
    from coordinator.simulation.launch import simulate_campaign
    from coordinator.storage.run_folder import RunFolder
    from fl_core.program.logs import configure_logs

    configure_logs(log_level)
    spec = load_campaign(spec_path, dict(settings), *([profile.parent] if profile else []))
    path = out or new_run(spec.campaign.name)
    way = _way(training)
    summaries = []
    for seed in range(spec.campaign.seed, spec.campaign.seed + seeds):
        one = spec.model_copy(update={"campaign": spec.campaign.model_copy(update={"seed": seed})})
        folder = RunFolder(path if seeds == 1 else path / f"seed-{seed}")
        started = time.perf_counter()
        summary, _ = simulate_campaign(one, devices, profile, folder, trace=trace, way=way, num_processes=num_processes)
        rate = summary["merged"] / (time.perf_counter() - started)
        summaries.append({"seed": seed, "simulated_per_second": rate, **summary})
    if as_json:
        return print_json({"folder": str(path), "runs": summaries})
    return _print(path, summaries)


def _way(training: str) -> Way:
    return "one_by_one" if training == "one-by-one" else "together" if training == "together" else "auto"


def _print(path: Path, summaries: list[dict[str, Any]]) -> None:
    from coordinator.telemetry.units import duration, number
    from coordinator.terminal.tables import console, new_table

    table = new_table("seed", "accuracy", "loss", "versions", "merged", "staleness p95", "virtual time", "updates/s")
    for row in summaries:
        table.add_row(
            str(row["seed"]), number(row.get("final_accuracy")), number(row.get("final_loss")), str(row["versions"]),
            str(row["merged"]), number(row["staleness"]["p95"], 0), duration(row["wall_seconds"]),
            number(row["simulated_per_second"], 0),
        )  # fmt: skip
    console().print(table)
    if len(summaries) > 1 and (found := _spread(summaries)):
        click.echo(found)
    click.echo(f"Left in {path}: report.html, curves.png, history.jsonl, model.safetensors, simulation.json.")


def _spread(summaries: list[dict[str, Any]]) -> str:
    scores = [row["final_accuracy"] for row in summaries if row.get("final_accuracy") is not None]
    if len(scores) < 2:
        return ""
    import statistics

    return (
        f"accuracy {statistics.mean(scores):.3f}, standard deviation {statistics.stdev(scores):.3f} over "
        f"{len(scores)} seeds"
    )


class Axis(click.ParamType[tuple[str, list[Any]]]):
    """``KEY=VALUE,VALUE``: a dotted key of a spec and values for it, as TOML or words.

    >>> [Axis().convert(each, None, None) for each in ("aggregation.buffer_size=5,10", "codec.name=fp16,int8")]
    [('aggregation.buffer_size', [5, 10]), ('codec.name', ['fp16', 'int8'])]
    """

    name = "KEY=VALUE,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, list[Any]]:
        """The key and its values.

        Raises:
            click.BadParameter: there is no ``=``, or the key has no section.
        """
        if isinstance(value, tuple):
            return value
        key, _, text = str(value).partition("=")
        key, values = Setting().convert(f"{key}=[{text}]" if _ else str(value), param, ctx)
        if isinstance(values, list):
            return key, values
        return key, [Setting().convert(f"{key}={word.strip()}", param, ctx)[1] for word in text.split(",")]


@fedtide.command()
@spec_argument
@devices_option
@profile_option
@trace_option
@click.option(
    "--grid",
    "axes",
    metavar="KEY=VALUE,...",
    type=Axis(),
    multiple=True,
    required=True,
    help="Values of a key of the spec, such as aggregation.buffer_size=5,10; repeatable, for all combinations.",
)
@seeds_option
@click.option(
    "--jobs", "at_once", metavar="NUMBER", type=click.IntRange(1, 256), default=1, help="Run so many at a time."
)
@training_option
@set_option
@click.option("--out", type=click.Path(path_type=Path), help="The sweep's folder.  [default: runs/NAME-TIME]")
@json_option
def sweep(
    spec_path: Path,
    devices: int | None,
    profile: Path | None,
    trace: Path | None,
    axes: tuple[tuple[str, list[Any]], ...],
    seeds: int,
    at_once: int,
    training: str,
    settings: tuple[tuple[str, Any], ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Simulate a campaign with all combinations of some settings, and say which does best."""
    from fl_core.program.extras import need

    outlive_readers()
    need("fedtide sweep", "safetensors", *(() if as_json else ("rich",)))
    from coordinator.launch.resume import new_run
    from coordinator.report.pages.comparison import write_comparison
    from coordinator.simulation.sweep import Plan, Ran, rows, run_sweep

    changes = dict(settings)
    spec = load_campaign(spec_path, changes, *([profile.parent] if profile else []))
    path = out or new_run(spec.campaign.name)

    def tell(ran: Ran, done: int, all_of_them: int) -> None:
        if not as_json:
            what = ", ".join(f"{key} = {value}" for key, value in ran.settings.items())
            click.echo(
                f"{done} of {all_of_them}: {what}, seed {ran.seed}" + (f": {ran.error}" if ran.error else ""), err=True
            )

    runs = run_sweep(
        Plan(spec_path, changes, devices, profile, trace, _way(training)), axes, seeds, path, at_once, tell
    )
    ended = [ran.folder for ran in runs if not ran.error]
    if ended:
        write_comparison(ended[:MAX_COMPARED], path / "comparison.html")
    if as_json:
        print_json({"folder": str(path), "rows": [asdict(row) for row in rows(runs)]})
    else:
        _print_sweep(path, rows(runs))
    if not ended:
        raise SystemExit(EXIT_WITHOUT_RESULT)


MAX_COMPARED = 12
"""A page with more curves than that shows none."""


def _print_sweep(path: Path, found: list[Row]) -> None:
    from coordinator.telemetry.units import amount, duration
    from coordinator.terminal.tables import console, new_table

    table = new_table(*found[0].settings, "accuracy", "loss", "virtual time", "merged", "up", "failed")
    for row in sorted(found, key=lambda row: -row.means.get("final_accuracy", -row.means.get("final_loss", 1e30))):
        mean = row.means
        table.add_row(
            *map(str, row.settings.values()),
            _with_deviation(row, "final_accuracy"), _with_deviation(row, "final_loss"),
            duration(mean.get("wall_seconds")), f"{mean.get('merged', 0):.0f}", amount(mean.get("bytes_up", 0)),
            f"{row.failed} of {row.runs}" if row.failed else "",
        )  # fmt: skip
    console().print(table)
    click.echo(f"Left in {path}: sweep.csv, comparison.html, and a folder for each run.")


def _with_deviation(row: Row, name: str) -> str:
    from coordinator.telemetry.units import number

    deviation = row.deviations.get(name)
    return number(row.means.get(name), 3) + (f" ± {deviation:.3f}" if deviation is not None else "")


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write it there.  [default: standard output]")
def profile(folder: Path, out: Path | None) -> None:
    """The fleet of a run that kept its log, as a profile for `simulate` and `sweep`."""
    import tomli_w

    from coordinator.simulation.fleet.from_run import profile_of
    from fl_core.factory import add_working_directory

    add_working_directory()
    text = tomli_w.dumps(profile_of(folder))
    if out is None:
        return click.echo(text, nl=False)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{out} cannot be written ({error.strerror}); give another --out.") from error
    return None
