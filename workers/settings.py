"""What a worker is told: from flags, then environment, then a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker daemon's settings.

    Attributes:
        broker: the Redis URL.
        data: import path of the factory that gives this device's training data (a map-style torch Dataset).
        data_args: its keyword arguments.
        queues: the device classes that this worker serves.
        name: unique among all workers; the default is the host's name and the process id.
        threads: torch threads; 0 leaves it to torch.
        state_dir: where an update waits that could not be delivered; survives a restart.
        device: auto, cpu, cuda, ...
        grace_seconds: how long a stopping worker may still train before it hands its task back.
        emulate_delay_seconds: added to each task, to play a slow device in a trial.
    """

    broker: str
    data: str
    name: str
    state_dir: Path
    data_args: Mapping[str, Any] = field(default_factory=dict)
    queues: tuple[str, ...] = ("default",)
    threads: int = 0
    device: str = "auto"
    grace_seconds: float = 20.0
    emulate_delay_seconds: float = 0.0
    celery_events: bool = False
