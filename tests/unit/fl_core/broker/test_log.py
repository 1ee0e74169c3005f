"""The update log's entries: positions that sort, and events that only a coordinator can write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fl_core.wire.log_entry import LogEntry, event_mac, is_authentic, order

KEYS = st.binary(min_size=16, max_size=64)
PARTS = st.tuples(st.integers(0, 2**50), st.integers(0, 2**40))


@given(PARTS, PARTS)
def test_positions_sort_as_the_server_sorts_them(a: tuple[int, int], b: tuple[int, int]) -> None:
    """First by milliseconds, then by sequence, both as numbers: never as text."""
    assert (order(f"{a[0]}-{a[1]}") < order(f"{b[0]}-{b[1]}")) == (a < b)


@given(KEYS, st.binary(max_size=300))
def test_a_signed_event_is_authentic(key: bytes, header: bytes) -> None:
    """What a coordinator signs is accepted, and the authenticator is 16 bytes whatever the event holds."""
    mac = event_mac(key, header)
    assert is_authentic(key, LogEntry("1-0", "e", header, mac))
    assert len(mac) == 16


@given(KEYS, st.binary(min_size=1, max_size=100), st.data())
def test_any_change_to_an_event_shows(key: bytes, header: bytes, data: st.DataObject) -> None:
    """A flipped bit in the header or the authenticator, another key, a cut or missing authenticator: not authentic."""
    mac = event_mac(key, header)
    place, bit = data.draw(st.integers(0, len(header) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(header)
    changed[place] ^= 1 << bit
    wrong = bytearray(mac)
    wrong[place % len(mac)] ^= 1 << bit
    assert not is_authentic(key, LogEntry("1-0", "e", bytes(changed), mac))
    assert not is_authentic(key[::-1] + b"x" if len(key) < 64 else key[1:], LogEntry("1-0", "e", header, mac))
    for forged in (bytes(wrong), b"", mac[:-1], mac + b"\0", header):
        assert not is_authentic(key, LogEntry("1-0", "e", header, forged)) or forged == mac


def test_an_entry_knows_its_time_and_its_size() -> None:
    """The milliseconds are the server's, from the position; the size is what the entry holds of its memory."""
    entry = LogEntry("1700000000123-45", "u", b"12345", b"678")
    assert (entry.milliseconds, entry.num_bytes) == (1_700_000_000_123, 8)
