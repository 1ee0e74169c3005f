"""Asynchronous federated learning over a message queue, for people who write Python.

    >>> import fedtide
    >>> run = fedtide.run("campaign.toml", fleet="fleet.toml")  # doctest: +SKIP
    >>> run.summary["final_accuracy"], run.model()  # doctest: +SKIP

``run`` launches a campaign and returns when it has ended; ``open_run`` reads one that has; ``connect`` lists, watches
and steers the campaigns of a broker. Names that are exported here stay; others may move.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.simulation.devices import SimulatedDevice
    from fedtide.operate import Broker, Campaign, connect
    from fedtide.running import run
    from fedtide.runs import Run, open_run
    from fedtide.simulating import simulate
    from fl_core.aggregation import Contribution, Merge, Strategy
    from fl_core.aggregation.buffer import Buffer
    from fl_core.aggregation.buffered import BufferedStrategy
    from fl_core.aggregation.optimizer.rules import SGD, Adagrad, Adam, FedAdagrad, FedAdam, ServerRule, Yogi
    from fl_core.aggregation.staleness import constant, hinge, polynomial
    from fl_core.aggregation.strategies.asyncfeded import AsyncFedED
    from fl_core.aggregation.strategies.attention import Attention
    from fl_core.aggregation.strategies.ca2fl import CA2FL
    from fl_core.aggregation.strategies.distillation import StudentDistillation
    from fl_core.aggregation.strategies.fadas import Fadas
    from fl_core.aggregation.strategies.fedasync import FedAsync
    from fl_core.aggregation.strategies.fedatt import FedAtt
    from fl_core.aggregation.strategies.fedavg import FedAvg
    from fl_core.aggregation.strategies.fedbuff import FedBuff
    from fl_core.aggregation.strategies.partial import PartialBuffer
    from fl_core.aggregation.strategies.robust import Robust
    from fl_core.aggregation.whole_model import WholeModel
    from fl_core.codecs import Codec
    from fl_core.codecs.fp32 import Fp32
    from fl_core.codecs.half import Bf16, Fp16
    from fl_core.codecs.int8 import Int8
    from fl_core.codecs.topk import TopK
    from fl_core.errors import (
        BrokerError,
        BrokerUnavailable,
        CampaignError,
        DataError,
        FedtideError,
        LayoutError,
        Reason,
        RejectedUpdate,
        SpecError,
        UserCodeError,
    )
    from fl_core.spec import CampaignSpec, Section, TrainingSection, load_spec, parse_spec, read_args
    from fl_core.training.method import DeviceTask, Method, Outcome, read_method_args
    from fl_core.training.methods.local_sgd import LocalSGD
    from fl_core.training.methods.partial import Partial
    from fl_core.training.methods.per_fedavg import PerFedAvg
    from fl_core.training.methods.personal import Personal
    from fl_core.training.methods.soft_labels import Distillation
    from fl_core.vectors import Delta, FloatArray, Parameters, SoftLabels
    from fl_core.vectors.layout import Layout
    from fl_core.vectors.model_parts import Parts

# Imported when first asked for: `import fedtide` itself loads neither torch nor redis.
_HOMES = {
    "coordinator.simulation.devices": ("SimulatedDevice",),
    "fedtide.operate": ("Broker", "Campaign", "connect"),
    "fedtide.running": ("run",),
    "fedtide.runs": ("Run", "open_run"),
    "fedtide.simulating": ("simulate",),
    "fl_core.aggregation": ("Contribution", "Merge", "Strategy"),
    "fl_core.aggregation.buffer": ("Buffer",),
    "fl_core.aggregation.buffered": ("BufferedStrategy",),
    "fl_core.aggregation.optimizer.rules": (
        "Adagrad",
        "Adam",
        "FedAdagrad",
        "FedAdam",
        "SGD",
        "ServerRule",
        "Yogi",
    ),
    "fl_core.aggregation.staleness": ("constant", "hinge", "polynomial"),
    "fl_core.aggregation.strategies.asyncfeded": ("AsyncFedED",),
    "fl_core.aggregation.strategies.attention": ("Attention",),
    "fl_core.aggregation.strategies.ca2fl": ("CA2FL",),
    "fl_core.aggregation.strategies.distillation": ("StudentDistillation",),
    "fl_core.aggregation.strategies.fadas": ("Fadas",),
    "fl_core.aggregation.strategies.fedasync": ("FedAsync",),
    "fl_core.aggregation.strategies.fedatt": ("FedAtt",),
    "fl_core.aggregation.strategies.fedavg": ("FedAvg",),
    "fl_core.aggregation.strategies.fedbuff": ("FedBuff",),
    "fl_core.aggregation.strategies.partial": ("PartialBuffer",),
    "fl_core.aggregation.strategies.robust": ("Robust",),
    "fl_core.aggregation.whole_model": ("WholeModel",),
    "fl_core.codecs": ("Codec",),
    "fl_core.codecs.fp32": ("Fp32",),
    "fl_core.codecs.half": ("Bf16", "Fp16"),
    "fl_core.codecs.int8": ("Int8",),
    "fl_core.codecs.topk": ("TopK",),
    "fl_core.errors": (
        "BrokerError",
        "BrokerUnavailable",
        "CampaignError",
        "DataError",
        "FedtideError",
        "LayoutError",
        "Reason",
        "RejectedUpdate",
        "SpecError",
        "UserCodeError",
    ),
    "fl_core.spec": (
        "CampaignSpec",
        "Section",
        "TrainingSection",
        "load_spec",
        "parse_spec",
        "read_args",
    ),
    "fl_core.training.method": ("DeviceTask", "Method", "Outcome", "read_method_args"),
    "fl_core.training.methods.local_sgd": ("LocalSGD",),
    "fl_core.training.methods.partial": ("Partial",),
    "fl_core.training.methods.per_fedavg": ("PerFedAvg",),
    "fl_core.training.methods.personal": ("Personal",),
    "fl_core.training.methods.soft_labels": ("Distillation",),
    "fl_core.vectors": ("Delta", "FloatArray", "Parameters", "SoftLabels"),
    "fl_core.vectors.layout": ("Layout",),
    "fl_core.vectors.model_parts": ("Parts",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 (as sorted() has it)
    "Adagrad",
    "Adam",
    "AsyncFedED",
    "Attention",
    "Bf16",
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "Buffer",
    "BufferedStrategy",
    "CA2FL",
    "Campaign",
    "CampaignError",
    "CampaignSpec",
    "Codec",
    "Contribution",
    "DataError",
    "Delta",
    "DeviceTask",
    "Distillation",
    "Fadas",
    "FedAdagrad",
    "FedAdam",
    "FedAsync",
    "FedAtt",
    "FedAvg",
    "FedBuff",
    "FedtideError",
    "FloatArray",
    "Fp16",
    "Fp32",
    "Int8",
    "Layout",
    "LayoutError",
    "LocalSGD",
    "Merge",
    "Method",
    "Outcome",
    "Parameters",
    "Partial",
    "PartialBuffer",
    "Parts",
    "PerFedAvg",
    "Personal",
    "Reason",
    "RejectedUpdate",
    "Robust",
    "Run",
    "SGD",
    "Section",
    "ServerRule",
    "SimulatedDevice",
    "SoftLabels",
    "SpecError",
    "Strategy",
    "StudentDistillation",
    "TopK",
    "TrainingSection",
    "UserCodeError",
    "WholeModel",
    "Yogi",
    "connect",
    "constant",
    "hinge",
    "load_spec",
    "open_run",
    "parse_spec",
    "polynomial",
    "read_args",
    "read_method_args",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fedtide")
    if (home := _HOME_OF.get(name)) is None:
        raise AttributeError(f"module 'fedtide' has no attribute {name!r}")
    importlib.import_module("fedtide.own_packages")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
