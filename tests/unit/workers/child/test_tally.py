"""What a worker counts: the parent reads what the child wrote, and a child that dies takes nothing with it."""

from __future__ import annotations

import os

import pytest

from fl_core.wire.histogram import SECONDS
from fl_core.wire.messages import TrainTask
from workers.child.tally import OUTCOMES, PARTS, Tally, TaskRecorder

TASK = TrainTask(
    campaign="digits-1", task_id="1-abc", attempt=1, queue="gpu", timeout_seconds=60.0, model_factory="a:b",
    model_args={}, layout_digest="a" * 32, training={}, codec="fp32", sends="delta",
)  # fmt: skip


def test_a_dead_child_s_counts_stay() -> None:
    """Two children one after the other add to the same numbers, though each ends without a word."""
    tally = Tally()
    for _ in range(2):
        if not (pid := os.fork()):
            recorder = TaskRecorder(tally, "w", traces=False)
            recorder.ended(
                TASK, "delivered", {"queue": 9.0, "fetch": 0.002, "train": 2.0, "encode": 0.0, "deliver": 500.0}
            )
            recorder.ended(TASK, "void")
            os._exit(0)
        os.waitpid(pid, 0)
    assert tally.outcomes() == {**dict.fromkeys(OUTCOMES, 0), "delivered": 2, "void": 2}
    found = {part: tally.histogram(part) for part in PARTS}
    assert {part: times.sum for part, times in found.items()} == {
        "fetch": 0.004,
        "train": 4.0,
        "encode": 0.0,
        "deliver": 1e3,
    }
    assert [times.counts.index(2) for times in found.values()] == [3, SECONDS.index(3.0), 0, len(SECONDS)]


def test_the_parent_answers_prometheus() -> None:
    """Counters, a state of which one is 1, and cumulative histograms; the worker's name is in the info alone."""
    client = pytest.importorskip("prometheus_client", reason="the extra `metrics` is not installed")
    from workers.metrics import WorkerMetrics
    from workers.pulse import Pulse, Vitals

    pulse = Pulse()
    pulse.write(Vitals(pid=1, state="training", bytes_up=7, device="cpu"))
    TaskRecorder(pulse.tally, "w", traces=False).ended(TASK, "unwanted", {"train": 0.02})
    page = client.generate_latest(WorkerMetrics("w-1", pulse, pulse.tally).registry()).decode()
    for line in (
        'fedtide_worker_info{device="cpu",worker="w-1"} 1.0',
        'fedtide_worker_state{state="training"} 1.0',
        'fedtide_worker_state{state="idle"} 0.0',
        'fedtide_worker_tasks_total{outcome="unwanted"} 1.0',
        'fedtide_worker_transferred_bytes_total{direction="up"} 7.0',
        'fedtide_worker_part_seconds_bucket{le="0.01",part="train"} 0.0',
        'fedtide_worker_part_seconds_bucket{le="0.03",part="train"} 1.0',
        'fedtide_worker_part_seconds_count{part="fetch"} 0.0',
    ):
        assert line in page.splitlines(), line
    assert page.count("w-1") == 1
