"""A port and a folder for a server of our own, which nobody else has."""

from __future__ import annotations

import fcntl
import ipaddress
import random
import socket
import time
from pathlib import Path

from fl_core.errors import SpecError

PORTS = range(20_000, 30_000)
POLL_SECONDS = 0.003


def loopback(host: str) -> str:
    """That address if it is one of this machine's own.

    Raises:
        SpecError: it is not.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise SpecError(
            f"host = {host!r} is not a loopback IPv4 address; the embedded server has neither password nor TLS, so use "
            f"127.0.0.1 here and a server of your own with --broker URL for other machines."
        )
    return str(address)


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_port(host: str, port: int, fixed: bool) -> int:
    """That port if it is free, else another one that is, unless it is fixed.

    Raises:
        SpecError: there is none.
    """
    if port and is_free(host, port):
        return port
    if port and fixed:
        raise SpecError(f"port = {port} on {host} is in use; stop the program that listens there or choose another.")
    # The system's own generator: drawing from the global one would disturb a seeded program.
    for candidate in random.SystemRandom().sample(PORTS, 200):
        if is_free(host, candidate):
            return candidate
    raise SpecError(f"no free TCP port found on {host} in {PORTS.start}-{PORTS.stop - 1}; name one with port.")


def take_lock(lock: int, folder: Path, deadline: float) -> None:
    """Lock a folder's lock file.

    Args:
        lock: its descriptor.
        deadline: of waiting for it (``time.monotonic``), five seconds at most.

    Raises:
        SpecError: another server has it.
    """
    # A server whose program was just killed needs a moment to flush and end, so wait a little before giving up.
    give_up = min(deadline, time.monotonic() + 5.0)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise SpecError(
                    f"folder {folder} is in use by another embedded server; stop that program or choose another folder."
                ) from None
            time.sleep(POLL_SECONDS)
