"""`fedtide device list`: who belongs to a federation."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping
from typing import Any

from coordinator.terminal.tables import console, new_table

# A certificate that ends sooner is shown in another colour.
_SOON_MS = 30 * 24 * 3600 * 1000


def print_members(rows: Iterable[Mapping[str, Any]]) -> None:
    """One line each: name, role, state, classes, and until when the certificate or the token is good."""
    table = new_table("name", "role", "state", "queues", "good until", "serial")
    now = time.time() * 1000
    for row in rows:
        ends = row["until_ms"]
        until = datetime.datetime.fromtimestamp(ends / 1000).strftime("%Y-%m-%d %H:%M") if ends else "–"
        style = (
            "dim" if row["state"] == "revoked" else "red" if ends < now else "yellow" if ends < now + _SOON_MS else ""
        )
        table.add_row(
            row["name"], row["role"], row["state"], ",".join(row["queues"]) or "–", until, row["serial"][:16] or "–",
            style=style,
        )  # fmt: skip
    console().print(table)
