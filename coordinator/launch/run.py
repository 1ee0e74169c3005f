"""``fedtide run``: the embedded server if need be, a fleet if asked for, the campaign, and what it leaves behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from coordinator.launch.fleet import Fleet, FleetWorker, allowed_by
from coordinator.storage.run_folder import RunFolder
from fl_core.broker.bulk.places import check_place
from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.server.embedded_watch import EmbeddedWatch
from fl_core.broker.url import public_url
from fl_core.errors import BrokerError
from fl_core.program.outside import TRIAL_SECONDS
from fl_core.spec import CampaignSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What ``fedtide run`` was asked for.

    Attributes:
        broker: None starts the embedded server, with its data in the run's folder.
        fleet: workers to start on this machine.
        folder: the run's.
        resume: go on from the folder's checkpoint.
        port: the embedded server's preferred port.
        metrics: address and port where Prometheus reads the coordinator; None for nowhere.
        traces: tell OpenTelemetry the spans of each task.
        blobs: the place of a second server, for versions (``fl_core/broker/bulk/places.py``); empty for none, or beside
            an embedded broker for another embedded one.
        allow_eviction: take a broker that evicts keys when it is full.
        trial_seconds: how long a new campaign may be tried before it is launched; 0 launches it untried.
    """

    broker: str | None
    fleet: tuple[FleetWorker, ...]
    folder: RunFolder
    resume: bool = False
    port: int = 6399
    metrics: tuple[str, int] | None = None
    traces: bool = False
    blobs: str = ""
    allow_eviction: bool = False
    trial_seconds: float = TRIAL_SECONDS


@contextlib.contextmanager
def open_broker(
    url: str | None, folder: Path, port: int, watches: list[EmbeddedWatch] | None = None
) -> Iterator[tuple[str, str]]:
    """The URL of the broker to use, for everybody and for programs on this machine.

    Args:
        url: a server that is there already; None starts an embedded one, which ends with the block.
        folder: the embedded server's data.
        port: the embedded server's preferred port.
        watches: gets who looks after an embedded server, for ``lead``.

    Raises:
        SpecError: there is no server to start.
        BrokerUnavailable: the given one does not answer.
    """
    if url is not None:
        with broker_errors(f"reaching the broker at {public_url(url)}"):
            connect(url).ping()
        yield url, url
        return
    with EmbeddedServer(folder, port=port, persistent=True) as server:
        if watches is not None:
            watches.append(EmbeddedWatch(server, "the embedded broker"))
        yield server.url, server.local_url


@contextlib.contextmanager
def open_blobs(options: RunOptions, folder: Path, watches: list[EmbeddedWatch]) -> Iterator[str]:
    """The place of the server for versions, empty for the broker itself.

    An embedded broker writes an append-only file, in which versions have no business: they can be published again. So
    it gets a second server beside it that writes nothing.
    """
    if options.broker is not None or options.blobs:
        yield check_place(options.blobs) if options.blobs else ""
        return
    with EmbeddedServer(folder, persistent=False) as server:
        watches.append(EmbeddedWatch(server, "the embedded server for blobs"))
        yield server.place


@contextlib.contextmanager
def local_fleet(
    workers: Sequence[FleetWorker], url: str, folder: Path, allow: Sequence[str] = (), blobs: str = ""
) -> Iterator[Fleet]:
    """Worker processes on this machine, which end with the block."""
    fleet = Fleet(workers, url, folder, allow, blobs)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


@contextlib.contextmanager
def _metrics(place: tuple[str, int] | None, url: str) -> Iterator[Any]:
    """The port for Prometheus, bound now, which answers once the campaign is led; None where it is not wanted.

    Raises:
        SpecError: the port is taken.
    """
    if place is None:
        yield None
        return
    from coordinator.telemetry.metrics import CoordinatorMetrics
    from fl_core.program.metrics_server import MetricsServer

    metrics = CoordinatorMetrics(connect(url, timeout_seconds=2))
    server = MetricsServer(*place, metrics.registry)
    try:
        yield _Telling(metrics.show, server.start)
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class _Telling:
    show: Callable[[Any], None]
    start: Callable[[], None]


