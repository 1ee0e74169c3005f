"""The rows of tasks, as scripts write them and as anybody may have written them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.broker.rows import BadRow
from fl_core.broker.task_rows import OpenRow, Owner, is_attempt


@given(st.integers(1, 10**6), st.integers(0, 2**42))
def test_an_open_task_s_row_says_which_attempt_counts(attempt: int, issued_ms: int) -> None:
    """This one and no other, also where one number begins as the other does."""
    row = OpenRow("7-ab", attempt, issued_ms, "gpu").to_row().encode()
    assert is_attempt(row, attempt)
    assert not is_attempt(row, attempt + 1)
    assert not is_attempt(row, 10 * attempt)


def test_an_owner_s_row() -> None:
    """A worker's name may hold anything that names may."""
    assert Owner.from_row(b"pi:3@lab|1700") == Owner("pi:3@lab", 1700)


@pytest.mark.parametrize(
    "row", [b"", b"pi", b"|1700", b"pi|-1", b"pi|", b"pi|x", b"p i|1700", b"2|1700|0|pi", b"\xff|1", b"\xff"]
)
def test_what_no_script_wrote_is_refused(row: bytes) -> None:
    """Whoever reaches the broker can have written it."""
    with pytest.raises(BadRow):
        Owner.from_row(row)
