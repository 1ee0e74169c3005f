"""A campaign's surroundings on this machine: a broker, a second server for versions, a fleet, and metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.launch.fleet import Fleet, FleetWorker, allowed_by
from coordinator.launch.options import RunOptions
from fl_core.broker import scripts
from fl_core.broker.bulk.places import check_place
from fl_core.broker.connection import broker_errors, connect
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.server.embedded_watch import EmbeddedWatch
from fl_core.broker.url import public_url
from fl_core.program.extras import need
from fl_core.spec import CampaignSpec

TRIAL_COORDINATOR, TRIAL_OPERATOR = "trial-coordinator", "trial-operator"


@dataclass(frozen=True, slots=True)
class Served:
    """A server of metrics.

    Attributes:
        show: takes a status in, to be read from then on.
        start: answers from now on.
    """

    show: Callable[[Any], None]
    start: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there while a campaign runs.

    Attributes:
        url: the broker, for programs on this machine.
        fleet: looked after while the campaign runs; it may be empty.
        watches: of embedded servers, which are looked after as well.
        blobs: the place of the server for versions; empty for the broker itself.
        metrics: what Prometheus reads; None where it is not wanted.
        identity: the folder of the coordinator's identity, in a trial with keepers; None for none.
    """

    url: str
    fleet: Fleet
    watches: Sequence[EmbeddedWatch] = ()
    blobs: str = ""
    metrics: Served | None = None
    identity: Path | None = None

    def look_after(self) -> None:
        """Called about once a second.

        Raises:
            CampaignError: something has ended for good.
        """
        for watch in self.watches:
            watch.look()
        self.fleet.check()


@contextlib.contextmanager
def surrounded(spec: CampaignSpec, options: RunOptions, on_broker: Callable[[str], None]) -> Iterator[Surroundings]:
    """All of it, ended with the block.

    Args:
        on_broker: called with the broker's URL before the fleet is started.
    """
    folder, watches = options.folder, list[EmbeddedWatch]()
    with (
        open_broker(options.broker, folder.broker, options.port, watches) as (url, local_url),
        open_blobs(options, folder.broker / "blobs", watches) as blobs,
    ):
        on_broker(url)
        identities = dict(_identities(spec, options))
        own = identities.pop(TRIAL_COORDINATOR, None)
        identities.pop(TRIAL_OPERATOR, None)
        # Whoever has an identity logs in with it; to the run's own server all come as the user that needs no password.
        fleet_url = url.replace("redis://", "redis://default:any@") if identities else local_url
        with (
            metrics_served(options.metrics, local_url) as metrics,
            local_fleet(options.fleet, fleet_url, folder.workers, allowed_by(spec), blobs, identities) as fleet,
        ):
            yield Surroundings(local_url, fleet, watches, blobs, metrics, own)


def _identities(spec: CampaignSpec, options: RunOptions) -> Mapping[str, Path]:
    """Everybody's identity in a trial with keepers, by name; none where nobody needs one, or they have their own."""
    keepers = spec.secure_aggregation.keepers
    if not keepers or options.broker is not None or not options.fleet or options.launch.identity is not None:
        return {}
    need("a trial with keepers", "cryptography", "blake3")
    from coordinator.enrolment.trial import trial_federation  # it needs a package that others do not

    devices = {worker.name: worker.queue for worker in options.fleet}
    return trial_federation(options.folder.path / "federation", TRIAL_COORDINATOR, TRIAL_OPERATOR, devices, keepers)


@contextlib.contextmanager
def open_broker(
    url: str | None, folder: Path, port: int, watches: list[EmbeddedWatch] | None = None
) -> Iterator[tuple[str, str]]:
    """The URL of the broker to use, for everybody and for programs on this machine.

    Args:
        url: a server that is there already; None starts an embedded one, which ends with the block.
        folder: the embedded server's data.
        port: the embedded server's preferred port.
        watches: gets who looks after an embedded server.

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
        scripts.load(connect(server.url))  # before the workers come that it is for
        if watches is not None:
            watches.append(EmbeddedWatch(server, "the embedded broker"))
        yield server.url, server.local_url


@contextlib.contextmanager
def open_blobs(options: RunOptions, folder: Path, watches: list[EmbeddedWatch]) -> Iterator[str]:
    """The place of the server for versions, empty for the broker itself.

    An embedded broker writes an append-only file, in which versions have no business: they can be published again. So
    it gets a second server beside it that writes nothing.
    """
    if options.broker is not None or options.launch.blobs:
        yield check_place(options.launch.blobs) if options.launch.blobs else ""
        return
    with EmbeddedServer(folder, persistent=False) as server:
        watches.append(EmbeddedWatch(server, "the embedded server for blobs"))
        yield server.place


@contextlib.contextmanager
def local_fleet(
    workers: Sequence[FleetWorker],
    url: str,
    folder: Path,
    allow: Sequence[str] = (),
    blobs: str = "",
    identities: Mapping[str, Path] | None = None,
) -> Iterator[Fleet]:
    """Worker processes on this machine, and keepers, which end with the block."""
    fleet = Fleet(workers, url, folder, allow, blobs, identities)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


@contextlib.contextmanager
def metrics_served(place: tuple[str, int] | None, url: str) -> Iterator[Served | None]:
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
        yield Served(metrics.show, server.start)
    finally:
        server.stop()
