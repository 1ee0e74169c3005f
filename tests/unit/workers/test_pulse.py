"""The pulse: what the training child writes, its parent reads."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from workers.pulse import Pulse, Vitals

COUNTS = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100)
VITALS = st.builds(
    Vitals,
    pid=st.integers(0, 2**22),
    state=st.sampled_from(["idle", "training", "delivering"]),
    num_done=COUNTS,
    num_failed=COUNTS,
    bytes_up=COUNTS,
    bytes_down=COUNTS,
    holding=TEXT,
    device=TEXT,
    fatal=TEXT,
)


@given(VITALS)
def test_what_is_written_is_read(vitals: Vitals) -> None:
    """Every field comes back as it was written."""
    pulse = Pulse()
    pulse.write(vitals)
    assert pulse.read() == vitals


@given(VITALS, VITALS)
def test_the_last_word_replaces_the_one_before(first: Vitals, second: Vitals) -> None:
    """Nothing of a longer text stays behind a shorter one."""
    pulse = Pulse()
    pulse.write(first)
    pulse.write(second)
    assert pulse.read() == second


def test_before_the_child_has_begun_there_is_no_pid() -> None:
    """A fresh page reads as a worker that is idle and holds nothing."""
    assert Pulse().read() == Vitals(pid=0, state="idle", holding="", device="", fatal="")


def test_a_long_reason_is_cut_not_lost() -> None:
    """A fatal sentence longer than the page keeps its beginning and leaves the other fields whole."""
    pulse = Pulse()
    pulse.write(Vitals(pid=7, holding="c/1-a#1", device="cuda:0", fatal="é" * 5000))
    read = pulse.read()
    assert (read.pid, read.holding, read.device) == (7, "c/1-a#1", "cuda:0")
    assert read.fatal[:900] == "é" * 900


def test_a_forked_child_is_heard() -> None:
    """The page is shared over a real fork, in the child's direction, while the child lives and after it died."""
    pulse = Pulse()
    pulse.write(Vitals(pid=1, state="idle"))
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pulse.write(Vitals(pid=os.getpid(), state="training", num_done=3, holding="c/1-a#2", device="cpu"))
            os.write(tell, b"x")
        finally:
            os._exit(0)
    assert os.read(told, 1) == b"x"
    expected = Vitals(pid=child, state="training", num_done=3, holding="c/1-a#2", device="cpu")
    assert pulse.read() == expected
    os.waitpid(child, 0)
    assert pulse.read() == expected
    for handle in (told, tell):
        os.close(handle)
