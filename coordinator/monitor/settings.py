"""The monitor's addresses and rights."""

from __future__ import annotations

from fl_core.errors import SpecError
from fl_core.program.host import is_loopback

MIN_TOKEN_LENGTH = 16


def check_settings(host: str, control: str | None) -> None:
    """Refuse a token that others could guess.

    Raises:
        SpecError: the token is too short for where the page can be reached from.
    """
    if control is None:
        return
    if not control:
        raise SpecError("--control is empty; give a token, or leave the option out for a page that only shows.")
    if not is_loopback(host) and len(control) < MIN_TOKEN_LENGTH:
        raise SpecError(
            f"--control has {len(control)} characters; on --host {host}, which others reach, it needs at least "
            f"{MIN_TOKEN_LENGTH}."
        )
