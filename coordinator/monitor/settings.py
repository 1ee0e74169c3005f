"""The monitor's addresses and rights."""

from __future__ import annotations

import ipaddress

from fl_core.errors import SpecError

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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
