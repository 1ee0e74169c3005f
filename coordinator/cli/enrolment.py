"""Commands of whoever runs a federation: its authority, and the devices that belong to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import click

from coordinator.cli.group import BROKER_HELP, SubGroup, blobs_option, fedtide, json_option, print_json
from fl_core.errors import SpecError

if TYPE_CHECKING:
    from coordinator.enrolment.authority import Authority
    from coordinator.enrolment.servers import Servers

DAYS = 365.0
Command = TypeVar("Command", bound=Callable[..., Any])

authority_option = click.option(
    "--authority",
    "folder",
    type=click.Path(path_type=Path),
    envvar="FEDTIDE_AUTHORITY",
    default="authority",
    show_default=True,
    help="The authority's folder.",
)
admin_option = click.option(
    "--broker",
    metavar="URL",
    envvar="FEDTIDE_BROKER",
    required=True,
    help=BROKER_HELP + " Here with a user who may set users.",
)
days_option = click.option(
    "--days",
    type=click.FloatRange(0, 36500, min_open=True),
    default=DAYS,
    show_default=True,
    help="How long certificates are good.",
)


def _hours_option(help_text: str) -> Callable[[Command], Command]:
    return click.option(
        "--hours", type=click.FloatRange(0, 24 * 365, min_open=True), default=24.0, show_default=True, help=help_text
    )


@fedtide.group(cls=SubGroup)
def authority() -> None:
    """Make and keep the authority that says who belongs to a federation."""
    _need_cryptography("fedtide authority")


@authority.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", default="federation", show_default=True, help="The authority's name, in certificates.")
@click.option(
    "--host", "hosts", metavar="NAME", multiple=True, default=("localhost", "127.0.0.1"), show_default=True,
    help="A name or an address of the broker, for its certificate; repeatable.",
)  # fmt: skip
@click.option(
    "--reach", metavar="URL", default="", help="The broker as everybody reaches it, without user and password."
)
@blobs_option
@days_option
def init(folder: Path, name: str, hosts: Sequence[str], reach: str, blobs: str, days: float) -> None:
    """Make an authority, and identities for server, coordinator, operator and monitor."""
    from coordinator.enrolment.authority import create_authority
    from fl_core.identity.certificates import Role

    made = create_authority(folder, name)
    for role in (Role.SERVER, Role.COORDINATOR, Role.OPERATOR, Role.MONITOR):
        more = {"hosts": hosts} if role is Role.SERVER else {"broker": _without_user(reach), "blobs": blobs}
        _, path = made.make_identity(role.value, role, days, **more)
        click.echo(f"{role.value:<12} {path}")
    click.echo(f"authority    {made.folder}: keep it where no device and no server reaches it")


@authority.command()
@click.argument("role", type=click.Choice(["coordinator", "operator", "monitor", "keeper", "server"]))
@click.argument("name")
@click.option("--host", "hosts", metavar="NAME", multiple=True, help="A server's names and addresses; repeatable.")
@click.option("--reach", metavar="URL", default="", help="The broker as it is reached, without user and password.")
@blobs_option
@days_option
@authority_option
def issue(role: str, name: str, hosts: Sequence[str], reach: str, blobs: str, days: float, folder: Path) -> None:
    """Make another identity of this ROLE, here; `fedtide authority users` lets it in at the servers."""
    from coordinator.enrolment.authority import open_authority
    from fl_core.identity.certificates import Role

    if hosts and role != "server":
        raise SpecError(f"--host belongs to a server's certificate; {name} is a {role}.")
    if not hosts and role == "server":
        raise SpecError("a server's certificate names it; give its names and addresses with --host.")
    more = {"hosts": hosts} if role == "server" else {"broker": _without_user(reach), "blobs": blobs}
    _, path = open_authority(folder).make_identity(name, Role(role), days, **more)
    click.echo(f"{role:<12} {path}")


@authority.command()
@admin_option
@blobs_option
@authority_option
def users(broker: str, blobs: str, folder: Path) -> None:
    """Have the servers' users be what the authority knows: for a new server, or one that was emptied."""
    from coordinator.enrolment.servers import sync_users

    opened, servers = _open(folder, broker, blobs)
    count, kept = sync_users(opened, servers)
    click.echo(f"{count} users are set{'' if kept else _NOT_KEPT}.")


@fedtide.group(cls=SubGroup)
def device() -> None:
    """Invite devices, let them in, and send them away."""
    _need_cryptography("fedtide device")


