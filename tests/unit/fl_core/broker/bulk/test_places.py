"""Places: one URL is enough, the second server is reached in the same way as the broker."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from fl_core.broker.bulk.places import MAX_CLIENTS, PlaceRefused, Places, check_place
from fl_core.broker.connection import connect
from fl_core.errors import BrokerUnavailable, SpecError


def _pool(url: str, place: str, *given: str) -> tuple[type, dict]:
    pool = Places(connect(url), given).at(place).connection_pool
    return pool.connection_class, pool.connection_kwargs


def test_user_password_and_timeouts_are_the_broker_s() -> None:
    """Only host and port differ; without a host only the port."""
    kind, known = _pool("redis://pi:secret@hub:6379/0", "blobs.lan:6380", "blobs.lan:6380")
    assert kind is Connection
    assert (known["host"], known["port"], known["username"], known["password"]) == ("blobs.lan", 6380, "pi", "secret")
    assert _pool("redis://hub:6379/0", ":6380")[1]["host"] == "hub"
    assert _pool("redis://hub:6379/0", "[::1]:6380", "[::1]:6380")[1]["host"] == "::1"
    assert known["socket_timeout"] == connect("redis://hub").connection_pool.connection_kwargs["socket_timeout"]


def test_tls_goes_the_same_way() -> None:
    """A broker with TLS and a client certificate has a second server with both."""
    kind, known = _pool("rediss://hub:6379/0?ssl_ca_certs=/ca.pem&ssl_certfile=/me.pem", ":6380")
    assert issubclass(kind, SSLConnection)
    assert (known["ssl_ca_certs"], known["ssl_certfile"]) == ("/ca.pem", "/me.pem")


def test_a_socket_on_this_machine_is_preferred_where_it_exists(tmp_path: Path) -> None:
    """Elsewhere, or when its server is gone, host and port are used."""
    path = tmp_path / "s"
    place = f"unix:{path},:6380"
    assert _pool("redis://u:p@hub:6379/0", place, place)[0] is Connection
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        kind, known = _pool("redis://u:p@hub:6379/0", place, place)
        assert kind is UnixDomainSocketConnection
        assert (known["path"], known["username"], known["password"]) == (str(path), "u", "p")
        assert _pool("redis://localhost:6379/0", place)[0] is UnixDomainSocketConnection
        assert _pool("unix:///run/broker.sock", place)[0] is UnixDomainSocketConnection
    assert _pool("unix:///run/broker.sock", ":6380")[1]["host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:secret@hub:6379/0", "evil.lan:6379"),
        ("redis://:secret@hub:6379/0", "hub.evil.lan:6379"),
        ("redis://:secret@hub:6379/0", "hub:6380"),
        ("redis://:secret@hub:6379/0", ":6380"),
        ("redis://pi@hub:6379/0", ":6380"),
        ("redis://:secret@127.0.0.1:6379/0", "127.0.0.1:6380"),
        ("redis://:secret@127.0.0.1:6379/0", "localhost:6380"),
        ("unix:///run/s?password=secret", ":6380"),
        ("rediss://:secret@hub:6379/0", "evil.lan:6379"),
        ("rediss://:secret@hub:6379/0?ssl_cert_reqs=none", ":6380"),
        ("rediss://:secret@hub:6379/0?ssl_check_hostname=false", ":6380"),
        ("redis://hub:6379/0", "evil.lan:6379"),
        ("redis://127.0.0.1:6379/0", "10.0.0.1:6379"),
    ],
)
def test_no_password_follows_a_pointer(url: str, place: str) -> None:
    """Not to another host, and on the broker's own one only where TLS proves it; where it was given, it is followed."""
    with pytest.raises(PlaceRefused) as caught:
        _pool(url, place)
    assert isinstance(caught.value, BrokerUnavailable)
    assert f"--blobs {place} " in str(caught.value)
    assert "secret" not in str(caught.value)
    assert _pool(url, place, place)[1]["port"] == int(place.rpartition(":")[2])


def test_without_a_password_or_with_proof_the_broker_s_own_host_is_followed() -> None:
    """There is nothing to lose, or nobody else to lose it to; the name is always the one that the owner wrote."""
    assert _pool("redis://hub:6379/0", "HUB.:6380")[1]["host"] == "hub"
    assert _pool("redis://localhost:6379/0", "127.0.0.2:6380")[1]["host"] == "localhost"
    assert _pool("rediss://:secret@hub:6379/0", "hub:6380")[1]["password"] == "secret"
    assert _pool("redis://:secret@127.0.0.1:6379/0", "127.0.0.2:6380", ":6380")[1]["host"] == "127.0.0.1"


def test_a_socket_is_followed_only_where_it_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not beside a broker elsewhere, not with a password, not by a link, and not where somebody else owns it."""
    path, link = tmp_path / "s", tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        link.symlink_to(path)
        place = f"unix:{path},:6380"
        assert _pool("redis://hub:6379/0", place)[0] is Connection
        assert _pool("redis://127.0.0.1:6379/0", f"unix:{link},:6380")[0] is Connection
        with pytest.raises(PlaceRefused):
            _pool("redis://:secret@127.0.0.1:6379/0", place)
        monkeypatch.setattr("os.getuid", lambda: 12345)
        owner = path.lstat().st_uid
        assert (_pool("redis://127.0.0.1:6379/0", place)[0] is UnixDomainSocketConnection) == (owner == 0)


def test_a_pointer_that_changes_all_the_time_leaves_nothing_behind() -> None:
    """No connection for each place that was once named."""
    places = Places(connect("redis://hub"), [":6380"])
    given = places.at(":6380")
    for port in range(1000, 1100):
        places.at(f":{port}")
        with pytest.raises(PlaceRefused):
            places.at(f"evil:{port}")
    assert places.at(":6380") is given
    assert len(places._clients) <= MAX_CLIENTS + 2


def test_the_empty_place_is_the_broker() -> None:
    """No second client is made for it."""
    client = connect("redis://hub")
    assert Places(client).at("") is client


@pytest.mark.parametrize(
    "place", ["6380", "hub", "hub:", "hub:0", "hub:65536", "redis://hub:1", "a b:1", "u@h:1", "::1:6"]
)
def test_what_is_no_place_is_refused(place: str) -> None:
    """The sentence says how to write one."""
    with pytest.raises(SpecError, match="HOST:PORT, or :PORT"):
        check_place(place)
    with pytest.raises(PlaceRefused):
        Places(connect("redis://hub:6379/0")).at(place)
