"""How far campaigns were: forward alone, per life and coordinator, kept on disk, and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_core.broker.bulk.seen import MAX_CAMPAIGNS, Seen
from fl_core.errors import UntrustedError


@pytest.mark.parametrize(
    ("incarnation", "fence", "version", "good"),
    [
        ("a", 3, 7, True), ("a", 3, 8, True), ("a", 4, 0, True), ("a", 3, 6, False), ("a", 2, 9, False),
        ("b", 4, 0, True), ("b", 3, 0, True), ("b", 2, 9, False),
    ],
)  # fmt: skip
def test_what_is_behind_is_old(incarnation: str, fence: int, version: int, good: bool) -> None:
    """A new coordinator may begin lower, under a higher fence; a new life of a broker that lost it, under the same."""
    seen = Seen()
    seen.advance("c", "a", 3, 7)
    seen.advance("other", "a", 1, 1)
    if good:
        return seen.advance("c", incarnation, fence, version)
    with pytest.raises(UntrustedError, match="seen version 7 of coordinator 3"):
        seen.advance("c", incarnation, fence, version)
    return None


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"\x81\xa1c\x01", b"\x81\xa1c\x91\x01", b"\xc1", b"\x93\x01\x02\x03"]
)
def test_what_is_damaged_is_forgotten(tmp_path: Path, content: bytes) -> None:
    """It is this device's own file: a broken one stops no worker."""
    path = tmp_path / "seen"
    path.write_bytes(content)
    seen = Seen(path)
    seen.advance("c", "a", 3, 7)
    with pytest.raises(UntrustedError, match=f"remove {path}"):
        Seen(path).advance("c", "a", 3, 6)


def test_it_is_bounded_and_written_now_and_then(tmp_path: Path) -> None:
    """The campaigns that were served last; a version a moment after the last is not written at once."""
    seen = Seen(tmp_path / "seen")
    for number in range(MAX_CAMPAIGNS + 1):
        seen.advance(f"c{number}", "a", 1, 1)
    Seen(tmp_path / "seen").advance("c0", "a", 0, 0)
    seen.advance("c9", "a", 1, 5)
    Seen(tmp_path / "seen").advance("c9", "a", 1, 2)
    seen.save()
    with pytest.raises(UntrustedError):
        Seen(tmp_path / "seen").advance("c9", "a", 1, 2)
