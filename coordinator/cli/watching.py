"""Commands that watch a broker, or judge it: queues, workers, top, monitor, check."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.program.streams import outlive_readers

if TYPE_CHECKING:
    from coordinator.launch.memory_need import MemoryNeed
from coordinator.cli.group import blobs_option, broker_option, fedtide, json_option, print_json, registry_at


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
    from coordinator.monitor.queues import look_at_queues
    from coordinator.terminal.tables import print_queues

    registry = registry_at(broker)
    _watching(lambda: look_at_queues(registry, broker), print_json if as_json else print_queues, watch)


@fedtide.command()
@broker_option
@json_option
@watch_option
@click.option("--name", help="Only this worker; exit code 1 if it is not alive (for health checks).")
def workers(broker: str, as_json: bool, watch: float | None, name: str | None) -> None:
    """Who is alive and doing what."""
    from coordinator.monitor.queues import look_at_workers
    from coordinator.terminal.tables import print_workers

    def look() -> list[dict[str, Any]]:
        rows = look_at_workers(broker)
        return rows if name is None else [row for row in rows if row["worker"] == name]

    _watching(look, print_json if as_json else print_workers, watch)
    if name is not None and not any(row["alive"] for row in look()):
        sys.exit(1)


@fedtide.command()
@click.argument("campaign", metavar="[ID]", required=False)
@broker_option
@json_option
def top(campaign: str | None, broker: str, as_json: bool) -> None:
    """Queues, workers and a campaign, live in the terminal. ID as for `status`; without it, the newest active one."""
    from coordinator.monitor.observer import Observer
    from coordinator.terminal.top import choose, gather, watch
    from fl_core.broker.connection import connect

    name = registry_at(broker).find(campaign) if campaign else None
    observer = Observer(connect(broker, timeout_seconds=5))
    seen = observer.poll()
    if as_json:
        return print_json(gather(observer, name or choose(seen)))
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
    from fl_core.program.extras import need

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

    from coordinator.terminal.tables import print_findings
    from fl_core.broker.bulk.places import Places
    from fl_core.broker.connection import connect
    from fl_core.broker.server.fitness import check_blobs, check_broker

    client = connect(broker, timeout_seconds=5)
    second = Places(client, [blobs]).at(blobs) if blobs else None
    need = _need(spec_path, blobs=bool(blobs)) if spec_path else None
    findings = check_broker(client, need.broker if need else None, need.broker_alone if need else None)
    if second is not None:
        findings += check_blobs(second, client, need.blobs if need else None)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_findings(findings)
    if any(finding.verdict == "fail" for finding in findings):
        sys.exit(1)


def _need(spec_path: Path, *, blobs: bool) -> MemoryNeed:
    from coordinator.launch.memory_need import memory_need
    from fl_core.factory import add_working_directory
    from fl_core.models.build import build_model
    from fl_core.spec import load_spec
    from fl_core.vectors.layout import Layout

    add_working_directory()
    spec = load_spec(spec_path)
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    return memory_need(spec, Layout.of(model, spec.model.buffers), blobs=blobs)
