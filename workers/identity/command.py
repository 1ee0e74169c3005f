"""The command `fedtide-worker enroll`. Nothing heavy is imported before the options are known."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from fl_core.errors import SpecError
from fl_core.program.command_line import FedtideCommand


@click.command("enroll", cls=FedtideCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("token", metavar="[TOKEN]", required=False)
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    required=True,
    envvar="FEDTIDE_IDENTITY",
    help="Where the identity will stand.",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    help="How long to wait to be let in, in seconds.",
)
@click.option("--renew", is_flag=True, help="Another certificate for a device that has one; without a token.")
def enroll(token: str | None, identity: Path, wait_seconds: float, renew: bool) -> None:
    """Make this device's key, and ask for its certificate with the TOKEN that `fedtide device add` has printed.

    TOKEN may be the name of a file that holds it, or - for standard input.
    """
    from fl_core.program.extras import need

    need("fedtide-worker enroll", "cryptography")
    from workers.identity import enrolment

    if renew:
        if token is not None:
            raise SpecError("--renew goes by the certificate that is there; leave the token out.")
        made = enrolment.renew(identity, wait_seconds, click.echo)
    else:
        from fl_core.identity.token import Token

        made = enrolment.enroll(Token.from_text(_token_text(token)), identity, wait_seconds, click.echo)
    days = (made.certificate.not_after_ms / 1000 - time.time()) / 86400
    click.echo(
        f"{made.name} is enrolled, for {days:.0f} days; start it with "
        f"`fedtide-worker --identity {identity} --data MODULE:CALLABLE`."
    )


def _token_text(given: str | None) -> str:
    """The token itself, from the command line, a file or a pipe; the command line is for all to see."""
    if given == "-" or given is None:
        if given is None and sys.stdin.isatty():
            given = click.prompt("Token", hide_input=True)
            return str(given)
        return sys.stdin.read(1 << 16)
    path = Path(given)
    if len(given) < 256 and path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")[: 1 << 16]
    return given
