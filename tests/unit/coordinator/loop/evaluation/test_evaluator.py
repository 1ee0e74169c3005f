"""The coordinator's handle on the evaluating process, over a process that is played and a clock that a test moves."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.loop.evaluation import evaluator as module
from coordinator.loop.evaluation.evaluator import MAX_DEATHS, NO_PROCESS_PAUSE_SECONDS, Evaluator
from coordinator.loop.evaluation.scoring import Evaluation
from fl_core.errors import InvariantError
from tests.unit.coordinator.loop.evaluation.published import LABELLED, Published
from tests.unit.coordinator.stand_ins import FakeClock

SCORES = (3, 0.5, {"accuracy": 0.75}, 8)


class Process:
    """A child: it has a pipe's end, and does what the test says.

    Attributes:
        method: how it was started.
        exitcode: how it ended; None while it lives.
        asked: the versions that it was asked for.
    """

    def __init__(self, method: str, far: Connection) -> None:
        self.method, self._far = method, far
        self.exitcode: int | None = None
        self.pid = id(self)
        self.killed = False

    @property
    def asked(self) -> list[Any]:
        found = []
        while self._far.poll(0):
            found.append(self._far.recv())
        return found

    def answer(self, kind: str = "scores", value: Any = SCORES) -> None:
        self._far.send((kind, value))

    def die(self, code: int) -> None:
        self.exitcode = code
        self._far.close()

    def start(self) -> None:
        pass

    def join(self, seconds: float | None = None) -> None:
        pass

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        self.killed = True
        self.die(-9)

    def terminate(self) -> None:
        if self.exitcode is None:
            self.die(-15)


class World:
    """One evaluator.

    Attributes:
        children: its processes, the present one last.
        cannot_start: no process can be started.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **evaluation: Any) -> None:
        self.clock = FakeClock()
        self.children: list[Process] = []
        self.cannot_start = False
        monkeypatch.setattr(module.multiprocessing, "get_context", self._context)
        published = Published()
        spec = published.spec(LABELLED, **evaluation)
        self.evaluator = Evaluator("digits-1", "", spec, published.model, published.layout, clock=self.clock)

    def _context(self, method: str) -> Any:
        return SimpleNamespace(
            Pipe=multiprocessing.Pipe, Process=lambda target, args, name: self._process(method, args[0])
        )

    def _process(self, method: str, far: Connection) -> Process:
        if self.cannot_start:
            raise OSError(11, "Resource temporarily unavailable")
        # The evaluator closes its copy of the child's end, as one does beside a real child.
        self.children.append(Process(method, Connection(os.dup(far.fileno()))))
        return self.children[-1]

    @property
    def child(self) -> Process:
        return self.children[-1]

    def look(self) -> list[Evaluation]:
        return self.evaluator.take_results()

    def wait(self, seconds: float) -> list[Evaluation]:
        self.clock.now += seconds
        return self.look()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    return lambda **evaluation: World(monkeypatch, **evaluation)


def test_what_is_asked_for_is_answered_once(make: Callable[..., World]) -> None:
    """One request at a time; without an answer there is nothing, and the loop need not look."""
    world = make()
    head: Any = "version 3"
    world.evaluator.request(head)
    assert (world.child.asked, world.evaluator.has_results, world.look(), world.evaluator.busy) == (
        [head], False, [], True,
    )  # fmt: skip
    with pytest.raises(InvariantError):
        world.evaluator.request(None)
    world.child.answer()
    assert world.evaluator.has_results
    assert world.look() == [Evaluation(*SCORES)]
    assert (world.evaluator.busy, world.evaluator.has_results, world.look()) == (False, False, [])


def test_one_that_dies_is_replaced_and_asked_again(make: Callable[..., World]) -> None:
    """After a pause, and by an interpreter of its own: by now there are threads that a fork would copy."""
    world = make()
    world.evaluator.request(None)
    world.child.die(-9)
    assert world.evaluator.has_results, "there is something to see to"
    assert world.look() == []
    assert len(world.children) == 1
    assert world.wait(0.3) == []
    assert [child.method for child in world.children][1:] == ["spawn"]
    assert world.child.asked == [None]
    world.child.answer()
    assert world.look() == [Evaluation(*SCORES)]
    assert world.evaluator.error is None


def test_one_that_dies_while_it_rests_is_replaced_and_not_asked(make: Callable[..., World]) -> None:
    """Which is no reason to give up, however often it happens."""
    world = make()
    for _ in range(MAX_DEATHS + 2):
        world.child.die(-9)
        world.look()
        world.wait(1.0)
    assert len(world.children) == MAX_DEATHS + 3
    assert (world.child.asked, world.evaluator.error) == ([], None)


