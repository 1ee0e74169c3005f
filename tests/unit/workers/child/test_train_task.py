"""What the training child does around a task: transfers that are recalled."""

from __future__ import annotations

import time

import pytest

from fl_core.errors import TrainingStopped
from workers.child.fetching import Fetching
from workers.child.train_task import Trainer
from workers.pulse import Pulse, Vitals


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
