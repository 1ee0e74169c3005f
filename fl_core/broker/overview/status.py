"""A campaign's status as watchers read it: what its coordinator wrote, or what somebody else did in its place."""

from __future__ import annotations

from fl_core.broker import rows
from fl_core.wire.status import Status


def read_status(packed: bytes | None) -> Status:
    """A status (msgpack); ``Status()`` where there is none, or what is there is none."""
    if not packed:
        return Status()
    try:
        return Status.from_map(rows.plain(packed))
    except rows.BadRow:
        return Status()
