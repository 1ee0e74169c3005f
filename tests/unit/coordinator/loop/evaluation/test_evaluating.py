"""The evaluating process, in this one: what it answers, and how it says what went wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from coordinator.loop.evaluation import evaluating
from coordinator.loop.evaluation.evaluating import Trial, serve
from coordinator.loop.evaluation.scorer import Scorer
from fl_core.errors import SpecError
from fl_core.trial.findings import Doing, Finding, Step
from tests.unit.coordinator.loop.evaluation.published import BROKEN, LABELLED, RAISING, UNLABELLED, Published, labelled


class Requests:
    """The coordinator's end of the pipe: so many requests, and then it has ended.

    Attributes:
        sent: what was answered.
        closed: it was closed.
    """

    def __init__(self, *wanted: Any) -> None:
        self._wanted = list(wanted)
        self.sent: list[Any] = []
        self.closed = False

    def recv(self) -> Any:
        if not self._wanted:
            raise EOFError
        return self._wanted.pop(0)

    def send(self, value: Any) -> None:
        self.sent.append(value)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It neither ends with a parent here nor changes signals; threads are as before afterwards."""
    monkeypatch.setattr(evaluating, "end_with_parent", lambda parent: None)
    monkeypatch.setattr(evaluating.signal, "signal", lambda *_: None)
    monkeypatch.setattr(evaluating, "configure_logs", lambda: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _served(
    published: Published, data: str, *wanted: Any, monkeypatch: pytest.MonkeyPatch, trial: Trial | None = None,
    forked: bool = True,
) -> list[Any]:  # fmt: skip
    """Everything that it has sent."""
    monkeypatch.setattr(evaluating, "connect", lambda url: published.client)
    requests, parents_end = Requests(*wanted), Requests()
    connection: Any = requests
    model, layout = (published.model, published.layout) if forked else (None, None)
    ours: Any = parents_end if forked else None
    serve(connection, ours, "digits-1", "", "", published.spec(data), model, layout, trial, os.getppid())
    assert parents_end.closed == forked
    return requests.sent


@pytest.mark.parametrize("forked", [True, False])
def test_each_request_is_answered(monkeypatch: pytest.MonkeyPatch, forked: bool) -> None:
    """With plain values, by a fork or by an interpreter that has to build the model; until the coordinator ends."""
    published = Published()
    first, _ = published.publish(1), published.publish(2)
    sent = _served(published, LABELLED, first, None, monkeypatch=monkeypatch, forked=forked)
    assert [(kind, scores[0], scores[2]["accuracy"], scores[3]) for kind, scores in sent] == [
        ("scores", 1, 1.0, 8), ("scores", 2, 1.0, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (RAISING, "published:raising' failed with {}: KeyError: 'no such table'"),
        (BROKEN, "published:broken': reading a batch raised RuntimeError: this disk is broken ("),
        (UNLABELLED, "no target of its 8 examples counts"),
    ],
)
def test_data_that_cannot_be_loaded_or_scored_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, data: str, said: str
) -> None:
    """And the last word."""
    published = Published()
    published.publish(1)
    ((kind, (sentence, frames)),) = _served(published, data, None, None, monkeypatch=monkeypatch)
    assert (kind, said in sentence, frames) == ("error", True, "")


def test_whatever_else_is_raised_is_said_with_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, and the place for whoever mends it: the process does not end without a word."""

    def score(self: Scorer, wanted: Any) -> Any:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(Scorer, "score", score)
    ((kind, (said, frames)),) = _served(Published(), LABELLED, None, monkeypatch=monkeypatch)
    assert kind == "error"
    assert said.startswith(f"evaluation.data = {LABELLED!r}: the evaluation raised ZeroDivisionError")
    assert "in score" in frames


def test_a_trial_comes_first_and_its_data_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its findings go to the coordinator, ended by None; the data is not loaded a second time."""
    published = Published()
    published.publish(1)

    def trial(*_: Any) -> Iterator[Step]:
        yield Doing("data", "loading it")
        yield Finding("data", "ok", "eight examples")
        return labelled()  # type: ignore[return-value]

    wanted: Any = trial
    sent = _served(published, RAISING, None, monkeypatch=monkeypatch, trial=wanted)
    assert [sent[0].name, sent[1].verdict, sent[2], sent[3][0]] == ["data", "ok", None, "scores"]


def test_after_a_trial_that_failed_nothing_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor asked for."""

    def trial(*_: Any) -> Iterator[Step]:
        yield Doing("data", "loading it")
        raise SpecError("there is none.")

    wanted: Any = trial
    sent = _served(Published(), LABELLED, None, monkeypatch=monkeypatch, trial=wanted)
    assert [type(step) for step in sent] == [Doing, Finding, type(None)]
    assert (sent[1].verdict, sent[1].detail) == ("fail", "there is none.")
