"""Models with buffers under staleness, against the same model without them and against plain torch on one machine.

    python benchmarks/buffers.py --into docs/models.md
    python benchmarks/buffers.py --only resnet --seeds 1

Campaigns run in virtual time (``trials.py``). Three models: one of torchvision's residual blocks, whose batch
normalisation is replaced by group normalisation as control; a perceptron with spectral normalisation, with plain layers
as control; a causal language model with its mask of -inf as a buffer, with a mask made anew in each pass as control.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from methods import DIGITS, IMAGES, Row, Table, fleet, held_out, measure, render, replace_table, spec
from torch import Tensor, nn
from torch.utils.data import Dataset
from trials import Result, trial

from fedtide import SimulatedDevice as Device
from fl_core.data import digits, play
from fl_core.metrics.evaluation import evaluate
from fl_core.models.build import build_model
from fl_core.training.local import train_locally

# torchvision's compiled operators, which no classifier needs: where they do not load beside this torch, their names
# have to exist before it can be imported.
OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "qnms(Tensor x) -> Tensor",
    *(f"{name}(Tensor x) -> Tensor" for name in (
        "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d", "qroi_align", "_roi_align_backward",
        "_roi_pool_backward", "_ps_roi_align_backward", "_ps_roi_pool_backward", "_deform_conv2d_backward")),
)  # fmt: skip


@cache
def _torchvision() -> Any:
    try:
        import torchvision.models.resnet as resnet
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in OPERATORS:
            library.define(operator)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision.models.resnet as resnet

        resnet.kept = library  # operators go when their library does
    return resnet


def residual(normalisation: str) -> nn.Module:
    """Two of torchvision's ``BasicBlock``, 16 and 32 channels, on 8 x 8 images."""
    block = _torchvision().BasicBlock
    norm = nn.BatchNorm2d if normalisation == "batch" else partial(nn.GroupNorm, 4)
    shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, stride=2, bias=False), norm(32))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), norm(16), nn.ReLU(),
        block(16, 16, norm_layer=norm), block(16, 32, stride=2, downsample=shortcut, norm_layer=norm),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def perceptron(spectral: bool) -> nn.Module:
    """64-64-64-10; the two hidden layers have the largest singular value 1."""
    norm = nn.utils.parametrizations.spectral_norm if spectral else lambda layer: layer
    return nn.Sequential(norm(nn.Linear(64, 64)), nn.ReLU(), norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 10))


class CausalModel(nn.Module):
    """One block of causal attention over characters, 97 of them, contexts of 32."""

    def __init__(self, mask_is_buffer: bool) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(97, 32), nn.Embedding(32, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(32, 97)
        if mask_is_buffer:
            self.register_buffer("mask", self._mask())
        self.mask_is_buffer = mask_is_buffer

    def _mask(self) -> Tensor:
        return torch.full((32, 32), -torch.inf).triu(1)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = self.mask if self.mask_is_buffer else self._mask()
        hidden = self.embed(tokens) + self.place.weight
        return self.head(self.block(hidden, src_mask=mask))


MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet": (
        {"factory": "buffers:residual", "args": {"normalisation": "batch"}},
        {"factory": "buffers:residual", "args": {"normalisation": "group"}},
    ),
    "spectral": (
        {"factory": "buffers:perceptron", "args": {"spectral": True}},
        {"factory": "buffers:perceptron", "args": {"spectral": False}},
    ),
    "causal": (
        {"factory": "buffers:CausalModel", "args": {"mask_is_buffer": True}},
        {"factory": "buffers:CausalModel", "args": {"mask_is_buffer": False}},
    ),
}
PLAY = {"data": "fl_core.data:play", "data_args": {"split": "test", "num_speakers": 8, "length": 32}}
COLUMNS = {
    "resnet": ("BatchNorm", "GroupNorm"),
    "spectral": ("spectral norm", "plain layers"),
    "causal": ("mask is a buffer", "mask made anew"),
}
TRAINING: dict[str, dict[str, Any]] = {
    "resnet": {"learning_rate": 0.05, "batch_size": 16, "local_steps": 4},
    "spectral": {"learning_rate": 0.1, "batch_size": 16, "local_steps": 4},
    "causal": {"optimizer": "adam", "learning_rate": 0.004, "batch_size": 32, "local_steps": 10},
}


@cache
def _speakers(number: int) -> Dataset[Any]:
    return play(split="train", index=number, num_speakers=8, length=32)


def devices_of(kind: str, seed: int, count: int) -> list[Device]:
    """Digits as images or rows, a part each; speakers of a play, who are eight and serve several devices."""
    if kind == "causal":
        slowness = np.random.default_rng(seed).permutation(np.geomspace(0.1, 2.0, count))
        return [Device(f"speaker-{i}", _speakers(i % 8), overhead_seconds=float(slowness[i])) for i in range(count)]
    alpha = 5.0 if count > 30 else 0.5
    return fleet(seed, alpha=alpha, num_devices=count, spread=20.0, as_images=kind == "resnet")


