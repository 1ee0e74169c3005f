"""This machine's name, in a form that may be shown and sent, and where its users keep things."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import platform
import re
from pathlib import Path

from fl_core.errors import SpecError
from fl_core.program.plain_text import shown

MAX_NAME = 64


def host_name() -> str:
    """This machine's name, whatever bytes it was given, in at most 255 printable characters."""
    return shown(platform.node(), 255)


def default_name(pid: int) -> str:
    """A worker's name from host and process: legal for every host name, and another one for each.

    What had to be changed or cut loses the difference to its like: names of pods differ at the end, and each has its
    process 1. So eight hexadecimal digits stand for it.
    """
    host, end = host_name(), f"-{pid}"
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "-", host).lstrip("_.-")
    if cleaned == host and len(host) + len(end) <= MAX_NAME:
        return (host or "worker") + end
    digest = hashlib.blake2b(host.encode(), digest_size=4).hexdigest()
    return f"{cleaned[: MAX_NAME - len(end) - 9] or 'worker'}-{digest}{end}"


def state_home() -> Path:
    """The folder for what programs of this user keep.

    Raises:
        SpecError: there is none.
    """
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:
        raise SpecError(
            "this user has no home directory to keep anything in; name a folder with --state-dir."
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
