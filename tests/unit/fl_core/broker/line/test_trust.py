"""TLS: who named an authority trusts that one, and none of those that the system trusts."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from coordinator.enrolment import authority as authority_module
from coordinator.enrolment.authority import Authority, create_authority
from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.doorbell.intake import Channel
from fl_core.broker.doorbell.shared import SharedClient
from fl_core.broker.line.short_way import BrokerClient
from fl_core.broker.line.trust import TrustingConnection
from fl_core.errors import BrokerUnavailable
from fl_core.identity.certificates import Role

PING = {
    "short way": lambda url: connect(url, timeout_seconds=5).ping(),
    "a worker's": lambda url: connect(url, timeout_seconds=5, kind=SharedClient).ping(),
}


class Server:
    """Shakes one hand, and says whether the other side took it.

    Args:
        authority: whose server it is.
        name: of the identity that it shows.
        asks: it wants a certificate of this authority from who connects.
    """

    def __init__(self, authority: Authority, name: str = "server", *, asks: bool = False) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.folder / f"identities/{name}/identity.pem")
        if asks:
            self._context.load_verify_locations(authority.folder / "authority.pem")
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.trusted = False
        self._thread = threading.Thread(target=self._shake, daemon=True)
        self._thread.start()

    def _shake(self) -> None:
        plain, _ = self._listening.accept()
        plain.settimeout(5)
        with plain:
            try:
                with self._context.wrap_socket(plain, server_side=True):
                    self.trusted = True
            except OSError:
                pass

    def close(self) -> None:
        self._thread.join(10)
        self._listening.close()


def _authority(folder: Path) -> Authority:
    made = create_authority(folder, "ours")
    made.make_identity("server", Role.SERVER, 2, hosts=("127.0.0.1",))
    return made


def _member(authority: Authority, role: Role, shift_days: float, monkeypatch: pytest.MonkeyPatch) -> str:
    """An identity that was made by a clock that is so many days ahead, good for five: its name."""
    name, now = f"{role.value}-{shift_days:g}", datetime.datetime.now(datetime.UTC)
    with monkeypatch.context() as patched:
        patched.setattr(authority_module, "_now", lambda: now + datetime.timedelta(days=shift_days))
        authority.make_identity(name, role, 5, hosts=("127.0.0.1",) if role is Role.SERVER else ())
    return name


@pytest.mark.parametrize("ping", PING.values(), ids=PING)
@pytest.mark.parametrize("theirs", [False, True])
def test_the_systems_authorities_do_not_speak_for_a_broker_of_ours(
    ping: Callable[[str], None], theirs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the certificate is for the right host: whoever turns a name to themselves gets one of those."""
    ours, public = _authority(tmp_path / "ours"), _authority(tmp_path / "public")
    monkeypatch.setenv("SSL_CERT_FILE", str(public.folder / "authority.pem"))  # what OpenSSL takes for the system's
    server = Server(public if theirs else ours)
    options = f"ssl_cert_reqs=required&ssl_ca_certs={ours.folder}/authority.pem"
    with pytest.raises((redis.RedisError, OSError)):  # nobody answers the ping
        ping(f"rediss://127.0.0.1:{server.port}/0?{options}")
    server.close()
    assert server.trusted is not theirs


def test_without_an_authority_of_ones_own_the_systems_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for any client of the broker that somebody else runs."""
    public = _authority(tmp_path / "public")
    monkeypatch.setenv("SSL_CERT_FILE", str(public.folder / "authority.pem"))
    server = Server(public)
    with pytest.raises((redis.RedisError, OSError)):
        PING["short way"](f"rediss://127.0.0.1:{server.port}/0")
    server.close()
    assert server.trusted
    assert BrokerClient.from_url("redis://127.0.0.1:1/0").connection_pool.connection_class is redis.Connection
    assert Channel.connection_class_ssl is TrustingConnection  # of Celery's consumer


# The other side's clock is behind or ahead by so much, which is as if our own were ahead or behind.
CLOCKS = {
    -40: "by this machine's clock, the broker's certificate has expired; set the clock",
    -2: "",
    2: "",
    40: "by this machine's clock, the broker's certificate is not good yet; set the clock",
}


@pytest.mark.parametrize(("days", "said"), CLOCKS.items())
def test_a_clock_is_two_days_off_or_more(days: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days do no harm; beyond a certificate's time the sentence names the clock, this machine's or the broker's."""
    ours = _authority(tmp_path / "ours")
    server = Server(ours, _member(ours, Role.SERVER, days, monkeypatch))
    trust = f"ssl_cert_reqs=required&ssl_ca_certs={ours.folder}/authority.pem"
    with pytest.raises(BrokerUnavailable, match=said or "reaching it"), broker_errors("reaching it"):
        connect(f"rediss://127.0.0.1:{server.port}/0?{trust}", timeout_seconds=5).ping()
    server.close()
    assert server.trusted is not bool(said)

    server = Server(ours, asks=True)
    pem = ours.folder / f"identities/{_member(ours, Role.MONITOR, days, monkeypatch)}/identity.pem"
    shown = f"{trust}&ssl_certfile={pem}&ssl_keyfile={pem}"
    with pytest.raises(BrokerUnavailable) as refusal, broker_errors("reaching it"):
        connect(f"rediss://127.0.0.1:{server.port}/0?{shown}", timeout_seconds=5).ping()
    server.close()
    assert server.trusted is not bool(said)
    if said:
        assert "by the broker's clock" in str(refusal.value)