def test_one_that_dies_of_its_work_is_given_up(make: Callable[..., World]) -> None:
    """After so many times over one evaluation, with longer and longer pauses; said in words, with the signal."""
    world = make()
    world.evaluator.request(None)
    for _ in range(MAX_DEATHS):
        world.child.die(-11)
        world.look()
        world.wait(1.0)
    assert len(world.children) == MAX_DEATHS
    assert world.evaluator.died
    assert world.evaluator.error == (
        f"the evaluating process died {MAX_DEATHS} times in a row over one evaluation: it was killed by SIGSEGV, a "
        "crash below Python."
    )
    assert (world.evaluator.has_results, world.wait(1000.0)) == (False, [])


def test_work_that_was_done_begins_a_new_row(make: Callable[..., World]) -> None:
    """Whatever it dies of next is something new."""
    world = make()
    for _ in range(MAX_DEATHS):
        world.evaluator.request(None)
        for _ in range(MAX_DEATHS - 1):
            world.child.die(-9)
            world.look()
            world.wait(1.0)
        world.child.answer()
        assert len(world.look()) == 1
    assert world.evaluator.error is None


def test_one_that_hangs_is_ended_and_goes_without_scores(make: Callable[..., World]) -> None:
    """At its deadline, and not a moment before; it would hang again, so it is not asked again, and the next one is."""
    world = make(timeout_seconds=7.5)
    world.evaluator.request(None)
    world.wait(7.4)
    assert (world.child.killed, world.evaluator.busy) == (False, True)
    world.wait(0.1)
    assert (world.child.killed, world.evaluator.busy, world.evaluator.error) == (True, False, None)
    world.wait(0.3)
    assert (len(world.children), world.child.asked) == (2, [])
    for _ in range(MAX_DEATHS - 1):
        world.evaluator.request(None)
        world.wait(7.5)
        world.wait(1.0)
    assert world.evaluator.died
    assert world.evaluator.error == (
        f"{MAX_DEATHS} evaluations in a row had no answer after 7.5 s; mend evaluation.data, or allow more."
    )


@pytest.mark.parametrize(
    ("took", "given", "deadline"), [(None, None, 3600.0), (5.0, None, 600.0), (90.0, None, 1800.0), (5.0, 7.5, 7.5)]
)
def test_the_deadline_comes_from_the_spec_or_from_earlier_ones(
    make: Callable[..., World], took: float | None, given: float | None, deadline: float
) -> None:
    """An hour for the first, which loads the data; then twenty times the longest, and ten minutes at least."""
    world = make(timeout_seconds=given) if given else make()
    if took is not None:
        world.evaluator.request(None)
        world.clock.now += took
        world.child.answer()
        world.look()
    world.evaluator.request(None)
    world.wait(deadline - 0.5)
    assert not world.child.killed
    world.wait(0.5)
    assert world.child.killed


def test_where_no_process_can_be_started_it_is_tried_again(make: Callable[..., World]) -> None:
    """The machine may have too many of them just now."""
    world = make()
    world.evaluator.request(None)
    world.child.die(-9)
    world.look()
    world.cannot_start = True
    world.wait(1.0)
    world.cannot_start = False
    world.wait(NO_PROCESS_PAUSE_SECONDS - 1)
    assert len(world.children) == 1
    world.wait(1.0)
    assert (len(world.children), world.child.asked) == (2, [None])


def test_code_that_raises_is_the_last_word(make: Callable[..., World], capsys: pytest.CaptureFixture[str]) -> None:
    """It would raise again: no other process is tried; the frames go to the log."""
    world = make()
    world.evaluator.request(None)
    world.child.answer("error", ("evaluation.data raised KeyError.", "  line 7, in load"))
    world.child.die(0)
    assert world.look() == []
    assert (world.evaluator.error, world.evaluator.died) == ("evaluation.data raised KeyError.", False)
    assert "line 7, in load" in capsys.readouterr().out
    world.wait(1000.0)
    assert len(world.children) == 1


def test_a_long_one_is_mentioned_more_and_more_rarely(
    make: Callable[..., World], capsys: pytest.CaptureFixture[str]
) -> None:
    """After a minute, then whenever it has taken twice as long."""
    world = make()
    world.evaluator.request(None)
    for _ in range(600):
        world.wait(1.0)
    said = [line for line in capsys.readouterr().out.splitlines() if "takes long" in line]
    assert [line.rpartition("seconds=")[2] for line in said] == ["60", "120", "240", "480"]


def test_it_ends_with_its_evaluator(make: Callable[..., World]) -> None:
    """Also one that does not end when it is asked to."""
    world, deaf = make(), make()
    world.evaluator.close()
    assert (world.child.exitcode, world.child.killed) == (-15, False)
    deaf.child.terminate = lambda: None  # type: ignore[method-assign]
    deaf.evaluator.close()
    assert deaf.child.killed
