"""What waits for a keeper, over a broker in memory or a client that is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fl_core.broker.keepers.answers import place_of_sum
from fl_core.broker.keepers.asks import ask_commands, take
from fl_core.broker.keys import keeper_asks
from fl_core.broker.line.reply_bound import ReplyTooLong


def test_an_endless_ask_ends_no_keeper() -> None:
    """Whoever may write to its list can put anything there; it is off the list, and the next one is taken."""

    def too_long(*words: Any, **more: Any) -> None:
        raise ReplyTooLong("a reply of more than 64 MiB")

    assert take(SimpleNamespace(blpop=too_long), "bank-a", 1.0) is None
    found = (keeper_asks("bank-a").encode(), b"ask")
    assert take(SimpleNamespace(blpop=lambda keys, timeout: found), "bank-a", 1.0) == b"ask"
    assert take(SimpleNamespace(blpop=lambda keys, timeout: None), "bank-a", 1.0) is None


def test_a_list_of_asks_is_bounded() -> None:
    """A keeper that is away for long finds the last ones, and they end by themselves."""
    push, trim, expire = ask_commands("bank-a", b"ask")
    key = keeper_asks("bank-a")
    assert push == ["RPUSH", key, b"ask"]
    assert trim == ["LTRIM", key, "-64", "-1"]
    assert expire[:2] == ["EXPIRE", key]


@pytest.mark.parametrize(("num_bytes", "chunks"), [(0, 0), (65_536, 0), (65_537, 1), (4_000_000, 4)])
def test_small_sums_ride_in_the_entry(num_bytes: int, chunks: int) -> None:
    """Larger ones are chunks under the keeper's own name."""
    name, count = place_of_sum("f" * 64, "bank-a", 2, num_bytes)
    assert (name, count) == (f"bank-a:sum-{'f' * 24}.2" if chunks else "", chunks)
