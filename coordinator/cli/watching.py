"""Commands that watch a broker: queues, workers, top, monitor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from coordinator.cli.group import (
    authority_asked_for,
    broker_option,
    fedtide,
    json_option,
    operator,
    print_json,
    registry_at,
)
from fl_core.clock import MACHINE
from fl_core.program.streams import outlive_readers


def _watching(look: Callable[[], Any], show: Callable[[Any], None], watch: float | None) -> None:
    if watch is None:
        return show(look())
    try:
        while True:
            click.clear()
            show(look())
            MACHINE.wait(watch)
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

    _watching(lambda: look_at_queues(broker), print_json if as_json else print_queues, watch)


@fedtide.command()
@broker_option
@json_option
@watch_option
@click.option("--name", help="Only this worker; exit code 1 if it is not alive (for health checks).")
def workers(broker: str, as_json: bool, watch: float | None, name: str | None) -> None:
    """Who is alive and doing what."""
    from coordinator.monitor.queues import look_at_workers
    from coordinator.terminal.tables import print_workers

    authority = authority_asked_for()

    def look() -> list[dict[str, Any]]:
        rows = look_at_workers(broker, authority)
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
    observer = Observer(connect(broker, timeout_seconds=5), authority_asked_for())
    seen = observer.poll()
    if as_json:
        return print_json(gather(observer, name or choose(seen)).to_map())
    return watch(observer, name)


@fedtide.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; others get in with --login or --behind-proxy.",
)
@click.option("--port", "page_port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option(
    "--control",
    metavar="TOKEN",
    envvar="FEDTIDE_CONTROL",
    help="Let those who give this token pause, resume and stop campaigns; without it, the page only shows.",
)
@click.option(
    "--login",
    metavar="TOKEN",
    envvar="FEDTIDE_MONITOR_LOGIN",
    help="Ask those who open the page for this token, of at least 16 characters.",
)
@click.option(
    "--behind-proxy",
    metavar="HEADER",
    help="Answer those whom a reverse proxy names in this header, such as X-Forwarded-User.",
)
@broker_option
def monitor(
    host: str, page_port: int, control: str | None, login: str | None, behind_proxy: str | None, broker: str
) -> None:
    """A live web page of all campaigns, and /metrics for Prometheus. Needs the extra `monitor`."""
    from coordinator.monitor.settings import Access
    from fl_core.program.extras import need

    outlive_readers()
    access = Access(host, control=control, login=login, behind_proxy=behind_proxy)
    need("fedtide monitor", "starlette", "uvicorn", "prometheus_client", extra="monitor")
    from coordinator.monitor.web import serve

    shown = f"[{host}]" if ":" in host else host
    click.echo(f"monitor at http://{shown}:{page_port} (Ctrl-C ends it)", err=True)
    if access.remark():
        click.echo(access.remark(), err=True)
    asks = operator() if control is not None else None
    if asks is not None:
        asks.identity()  # one that is no operator's is told now, and not when somebody presses a button
    seal = None if asks is None else asks.seal
    serve(broker, access=access, port=page_port, seal=seal, authority=authority_asked_for())
