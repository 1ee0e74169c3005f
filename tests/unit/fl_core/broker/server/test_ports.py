"""A port and a folder that nobody else has."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from fl_core.broker.server.ports import PORTS, choose_port, is_free, loopback, take_lock
from fl_core.errors import SpecError


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::1", "example.org", ""])
def test_a_server_without_a_password_listens_here_alone(host: str) -> None:
    """Whatever else is asked for is refused with the remedy."""
    assert (loopback("localhost"), loopback("127.1.2.3")) == ("127.0.0.1", "127.1.2.3")
    with pytest.raises(SpecError, match=r"127\.0\.0\.1"):
        loopback(host)


def test_a_port_in_use_is_replaced_unless_it_is_fixed() -> None:
    """By a free one of a range."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        assert not is_free("127.0.0.1", taken)
        assert choose_port("127.0.0.1", taken, fixed=False) in PORTS
        with pytest.raises(SpecError, match=f"port = {taken} on .* is in use"):
            choose_port("127.0.0.1", taken, fixed=True)
    assert choose_port("127.0.0.1", 0, fixed=False) in PORTS


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    """The second one is told at its deadline; a lock that is given back can be taken."""
    first, second = (os.open(tmp_path / "server.lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        take_lock(first, tmp_path, time.monotonic() + 5)
        with pytest.raises(SpecError, match="is in use by another embedded server"):
            take_lock(second, tmp_path, time.monotonic())
        os.close(first)
        take_lock(second, tmp_path, time.monotonic())
    finally:
        os.close(second)
