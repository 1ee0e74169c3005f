"""Where bulk bytes lie: on the broker, or on a second server for bytes that can be made again.

A *place* is what the broker tells workers of that second server: ``HOST:PORT``, or ``:PORT`` where it has the broker's
host. It holds no secret. Whoever reaches the broker reaches the other server in the same way: same scheme, user,
password, certificates and timeouts, so a device is configured with one URL. The empty place is the broker itself.

A place may begin with ``unix:PATH,``: programs that find that socket on their own machine take it, at half the cost per
byte of a loopback connection.
"""

from __future__ import annotations

import re
from pathlib import Path

import redis
from redis.connection import UnixDomainSocketConnection

from fl_core.broker.connection import BrokerClient, Client
from fl_core.errors import SpecError

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


class Places:
    """Clients of the servers that lie beside one broker, made when they are first asked for.

    Args:
        client: the broker's.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._clients: dict[str, Client] = {"": client}

    def at(self, place: str) -> Client:
        """The client for a place.

        Raises:
            SpecError: that is no place.
        """
        if place not in self._clients:
            self._clients[place] = self._connect(place)
        return self._clients[place]

    def _connect(self, place: str) -> Client:
        path, host, port = _parse(place)
        pool = self._client.connection_pool
        settings, kind = dict(pool.connection_kwargs), pool.connection_class
        if path and Path(path).is_socket():
            kind = UnixDomainSocketConnection
            settings = {
                name: value
                for name, value in settings.items()
                if name not in _TCP_ALONE and not name.startswith("ssl_")
            }
            settings["path"] = path
        else:
            if issubclass(kind, UnixDomainSocketConnection):
                kind = redis.Connection
                settings.pop("path", None)
                settings["host"] = "127.0.0.1"
            settings["port"] = port
            if host:
                settings["host"] = host
        return BrokerClient(connection_pool=redis.ConnectionPool(connection_class=kind, **settings))


def _parse(place: str) -> tuple[str, str, int]:
    match = _PLACE.fullmatch(place)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise SpecError(f"blobs = {place!r} is no place; write HOST:PORT, or :PORT for the broker's own host.")
    return match["path"] or "", match["host"].strip("[]"), int(match["port"])
