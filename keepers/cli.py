"""``fedtide-keeper``: hold seeds, and tell sums of masks. Nothing heavy is imported before the options are known."""

from __future__ import annotations

from pathlib import Path

import click

from fl_core.errors import SpecError
from fl_core.program.command_line import FedtideCommand, config_file


@click.command(cls=FedtideCommand, context_settings={"auto_envvar_prefix": "FEDTIDE", "show_default": True})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=config_file(("broker", "identity", "state_dir", "min_devices", "log_level")),
    help="TOML file with these settings; flags and environment come first.",
)
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    required=True,
    help="Who this keeper is: a folder that `fedtide authority issue keeper NAME` has made.",
)
@click.option("--broker", metavar="URL", help="The broker's address.  [default: the identity's]")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Keeps what was answered; restore it from no copy.  [default: ~/.local/state/fedtide/NAME]",
)
@click.option(
    "--min-devices",
    type=click.IntRange(2),
    default=2,
    help="Tell no sum of fewer devices, whatever a campaign says.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def keeper(identity: Path, broker: str | None, state_dir: Path | None, min_devices: int, log_level: str) -> None:
    """Keep the seeds of devices' masks, and tell a coordinator the sum of many, never a single one."""
    from fl_core.program.extras import need

    need("fedtide-keeper", "cryptography", "blake3")
    from fl_core.identity.certificates import Role
    from fl_core.identity.folder import read_identity
    from fl_core.program.host import state_home
    from fl_core.program.logs import configure_logs

    own = read_identity(identity)
    if own.certificate.role is not Role.KEEPER or not own.certificate.sealing_key:
        raise SpecError(
            f"--identity {identity} is of a {own.certificate.role.value}; `fedtide authority issue keeper NAME` makes "
            "one of a keeper."
        )
    configure_logs(log_level)
    from keepers.daemon import Daemon

    Daemon(own, own.url(broker or ""), state_dir or state_home() / "fedtide" / own.name, min_devices).run()