@device.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--queue",
    "queues",
    metavar="CLASS",
    multiple=True,
    default=("default",),
    help="A device class that they may serve; repeatable.  [default: default]",
)
@click.option(
    "--reach", metavar="URL", default="", help="The broker as the devices reach it.  [default: as in --broker]"
)
@_hours_option("How long the tokens are good.")
@click.option("--into", type=click.Path(path_type=Path), help="Write NAME.token files there, instead of printing.")
@days_option
@admin_option
@blobs_option
@authority_option
@json_option
def add(
    names: tuple[str, ...], queues: tuple[str, ...], reach: str, hours: float, into: Path | None, days: float,
    broker: str, blobs: str, folder: Path, as_json: bool,
) -> None:  # fmt: skip
    """Make a one-time token for each device; `fedtide-worker enroll TOKEN` uses it there."""
    from coordinator.enrolment.devices import invite
    from fl_core.identity.keys import write_secret

    opened, servers = _open(folder, broker, blobs)
    address = _without_user(reach or broker)
    tokens = invite(opened, servers, names, broker=address, blobs=blobs, queues=queues, days=days, hours=hours)
    if into is not None:
        for token in tokens:
            (into / f"{token.name}.token").unlink(missing_ok=True)
            content = token.to_text().encode() + b"\n"
            write_secret(into / f"{token.name}.token", content, "token", durable=False)
    elif as_json:
        return print_json({token.name: token.to_text() for token in tokens})
    else:
        for token in tokens:
            click.echo(f"{token.name} {token.to_text()}")
    where = f", in {into}" if into is not None else ""
    click.echo(
        f"{len(tokens)} invited{where}, for {hours:g} hours; let them in with `fedtide device accept --watch`.",
        err=True,
    )
    return None


@device.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C.")
@admin_option
@blobs_option
@authority_option
def accept(names: tuple[str, ...], watch: bool, broker: str, blobs: str, folder: Path) -> None:
    """Sign the certificates that devices with a token have asked for."""
    from coordinator.enrolment.devices import accept as answer
    from fl_core.backoff import Backoff
    from fl_core.errors import BrokerUnavailable

    pauses = Backoff(0.2, 2.0)  # where one asks, others do as well
    opened, servers = _open(folder, broker, blobs)
    away = False
    while True:
        try:
            outcome = answer(opened, servers, names)
            if away:
                click.echo("the broker is back", err=True)
            away = False
        except BrokerUnavailable as error:
            if not watch:
                raise
            if not away:
                click.echo(f"{error} Trying again.", err=True)
            outcome, away = [], True
        if outcome:
            pauses.reset()
        for one in outcome:
            click.echo(f"{one.name}: {'refused: ' + one.refused if one.refused else 'enrolled'}")
        if not watch:
            break
        time.sleep(pauses.next())
    if not outcome:
        click.echo("Nobody has asked for a certificate.", err=True)
    if any(one.refused for one in outcome):
        raise SystemExit(1)


@device.command("list")
@authority_option
@json_option
def list_(folder: Path, as_json: bool) -> None:
    """Everybody whom the authority knows."""
    from coordinator.enrolment.authority import open_authority
    from coordinator.terminal.members import print_members

    rows = [
        {
            "name": member.name, "role": member.role.value, "state": member.state, "queues": list(member.queues),
            "until_ms": member.not_after_ms if member.serial else member.token_expires_ms, "serial": member.serial,
        }
        for member in open_authority(folder).members
    ]  # fmt: skip
    return print_json(rows) if as_json else print_members(rows)


@device.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@admin_option
@blobs_option
@authority_option
def revoke(names: tuple[str, ...], broker: str, blobs: str, folder: Path) -> None:
    """Send devices (or other members) away, at once and for good."""
    from coordinator.enrolment.devices import revoke as take_back

    opened, servers = _open(folder, broker, blobs)
    take_back(opened, servers, names)
    click.echo(f"revoked: {', '.join(names)}")


@device.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_hours_option("How long they may ask.")
@authority_option
def rotate(names: tuple[str, ...], hours: float, folder: Path) -> None:
    """Let devices have another certificate, for a new key; `fedtide-worker enroll --renew` asks for it there."""
    from coordinator.enrolment.authority import open_authority
    from coordinator.enrolment.devices import rotate as let_renew

    let_renew(open_authority(folder), names, hours)
    click.echo("They ask with `fedtide-worker enroll --renew`; let them in with `fedtide device accept --watch`.")


_NOT_KEPT = (
    "; a server without an aclfile forgets them at its next restart, and `fedtide authority users` sets them again"
)


def _open(folder: Path, broker: str, blobs: str) -> tuple[Authority, Servers]:
    """The authority, and the servers as somebody reaches them who may set users."""
    from coordinator.enrolment.authority import open_authority
    from coordinator.enrolment.servers import Servers
    from fl_core.broker.bulk.places import Places
    from fl_core.broker.connection import connect
    from fl_core.identity.folder import read_identity

    opened = open_authority(folder)
    operator = opened.folder / "identities" / "operator"
    url = read_identity(operator).url(broker, as_user=False) if operator.is_dir() else broker
    client = connect(url, timeout_seconds=15)
    clients: tuple[Any, ...] = (client,)
    if blobs:
        clients = (client, Places(client, [blobs]).at(blobs))
    return opened, Servers(clients)


def _without_user(url: str) -> str:
    """The address alone, as tokens and identities hold it."""
    if not url:
        return ""
    from fl_core.broker.url import check_url

    parts = urlsplit(check_url(url))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _need_cryptography(what: str) -> None:
    from fl_core.program.extras import need

    need(what, "cryptography")
