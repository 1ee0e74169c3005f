"""From a spec and devices to a campaign that has ended, in virtual time.

Everything is as at a launch but for the broker, the clock and the processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from coordinator.campaign.admission import Admission
from coordinator.campaign.identity import Identity
from coordinator.campaign.state import CampaignState
from coordinator.launch.assemble import without_credentials
from coordinator.launch.wiring import Files, Saved, Watchers, wire
from coordinator.loop.coordinator import Coordinator
from coordinator.loop.lease.keeper import LEASE_SECONDS
from coordinator.outgoing.cadence import Cadence
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import Payloads
from coordinator.simulation.arrivals import Arrivals, Played
from coordinator.simulation.clock import VirtualClock
from coordinator.simulation.device_side import DeviceSide
from coordinator.simulation.devices import SignsOfLife, SimulatedDevice
from coordinator.simulation.evaluator import InlineEvaluator
from coordinator.simulation.fleet.drawn import DrawnFleet
from coordinator.simulation.pool import Pool
from coordinator.simulation.recorded import Recorded, Recording
from coordinator.simulation.training import Way
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.kept_log import Fetch, KeptLog
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.spool import Spool
from coordinator.storage.strict_json import strict_json
from fl_core.aggregation import build_strategy
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.clock import CampaignClock
from fl_core.broker.lease import Writer
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import CampaignError, SpecError
from fl_core.models.build import build_model
from fl_core.program.whole_file import whole_file
from fl_core.spec import CampaignSpec, to_toml
from fl_core.trial.parts import verify_parts
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import tensors_beside
from fl_core.wire.status import Status

# Nobody watches, no doorbell gets lost and no worker dies: what is looked for once a second in a deployment is looked
# for more rarely. An idle turn waits until something is due.
CADENCE = Cadence(read_wait_ms=10_000, status_seconds=60.0, survey_seconds=10.0)
# Of a simulation checkpoints are written to keep the log short, not against time.
CHECKPOINT_SECONDS = 1e9
CHECKPOINT_MERGES = 10**9


def drawn_identity(spec: CampaignSpec, created_ms: int) -> Identity:
    """A campaign's id and secrets, drawn from the spec's seed alone."""
    drawn = hashlib.sha256(f"{spec.campaign.name}/{spec.campaign.seed}".encode()).digest()
    incarnation = hashlib.sha256(drawn).hexdigest()[:16]
    return Identity(f"{spec.campaign.name}-{drawn.hex()[:6]}", drawn, incarnation, created_ms)


def run_simulation(
    spec: CampaignSpec,
    devices: Sequence[SimulatedDevice],
    folder: RunFolder,
    *,
    recording: Recording | None = None,
    way: Way = "one_by_one",
    num_processes: int = 1,
    on_progress: Callable[[Status], None] = lambda now: None,
) -> dict[str, Any]:
    """Run a campaign to its end in virtual time.

    Args:
        spec: the campaign's, with a stop condition.
        devices: the fleet.
        folder: the run's, which holds nothing yet.
        recording: let these updates arrive, and as they did; None lets the devices' speeds decide.
        way: how devices' training is computed.
        num_processes: how many train at a time what is trained one by one; the bits are the same.
        on_progress: called now and then with its progress.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        SpecError: spec and devices do not fit.
        CampaignError: the campaign cannot go on, or its files cannot be written.
    """
    spec = spec.model_copy(
        update={
            "checkpoint": spec.checkpoint.model_copy(
                update={"every_seconds": CHECKPOINT_SECONDS, "every_merges": CHECKPOINT_MERGES}
            )
        }
    )
    queues = _queues(spec, devices)
    torch.set_num_threads(1)  # as in a deployment: elementwise sums come out the same on every machine
    server = MemoryServer()
    client, keyspace = MemoryClient(server), server.keyspace
    identity = drawn_identity(spec, int(keyspace.now_ms)) if recording is None else recording.identity
    registers = {queue: (len(members), partial(_names, devices, queue)) for queue, members in queues.items()}
    make_pool = partial(Pool, devices=devices, size=num_processes) if num_processes > 1 and recording is None else None
    side = DeviceSide(client, SignsOfLife(keyspace, registers), way, make_pool)
    arrivals: Arrivals
    if recording is None:
        arrivals = Played(client, keyspace, side, devices, queues)
    else:
        named = {device.name: device for device in devices}
        arrivals = Recorded(client, keyspace, side, spec, named, recording)
    server.commands.streams.on_wait = arrivals.advance
    try:
        summary: dict[str, Any] = _coordinator(spec, identity, client, folder, on_progress).run()
    finally:
        side.close()
    _write_how(folder, len(devices), side)
    return summary


def _write_how(folder: RunFolder, num_devices: int, side: DeviceSide) -> None:
    """Beside the spec: what else a run's bits hang on."""
    training = side.training
    how = "one_by_one" if training is None or training.way == "auto" else training.way
    told = {"devices": num_devices, "training": how, "why": "" if training is None else training.why}
    try:
        with whole_file(folder.path / "simulation.json") as file:
            file.write(strict_json(told, indent=2).encode() + b"\n")
    except OSError as error:
        raise CampaignError(f"{folder.path} cannot be written ({error.strerror}); make room there.") from error


