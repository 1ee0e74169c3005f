"""Commands that list and steer campaigns: campaigns, status, pause, resume, stop, rejected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from coordinator.cli.group import blobs_option, broker_option, fedtide, json_option, print_json, registry_at
from fl_core.clock import MACHINE
from fl_core.errors import CampaignError, SpecError
from fl_core.wire.states import TAKEN_IN, Request


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
    found = registry_at(broker).campaigns()
    if as_json:
        return print_json([status.to_row(name) for name, status in found])
    from coordinator.terminal.tables import print_campaigns

    return print_campaigns(found)


def _clean(wanted: tuple[str, ...], broker: str, blobs: str, *, yes: bool, as_json: bool) -> None:
    from coordinator.telemetry.units import amount
    from fl_core.broker.bulk.places import Places
    from fl_core.broker.connection import connect
    from fl_core.broker.overview.leftovers import drop_leftover, find_leftovers

    client = connect(broker, timeout_seconds=15)
    client.loads_functions = yes or sys.stdin.isatty()
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
        return print_json(rows)
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
    registry = registry_at(broker)
    name = registry.find(campaign)
    found = registry.status(name)
    if as_json:
        return print_json(found.to_row(name))
    from coordinator.terminal.tables import print_status

    return print_status(name, found)


def _steer(request: Request, past: str) -> Callable[..., None]:
    states = TAKEN_IN[request]

    def command(campaign: str, broker: str, as_json: bool) -> None:
        registry = registry_at(broker)
        name = registry.find(campaign)
        state = registry.status(name).state or "unknown"
        if state not in states:
            raise CampaignError(f"campaign {name} is {state}; {request} needs one that is {' or '.join(states)}.")
        registry.request(name, request)
        after = _await_change(registry, name, state)
        result = {"campaign": name, "request": request, "state": after, "taken": after != state}
        if as_json:
            return print_json(result)
        if result["taken"]:
            return click.echo(f"{name} is {after}.")
        return click.echo(f"{name} will be {past}: the request waits for its coordinator, which does not answer now.")

    return command


def _await_change(registry: Any, name: str, state: str, seconds: float = 4.0) -> str:
    deadline = MACHINE.monotonic() + seconds
    now = state
    while now == state and MACHINE.monotonic() < deadline:
        MACHINE.wait(0.1)
        now = registry.status(name).state or state
    return str(now)


_STEERING: Mapping[Request, tuple[str, str]] = {
    "pause": ("paused", "Issue no new tasks; updates that come late are still merged."),
    "resume": ("resumed", "Issue tasks again."),
    "stop": ("stopped", "End a campaign: merge what was received, cancel what is out."),
}
for _request, (_past, _help) in _STEERING.items():
    fedtide.command(_request, help=_help + " ID may be the beginning of an id, or `latest`.")(
        click.argument("campaign", metavar="ID")(broker_option(json_option(_steer(_request, _past))))
    )


@fedtide.command()
@click.argument("campaign", metavar="ID")
@click.option("--show", metavar="N", type=click.IntRange(1), help="Everything about the N-th of the list.")
@click.option("--readmit", metavar="N", type=click.IntRange(1), help="Merge the N-th of the list after all.")
@broker_option
@json_option
def rejected(campaign: str, show: int | None, readmit: int | None, broker: str, as_json: bool) -> None:
    """The quarantine: updates that were refused, with reason and sender, the newest first."""
    from coordinator.monitor.quarantine import list_parked, readmit_parked
    from coordinator.terminal.tables import print_parked, print_parked_list
    from fl_core.broker.connection import connect

    registry = registry_at(broker)
    name = registry.find(campaign)
    client = connect(broker, timeout_seconds=5)
    rows = list_parked(client, name)
    wanted = readmit or show
    if wanted is not None and wanted > len(rows):
        raise SpecError(f"there is no rejected update {wanted}; {name} has {len(rows)} in quarantine.")
    if readmit is not None:
        outcome = readmit_parked(client, registry, name, rows[readmit - 1])
        return print_json(outcome) if as_json else click.echo(outcome["sentence"])
    if show is not None:
        return print_json(rows[show - 1]) if as_json else print_parked(rows[show - 1])
    return print_json(rows) if as_json else print_parked_list(rows)
