"""The trial before a launch, and that of ``fedtide check SPEC`` without one.

The campaign's code is called once, in little, as the campaign would call it: strategy and codec on a tiny update, the
evaluation on a few held-out examples, two steps of local training on them. It runs in a child that is judged from
outside (``fl_core/program/outside.py``): the evaluator's where there is held-out data, so that this is loaded once.
"""

from __future__ import annotations

import importlib.util
import inspect
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from torch import nn
from torch.utils.data import Dataset

from coordinator.launch.expected_staleness import judge_staleness
from coordinator.launch.privacy.noise import judge_local_noise
from coordinator.telemetry.units import number
from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.codecs import codec
from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.metrics.evaluation import Scores, evaluate
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec, StopMetric
from fl_core.training.device import pick_device
from fl_core.training.local import train_locally
from fl_core.trial.attempts import (
    describe_model,
    few,
    judge_buffers,
    judge_state,
    judge_training,
    load_data,
    noted_gradients,
    tried,
    try_codec,
)
from fl_core.trial.buffer_watch import BufferWatch
from fl_core.trial.findings import Doing, Finding, Step, faults
from fl_core.trial.parts import verify_parts
from fl_core.vectors import Delta, Parameters, SoftLabels
from fl_core.vectors.buffers import LocalTensors
from fl_core.vectors.layout import Layout

log = structlog.get_logger()

LONGER = "give it longer with --trial-seconds"
LARGE_ELEMENTS = 20_000_000
"""Of a larger model no copy is made for a trial of what is built in."""


def refuse_faults(findings: Sequence[Finding]) -> None:
    """Write down what is not wrong, and refuse what is.

    Raises:
        SpecError: with the first fault.
    """
    for finding in findings:
        if finding.verdict == "warning":
            log.warning(f"trial: {finding.name}", detail=finding.detail, remedy=finding.remedy)
    if wrong := faults(findings):
        others = f" ({len(wrong) - 1} more after this one.)" if len(wrong) > 1 else ""
        raise SpecError(wrong[0].sentence + others)


def try_spec(spec: CampaignSpec) -> Iterator[Step]:
    """All of it for a spec of which nothing is built yet, as ``fedtide check`` does."""
    torch.set_num_threads(1)
    yield Doing("model", f"building model.factory = {spec.model.factory!r}")
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model, spec.model.buffers)
    yield from try_campaign(spec, model, layout)


def try_campaign(spec: CampaignSpec, model: nn.Module, layout: Layout) -> Generator[Step, None, Dataset[Any] | None]:
    """Try everything that the coordinator has; the model is left as it was.

    Returns:
        The held-out data, loaded; None where the spec names none.
    """
    initial = layout.flatten(model)
    yield describe_model(spec.model.factory, model, layout)
    yield from judge_state(model)
    yield from judge_staleness(spec)
    yield from judge_local_noise(spec, layout.num_parameters)
    yield from _try_strategy(spec, layout, initial)
    if spec.evaluation.show is not None:
        yield from _look_at_show(spec, model)
    if importlib.util.find_spec("matplotlib") is None:
        yield Finding("pictures", "warning", "without matplotlib a run leaves no curves.png",
                      "pip install 'fedtide[plots]' brings it")  # fmt: skip
    if spec.evaluation.data is None:
        yield Finding("evaluation", "ok", "there is no evaluation.data, so model and loss were not tried")
        return None
    evaluation = spec.evaluation
    at_once = min(evaluation.batch_size, 2 * spec.training.batch_size)
    dataset = yield from load_data("evaluation.data", spec.evaluation.data, evaluation.data_args, at_once)
    tensors = LocalTensors(model, {tensor.name for tensor in layout.tensors})
    watch = BufferWatch(model, layout, initial)
    try:
        yield from _try_evaluation(spec, model, few(dataset, at_once))
        yield from _try_training(spec, model, layout, initial, watch, few(dataset, at_once))
    finally:
        layout.load_into(model, initial)
        tensors.restore(model)
    return dataset


def _try_strategy(spec: CampaignSpec, layout: Layout, initial: Parameters) -> Iterator[Step]:
    """One update through codec and strategy, and a merge."""
    if layout.num_elements > LARGE_ELEMENTS and ":" not in spec.codec.name + spec.aggregation.strategy:
        return
    name = spec.aggregation.strategy
    yield Doing("strategy", f"building aggregation.strategy = {name!r}")
    strategy = build_strategy(spec, layout, initial)
    verify_parts(spec, strategy, layout)
    part = 0 if strategy.update_elements(0) is not None else 1
    num_elements = strategy.update_elements(part) or layout.num_parameters
    values = np.linspace(-1e-3, 1e-3, num_elements, dtype=np.float32)
    chosen = codec(spec.codec.name, spec.codec.args)
    yield from try_codec(chosen, values)
    yield Doing("strategy", f"one merge by aggregation.strategy = {name!r}")
    strategy.offer(_contribution(strategy, layout, initial, values, part))
    if strategy.buffer_count:
        strategy.flush()
    # A buffer may hold what is not finite for good: the mask of an attention, an observer's extremes at its beginning.
    if not np.isfinite(strategy.parameters.values[layout.trainable]).all():
        yield Finding("strategy", "fail", f"after one tiny update {name}'s model is not finite", "mend it")
        return
    merged = "merges it" if strategy.version else "keeps it for later"
    yield Finding("strategy", "ok", f"{name}: devices send {strategy.sends.replace('_', ' ')}; it {merged}")


