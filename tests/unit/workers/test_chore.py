"""A chore: whatever it raises, the thread that does it goes on and tries again."""

from __future__ import annotations

import pytest

from workers import chore
from workers.chore import Chore


@pytest.mark.parametrize(
    "raised", [OSError("disk"), RuntimeError("bug"), MemoryError(), SystemExit(3), KeyboardInterrupt()]
)
def test_nothing_that_is_raised_comes_through(raised: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails, is known to fail since then, and once it works again nothing is left of that."""
    monkeypatch.setattr(chore, "FIRST_PAUSE_SECONDS", 0.0)
    fails = True

    def action() -> None:
        if fails:
            raise raised

    work = Chore("work", action)
    work.run()
    since = work.failing_since
    assert since is not None
    assert type(raised).__name__ in work.error
    work.run()
    assert work.failing_since == since
    fails = False
    work.run()
    assert (work.failing_since, work.error) == (None, "")


def test_a_pause_follows_a_failure() -> None:
    """It is not tried again at once."""
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        raise OSError

    work = Chore("work", action)
    for _ in range(5):
        work.run()
    assert len(calls) == 1
