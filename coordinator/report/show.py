"""The show of a finished run: ``evaluation.show`` of its spec, called with the model that the run left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from fl_core.errors import SpecError, UserCodeError
from fl_core.factory import resolve
from fl_core.spec import CampaignSpec, load_spec
from fl_core.user_code import RAISED, describe, log_traceback, was_entered

if TYPE_CHECKING:
    from torch import nn

log = structlog.get_logger()

FILE = "show.txt"


def load_model(folder: Path) -> nn.Module:
    """The model of a run's folder with the parameters of its last version: on the CPU, in evaluation mode.

    Raises:
        SpecError: the folder holds no finished run, or its model cannot be built here.
    """
    import safetensors.numpy

    from fl_core.models.build import build_model
    from fl_core.vectors import Parameters
    from fl_core.vectors.layout import Layout

    spec = _spec(folder)
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    named = safetensors.numpy.load_file(folder / "model.safetensors")
    layout = Layout.of(model, spec.model.buffers)
    missing = [tensor.name for tensor in layout.tensors if tensor.name not in named]
    if missing:
        raise SpecError(f"{folder}/model.safetensors lacks {missing[0]!r}; install the model code that the run had.")
    flat = np.concatenate([named[tensor.name].ravel() for tensor in layout.tensors])
    layout.load_into(model, Parameters(flat))
    return model.eval()


def show_run(folder: Path, changes: Mapping[str, Any] | None = None) -> str:
    """What ``evaluation.show`` says of a finished run; written to ``show.txt`` too.

    Args:
        folder: the run's.
        changes: arguments in the place of those in ``evaluation.show_args``.

    Raises:
        SpecError: the folder holds no finished run, its spec names no show, or the show refuses its arguments.
        UserCodeError: the show raises.
    """
    spec = _spec(folder)
    if spec.evaluation.show is None:
        raise SpecError(f"{folder / 'spec.toml'} has no evaluation.show; there is nothing to show.")
    model = load_model(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    arguments = {**spec.evaluation.show_args, **(changes or {})}
    show = resolve(spec.evaluation.show, "evaluation.show")
    try:
        text = str(show(model, summary, folder, **arguments))
    except SpecError:
        raise
    except RAISED as error:
        if was_entered(error):
            log_traceback("evaluation.show", spec.evaluation.show, error)
        raise (UserCodeError if was_entered(error) else SpecError)(
            f"evaluation.show = {spec.evaluation.show!r} failed with {arguments!r}: "
            f"{describe(error, spec.evaluation.show)}; mend it and show again."
        ) from error
    (folder / FILE).write_text(text + "\n", encoding="utf-8")
    return text


def read_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` from the command line; a value that is JSON is read as such, all else is text.

    Raises:
        SpecError: there is no ``=``.

    >>> read_pairs(["prompt=ROMEO", "temperature=0.5"])
    {'prompt': 'ROMEO', 'temperature': 0.5}
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SpecError(f"--arg {pair!r} has no '='; write it as KEY=VALUE.")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments


def _spec(folder: Path) -> CampaignSpec:
    for name in ("spec.toml", "summary.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise SpecError(f"{folder} holds no finished run (no {name}); name a run's folder.")
    return load_spec(folder / "spec.toml")
