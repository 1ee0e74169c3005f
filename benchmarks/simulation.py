"""An asynchronous campaign in virtual time: the product's methods, codecs, strategies and guard, without the broker.

Devices of unequal speed take a task, train from the version of that moment, and their update arrives when their virtual
clock says so, whatever the machine that runs this is doing. Staleness therefore comes out as it would in the field, and
the same seed gives the same figures: this is for comparing methods. Speed is measured by the other benchmarks.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from collusion import Collusion
from torch import nn
from torch.utils.data import Dataset

from coordinator.campaign.judging.guard import Guard
from coordinator.outgoing.device_view import DeviceView
from fl_core.aggregation import Contribution, Merge, build_strategy
from fl_core.aggregation.statistics import unfit
from fl_core.codecs import ErrorFeedback, codec
from fl_core.codecs.model_payload import append_state, decode_update, decode_version, encode_version, max_version_bytes
from fl_core.errors import RejectedUpdate
from fl_core.metrics.evaluation import evaluate
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec
from fl_core.training.importance import accumulated, score
from fl_core.training.method import DeviceTask, Method, build_method
from fl_core.training.pace import SpeedProfile, fit_work
from fl_core.training.schedule import plateau_factor, version_factor
from fl_core.vectors import Delta, FloatArray, Parameters, Sends, SoftLabels
from fl_core.vectors.buffers import LocalTensors
from fl_core.vectors.layout import Layout
from workers.child.attacks import corrupt

CPU = torch.device("cpu")
VECTORS: dict[str, Any] = {"delta": Delta, "parameters": Parameters, "soft_labels": SoftLabels}


@dataclass
class Device:
    """One simulated device: a task takes ``overhead_seconds`` and ``seconds_per_example`` for each example seen.

    With a ``collusion`` that it shares with others, a hostile one sends what that forges and an honest one is listened
    to.
    """

    name: str
    dataset: Dataset[Any]
    seconds_per_example: float = 0.0
    overhead_seconds: float = 0.1
    attack: Literal["", "sign_flip", "scale"] = ""
    collusion: Collusion | None = None
    hostile: bool = False
    own_model: Callable[[], nn.Module] | None = None
    held: int = -1
    memory: dict[str, FloatArray] = field(default_factory=dict)
    feedback: defaultdict[int, ErrorFeedback] = field(default_factory=lambda: defaultdict(ErrorFeedback))


@dataclass
class Result:
    """What a simulated campaign came to.

    Attributes:
        curve: (virtual seconds, updates merged, version, loss, accuracy) of each evaluation.
        staleness: of every merged update.
        merged_by: updates merged, by device.
        bytes_up: of all updates that arrived.
        bytes_down: of all versions, or patches to them, that devices fetched.
        device_scores: what devices last said of themselves.
        model: with the last version's parameters.
    """

    curve: list[tuple[float, int, int, float, float]] = field(default_factory=list)
    staleness: list[int] = field(default_factory=list)
    merged_by: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0
    num_tasks: int = 0
    num_arrived: int = 0
    num_rollbacks: int = 0
    device_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    model: nn.Module | None = None

    @property
    def accuracy(self) -> float:
        """The mean of the last five evaluations: the level, without the last merge's luck."""
        return float(np.mean([row[4] for row in self.curve[-5:]]))

    @property
    def bytes_per_update(self) -> float:
        """Payload bytes of one update, the mean."""
        return self.bytes_up / max(1, self.num_arrived)

    def seconds_to(self, accuracy: float) -> float:
        """Virtual seconds until an evaluation first reached it; infinite when none did."""
        return next((row[0] for row in self.curve if row[4] >= accuracy), float("inf"))

    def updates_to(self, accuracy: float) -> float:
        """Merged updates until then."""
        return next((row[1] for row in self.curve if row[4] >= accuracy), float("inf"))


