"""The group of all commands, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fl_core.errors import FedtideError, SpecError
from fl_core.program.command_line import AS_IDENTITY, Discreet, FedtideCommand, Setting, config_file, fail

if TYPE_CHECKING:
    from fl_core.identity.folder import Identity
    from fl_core.identity.signer import Operator

BROKER_HELP = "The Redis that coordinator and workers share: redis://[USER:PASSWORD@]HOST:PORT/0."


EXIT_WITHOUT_RESULT = 1


DEFAULT_BROKER = "redis://127.0.0.1:6399/0"


class SubGroup(Discreet, click.Group):
    """A group of commands within the program's own."""

    command_class = FedtideCommand

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is missing for all of them ends in one sentence, too."""
        return FedtideCommand.guarded(ctx, super().invoke)


class _Group(Discreet, click.Group):
    command_class = FedtideCommand


def reach_as_identity(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The broker's address with the user and the certificate of ``--identity``, where there is one."""
    folder: Path | None = ctx.find_root().obj
    if folder is None:
        return value
    from fl_core.program.extras import need

    source = ctx.get_parameter_source(param.name or "")
    given = "" if source is click.core.ParameterSource.DEFAULT else value or ""
    try:
        need("--identity", "cryptography")
        from fl_core.identity.folder import read_identity

        identity = read_identity(folder)
        url = identity.url(given)
    except FedtideError as error:
        return fail(error)
    ctx.meta[AS_IDENTITY] = identity
    return url


def coordinator_asked_for() -> Identity | None:
    """The coordinator's identity that ``--identity`` names; None without one.

    It is known once ``--broker`` was read, by which the identity was.

    Raises:
        SpecError: it is no coordinator's.
    """
    identity: Identity | None = click.get_current_context().meta.get(AS_IDENTITY)
    if identity is not None and (role := identity.certificate.role.value) != "coordinator":
        raise SpecError(
            f"{identity.name} is a {role}, and no device would train for it; give --identity DIR, the folder of a "
            "coordinator (`fedtide authority issue coordinator NAME` makes one)."
        )
    return identity


def authority_asked_for() -> bytes:
    """The certificate of the authority that ``--identity`` belongs to, DER; empty without one."""
    identity: Identity | None = click.get_current_context().meta.get(AS_IDENTITY)
    return b"" if identity is None else identity.authority


broker_option = click.option(
    "--broker",
    metavar="URL",
    envvar="FEDTIDE_BROKER",
    default=DEFAULT_BROKER,
    show_default=True,
    callback=reach_as_identity,
    help=BROKER_HELP,
)


blobs_option = click.option(
    "--blobs",
    metavar="HOST:PORT",
    envvar="FEDTIDE_BLOBS",
    default="",
    help="A second server, for model versions and large updates: it may forget them. :PORT is on the broker's host.",
)


trial_option = click.option(
    "--trial-seconds",
    envvar="FEDTIDE_TRIAL_SECONDS",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    help="How long model, data, loss, strategy and codec may be tried before the launch; 0 launches untried.",
)
set_option = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    type=Setting(),
    multiple=True,
    help="Replace a key of the spec, such as stop.seconds=60; repeatable.",
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
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    envvar="FEDTIDE_IDENTITY",
    help="Who asks: a folder that `fedtide authority` has made, with the way to the broker.",
)
@click.pass_context
def fedtide(ctx: click.Context, identity: Path | None) -> None:
    """Asynchronous federated learning over a message queue: launch, steer and watch campaigns."""
    ctx.obj = identity
    if ctx.default_map:  # one file serves all commands
        shared = dict(ctx.default_map)
        ctx.default_map = {
            name: dict.fromkeys(command.commands, shared) if isinstance(command, click.Group) else shared
            for name, command in fedtide.commands.items()
        }


def print_json(value: Any) -> None:
    from coordinator.storage.strict_json import strict_json

    click.echo(strict_json(value, indent=2))


def registry_at(broker: str) -> Any:
    """The campaigns of a broker; what is asked of one is signed as ``--identity``, where there is one."""
    from fl_core.broker.connection import connect
    from fl_core.broker.overview.registry import Registry

    asks = operator()
    return Registry(connect(broker, timeout_seconds=5), None if asks is None else asks.seal)


def operator() -> Operator | None:
    """Who asks campaigns for something, as ``--identity`` says; None without one."""
    folder: Path | None = click.get_current_context().find_root().obj
    if folder is None:
        return None
    from fl_core.identity.signer import Operator

    return Operator(folder)
