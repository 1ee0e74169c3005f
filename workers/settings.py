"""A worker's settings: from flags, then environment, then a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker daemon's settings.

    Attributes:
        broker: the Redis URL.
        data: import path of the factory that gives this device's training data (a map-style torch Dataset).
        data_args: its keyword arguments.
        identity: the folder of this device's identity, whose key signs what it sends; None for none.
        queues: the device classes that this worker serves.
        name: unique among all workers; the default is the host's name and the process id.
        threads: torch threads; 0 leaves it to torch.
        state_dir: where an update waits that could not be delivered; survives a restart.
        cache_bytes: how much memory the models of several campaigns may hold between tasks.
        allow: what tasks may name as code on this device, beside fedtide's own parts (``fl_core.allowance``).
        blobs: servers for versions and updates that this worker may be sent to, as places
            (``fl_core.broker.bulk.places``).
        device: auto, cpu, cuda, ...
        grace_seconds: how long a stopping worker may still train before it hands its task back.
        load_seconds: how long loading torch and the data may take.
        model: import path of this device's own architecture, for methods that allow one (distillation); empty for none.
        model_args: its keyword arguments.
        max_epsilon: what this device may give away in all, with noise of its own alone; None leaves it to campaigns.
        privacy_dir: where the journal of what was given away lies; None for ``privacy`` in ``state_dir``.
        privacy_delta: the delta at which ``max_epsilon`` counts.
        emulate_delay_seconds: added to each task, to play a slow device in a trial.
        emulate_example_seconds: added for each example of each step, to play a device of another speed.
        emulate_attack: play a hostile device: what to do to each update (``workers.child.attacks``); empty for none.
        celery_events: answer Celery's own monitoring tools.
        metrics_host, metrics_port: where Prometheus reads this worker; no port, no metrics.
        traces: tell OpenTelemetry the spans of each task.
    """

    broker: str
    data: str
    name: str
    state_dir: Path
    identity: Path | None = None
    data_args: Mapping[str, Any] = field(default_factory=dict)
    queues: tuple[str, ...] = ("default",)
    allow: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    cache_bytes: int = 1 << 30
    threads: int = 0
    device: str = "auto"
    grace_seconds: float = 20.0
    load_seconds: float = 3600.0
    model: str = ""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    max_epsilon: float | None = None
    privacy_delta: float = 1e-6
    privacy_dir: Path | None = None
    emulate_delay_seconds: float = 0.0
    emulate_example_seconds: float = 0.0
    emulate_attack: Literal["", "sign_flip", "scale"] = ""
    celery_events: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    traces: bool = False
