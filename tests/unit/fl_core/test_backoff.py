"""Pauses between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fl_core.backoff import Backoff


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.floats(1.0, 4.0), st.integers(1, 50))
def test_pauses_never_fall_and_never_exceed_the_last(first: float, last: float, factor: float, count: int) -> None:
    """And after a success they are as at first."""
    pauses = Backoff(first, last, factor)
    found = [pauses.next() for _ in range(count)]
    assert found == sorted(found)
    assert found[0] == min(first, last)
    assert max(found) <= last
    pauses.reset()
    assert pauses.next() == found[0]


def test_it_is_known_when_they_have_grown() -> None:
    """What is worth a word only after a while asks for it."""
    pauses = Backoff(0.5, 2.0)
    assert not pauses.has_grown
    assert [pauses.next(), pauses.next()] == [0.5, 1.0]
    assert pauses.has_grown
