"""TLS: who named an authority trusts that one, and none of those that the system trusts."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from coordinator.enrolment.authority import Authority, create_authority
from fl_core.broker.connection import connect
from fl_core.broker.doorbell.intake import Channel
from fl_core.broker.doorbell.shared import SharedClient
from fl_core.broker.line.short_way import BrokerClient
from fl_core.broker.line.trust import TrustingConnection
from fl_core.identity.certificates import Role

PING = {
    "short way": lambda url: connect(url, timeout_seconds=5).ping(),
    "a worker's": lambda url: connect(url, timeout_seconds=5, kind=SharedClient).ping(),
}


class Server:
    """Shakes one hand, and says whether the other side took it."""

    def __init__(self, authority: Authority) -> None:
        identity = authority.folder / "identities/server/identity.pem"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity)
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