def run_campaign(
    spec: CampaignSpec,
    options: RunOptions,
    *,
    on_broker: Callable[[str], None],
    on_launch: Callable[[str, int, bool], None],
    on_progress: Callable[[Any], None],
) -> dict[str, Any]:
    """Run one campaign from beginning to end, with all that it needs around it.

    Args:
        spec: the campaign's.
        options: how.
        on_broker: called with the broker's URL, before anything else happens.
        on_launch, on_progress: as in ``lead``.

    Returns:
        The summary, as in ``summary.json``.
    """
    folder = options.folder
    try:
        summary = _run(spec, options, on_broker=on_broker, on_launch=on_launch, on_progress=on_progress)
    except BrokerError:
        from coordinator.loop.ending import end_from_checkpoint

        ended = end_from_checkpoint(spec, folder, None) if options.resume else None
        if ended is None:
            raise
        summary = ended
    from coordinator.launch.leavings import leave_pictures

    leave_pictures(folder, summary, title=summary["campaign"])
    return summary


def _run(
    spec: CampaignSpec,
    options: RunOptions,
    *,
    on_broker: Callable[[str], None],
    on_launch: Callable[[str, int, bool], None],
    on_progress: Callable[[Any], None],
) -> dict[str, Any]:
    folder = options.folder
    watches: list[EmbeddedWatch] = []
    with (
        open_broker(options.broker, folder.broker, options.port, watches) as (url, local_url),
        open_blobs(options, folder.broker / "blobs", watches) as blobs_place,
    ):
        on_broker(url)
        with (
            _metrics(options.metrics, local_url) as metrics,
            local_fleet(options.fleet, local_url, folder.workers, allowed_by(spec), blobs_place) as fleet,
        ):

            def launched(campaign: str, num_parameters: int, resumed: bool) -> None:
                if metrics is not None:
                    metrics.start()
                on_launch(campaign, num_parameters, resumed)

            def progress(now: Any) -> None:
                if metrics is not None:
                    metrics.show(now)
                on_progress(now)

            return lead(
                spec, local_url, folder, fleet, resume=options.resume, blobs_place=blobs_place, traces=options.traces,
                allow_eviction=options.allow_eviction, trial_seconds=options.trial_seconds, on_launch=launched,
                on_progress=progress, watches=watches,
            )  # fmt: skip


def lead(
    spec: CampaignSpec,
    url: str,
    folder: RunFolder,
    fleet: Fleet,
    *,
    resume: bool = False,
    blobs_place: str = "",
    traces: bool = False,
    allow_eviction: bool = False,
    trial_seconds: float = TRIAL_SECONDS,
    on_launch: Callable[[str, int, bool], None],
    on_progress: Callable[[Any], None],
    watches: Sequence[EmbeddedWatch] = (),
) -> dict[str, Any]:
    """Coordinate one campaign on a broker and with a fleet that are there already.

    Args:
        spec: the campaign's.
        url: the broker.
        folder: where the campaign's files go.
        fleet: looked after while the campaign runs; it may be empty.
        resume: go on from the folder's checkpoint.
        blobs_place: the server for versions; empty for the broker itself.
        traces: tell OpenTelemetry the spans of each task.
        allow_eviction: take a broker that evicts keys when it is full.
        trial_seconds: as in ``RunOptions``.
        on_launch: called with the campaign's id, its number of parameters, and whether it was resumed.
        on_progress: called a few times a second with its progress.
        watches: of embedded servers, which are looked after while the campaign runs.

    Returns:
        The summary, as in ``summary.json``. Its state is ``interrupted`` after Ctrl-C.
    """
    # torch is loaded while the workers of a fleet that has just been started load theirs.
    from coordinator.launch.assemble import coordinating
    from coordinator.loop.ending import end_from_checkpoint

    if resume and (ended := end_from_checkpoint(spec, folder, url)) is not None:
        return ended

    def look_after() -> None:
        for watch in watches:
            watch.look()
        fleet.check()

    with (
        coordinating(
            spec,
            url,
            folder,
            resume=resume,
            blobs_place=blobs_place,
            traces=traces,
            allow_eviction=allow_eviction,
            trial_seconds=trial_seconds,
            on_identity=lambda identity, layout, resumed: on_launch(identity.campaign, layout.num_parameters, resumed),
            on_progress=on_progress,
            look_after=look_after,
        ) as coordinator,
        _interrupts(coordinator.interrupt),
    ):
        summary: dict[str, Any] = coordinator.run()
    return summary


@contextlib.contextmanager
def _interrupts(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the campaign in a way that can be resumed; a second Ctrl-C does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        log.info("interrupted: writing a checkpoint")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupt()

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
