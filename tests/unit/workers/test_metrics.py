"""What a worker tells Prometheus."""

from __future__ import annotations

import pytest

from workers.child.tally import Tally
from workers.pulse import Pulse, Vitals

prometheus_client = pytest.importorskip("prometheus_client")


def test_the_page_has_what_the_child_has_said() -> None:
    """State, outcomes, bytes and times; the name in one place alone, so that nothing else grows with the fleet."""
    from workers.metrics import WorkerMetrics

    pulse, tally = Pulse(), Tally()
    pulse.write(Vitals(pid=1, state="training", bytes_up=10, bytes_down=20, device="cpu"))
    tally.count("delivered")
    tally.count("delivered")
    tally.time("train", 0.5)
    page = prometheus_client.generate_latest(WorkerMetrics("pi-3", pulse, tally).registry()).decode()
    lines = page.splitlines()
    for line in (
        'fedtide_worker_info{device="cpu",worker="pi-3"} 1.0',
        'fedtide_worker_state{state="training"} 1.0',
        'fedtide_worker_state{state="idle"} 0.0',
        'fedtide_worker_tasks_total{outcome="delivered"} 2.0',
        'fedtide_worker_transferred_bytes_total{direction="down"} 20.0',
        'fedtide_worker_part_seconds_count{part="train"} 1.0',
    ):
        assert line in lines
    assert page.count("pi-3") == 1
