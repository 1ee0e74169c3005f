"""`fedtide device list` for people: one line each, and those whose time is over or nearly over stand out."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from coordinator.terminal import members as module
from coordinator.terminal.members import print_members

DAY_MS = 24 * 3600 * 1000


def _row(name: str, state: str = "enrolled", days: float | None = 300.0, **more: Any) -> dict[str, Any]:
    ends = 0 if days is None else int(time.time() * 1000 + days * DAY_MS)
    return {"name": name, "role": "device", "state": state, "queues": ["default"], "until_ms": ends,
            "serial": "ab" * 20, **more}  # fmt: skip


def _printed(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The lines of the table's rows, as text and with their colours."""
    kept = Console(width=140, record=True, file=io.StringIO(), color_system="standard", force_terminal=True)
    monkeypatch.setattr(module, "console", lambda: kept)
    print_members(rows)
    styled = kept.export_text(styles=True, clear=False).splitlines()
    plain = kept.export_text().splitlines()
    chosen = [at for at, line in enumerate(plain) if any(f" {row['name']} " in f" {line} " for row in rows)]
    return [plain[at] for at in chosen], [styled[at] for at in chosen]


def test_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has not got yet is a dash; a serial is as long as one needs to tell them apart."""
    rows = [
        _row("pi", queues=["phone", "lab"], until_ms=1_767_225_600_000),
        _row("newcomer", "invited", None, serial="", queues=[]),
    ]
    (first, second), _ = _printed(monkeypatch, rows)
    for words in (
        "pi",
        "device",
        "enrolled",
        "phone,lab",
        "ab" * 8,
        time.strftime("%Y-", time.localtime(1_767_225_600)),
    ):
        assert words in first, words
    assert "ab" * 9 not in first
    assert second.count("–") == 3


def test_what_has_ended_and_what_ends_soon_stand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red, yellow, and nothing for one that is good for long; who was revoked is dim, whatever the date says."""
    rows = [_row("gone", days=-1), _row("soon", days=20), _row("fine"), _row("away", "revoked", days=-1)]
    _, lines = _printed(monkeypatch, rows)
    colours = [[code for code in ("\x1b[31m", "\x1b[33m", "\x1b[2m") if code in line] for line in lines]
    assert colours == [["\x1b[31m"], ["\x1b[33m"], [], ["\x1b[2m"]]
