"""``fedtide simulate``: would this work on my fleet?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordinator.cli.group import fedtide, json_option, print_json
from coordinator.cli.launching import load_campaign
from fl_core.program.command_line import Setting
from fl_core.program.streams import outlive_readers

if TYPE_CHECKING:
    from coordinator.simulation.training import Way


@fedtide.command()
@click.argument("spec_path", metavar="SPEC.toml", type=click.Path(path_type=Path))
@click.option("--devices", metavar="NUMBER", type=click.IntRange(1), required=True, help="How many devices there are.")
@click.option(
    "--profile",
    metavar="PROFILE.toml",
    type=click.Path(path_type=Path),
    help="What they are like: data, speeds, networks, times.  [default: they differ in speed]",
)
@click.option("--seeds", metavar="NUMBER", type=click.IntRange(1, 1000), default=1, help="Run it with so many seeds.")
@click.option(
    "--training",
    type=click.Choice(["auto", "one-by-one", "together"]),
    default="auto",
    show_default=True,
    help="Train tasks as devices do, or many as one batch, or whatever is faster; each has bits of its own.",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    type=Setting(),
    multiple=True,
    help="Replace a key of the spec, such as stop.updates=1000; repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/NAME-TIME]")
@json_option
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="error", show_default=True
)
def simulate(
    spec_path: Path,
    devices: int,
    profile: Path | None,
    seeds: int,
    training: str,
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
    way: Way = "one_by_one" if training == "one-by-one" else "together" if training == "together" else "auto"
    summaries = []
    for seed in range(spec.campaign.seed, spec.campaign.seed + seeds):
        one = spec.model_copy(update={"campaign": spec.campaign.model_copy(update={"seed": seed})})
        folder = RunFolder(path if seeds == 1 else path / f"seed-{seed}")
        started = time.perf_counter()
        summary, _ = simulate_campaign(one, devices, profile, folder, way=way)
        rate = summary["merged"] / (time.perf_counter() - started)
        summaries.append({"seed": seed, "simulated_per_second": rate, **summary})
    if as_json:
        return print_json({"folder": str(path), "runs": summaries})
    return _print(path, summaries)


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