def _contribution(
    strategy: Strategy, layout: Layout, initial: Parameters, values: np.ndarray[Any, Any], part: int
) -> Contribution:
    sent: Delta | Parameters | SoftLabels = Delta(values)
    if strategy.sends == "parameters":
        sent = Parameters(np.array(initial.values[layout.trainable]))
    elif strategy.sends == "soft_labels":
        sent = SoftLabels(np.abs(values))
    return Contribution(sent, num_examples=1, staleness=0, worker="trial", metrics={"loss": 1.0}, part=part)


def _look_at_show(spec: CampaignSpec, model: nn.Module) -> Iterator[Step]:
    path, args = str(spec.evaluation.show), spec.evaluation.show_args
    yield Doing("evaluation.show", f"importing evaluation.show = {path!r}")
    show = resolve(path, "evaluation.show")
    try:
        inspect.signature(show).bind(model, {}, Path(), **args)
    except TypeError as error:
        detail = f"evaluation.show = {path!r} cannot be called with evaluation.show_args = {dict(args)!r}: {error}"
        yield Finding("evaluation.show", "fail", detail, "it takes (model, summary, folder) and these by name")
    except ValueError:
        pass  # of C code, which does not say


def _try_evaluation(spec: CampaignSpec, model: nn.Module, dataset: Dataset[Any]) -> Iterator[Step]:
    data = str(spec.evaluation.data)
    yield Doing("evaluation", f"evaluating a batch of evaluation.data = {data!r}")
    scores = evaluate(
        model, dataset, spec.training, spec.evaluation.batch_size, pick_device(),
        metrics=None if spec.has_optional_metrics else spec.metrics,
        factory=spec.model.factory, data=("evaluation.data", data),
    )  # fmt: skip
    if scores.loss is None:
        yield Finding("evaluation", "warning", "no target of the first batch counts", "see that later ones have labels")
        return
    named = "".join(f", {name.replace('_', ' ')} {number(value, 3)}" for name, value in scores.metrics.items())
    detail = f"version 0: {spec.training.loss} {scores.loss:.4g}{named or ', no metric'}"
    yield Finding("evaluation", "ok", detail)
    yield from _judge_stop(spec, scores)


def _judge_stop(spec: CampaignSpec, scores: Scores) -> Iterator[Finding]:
    """What the first examples say of the targets at which the campaign ends."""
    if scores.loss is not None and not np.isfinite(scores.loss):
        detail = f"the loss of version 0 on the first examples of evaluation.data is {scores.loss:g}"
        yield Finding("evaluation", "warning", detail, "look for targets that are all ignored and inputs not finite")
    for target in spec.stop.targets:
        value = scores.loss if target.name == "loss" else scores.metrics.get(target.name)
        if value is None:
            detail = f"the first examples of evaluation.data = {spec.evaluation.data!r} give no {target.name}, and "
            detail += f"{_stop_key(spec, target)} is never met while there is none"
            yield Finding("stop", "warning", detail, "see that the model's output is finite and that all classes occur")
        elif target.is_met_by(value):
            detail = f"version 0 has {target.name} {value:.4g} on the first examples, and {_stop_key(spec, target)} "
            remedy = "lower it" if target.at_least is None else "raise it"
            yield Finding("stop", "warning", detail + "may be met at once", remedy)


def _stop_key(spec: CampaignSpec, target: StopMetric) -> str:
    """The key of a target, as it was written."""
    if target not in spec.stop.metric:
        return f"stop.{target.name} = {target.bound:g}"
    return f"stop.metric {target.name!r} {'at_most' if target.at_least is None else 'at_least'} {target.bound:g}"


def _try_training(
    spec: CampaignSpec, model: nn.Module, layout: Layout, initial: Parameters, watch: BufferWatch, dataset: Dataset[Any]
) -> Iterator[Step]:
    """Two steps as on a device: an optimizer or a batch normalisation that cannot work is seen here."""
    yield Doing("training", f"training model.factory = {spec.model.factory!r} on a batch of evaluation.data")
    settings = tried(spec.training)
    with noted_gradients(model) as reached:
        done = train_locally(model, dataset, settings, seed=0, device=pick_device())
    judged = list(judge_training(layout, initial.values, layout.flatten(model).values, reached, done, settings))
    yield from judged
    if not faults(judged):
        yield from judge_buffers(watch.findings(model))


def check_disk(folder: Path, layout: Layout, held_vectors: int) -> None:
    """Refuse a run's folder whose disk cannot hold what a campaign writes there.

    Args:
        folder: the run's; it exists.
        layout: the model's.
        held_vectors: how many vectors of the model's size a checkpoint has.

    Raises:
        SpecError: two checkpoints and the model need more than is free.
    """
    # Constants once beside the checkpoints, and everything once more in the model's own file.
    need = 8 * held_vectors * layout.num_moving + layout.num_bytes + 4 * (layout.num_elements - layout.num_moving)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise SpecError(
            f"{folder} has {free / 1e6:.3g} MB free, and two checkpoints and the model take {need / 1e6:.3g} MB; free "
            "some, or name another folder with --out."
        )