class _Campaign:
    def __init__(self, spec: CampaignSpec, devices: Sequence[Device], held_out: Dataset[Any]) -> None:
        self.spec, self.devices, self.held_out = spec, devices, held_out
        self.model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
        self.layout = Layout.of(self.model, spec.model.buffers)
        self.local = LocalTensors(self.model, {spec.name for spec in self.layout.tensors})
        self.strategy = build_strategy(spec, self.layout, self.layout.flatten(self.model))
        self.method: Method = build_method(spec.training)
        self.codec = codec(spec.codec.name, spec.codec.args)
        self.guard = Guard(spec.guard, evaluated=True)
        self.guard.begin(self.strategy)
        self.published, self.view = -1, DeviceView(self.layout)
        self.whole = np.array(self.strategy.parameters.values[self.layout.moving])
        self.patch_bytes: dict[int, int] = {}
        self.speeds = {device.name: SpeedProfile() for device in devices}
        self.result = Result(model=self.model)
        self.best, self.flat, self.plateaus = float("inf"), 0, 0
        self.buffered: list[str] = []
        self.buffered_since = 0.0

    def train(self, device: Device, number: int) -> tuple[float, int, Any, Any]:
        """Do one task now; when it is done, and what arrives then."""
        spec, version = self.spec, self.strategy.version
        base = Parameters(np.array(self._fetch(device)))
        self.local.restore(self.model)
        self.layout.load_into(self.model, base)
        rate = spec.training.learning_rate * version_factor(spec.training, version)
        rate *= plateau_factor(spec.training, self.plateaus)
        speed = self.speeds[device.name]
        outcome = self.method.train(
            DeviceTask(
                model=self.model,
                layout=self.layout,
                base=base,
                version=version,
                sends=cast(Sends, self.strategy.sends),
                dataset=device.dataset,
                settings=fit_work(
                    spec.training.model_copy(update={"learning_rate": rate}), speed.seconds_per_example("")
                ),
                seed=(spec.campaign.seed * 7919 + number) % 2**31,
                device=CPU,
                worker=device.name,
                memory=device.memory,
                own_model=device.own_model,
                importance=accumulated(spec.codec.importance),
            )
        )
        trained = device.seconds_per_example * outcome.training.num_seen
        speed.note("", replace(outcome.training, seconds=trained))
        if device.attack:
            sends = cast(Sends, self.strategy.sends)
            weights = base.values[self.layout.trainable]
            outcome = replace(outcome, values=corrupt(outcome.values, sends, weights, device.attack))
        if device.collusion is not None and device.hostile:
            outcome = replace(outcome, values=device.collusion.forge(outcome.values))
        elif device.collusion is not None:
            device.collusion.note(device.name, outcome.values)
        if self.strategy.sends != "soft_labels" and outcome.state is None:
            outcome = replace(outcome, state=self.layout.state_of(self.model))
        payload = self._encode(device, outcome)
        if outcome.state is not None:
            payload = append_state(payload, self.layout, outcome.state, base.values[self.layout.state])
        return device.overhead_seconds + trained, version, outcome, bytes(payload)

    def _fetch(self, device: Device) -> FloatArray:
        """The newest version as devices see it; each version is published."""
        whole_values, version, down = self.strategy.parameters.values, self.strategy.version, self.spec.codec.down
        values = whole_values[self.layout.moving]
        whole = codec("fp32" if down == "int8" else down)
        num_bytes = max_version_bytes(whole, self.layout)
        if version != self.published:
            self.published = version
            if down == "int8":
                patch = self.view.follow(values, version)
                self.patch_bytes[version] = num_bytes if patch is None else len(patch)
                self.whole = values if self.view.values is None else self.view.values
            else:
                payload = bytes(encode_version(whole, self.layout, values, 0))
                self.whole = decode_version(whole, self.layout, payload)
        if device.held != version:
            if down == "int8" and device.held >= 0:
                chain = sum(self.patch_bytes[between] for between in range(device.held + 1, version + 1))
                num_bytes = min(num_bytes, chain)
            self.result.bytes_down += num_bytes
        device.held = version
        self.result.num_tasks += 1
        return np.concatenate((self.whole, whole_values[self.layout.constants]))

    def _encode(self, device: Device, outcome: Any) -> Any:
        if not self.codec.needs_feedback:
            return self.codec.encode(outcome.values, 0)
        ranks = (
            score(self.spec.codec.importance, self.layout.weights, outcome.training.importance)
            if not outcome.part
            else None
        )
        return device.feedback[outcome.part].encode(self.codec, outcome.values, 0, ranks)

    def arrive(self, now: float, device: Device, version: int, outcome: Any, payload: bytes) -> bool:
        """Offer one update; whether a version came of it."""
        result, strategy = self.result, self.strategy
        result.bytes_up += len(payload)
        result.num_arrived += 1
        staleness = strategy.version - version
        bound = self.spec.aggregation.max_staleness
        if self.guard.is_refused(version) or (bound is not None and staleness > bound):
            return False
        size = strategy.update_elements(outcome.part)
        try:
            if strategy.sends == "soft_labels":
                values, state = self.codec.decode(payload, size or 0), None
            else:
                values, state = decode_update(self.codec, self.layout, payload, size or 0)
        except RejectedUpdate:
            return False
        whole = VECTORS[strategy.sends](values)
        if not np.isfinite(whole.values).all():
            return False
        if state is not None and unfit(self.layout, state, strategy.parameters.values):
            return False
        metrics = {**outcome.training.metrics, **outcome.metrics}
        scores = {k: v for k, v in metrics.items() if k.startswith(("personal_", "global_"))}
        if scores:
            result.device_scores[device.name] = scores
        if not self.buffered:
            self.buffered_since = now
        self.buffered.append(device.name)
        merge = strategy.offer(
            Contribution(whole, outcome.training.num_examples, staleness, device.name, metrics, outcome.part, state)
        )
        return self.note(merge, now)

    def note(self, merge: Merge | None, now: float) -> bool:
        """Count a merge."""
        if merge is None:
            return False
        self.result.staleness += merge.staleness
        self.result.merged_by.update(self.buffered[: merge.num_updates])
        del self.buffered[: merge.num_updates]
        self.buffered_since = now
        return True

    def evaluate(self, now: float) -> None:
        """Score the present version; the guard may go back."""
        self.layout.load_into(self.model, self.strategy.parameters)
        scores = evaluate(self.model, self.held_out, self.spec.training, 1024, CPU)
        merged = len(self.result.staleness)
        accuracy = scores.accuracy if scores.accuracy is not None else float("nan")
        self.result.curve.append((now, merged, self.strategy.version, scores.loss, accuracy))
        self.flat = 0 if scores.loss < self.best else self.flat + 1
        self.best = min(self.best, scores.loss)
        if self.flat >= self.spec.training.schedule_period:
            self.flat, self.plateaus = 0, self.plateaus + 1
        if self.guard.judge(self.strategy.version, scores.loss, self.strategy) == "diverged":
            self.strategy, _ = self.guard.roll_back(self.spec, self.layout, self.strategy)
            self.result.num_rollbacks += 1
            self.buffered.clear()


