"""``fedtide run``: one campaign from beginning to end, with all that it needs around it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import structlog

from coordinator.launch.options import Callbacks, LaunchOptions, RunOptions
from coordinator.launch.surroundings import Served, Surroundings, surrounded
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import BrokerError
from fl_core.spec import CampaignSpec
from fl_core.wire.status import Status

log = structlog.get_logger()


def run_campaign(spec: CampaignSpec, options: RunOptions, callbacks: Callbacks) -> dict[str, Any]:
    """Run one campaign from beginning to end.

    Args:
        spec: the campaign's.
        options: how.
        callbacks: called on the way.

    Returns:
        The summary, as in ``summary.json``.
    """
    from coordinator.launch.leavings import leave_pictures

    folder, launch = options.folder, options.launch
    try:
        with surrounded(spec, options, callbacks.on_broker) as around:
            told = _measured(around.metrics, callbacks)
            launch = replace(launch, blobs=around.blobs)
            if around.identity is not None:
                from fl_core.identity.folder import read_identity

                launch = replace(launch, identity=read_identity(around.identity))
            summary = lead(spec, folder, around, launch, told)
    except BrokerError:
        from coordinator.loop.ending import end_from_checkpoint

        ended = end_from_checkpoint(spec, folder, None) if launch.resume else None
        if ended is None:
            raise
        summary = ended
    leave_pictures(folder, summary, title=summary["campaign"])
    return summary


def _measured(metrics: Served | None, callbacks: Callbacks) -> Callbacks:
    """The same, with metrics for Prometheus."""
    if metrics is None:
        return callbacks

    def launched(campaign: str, num_parameters: int, resumed: bool) -> None:
        metrics.start()
        callbacks.on_launch(campaign, num_parameters, resumed)

    def progress(now: Status) -> None:
        metrics.show(now)
        callbacks.on_progress(now)

    return replace(callbacks, on_launch=launched, on_progress=progress)


def lead(
    spec: CampaignSpec,
    folder: RunFolder,
    around: Surroundings,
    options: LaunchOptions,
    callbacks: Callbacks,
) -> dict[str, Any]:
    """Coordinate one campaign on a broker and with a fleet that are there already.

    Args:
        spec: the campaign's.
        folder: where its files go.
        around: broker and fleet.
        options: how.
        callbacks: called on the way.

    Returns:
        The summary, as in ``summary.json``. Its state is ``interrupted`` after Ctrl-C.
    """
    # torch is loaded while the workers of a fleet that has just been started load theirs.
    from coordinator.launch.assemble import coordinating
    from coordinator.loop.ending import end_from_checkpoint

    if options.resume and (ended := end_from_checkpoint(spec, folder, around.url)) is not None:
        return ended
    with (
        coordinating(spec, around.url, folder, options, callbacks, look_after=around.look_after) as coordinator,
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
