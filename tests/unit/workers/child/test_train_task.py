"""What the training child does around a task: transfers that are recalled, and tasks that it does not believe."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fl_core.allowance import AllowList
from fl_core.errors import TrainingStopped, UntrustedError
from fl_core.wire.messages import TaskCall
from tests.unit.workers.tasks import TASK
from workers.breaker import Breakers
from workers.child import train_task
from workers.child.fetching import Fetching
from workers.child.tally import TaskRecorder
from workers.child.train_task import Trainer
from workers.pulse import Pulse, Vitals
from workers.settings import WorkerSettings


def test_a_transfer_that_is_recalled_ends() -> None:
    """The parent has heard that nobody waits for this task's bytes, and not for another's."""
    trainer = Trainer.__new__(Trainer)
    trainer._fetching = Fetching.__new__(Fetching)
    trainer._pulse, trainer._vitals = Pulse(), Vitals(holding="digits-1/1-abc#1")
    trainer._pulse.recall("digits-1/1-abc#2")
    before = time.monotonic()
    trainer._note_moved()
    assert trainer._pulse.moved_at >= before
    assert trainer._fetching.moved_at >= before
    trainer._pulse.recall("digits-1/1-abc#1")
    with pytest.raises(TrainingStopped):
        trainer._note_moved()


def test_what_no_coordinator_has_signed_is_dropped_said_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is built for it or reported; the campaign's other doorbells are for others, and the beats say why."""
    said: list[str] = []
    monkeypatch.setattr(train_task.log, "error", lambda event, reason: said.append(reason))
    pulse, passing = Pulse(), SimpleNamespace(give=lambda call: given.append(call))
    given: list[Any] = []
    settings = WorkerSettings(broker="redis://127.0.0.1:1/0", data="fl_core.data:digits", name="w", state_dir=tmp_path)
    trainer = Trainer.__new__(Trainer)
    trainer._settings, trainer._pulse, trainer._breakers = settings, pulse, Breakers()
    trainer._passing: Any = passing  # type: ignore[misc]
    trainer._allowed = AllowList(())
    trainer._models = SimpleNamespace(find=lambda campaign: None)  # type: ignore[assignment]
    trainer._vitals = pulse.read()
    trainer.recorder = TaskRecorder(pulse.tally, "w", traces=False)

    def claim(call: TaskCall, cached: str) -> Any:
        raise UntrustedError("the order of campaign digits-1 is not signed; launch it with --identity.")

    trainer._broker = SimpleNamespace(claim=claim)  # type: ignore[assignment]
    for attempt in (1, 2):
        monkeypatch.setattr(time, "monotonic", lambda attempt=attempt: 100.0 * attempt)
        trainer.execute(replace(TASK.call, attempt=attempt).to_bytes())
        trainer.execute(replace(TASK.call, task_id=f"9-{attempt}").to_bytes())
    assert said == ["the order of campaign digits-1 is not signed; launch it with --identity."]
    assert pulse.tally.outcomes()["distrusted"] == 2
    assert len(given) >= 2
    assert "is not signed; launch it with --identity" in pulse.read().trouble
    assert (pulse.read().num_failed, pulse.read().holding) == (2, "")
