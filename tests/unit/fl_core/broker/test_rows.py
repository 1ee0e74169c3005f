"""What keys hold, read as hostile."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fl_core.broker import rows
from fl_core.broker.memory.client import MemoryClient, MemoryServer

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=10,
)


@given(_PLAIN)
def test_what_programs_write_comes_back(value: object) -> None:
    """Numbers, texts, lists and maps."""
    assert rows.plain(msgpack.packb(value)) == value


@given(st.binary(max_size=200))
def test_whatever_bytes_there_are_they_are_read_or_refused(raw: bytes) -> None:
    """One error, and values that JSON and a screen can take."""
    try:
        rows.plain(raw)
    except rows.BadRow:
        return


@pytest.mark.parametrize(
    "packed",
    [msgpack.packb({1: 2}), b"\xdc\xff\xff", msgpack.packb("x" * 100)[:50], b"\xc7\x01\x05x", None, "text"],
)
def test_what_is_no_record_is_refused(packed: object) -> None:
    """Keys that are no texts, lengths that lie, extension types, and what is not bytes."""
    with pytest.raises(rows.BadRow):
        rows.plain(packed)


def test_a_record_is_fit_for_a_screen() -> None:
    """Numbers that are not finite or too large are absent, and control characters are shown as such."""
    packed = msgpack.packb({"a": float("nan"), "b": 2**60, "c": "red\x1b[31m", "d": float("inf")})
    assert rows.plain(packed) == {"a": None, "b": None, "c": "red?[31m", "d": None}
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(rows.BadRow, match="deep"):
        rows.plain(msgpack.packb(deep))


@pytest.mark.parametrize("raw", [b"", b"-1", b"1.5", b"9" * 17, b"9007199254740993", "1", None, "٣".encode()])
def test_what_is_no_count_is_refused(raw: object) -> None:
    """Digits alone, and no more than a double holds."""
    with pytest.raises(rows.BadRow):
        rows.number(raw)
    assert rows.number_or_zero(raw) == 0


@pytest.mark.parametrize("raw", [b"5", b"5-", b"-5-1", b"18446744073709551615-1", b"5-18446744073709551615", b"5-1 "])
def test_a_position_that_no_clock_can_have_given_is_refused(raw: bytes) -> None:
    """Nothing could be written behind it."""
    assert rows.position(b"1700000000000-3") == "1700000000000-3"
    with pytest.raises(rows.BadRow):
        rows.position(raw)


def test_bad_rows_cost_themselves_and_are_told_once_a_minute() -> None:
    """The good ones come, in their order."""
    with capture_logs() as told:
        for _ in range(3):
            assert rows.good("a key of this test", [b"1", b"x", b"2", b"y"], rows.number) == [1, 2]
    assert [line["reason"] for line in told] == ["2 of its rows cannot be read; the last one is no count"]


def test_a_key_that_is_too_large_is_named() -> None:
    """It is not to be read; small ones and those that are not there are."""
    client = MemoryClient(MemoryServer())
    client.set("small", b"1")
    client.set("large", bytes(100_000))
    assert rows.too_large(client, ["small", "large", "none"], limit=50_000) == {"large"}