@cache
def test_of(kind: str) -> Dataset[Any]:
    if kind == "causal":
        return play(split="test", num_speakers=8, length=32)
    return held_out(kind == "resnet")


def score(kind: str, result: Result) -> float:
    """Accuracy; of the language model the perplexity."""
    return float(np.exp(result.curve[-1][3])) if kind == "causal" else result.accuracy


def one_machine(kind: str, updates: int) -> Callable[[int], Row]:
    """Plain torch on all data, a quarter of the steps that the fleet takes."""

    def figures(seed: int) -> Row:
        found: Row = {}
        for name, model in zip(COLUMNS[kind], MODELS[kind], strict=True):
            module = build_model(model["factory"], model["args"], seed)
            data: Dataset[Any] = digits("train", as_images=kind == "resnet")
            if kind == "causal":
                data = play(split="train", num_speakers=8, length=32)
            steps = updates * TRAINING[kind]["local_steps"] // 4
            settings = spec(seed, model=model, training={**TRAINING[kind], "local_steps": steps}).training
            train_locally(module, data, settings, seed=seed, device=torch.device("cpu"))
            scores = evaluate(module, test_of(kind), settings, 1024, torch.device("cpu"))
            found[name] = float(np.exp(scores.loss)) if kind == "causal" else float(scores.accuracy or 0.0)
        return {**found, "rollbacks": 0.0, "mean staleness": 0.0}

    return figures


def campaign(kind: str, updates: int, count: int, strategy: str, **keys: Any) -> Callable[[int], Row]:
    """A campaign of the model, and one of its control."""

    def figures(seed: int) -> Row:
        rate = 0.02 if strategy == "fadas" else 1.0 if keys.get("buffer_size", 1) > 1 else 0.5
        rates: dict[str, Any] = {"server_optimizer": {"learning_rate": rate}}
        if strategy in ("fedasync", "asyncfeded"):
            rates = {}
        found = [
            trial(
                spec(
                    seed, model=model, training=TRAINING[kind], aggregation={"strategy": strategy, **keys},
                    evaluation={**(PLAY if kind == "causal" else IMAGES if kind == "resnet" else DIGITS),
                                "every_versions": 20},
                    **rates,
                ),
                devices_of(kind, seed, count), updates=updates,
            )
            for model in MODELS[kind]
        ]  # fmt: skip
        scores = {name: score(kind, result) for name, result in zip(COLUMNS[kind], found, strict=True)}
        return {
            **scores,
            "rollbacks": float(found[0].num_rollbacks),
            "mean staleness": float(np.mean(found[0].staleness)),
        }

    return figures


def table(kind: str) -> Table:
    updates = {"resnet": 3000, "spectral": 4000, "causal": 300}[kind]
    rows: dict[str, Callable[[int], Row]] = {}
    rows["one machine, plain torch"] = one_machine(kind, updates)
    for count in (8, 30, 100):
        for size in (1, 10):
            name = f"FedBuff, K = {size}, {count} devices"
            rows[name] = campaign(kind, updates, count, "fedbuff", buffer_size=size)
    more: dict[str, tuple[str, dict[str, Any]]] = {
        "FedAsync": ("fedasync", {}),
        "CA2FL, K = 10": ("ca2fl", {"buffer_size": 10}),
        "FADAS, K = 10": ("fadas", {"buffer_size": 10}),
        "AsyncFedED": ("asyncfeded", {}),
        "FedAtt, K = 10": ("attention", {"buffer_size": 10}),
        "median of 10": ("robust", {"buffer_size": 10, "args": {"rule": "median"}}),
    }
    for name, (strategy, keys) in more.items():
        rows[f"{name}, 30 devices"] = campaign(kind, updates, 30, strategy, **keys)
    notes = {
        "resnet": "Two of torchvision's `BasicBlock` on digits of 8 x 8, 20,000 weights; accuracy.",
        "spectral": "Perceptron 64-64-64-10 on digits, hidden layers with spectral normalisation; accuracy.",
        "causal": "One causal Transformer block on a play, a speaker per device; perplexity per character.",
    }
    titles = {"resnet": "A residual network", "spectral": "Spectral normalisation", "causal": "A mask of -inf"}
    return Table(
        titles[kind],
        f"{notes[kind]} {updates} updates of "
        f"{TRAINING[kind]['local_steps']} steps, 20-fold spread of speed; `one machine` takes a quarter of the steps.",
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--into", type=Path, help="replace the tables of this page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in options.only:
        shown = table(kind)
        text = "".join(render(shown, measure(kind, shown, options.seeds)))
        print(text, file=sys.stderr)
        if options.into is not None:
            replace_table(options.into, kind, text)


if __name__ == "__main__":
    main()
