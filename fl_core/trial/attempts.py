"""Attempts at data, model, loss, method and codec before a campaign depends on them.

Each function yields what it does and what it finds (``fl_core/trial/findings.py``), and raises what it cannot go on
after. The coordinator tries held-out data (``coordinator/launch/trial.py``), a device its own
(``workers/child/trial.py``).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Set
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from fl_core.codecs import Codec, ErrorFeedback
from fl_core.errors import DataError
from fl_core.factory import call
from fl_core.spec import TrainingSection
from fl_core.training.batches import count_examples, iterate
from fl_core.training.forward import form
from fl_core.training.importance import Score
from fl_core.training.local import LocalTraining
from fl_core.trial.buffer_watch import BufferFinding
from fl_core.trial.findings import Doing, Finding, Step
from fl_core.user_code import running
from fl_core.vectors import FloatArray, read_all
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import state_dict_of

TRIED_STEPS = 2


def load_data(key: str, path: str, args: Mapping[str, Any], batch_size: int) -> Generator[Step, None, Dataset[Any]]:
    """Load a dataset and read its first batch.

    Args:
        key: where the factory is named.
        path, args: the factory and its keyword arguments.
        batch_size: examples to read.

    Raises:
        SpecError: it cannot be loaded, or has no examples.
        UserCodeError: reading raised.
    """
    yield Doing(key, f"loading {key} = {path!r}")
    started = time.perf_counter()
    dataset: Dataset[Any] = call(path, args, key)
    num_examples = _count(dataset, f"{key} = {path!r} with {dict(args)!r}")
    seconds = time.perf_counter() - started
    yield Doing(key, f"reading the first examples of {key} = {path!r}")
    first = torch.arange(min(num_examples, batch_size))
    try:
        with running(key, path, "reading a batch"):
            inputs, target = next(iterate(dataset, [first], torch.device("cpu"), torch.float32))
    except DataError as error:
        raise DataError(f"{key} = {path!r}: {error}") from None
    detail = f"{num_examples} examples after {seconds:.1f} s; input {form(inputs)}, target {form(target)}"
    yield Finding(key, "ok", detail)
    return dataset


def _count(dataset: Any, what: str) -> int:
    try:
        return count_examples(dataset)
    except DataError as error:
        if hasattr(dataset, "__len__") and not len(dataset):
            raise DataError(f"{what} has no examples; look at the file and at the arguments.") from None
        raise DataError(f"{what}: {error}") from None


def few(dataset: Dataset[Any], num_examples: int) -> Dataset[Any]:
    """The first examples of a dataset."""
    return Subset(dataset, list(range(min(count_examples(dataset), num_examples))))


def tried(settings: TrainingSection) -> TrainingSection:
    """The settings of a task of ``TRIED_STEPS`` steps."""
    changes = {"local_steps": TRIED_STEPS, "local_epochs": None, "pace_seconds": None}
    return settings.model_copy(update=changes)


def describe_model(factory: str, model: nn.Module, layout: Layout) -> Finding:
    """How large it is."""
    trained = [tensor for tensor in layout.tensors if tensor.trainable]
    size = f"{layout.num_parameters} trainable parameters in {len(trained)} tensors"
    whole = f"{layout.num_bytes / 1e6:.3g} MB a version"
    return Finding("model", "ok", f"{factory}, a {type(model).__name__}: {size}, {whole}")


def judge_state(model: nn.Module) -> Iterator[Finding]:
    """Whether all that the model calls its state can travel and be written down."""
    odd = [name for name, value in state_dict_of(model).items() if not isinstance(value, torch.Tensor)]
    if odd:
        yield Finding(
            "model", "warning", f"the state_dict holds {odd[0]!r}, which is no tensor: it stays where it is, and "
            "model.safetensors goes without it", "load that file with strict=False, or keep such state in buffers",
        )  # fmt: skip


@contextlib.contextmanager
def noted_gradients(model: nn.Module) -> Iterator[set[str]]:
    """While the block runs, the names of the parameters that a gradient reaches are added to the set."""
    reached: set[str] = set()
    with contextlib.ExitStack() as hooks:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                hook = parameter.register_hook(partial(_note, reached, name))  # type: ignore[no-untyped-call]
                hooks.callback(hook.remove)
        yield reached


def _note(reached: set[str], name: str, gradient: torch.Tensor) -> None:
    reached.add(name)


def judge_training(
    layout: Layout,
    before: FloatArray,
    after: FloatArray,
    reached: Set[str],
    done: LocalTraining,
    settings: TrainingSection,
) -> Iterator[Finding]:
    """What a few steps of training did to the model.

    Args:
        layout: the model's.
        before, after: the model's vector, float32 ``(num_elements,)``.
        reached: what ``noted_gradients`` noted.
        done: what training reported.
        settings: by which it was trained.
    """
    rate, first = settings.learning_rate, done.metrics.get("first_batch_loss", done.loss)
    if not np.isfinite(first):
        yield Finding(
            "training", "fail", f"training.loss = {settings.loss!r} of the first batch is {first:g} before anything "
            "was trained", "look for targets that are all ignored, and for inputs that are not finite",
        )  # fmt: skip
        return
    if not np.isfinite(after[layout.trainable]).all():
        yield Finding(
            "training", "fail", f"after {done.num_steps} steps with training.learning_rate = {rate:g} the model is not "
            "finite, and every update would be refused", "lower training.learning_rate",
        )  # fmt: skip
        return
    pace = f"{1000 * done.seconds / max(1, done.num_steps):.3g} ms"
    yield Finding("training", "ok", f"{done.num_steps} steps of {settings.batch_size}, {pace} each; loss {first:.4g}")
    places = {spec.name: where for spec, where in zip(layout.tensors, layout.slices, strict=True) if spec.trainable}
    still = [name for name in places if name not in reached]
    if led := [name for name in still if not np.array_equal(before[places[name]], after[places[name]])]:
        yield Finding(
            "training", "warning", f"{led[0]!r} and {len(led) - 1} more trainable tensors move without a gradient: "
            "averages of other weights would overshoot, as their stale changes add up", "freeze such ones "
            '(requires_grad = False) and give them the role "mean" in model.buffers',
        )  # fmt: skip
    elif still:
        names = ", ".join(still[:3]) + (", ..." if len(still) > 3 else "")
        yield Finding(
            "training", "warning", f"{len(still)} of the trainable tensors got no gradient: {names}",
            "see whether the prediction depends on them, and freeze them (requires_grad = False) otherwise",
        )  # fmt: skip


def judge_buffers(found: Iterable[BufferFinding]) -> Iterator[Finding]:
    """Whether the tensors that nobody trains can be merged as ``model.buffers`` and the model's modules say.

    Args:
        found: what ``BufferWatch`` saw of a few steps of training.
    """
    found = list(found)
    # Those with one remedy, such as all parameters of a teacher, are one fault.
    wrong = {each.remedy or each.problem: each for each in reversed(found) if each.problem}
    for each in reversed(wrong.values()):
        yield Finding("buffers", "fail", each.problem, each.remedy)
    if (moved := [each for each in found if each.changed]) and not any(each.problem for each in found):
        roles = Counter(each.role for each in moved)
        listed = ", ".join(f"{count} {role}" for role, count in sorted(roles.items()))
        yield Finding(
            "buffers", "ok", f"training changes {len(moved)} of {len(found)} tensors without gradient: {listed}"
        )


def try_codec(codec: Codec, values: FloatArray, ranks: Score | None = None) -> Iterator[Step]:
    """Encode an update as a device does, and decode it as the coordinator does.

    Args:
        codec: the campaign's.
        values: the update; it is left as it is.
        ranks: how elements are ranked by a codec that chooses among them.

    Raises:
        RejectedUpdate: the coordinator could not read it.
        UserCodeError: a codec of the user's own raised.
    """
    name = codec.name
    yield Doing("codec", f"encoding an update by codec.name = {name!r}")
    with running("codec.name", name, "encode(values, seed)"):
        if codec.needs_feedback:
            payload = ErrorFeedback().encode(codec, values.copy(), 0, ranks)
        else:
            payload = codec.encode(values, 0)
        num_bytes, limit = memoryview(payload).nbytes, codec.max_payload_bytes(values.size)
        decoded = read_all(codec.decode(payload, values.size))
    if num_bytes > limit:
        detail = f"{name} encodes {values.size} elements in {num_bytes} bytes and says at most {limit}"
        yield Finding("codec", "fail", detail, "mend max_payload_bytes")
    elif decoded.shape != values.shape or not np.isfinite(decoded).all():
        detail = f"what {name} decodes of a finite update is not finite, or has another length"
        yield Finding("codec", "fail", detail, "use another codec")
    else:
        yield Finding(
            "codec", "ok", f"{name}: an update is {num_bytes / 1e3:.4g} kB, {values.nbytes / 1e3:.4g} in fp32"
        )
