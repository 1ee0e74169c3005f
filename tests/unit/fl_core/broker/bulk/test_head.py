"""The pointer to a version and the patches that lead to it, read as hostile: anybody may have written them."""

from __future__ import annotations

import pytest

from fl_core.broker.bulk.head import HEAD_FIELDS, Head
from fl_core.broker.bulk.patches import Patch
from fl_core.broker.rows import BadRow

ROW: dict[str, bytes | None] = {
    "version": b"7", "digest": b"ab" * 16, "num_bytes": b"4000", "num_chunks": b"1", "place": b":6380", "updates": b"",
    "codec": b"fp16", "sealed": None,
}  # fmt: skip
PATCH = Patch("cd" * 16, 8, 100, "ef" * 16, "int8", ":6380")


def test_a_pointer_comes_back() -> None:
    """What an older coordinator left out has its default."""
    head = Head.from_row([ROW[name] for name in HEAD_FIELDS])
    assert head == Head(7, "ab" * 16, 4000, 1, place=":6380", updates="", codec="fp16")
    assert Head.from_row([*[ROW[name] for name in HEAD_FIELDS[:4]], None, None, None, None]).codec == "fp32"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", None), ("version", b"-1"), ("digest", b""), ("digest", b"a b"), ("num_bytes", b"%d" % 2**40),
        ("num_chunks", b"many"), ("place", b"host"), ("place", b"\xff:1"), ("updates", b":x"), ("codec", b"\x1b"),
    ],
)  # fmt: skip
def test_a_pointer_that_nobody_of_ours_wrote_is_refused(field: str, value: bytes | None) -> None:
    """No name that is none, no size that no model has, no place that is no address."""
    row = ROW | {field: value}
    with pytest.raises(BadRow):
        Head.from_row([row[name] for name in HEAD_FIELDS])


def test_a_patch_comes_back() -> None:
    """A place may be empty."""
    for patch in (PATCH, Patch("cd" * 16, 8, 100, "ef" * 16, "fp32", "")):
        assert Patch.from_row(patch.row().encode()) == patch


@pytest.mark.parametrize("change", [("|8|", "|-8|"), ("|100|", f"|{2**40}|"), (":6380", "host"), ("|int8", "")])
def test_a_patch_that_nobody_of_ours_wrote_is_refused(change: tuple[str, str]) -> None:
    """The chain ends there."""
    with pytest.raises(BadRow):
        Patch.from_row(PATCH.row().replace(*change).encode())
