"""A bound on the reply to one command, since anyone who writes to the broker decides how long a key's value is.

What is longer is left unread: the connection is closed after so many bytes, and the next command opens another one.
"""

from __future__ import annotations

from typing import Any

import hiredis
import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser

# More than any key that is read as a whole, or a page of the log, takes.
MAX_REPLY_BYTES = 64 * 2**20


class ReplyTooLong(redis.ConnectionError):
    """The connection was closed before all of a reply had come."""


class BoundedParser(_HiredisParser):
    """redis-py's parser, which gives a reply up after ``limit`` bytes."""

    limit = MAX_REPLY_BYTES

    def on_connect(self, connection: Any, **options: Any) -> None:
        super().on_connect(connection, **options)  # type: ignore[no-untyped-call]
        self._reader = _Reader(
            protocolError=redis.InvalidResponse,
            replyError=self.parse_error,
            errors=connection.encoder.encoding_errors,
            notEnoughData=NOT_ENOUGH_DATA,
        )

    def read_response(self, *args: Any, **options: Any) -> Any:
        reader: Any = self._reader
        if reader is not None:
            reader.fed, reader.limit = 0, self.limit
        return super().read_response(*args, **options)


class _Reader(hiredis.Reader):
    fed = 0
    limit = MAX_REPLY_BYTES

    def feed(self, buffer: Any, offset: int = 0, length: int = -1) -> None:
        self.fed += length
        if self.fed > self.limit:
            raise ReplyTooLong(f"a reply of more than {self.limit} bytes")
        super().feed(buffer, offset, length)
