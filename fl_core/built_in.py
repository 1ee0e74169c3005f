"""The names that a spec may use for what is built in, and where each of them lives: the one list there is.

A spec is validated against the names, without importing what they stand for; the builders import it by its path.
"""

from __future__ import annotations

STRATEGIES = {
    "fedavg": "fl_core.aggregation.strategies.fedavg:FedAvg",
    "fedasync": "fl_core.aggregation.strategies.fedasync:FedAsync",
    "fedbuff": "fl_core.aggregation.strategies.fedbuff:FedBuff",
    "fadas": "fl_core.aggregation.strategies.fadas:Fadas",
    "ca2fl": "fl_core.aggregation.strategies.ca2fl:CA2FL",
    "asyncfeded": "fl_core.aggregation.strategies.asyncfeded:AsyncFedED",
    "attention": "fl_core.aggregation.strategies.attention:Attention",
    "fedatt": "fl_core.aggregation.strategies.fedatt:FedAtt",
    "robust": "fl_core.aggregation.strategies.robust:Robust",
    "partial": "fl_core.aggregation.strategies.partial:PartialBuffer",
    "distillation": "fl_core.aggregation.strategies.distillation:StudentDistillation",
}
"""``aggregation.strategy``."""

METHODS = {
    "local": "fl_core.training.methods.local_sgd:LocalSGD",
    "personal": "fl_core.training.methods.personal:Personal",
    "per_fedavg": "fl_core.training.methods.per_fedavg:PerFedAvg",
    "distillation": "fl_core.training.methods.soft_labels:Distillation",
    "partial": "fl_core.training.methods.partial:Partial",
}
"""``training.method``."""

CODECS = {
    "fp32": "fl_core.codecs.fp32:Fp32",
    "fp16": "fl_core.codecs.half:Fp16",
    "bf16": "fl_core.codecs.half:Bf16",
    "int8": "fl_core.codecs.int8:Int8",
    "topk": "fl_core.codecs.topk:TopK",
}
"""``codec.name``."""

STALENESS = {
    "constant": "fl_core.aggregation.staleness:constant",
    "polynomial": "fl_core.aggregation.staleness:polynomial",
    "hinge": "fl_core.aggregation.staleness:hinge",
}
"""``aggregation.staleness``."""

SERVER_OPTIMIZERS = {
    "sgd": "fl_core.aggregation.optimizer.rules:SGD",
    "adam": "fl_core.aggregation.optimizer.rules:Adam",
    "adagrad": "fl_core.aggregation.optimizer.rules:Adagrad",
    "fedadam": "fl_core.aggregation.optimizer.rules:FedAdam",
    "fedadagrad": "fl_core.aggregation.optimizer.rules:FedAdagrad",
    "yogi": "fl_core.aggregation.optimizer.rules:Yogi",
}
"""``server_optimizer.name``."""
