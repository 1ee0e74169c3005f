"""The places of bulk bytes: on the broker, or on a second server for bytes that can be made again.

A *place* is what the broker tells workers of that second server: ``HOST:PORT``, or ``:PORT`` where it has the broker's
host. It holds no secret. A program reaches the other server in the same way as the broker: same scheme, user,
password, certificates and timeouts. The empty place is the broker itself.

A place may begin with ``unix:PATH,``: programs that find that socket on their own machine take it, at half the cost per
byte of a loopback connection.

Anyone who can write to the broker can change the pointer, and a program that follows it sends its password there.
So a place is followed only where nothing can be lost by it:

==============================================  =====================================================================
the place                                       is followed
==============================================  =====================================================================
was given to this program (``--blobs``)         always: it is its owner's word
is on the broker's own host                     where there is no password to lose, or TLS proves that it is that host
is a socket, and the broker is on this machine  where there is no password to lose, and the socket is this user's own
                                                or root's, and no link
any other                                       never
==============================================  =====================================================================
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import redis
import structlog
from redis.connection import SSLConnection, UnixDomainSocketConnection

from fl_core.broker import rows
from fl_core.broker.connection import Client
from fl_core.broker.line.short_way import BrokerClient
from fl_core.errors import BrokerUnavailable, SpecError

log = structlog.get_logger()

# A pointer that changes with every look must not leave a connection behind each time, nor a line.
MAX_CLIENTS = 8
TOLD_SECONDS = 60.0

_PLACE = re.compile(
    r"(?:unix:(?P<path>/[^,\0]{1,107}),)?"
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}|):(?P<port>[0-9]{1,5})"
)
_TCP_ALONE = ("host", "port", "socket_keepalive", "socket_keepalive_options", "socket_type")


def check_place(place: str) -> str:
    """The place itself, if it can be one.

    Raises:
        SpecError: it cannot.

    >>> check_place(":6380")
    ':6380'
    """
    _parse(place)
    return place


class PlaceRefused(BrokerUnavailable):
    """The broker names a place that this program does not go to: as good as a server that is not reachable."""


def read_place(raw: bytes) -> str:
    """A place as it stands in a row; empty is the broker.

    Raises:
        BadRow: it is none.
    """
    found = rows.text(raw)
    if found and _PLACE.fullmatch(found) is None:
        raise rows.BadRow(f"{found[:60]!r} is no place")
    return found


class Places:
    """Clients of the servers that lie beside one broker, made when they are first asked for.

    Args:
        client: the broker's; its user and password are said at every place that is followed.
        given: places that this program's owner has named.

    Raises:
        SpecError: one of ``given`` is no place.
    """

    def __init__(self, client: Client, given: Iterable[str] = ()) -> None:
        self._client = client
        self._clients: dict[str, Client] = {"": client}
        pool = client.connection_pool
        self._kind, self._settings = pool.connection_class, dict(pool.connection_kwargs)
        self._host = "127.0.0.1" if issubclass(self._kind, UnixDomainSocketConnection) else self._settings["host"]
        self._given = {place for place in given if place}
        # Where a place says another name for a host that is known, the known name is the one that is used.
        self._given_hosts: dict[tuple[str, int], str] = {}
        for _, host, port in map(_parse, self._given):
            self._given_hosts[_same_words(host or self._host), port] = host or self._host
        self._told = float("-inf")

    def at(self, place: str) -> Client:
        """The client for a place.

        Raises:
            PlaceRefused: this program does not go there, or that is no place.
        """
        client = self._clients.get(place)
        if client is None:
            client = self._connect(place)
            followed = [one for one in self._clients if one and one not in self._given]
            if len(followed) >= MAX_CLIENTS:
                self._clients.pop(followed[0]).close()
            self._clients[place] = client
        return client

    def follows(self, place: str) -> bool:
        """Whether this program would go there by itself, as far as can be known without looking for a socket."""
        if not place:
            return True
        _, host, port = _parse(place)
        return self._known_host(host, port) is not None

    def _connect(self, place: str) -> Client:
        try:
            path, host, port = _parse(place)
        except SpecError:
            raise self._refusal(place) from None
        kind, settings = self._kind, dict(self._settings)
        followed = not self._has_credentials and _is_loopback(self._host)
        if path and ((place in self._given and Path(path).is_socket()) or (followed and _is_ours(path))):
            kind = UnixDomainSocketConnection
            settings = {
                name: value
                for name, value in settings.items()
                if name not in _TCP_ALONE and not name.startswith("ssl_")
            }
            settings["path"] = path
        else:
            if (known := self._known_host(host, port)) is None:
                raise self._refusal(place)
            if issubclass(kind, UnixDomainSocketConnection):
                kind = redis.Connection
                settings.pop("path", None)
            settings["host"], settings["port"] = known, port
        return BrokerClient(connection_pool=redis.ConnectionPool(connection_class=kind, **settings))

    @property
    def _has_credentials(self) -> bool:
        return any(self._settings.get(name) for name in ("username", "password", "credential_provider"))

    def _known_host(self, host: str, port: int) -> str | None:
        """The owner's name for the host, if what listens there may get the broker's password."""
        name = _same_words(host or self._host)
        if (name, port) in self._given_hosts:
            return self._given_hosts[name, port]
        if name != _same_words(self._host):
            return None
        return self._host if not self._has_credentials or self._verifies_host else None

    @property
    def _verifies_host(self) -> bool:
        """Whether a connection only comes to be where the other side has a certificate for the host's name."""
        return (
            issubclass(self._kind, SSLConnection)
            and self._settings.get("ssl_cert_reqs", "required") in ("required", ssl.CERT_REQUIRED)
            and bool(self._settings.get("ssl_check_hostname", True))
        )

    def _refusal(self, place: str) -> PlaceRefused:
        shown = place if _PLACE.fullmatch(place) else "a place of no known form"
        now = time.monotonic()
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            log.warning("a server that the broker names is left alone: it was not given", place=shown)
        return PlaceRefused(
            f"the broker names {shown} for its versions, which was not given to this program; start with "
            f"--blobs {shown} if it is right."
        )


def _same_words(host: str) -> str:
    """One spelling for the names of one host, as far as they can be compared without a lookup."""
    if _is_loopback(host):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ours(path: str) -> bool:
    """Whether a socket, and no link to one, is this user's own or root's."""
    try:
        found = Path(path).lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid in (0, os.getuid())


def _parse(place: str) -> tuple[str, str, int]:
    match = _PLACE.fullmatch(place)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise SpecError(f"blobs = {place!r} is no place; write HOST:PORT, or :PORT for the broker's own host.")
    return match["path"] or "", match["host"].strip("[]"), int(match["port"])