def simulate(
    spec: CampaignSpec,
    devices: Sequence[Device],
    held_out: Dataset[Any],
    *,
    updates: int | None = None,
    seconds: float | None = None,
    accuracy: float | None = None,
) -> Result:
    """Run one campaign until that many updates are merged, that much virtual time has passed, or a score is reached.

    Every device has one task out, as with ``dispatch.concurrency`` equal to the number of devices.
    """
    torch.set_num_threads(1)
    campaign = _Campaign(spec, devices, held_out)
    queue: list[tuple[float, int, Device, int, Any, bytes]] = []
    number, arrived, patience = 0, 0, spec.aggregation.max_wait_seconds

    def start(device: Device, now: float) -> None:
        nonlocal number
        number += 1
        took, version, outcome, payload = campaign.train(device, number)
        heapq.heappush(queue, (now + took, number, device, version, outcome, payload))

    for device in devices:
        start(device, 0.0)
    campaign.evaluate(0.0)
    evaluated = 0
    while queue:
        now, _, device, version, outcome, payload = heapq.heappop(queue)
        if patience is not None and campaign.buffered and now - campaign.buffered_since >= patience:
            campaign.note(campaign.strategy.flush(), campaign.buffered_since + patience)
        arrived += 1
        campaign.arrive(now, device, version, outcome, payload)
        if campaign.strategy.version >= evaluated + spec.evaluation.every_versions:
            campaign.evaluate(now)
            evaluated = campaign.strategy.version
            if accuracy is not None and campaign.result.curve[-1][4] >= accuracy:
                break
        if (updates is not None and arrived >= updates) or (seconds is not None and now >= seconds):
            break
        start(device, now)
    if campaign.strategy.version != evaluated:
        campaign.evaluate(now)
    return campaign.result