def _queues(spec: CampaignSpec, devices: Sequence[SimulatedDevice]) -> dict[str, Sequence[int]]:
    """The devices' numbers by the queue that they serve.

    Raises:
        SpecError: they do not fit the spec, or each other.
    """
    if not devices:
        raise SpecError("there are no devices; a simulation needs at least one.")
    if spec.secure_aggregation.is_on:
        raise SpecError(
            "secure_aggregation needs keepers and proven devices, which a simulation has not; remove it there. The "
            "sum is the same, but for its rounding to the grid."
        )
    found = _by_queue(spec, devices)
    stop = spec.stop
    if not (stop.updates or stop.versions or stop.seconds or stop.targets):
        raise SpecError("the simulation would never end; give updates, seconds or target, or write [stop] in the spec.")
    return found


def _by_queue(spec: CampaignSpec, devices: Sequence[SimulatedDevice]) -> dict[str, Sequence[int]]:
    if isinstance(devices, DrawnFleet):
        drawn = {queue: members.tolist() for queue, members in devices.queues.items()}
        for queue in drawn:
            _verify_queue(queue, spec.dispatch.queues, "a class of devices in the profile")
        return {queue: drawn.get(queue, []) for queue in spec.dispatch.queues}
    found: dict[str, list[int]] = {queue: [] for queue in spec.dispatch.queues}
    names: set[str] = set()
    for index, device in enumerate(devices):
        if device.name in names:
            raise SpecError(f"two devices are called {device.name!r}; give each a name of its own.")
        _verify_queue(device.queue, spec.dispatch.queues, f"device {device.name!r}")
        names.add(device.name)
        found[device.queue].append(index)
    return {**found}


def _verify_queue(queue: str, known: Sequence[str], who: str) -> None:
    if queue not in known:
        queues = ", ".join(map(repr, known))
        raise SpecError(f"{who} serves queue {queue!r}, and dispatch.queues has only {queues}; add it.")


def _names(devices: Sequence[SimulatedDevice], queue: str) -> list[str]:
    if isinstance(devices, DrawnFleet):
        return devices.names(queue)
    return [device.name for device in devices if device.queue == queue]


def _coordinator(
    spec: CampaignSpec,
    identity: Identity,
    client: MemoryClient,
    folder: RunFolder,
    on_progress: Callable[[Status], None],
) -> Coordinator:
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model, spec.model.buffers)
    beside = tensors_beside(layout.names, model)
    strategy = build_strategy(spec, layout, layout.flatten(model))
    verify_parts(spec, strategy, layout)
    store = CheckpointStore(str(folder.checkpoint))
    broker = CampaignBroker(client, identity.campaign)
    writer = Writer(client, broker.keys, holder="simulation", lease_seconds=LEASE_SECONDS)
    writer.acquire(0)
    payloads = Payloads(client, broker, Spool(folder.path / "spool"))
    fetch: Fetch = payloads.fetch
    kept_log: KeptLog | None = None
    if spec.checkpoint.keep_log:
        kept_log = KeptLog(folder.kept_log, [], writer.fence, identity.secret)
        fetch = kept_log.keeping(fetch)
    admission = Admission(identity.campaign, spec, layout, identity.secret, fetch)
    state = CampaignState(identity.campaign, spec, identity.secret, strategy, admission, layout)
    if state.privacy is not None:
        # From the seed like all else: it shows what noise does to a model, and protects nobody.
        state.privacy.noise_secret = hashlib.blake2b(identity.secret, person=b"noise", digest_size=32).digest()
    evaluator = InlineEvaluator(client, broker.keys, spec, model, layout) if spec.evaluation.data else None
    folder.write_spec(to_toml(without_credentials(spec)))
    clock = CampaignClock(broker, VirtualClock(client.server.keyspace))
    coordinator = wire(
        Context(identity, spec, layout, client, broker, clock, writer, CADENCE),
        state, payloads, evaluator,
        Files(folder, store, kept_log, None, beside), Watchers(on_progress), Saved(),
    )  # fmt: skip
    coordinator.save_first()
    return coordinator
