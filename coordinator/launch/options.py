"""Options of a run, as one value that the command, ``fedtide.run`` and a resume share; and its callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordinator.launch.fleet import FleetWorker
from coordinator.storage.run_folder import RunFolder
from fl_core.program.outside import TRIAL_SECONDS
from fl_core.wire.status import Status

if TYPE_CHECKING:
    from fl_core.identity.folder import Identity


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """How a campaign is launched on a broker that is there.

    Attributes:
        resume: go on from the folder's checkpoint.
        blobs: the place of a second server, for versions (``fl_core/broker/bulk/places.py``); empty for none.
        traces: tell OpenTelemetry the spans of each task.
        allow_eviction: take a broker that evicts keys when it is full.
        identity: of this coordinator; only devices of its authority may take part, and it signs what they train by.
            None takes everybody. A campaign that was begun with one keeps its authority.
        trial_seconds: how long a new campaign may be tried before it is launched; 0 launches it untried.
    """

    resume: bool = False
    blobs: str = ""
    traces: bool = False
    allow_eviction: bool = False
    trial_seconds: float = TRIAL_SECONDS
    identity: Identity | None = None

    @property
    def authority(self) -> bytes:
        """The certificate of this coordinator's authority, DER; empty for none."""
        return b"" if self.identity is None else self.identity.authority


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What ``fedtide run`` was asked for.

    Attributes:
        broker: None starts the embedded server, with its data in the run's folder, and beside it another one for
            versions where no place for those is given.
        fleet: workers to start on this machine.
        folder: the run's.
        launch: the rest of it.
        port: the embedded server's preferred port.
        metrics: address and port where Prometheus reads the coordinator; None for nowhere.
    """

    broker: str | None
    fleet: tuple[FleetWorker, ...]
    folder: RunFolder
    launch: LaunchOptions = field(default_factory=LaunchOptions)
    port: int = 6399
    metrics: tuple[str, int] | None = None


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Callbacks on the way.

    Attributes:
        on_broker: the broker's URL, before anything else happens.
        on_launch: the campaign's id, its number of parameters, and whether it was resumed; before anything is
            published.
        on_progress: a few times a second, how it stands.
    """

    on_broker: Callable[[str], None] = _nothing
    on_launch: Callable[[str, int, bool], None] = _nothing
    on_progress: Callable[[Status], None] = _nothing
