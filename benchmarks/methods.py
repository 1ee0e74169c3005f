"""What each method buys against the plain baseline: accuracy, virtual seconds, bytes; mean and spread over seeds.

    python benchmarks/methods.py                       every table, three seeds
    python benchmarks/methods.py --only byzantine pace
    python benchmarks/methods.py --into docs/methods.md --plot docs/images/importance.png

Campaigns run in virtual time (``trials.py``) on scikit-learn's handwritten digits, Dirichlet-skewed over devices.
One JSON line per seed and row goes to standard output, tables to standard error and into the page, each between its
markers: ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from collusion import Collusion
from torch.utils.data import Subset, TensorDataset
from trials import Result, trial

from fedtide import SimulatedDevice as Device
from fl_core.data import breast_cancer, digits, play
from fl_core.models import cnn, mlp
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.training.forward import apply
from workers.child.attacks import corrupt

Row = dict[str, float]
Spec = dict[str, dict[str, Any]]

MLP = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [64], "classes": 10}}
DIGITS = {"data": "fl_core.data:digits", "data_args": {"split": "test"}}
IMAGES = {"data": "fl_core.data:digits", "data_args": {"split": "test", "as_images": True}}
NUM_DEVICES = 10
HOSTILE_SPEED = 16


@dataclass(frozen=True)
class Table:
    """One comparison: its rows by name, the baseline first; each gives its figures for a seed."""

    title: str
    note: str
    rows: dict[str, Callable[[int], Row]]


@cache
def held_out(as_images: bool = False) -> TensorDataset:
    return digits("test", as_images=as_images)


def fleet(
    seed: int,
    *,
    alpha: float = 0.3,
    num_devices: int = NUM_DEVICES,
    split: str = "train",
    as_images: bool = False,
    spread: float = 10.0,
    seconds_per_example: float = 0.0,
) -> list[Device]:
    """Devices with skewed shards; the slowest takes ``spread`` times as long for a task as the fastest."""
    slowness = np.geomspace(1.0, spread, num_devices)
    np.random.default_rng(seed).shuffle(slowness)
    return [
        Device(
            name=f"device-{i}",
            dataset=digits(split, i, num_devices, "dirichlet", alpha, seed, 10, as_images),  # type: ignore[arg-type]
            overhead_seconds=0.02 if seconds_per_example else 0.1 * float(slowness[i]),
            seconds_per_example=seconds_per_example * float(slowness[i]),
        )
        for i in range(num_devices)
    ]


def spec(seed: int, **sections: dict[str, Any]) -> CampaignSpec:
    """A FedBuff campaign on the digits, with what ``sections`` change."""
    document: Spec = {
        "campaign": {"seed": seed},
        "model": MLP,
        "training": {"learning_rate": 0.1, "batch_size": 16},
        "aggregation": {"buffer_size": 5, "max_staleness": None},
        "evaluation": DIGITS,
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_spec(document)


def plain(result: Result) -> Row:
    """The figures that most tables show."""
    return {
        "accuracy": result.accuracy,
        "updates to 0.85": result.updates_to(0.85),
        "mean staleness": float(np.mean(result.staleness)) if result.staleness else 0.0,
    }


def campaign(updates: int = 400, **sections: dict[str, Any]) -> Callable[[int], Row]:
    """A row: one campaign on the common fleet."""
    return lambda seed: plain(trial(spec(seed, **sections), fleet(seed), updates=updates))


def aggregation(name: str, **keys: Any) -> dict[str, Any]:
    return {"strategy": name, **keys}


# -- the device's side -------------------------------------------------------------------------------------------------


def local_table() -> Table:
    hot = {"learning_rate": 0.3, "local_epochs": 3}
    return Table(
        "Local training",
        "10 devices, Dirichlet 0.3, 10-fold spread of speed, FedBuff K = 5, 400 updates, 3 local epochs at rate 0.3.",
        {
            "plain SGD": campaign(training=hot),
            "proximal term 0.1": campaign(training={**hot, "proximal_weight": 0.1}),
            "cosine over 80 versions": campaign(
                training={**hot, "schedule": "cosine", "schedule_period": 80, "schedule_floor": 0.05}
            ),
            "step, half every 20 versions": campaign(training={**hot, "schedule": "step", "schedule_period": 20}),
            "plateau, patience 5": campaign(training={**hot, "schedule": "plateau", "schedule_period": 5}),
            "cosine over local steps": campaign(training={**hot, "local_schedule": "cosine"}),
            "gradient clipped at 1": campaign(training={**hot, "max_gradient_norm": 1.0}),
            "distilled from the base, 0.5": campaign(training={**hot, "distillation_weight": 0.5}),
            "bfloat16": campaign(training={**hot, "precision": "bfloat16"}),
        },
    )


def pace_table() -> Table:
    def row(**training: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            devices = fleet(seed, spread=40.0, seconds_per_example=0.0005)
            done = trial(spec(seed, training=training), devices, seconds=60.0)
            return {
                "seconds to 0.85": done.seconds_to(0.85),
                "seconds to 0.90": done.seconds_to(0.90),
                "accuracy after 60 s": done.accuracy,
                "mean staleness": float(np.mean(done.staleness)),
                "95 % staleness": float(np.quantile(done.staleness, 0.95)),
            }

        return figures

    return Table(
        "Work that fits the device",
        "Seconds per example differ 40-fold (0.5 to 20 ms); FedBuff K = 5; virtual time.",
        {
            "one epoch everywhere": row(),
            "20 steps everywhere": row(local_steps=20),
            "pace 0.5 s": row(pace_seconds=0.5, min_steps=1, max_steps=60),
            "pace 1 s": row(pace_seconds=1.0, min_steps=1, max_steps=100),
        },
    )


def personal_table() -> Table:
    def row(updates: int = 300, **training: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            devices = fleet(seed, alpha=0.1)
            done = trial(spec(seed, training=training), devices, updates=updates)
            own = [scores["personal_accuracy"] for scores in done.device_scores.values()]
            shared = [scores["global_accuracy"] for scores in done.device_scores.values()]
            return {
                "global model, on the device": float(np.mean(shared)),
                "personal model, on the device": float(np.mean(own)),
                "worst device, global": min(shared),
                "worst device, personal": min(own),
                "global model, all classes": done.accuracy,
            }

        return figures

    def args(**keys: Any) -> dict[str, Any]:
        return {"method": "personal", "method_args": keys}

    return Table(
        "Personal models",
        "10 devices, Dirichlet 0.1; accuracy on each device's own held-out fifth, the mean over devices.",
        {
            "Reptile (keep = false, no meta step)": row(**args(keep=False, meta_steps=0)),
            "Per-FedAvg, first order": row(
                method="per_fedavg", method_args={"inner_learning_rate": 0.1}, local_epochs=2
            ),
            "Per-FedAvg, exact": row(
                method="per_fedavg", method_args={"inner_learning_rate": 0.1, "first_order": False}, local_epochs=2
            ),
            "personal, first order": row(**args()),
            "personal, 3 full meta steps": row(**args(meta_steps=3, first_order=False, meta_rate=0.5)),
            "personal, no meta step": row(**args(meta_steps=0)),
            "personal, without the pull": row(**args(pull=0.0, personal_rate=0.5)),
        },
    )


def hospital_table() -> Table:
    def row(**training: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            devices = [Device(f"hospital-{i}", breast_cancer("train", i, 8, "dirichlet", 0.2, seed)) for i in range(8)]
            document = {"factory": "fl_core.models:mlp", "args": {"inputs": 30, "hidden": [16], "classes": 2}}
            made = spec(seed, model=document, training={"batch_size": 8, "learning_rate": 0.02, **training},
                        aggregation={"buffer_size": 4},
                        evaluation={"data": "fl_core.data:breast_cancer", "data_args": {"split": "test"}})  # fmt: skip
            done = trial(made, devices, updates=80)
            scores = done.device_scores.values()
            return {
                "global model, on the device": float(np.mean([s["global_accuracy"] for s in scores])),
                "personal model, on the device": float(np.mean([s["personal_accuracy"] for s in scores])),
                "global model, all patients": done.accuracy,
            }

        return figures

    return Table(
        "Personal models in hospitals",
        "breast_cancer over 8 hospitals, Dirichlet 0.2, 80 updates.",
        {
            "Reptile": row(method="personal", method_args={"keep": False, "meta_steps": 0}),
            "personal": row(method="personal"),
        },
    )


def distillation_table() -> Table:
    def weights(hidden: int, codec: str) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            model = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [hidden], "classes": 10}}
            made = spec(seed, model=model, codec={"name": codec}, evaluation=IMAGES)
            devices = fleet(seed, alpha=0.5, split="private", as_images=True)
            done = trial(made, devices, updates=400)
            return {"accuracy": done.accuracy, "bytes per update": done.bytes_per_update}

        return figures

    def labels(hidden: int, unlike: bool) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            model = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [hidden], "classes": 10}}
            args = {"public_data": "fl_core.data:digits", "public_args": {"split": "public", "as_images": True},
                    "num_classes": 10, "local_steps_public": 20, "student_epochs": 5,
                    "student_learning_rate": 0.005}  # fmt: skip
            made = spec(seed, model=model, codec={"name": "fp16"}, aggregation={"strategy": "distillation"},
                        training={"method": "distillation", "method_args": args, "local_epochs": 2},
                        evaluation=IMAGES)  # fmt: skip
            devices = fleet(seed, alpha=0.5, split="private", as_images=True)
            if unlike:
                for index, device in enumerate(devices):
                    if index % 3 == 0:
                        device.own_model = lambda: cnn(1, 8, 8)
                    elif index % 3 == 1:
                        device.own_model = lambda: mlp(64, [256])
            done = trial(made, devices, updates=400)
            return {"accuracy": done.accuracy, "bytes per update": done.bytes_per_update}

        return figures

    return Table(
        "Distillation against sending weights",
        "10 devices, Dirichlet 0.5; 359 public digits without labels; 400 updates.",
        {
            "weights, 4.8 k parameters, fp32": weights(64, "fp32"),
            "weights, 4.8 k parameters, fp16": weights(64, "fp16"),
            "weights, 76.8 k parameters, fp16": weights(1024, "fp16"),
            "soft labels, student of 4.8 k": labels(64, unlike=False),
            "soft labels, student of 76.8 k": labels(1024, unlike=False),
            "soft labels, three architectures": labels(64, unlike=True),
        },
    )


def partial_table() -> Table:
    def row(**sections: dict[str, Any]) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            done = trial(spec(seed, **sections), fleet(seed), updates=400)
            return {"accuracy": done.accuracy, "bytes per update": done.bytes_per_update}

        return figures

    def partial(**args: Any) -> Callable[[int], Row]:
        return row(training={"method": "partial", "method_args": args}, aggregation={"strategy": "partial"})

    adapter = {"factory": MLP["factory"], "args": MLP["args"], "rank": 8, "alpha": 8.0}
    adapted = {"factory": "fl_core.models:lora", "args": adapter}
    return Table(
        "Partial training",
        "The model has two linear layers, 4 160 and 650 parameters; 400 updates.",
        {
            "whole model": row(),
            "two layers in turn": partial(groups=[["1."], ["3."]]),
            "two layers by importance": partial(groups=[["1."], ["3."]], choice="importance"),
            "four parts of equal size": partial(num_parts=4),
            "head only": partial(groups=[["3."]]),
            "adapters of rank 8 on a random body": row(
                model=adapted,
                training={"method": "partial", "method_args": {"groups": [["*.lora_*"]]}},
                aggregation={"strategy": "partial"},
            ),
        },
    )


FRACTIONS = (0.01, 0.03, 0.1, 0.3)
KINDS = ("magnitude", "gradient", "fisher", "attention")


def importance_table() -> Table:
    def row(**codec: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            done = trial(spec(seed, codec=codec), fleet(seed), updates=400)
            return {"accuracy": done.accuracy, "bytes per update": done.bytes_per_update}

        return figures

    rows = {"everything (fp32)": row(name="fp32")}
    for kind in KINDS:
        for fraction in FRACTIONS:
            rows[f"{kind}, {fraction:g}"] = row(name="topk", fraction=fraction, importance=kind)
    return Table(
        "Sending the most important elements",
        "top-k with error feedback, ranked four ways; the share of elements is behind the name; 400 updates.",
        rows,
    )


def down_table() -> Table:
    wide = {"factory": MLP["factory"], "args": {"inputs": 64, "hidden": [1024], "classes": 10}}

    def row(down: str, **aggregation: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            made = spec(seed, model=wide, codec={"down": down}, aggregation=aggregation)
            done = trial(made, fleet(seed), updates=400)
            return {**plain(done), "bytes down per task": done.bytes_down_per_update}

        return figures

    mixing = {"strategy": "fedasync", "mixing": 0.6}
    return Table(
        "The way down",
        "How versions reach devices; the model has 76 810 parameters, as patches are only made of what "
        "does not come with the answer to a claim (256 KiB); 400 updates.",
        {
            "FedBuff, fp32": row("fp32"),
            "FedBuff, bf16": row("bf16"),
            "FedBuff, int8 patches": row("int8"),
            "FedAsync, fp32": row("fp32", **mixing),
            "FedAsync, int8 patches": row("int8", **mixing),
        },
    )


# -- the coordinator's side --------------------------------------------------------------------------------------------


def strategies_table() -> Table:
    return Table(
        "Strategies",
        "10 devices, Dirichlet 0.3, 10-fold spread of speed, one local epoch at rate 0.1, 400 updates.",
        {
            "FedBuff, K = 5": campaign(),
            "FedAsync": campaign(aggregation=aggregation("fedasync")),
            "FedAsync, proximal 0.005": campaign(
                aggregation=aggregation("fedasync"), training={"proximal_weight": 0.005}
            ),
            "AsyncFedED": campaign(aggregation=aggregation("asyncfeded")),
            "CA2FL": campaign(aggregation=aggregation("ca2fl")),
            "FADAS": campaign(aggregation=aggregation("fadas"), server_optimizer={"learning_rate": 0.01}),
            "attention over the buffer": campaign(aggregation=aggregation("attention")),
            "FedAtt, layer by layer": campaign(aggregation=aggregation("fedatt")),
            "FedBuff, merged after 0.3 s at the latest": campaign(
                aggregation=aggregation("fedbuff", buffer_size=20, max_wait_seconds=0.3),
                server_optimizer={"learning_rate": 4.0},
            ),
            "FedBuff, K = 20": campaign(
                aggregation=aggregation("fedbuff", buffer_size=20), server_optimizer={"learning_rate": 4.0}
            ),
        },
    )


def fairness_table() -> Table:
    def row(strategy: str, buffer_size: int, rate: float, **args: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            devices = _slow_classes(seed)
            merging = {"strategy": strategy, "buffer_size": buffer_size, "staleness": "constant", "args": args}
            made = spec(seed, aggregation=merging, server_optimizer={"learning_rate": rate})
            done = trial(made, devices, updates=800)
            share = sum(done.merged_by[device.name] for device in devices[8:]) / max(1, sum(done.merged_by.values()))
            return {
                "accuracy": done.accuracy,
                "accuracy on the slow devices' classes": _accuracy_on(done, (8, 9)),
                "share of updates from slow devices": share,
            }

        return figures

    return Table(
        "A fair draw",
        "Eight fast devices hold the classes 0 to 7; two, 8 times slower, hold the classes 8 and 9; 800 updates.",
        {
            "FedBuff, K = 5": row("fedbuff", 5, 1.0),
            "FedBuff, K = 5, fairness 1": row("fedbuff", 5, 1.0, fairness=1.0, fairness_limit=20.0),
            "FedBuff, K = 40": row("fedbuff", 40, 3.0),
            "FedBuff, K = 40, fairness 0.5": row("fedbuff", 40, 3.0, fairness=0.5, fairness_limit=20.0),
            "FedBuff, K = 40, fairness 1": row("fedbuff", 40, 3.0, fairness=1.0, fairness_limit=20.0),
            "CA2FL, K = 5": row("ca2fl", 5, 1.0),
        },
    )


def _slow_classes(seed: int) -> list[Device]:
    whole = digits("train")
    labels = whole.tensors[1].numpy()
    rng = np.random.default_rng(seed)
    common = np.flatnonzero(labels < 8)
    shards = np.array_split(rng.permutation(common), 8)
    devices = [Device(f"fast-{i}", Subset(whole, shard.tolist()), 0.1) for i, shard in enumerate(shards)]
    for label in (8, 9):
        members = np.flatnonzero(labels == label)
        devices.append(Device(f"slow-{label}", Subset(whole, members.tolist()), 0.8))
    return devices


def _accuracy_on(result: Result, classes: tuple[int, ...]) -> float:
    x, y = held_out().tensors
    chosen = torch.isin(y, torch.tensor(classes))
    with torch.inference_mode():
        predicted = apply(result.model.eval(), x[chosen]).argmax(dim=1)
    return float((predicted == y[chosen]).float().mean())


def guard_table() -> Table:
    def row(**guard: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            made = spec(seed, guard=guard, server_optimizer={"learning_rate": 12.0})
            done = trial(made, fleet(seed), updates=400)
            return {"accuracy": done.accuracy, "rollbacks": float(done.num_rollbacks)}

        return figures

    return Table(
        "The divergence guard",
        "A server rate of 12, at which FedBuff diverges; 400 updates.",
        {"off": row(enabled=False), "on": row(enabled=True)},
    )


def byzantine_table() -> Table:
    attacks = ("none", "sign_flip", "scale", "label_flip", "fast sign_flip", "alie", "inner_product")

    def row(strategy: str, **args: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            found: Row = {}
            for attack in attacks:
                devices = fleet(seed, alpha=1.0, spread=4.0)
                plot = Collusion(attack) if attack in ("alie", "inner_product") else None  # type: ignore[arg-type]
                for index, device in enumerate(devices):
                    if plot is not None:
                        device.alter = plot.forge if index < 2 else plot.listener(device.name)
                    elif index < 2 and attack != "none":
                        _turn_hostile(device, attack)
                made = spec(
                    seed, aggregation={"strategy": strategy, "buffer_size": 7, "args": args}, guard={"enabled": False},
                    server_optimizer={"learning_rate": 1.0}, training={"local_epochs": 2},
                )  # fmt: skip
                done = trial(made, devices, updates=1500)
                found[attack] = 0.0 if np.isnan(done.accuracy) else done.accuracy
            return found

        return figures

    rules: dict[str, dict[str, Any]] = {
        "coordinate-wise median": {"rule": "median", "num_byzantine": 2},
        "trimmed mean": {"rule": "trimmed_mean", "num_byzantine": 2},
        "Krum": {"rule": "krum", "num_byzantine": 2},
        "multi-Krum": {"rule": "multi_krum", "num_byzantine": 2},
        "norm clipping": {"rule": "norm_clip", "num_byzantine": 2},
        "cosine filter": {"rule": "cosine", "num_byzantine": 2},
    }
    return Table(
        "Hostile devices",
        "2 of 10 devices are hostile (which ones changes with the seed); K = 7, 2 epochs, Dirichlet 1.0, 1500 updates; "
        f"accuracy under each attack. Fast ones work {HOSTILE_SPEED} times as fast; alie and inner_product know all "
        "honest updates.",
        {"FedBuff": row("fedbuff"), **{name: row("robust", **args) for name, args in rules.items()}},
    )


def _turn_hostile(device: Device, attack: str) -> None:
    if attack == "label_flip":
        x, y = device.dataset.tensors  # type: ignore[union-attr]
        device.dataset = TensorDataset(x, 9 - y)
        return
    if attack == "fast sign_flip":
        device.overhead_seconds /= HOSTILE_SPEED
    kind: Any = attack.removeprefix("fast ")
    device.alter = lambda values, sends, base: corrupt(values, sends, base, kind)


# -- models ------------------------------------------------------------------------------------------------------------


def models_table() -> Table:
    def row(model: dict[str, Any], rate: float) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            made = spec(seed, model=model, training={"learning_rate": rate, "local_epochs": 2, "batch_size": 32})
            done = trial(made, fleet(seed), updates=600)
            size = sum(p.numel() for p in build_model(model["factory"], model["args"], 0).parameters())
            return {"accuracy": done.accuracy, "updates to 0.85": done.updates_to(0.85), "parameters": float(size)}

        return figures

    attention = {"factory": "fl_core.models:attention",
                 "args": {"inputs": 8, "length": 8, "hidden": 64, "classes": 10}}  # fmt: skip
    return Table(
        "An attention classifier",
        "Digits as eight rows of eight pixels against a perceptron on all 64 at once; rate 0.2, "
        "two epochs, 600 updates.",
        {"perceptron, 64 hidden": row(MLP, 0.2), "additive attention over rows": row(attention, 0.2)},
    )


def quarter_of_the_play() -> Subset[Any]:
    """Held-out contexts of all speakers, every fourth."""
    test = play(split="test", num_speakers=6, length=32)
    return Subset(test, range(0, len(test), 4))


def language_table() -> Table:
    def row(**args: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            model = {"factory": "fl_core.models:language_model",
                     "args": {"vocabulary": 97, "feed_forward": 128, **args}}  # fmt: skip
            training = {"optimizer": "adam", "learning_rate": 0.004, "local_steps": 25, "batch_size": 32}
            made = spec(seed, model=model, training=training, aggregation={"buffer_size": 3},
                        evaluation={"data": "methods:quarter_of_the_play", "data_args": {}})  # fmt: skip
            speakers = [
                Device(f"speaker-{i}", play(split="train", index=i, num_speakers=6, length=32)) for i in range(6)
            ]
            done = trial(made, speakers, updates=60)
            return {"perplexity": float(np.exp(done.curve[-1][3]))}

        return figures

    return Table(
        "A Transformer for plays",
        "One speaker per device, contexts of 32 characters, 60 updates of 25 steps; perplexity per character.",
        {"full attention": row(), "windows of 8, then between them": row(window=8), "one layer": row(layers=1)},
    )


def buffers_table() -> Table:
    """Batch normalisation under staleness, beside the same model without it and beside one machine."""
    normal = {**MLP, "args": {**MLP["args"], "batch_norm": True}}  # type: ignore[dict-item]
    updates = 600

    def row(num_devices: int, alpha: float = 0.5, **keys: Any) -> Callable[[int], Row]:
        def figures(seed: int) -> Row:
            server = {"learning_rate": 0.02 if keys["strategy"] == "fadas" else 0.5}
            rates = {} if keys["strategy"] == "fedasync" else {"server_optimizer": server}
            found = {}
            for name, model in (("BatchNorm", normal), ("no normalisation", MLP)):
                made = spec(
                    seed, model=model, aggregation=keys, training={"learning_rate": 0.05, "batch_size": 32}, **rates
                )
                devices = fleet(seed, alpha=alpha, num_devices=num_devices, spread=20.0)
                found[name] = trial(made, devices, updates=updates)
            return {
                "BatchNorm": found["BatchNorm"].accuracy,
                "rollbacks": float(found["BatchNorm"].num_rollbacks),
                "no normalisation": found["no normalisation"].accuracy,
                "mean staleness": float(np.mean(found["BatchNorm"].staleness)),
            }

        return figures

    return Table(
        "Batch normalisation under staleness",
        f"MLP 64-64-10, Dirichlet 0.5, 20-fold spread of speed, {updates} updates of one local epoch, server rate "
        "0.5 (FADAS: 0.02). `one machine` is plain torch on all data, as many examples seen.",
        {
            "one machine, for 8 devices": lambda seed: {**_one_machine(normal, seed, updates / 8), "rollbacks": 0.0,
                "no normalisation": _one_machine(MLP, seed, updates / 8)["BatchNorm"], "mean staleness": 0.0},
            "one machine, for 30 devices": lambda seed: {**_one_machine(normal, seed, updates / 30), "rollbacks": 0.0,
                "no normalisation": _one_machine(MLP, seed, updates / 30)["BatchNorm"], "mean staleness": 0.0},
            "FedBuff, K = 1, 8 devices": row(8, strategy="fedbuff", buffer_size=1),
            "FedBuff, K = 10, 8 devices": row(8, strategy="fedbuff", buffer_size=10),
            "FedBuff, K = 1, 30 devices": row(30, strategy="fedbuff", buffer_size=1),
            "FedBuff, K = 10, 30 devices": row(30, strategy="fedbuff", buffer_size=10),
            "FedBuff, K = 10, 100 devices, Dirichlet 5": row(100, 5.0, strategy="fedbuff", buffer_size=10),
            "FedAsync, 30 devices": row(30, strategy="fedasync"),
            "CA2FL, K = 10, 30 devices": row(30, strategy="ca2fl", buffer_size=10),
            "FADAS, K = 10, 30 devices": row(30, strategy="fadas", buffer_size=10),
            "median of 10, 30 devices": row(30, strategy="robust", buffer_size=10, args={"rule": "median"}),
        },
    )  # fmt: skip


def _one_machine(model: dict[str, Any], seed: int, epochs: float) -> Row:
    module = build_model(model["factory"], model["args"], seed)
    data = digits("train")
    inputs, targets = data.tensors
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(max(1, round(epochs))):
        for batch in torch.randperm(len(targets), generator=generator).split(32):
            if len(batch) > 1:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(inputs[batch]), targets[batch]).backward()
                optimizer.step()
    module.eval()
    test = held_out()
    with torch.inference_mode():
        right = (module(test.tensors[0]).argmax(dim=1) == test.tensors[1]).float().mean()
    return {"BatchNorm": float(right)}


TABLES: dict[str, Callable[[], Table]] = {
    "buffers": buffers_table,
    "local": local_table,
    "pace": pace_table,
    "personal": personal_table,
    "hospital": hospital_table,
    "distillation": distillation_table,
    "partial": partial_table,
    "importance": importance_table,
    "down": down_table,
    "strategies": strategies_table,
    "fairness": fairness_table,
    "guard": guard_table,
    "byzantine": byzantine_table,
    "models": models_table,
    "language": language_table,
}


def measure(name: str, table: Table, seeds: int) -> dict[str, list[Row]]:
    """Every row for every seed; a JSON line each."""
    found: dict[str, list[Row]] = {}
    for row, figures in table.rows.items():
        for seed in range(seeds):
            values = figures(seed)
            print(json.dumps({"table": name, "row": row, "seed": seed, **values}), flush=True)
            found.setdefault(row, []).append(values)
    return found


def render(table: Table, found: dict[str, list[Row]]) -> Iterator[str]:
    """A Markdown table of means and spreads (the largest less the smallest)."""
    columns = list(next(iter(found.values()))[0])
    yield f"**{table.title}.** {table.note}\n\n"
    yield "| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n"
    for row, results in found.items():
        cells = [_cell([result[column] for result in results]) for column in columns]
        yield f"| {row} | " + " | ".join(cells) + " |\n"
    yield "\n"


def _cell(values: list[float]) -> str:
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return "never"
    digits_shown = 0 if max(finite) >= 100 else 1 if max(finite) >= 2 else 3
    text = f"{statistics.mean(finite):.{digits_shown}f} ± {(max(finite) - min(finite)) / 2:.{digits_shown}f}"
    return text if len(finite) == len(values) else f"{text} ({len(finite)} of {len(values)})"


def replace_table(page: Path, name: str, text: str) -> None:
    """Put a table between its markers; a page without them stays as it is."""
    before, marker, rest = page.read_text().partition(f"<!-- table: {name} -->\n")
    if marker:
        page.write_text(f"{before}{marker}\n{text}{rest[rest.index('<!-- end of table -->') :]}")


def plot(found: dict[str, list[Row]], path: Path) -> None:
    """Accuracy over bytes per update, a line for each ranking."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for kind in KINDS:
        points = [found[f"{kind}, {fraction:g}"] for fraction in FRACTIONS]
        kilobytes = [statistics.mean(row["bytes per update"] for row in rows) / 1000 for rows in points]
        means = [statistics.mean(row["accuracy"] for row in rows) for rows in points]
        low = [min(row["accuracy"] for row in rows) for rows in points]
        high = [max(row["accuracy"] for row in rows) for rows in points]
        (line,) = axes.plot(kilobytes, means, marker="o", label=kind)
        axes.fill_between(kilobytes, low, high, color=line.get_color(), alpha=0.12)
    everything = found["everything (fp32)"]
    axes.axhline(statistics.mean(row["accuracy"] for row in everything), color="0.4", linestyle="--", linewidth=1)
    size = statistics.mean(row["bytes per update"] for row in everything) / 1000
    axes.annotate(f"everything, {size:.1f} kB", (0.98, statistics.mean(row["accuracy"] for row in everything)),
                  xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.3")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("kilobytes per update")
    axes.set_ylabel("accuracy after 400 updates")
    axes.grid(alpha=0.3)
    axes.legend(title="ranked by")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--into", type=Path, help="replace the tables of this page")
    parser.add_argument("--plot", type=Path, help="write the importance curve to this PNG")
    options = parser.parse_args()
    build_model(MLP["factory"], MLP["args"], 0)  # type: ignore[arg-type]
    for name in options.only:
        table = TABLES[name]()
        found = measure(name, table, options.seeds)
        print("".join(render(table, found)), file=sys.stderr)
        if options.into is not None:
            replace_table(options.into, name, "".join(render(table, found)))
        if name == "importance" and options.plot is not None:
            plot(found, options.plot)


if __name__ == "__main__":
    main()
