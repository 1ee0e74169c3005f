"""From a spec's ``[model]`` section to a model: the same factory, arguments and seed give the same parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from fl_core import factory as factories
from fl_core.errors import SpecError


def build_model(factory: str, args: Mapping[str, Any], seed: int) -> nn.Module:
    """Call a model's factory with torch's CPU generator seeded; the program's own generator is left as it was.

    Only torch's CPU generator is seeded: a factory that draws from elsewhere differs from one machine to the next.

    Embeddings with ``sparse = True`` are made to give dense gradients, which are the same numbers: what a device sends
    is dense anyway, and weight decay, clipping, proximal terms and second derivatives are not defined for sparse ones.

    Args:
        factory: import path, ``"package.module:callable"``.
        args: its keyword arguments.
        seed: 0 <= seed < 2**63.

    Raises:
        SpecError: the factory cannot be resolved or refuses ``args``, or what it returns is not a module with at
            least one trainable parameter, each with a shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = factories.call(factory, args, "model.factory")
    if not isinstance(model, nn.Module):
        raise SpecError(f"model.factory = {factory!r} returned {type(model).__name__}; return a torch.nn.Module.")
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if isinstance(parameter, UninitializedParameter):
            raise SpecError(f"model.factory = {factory!r}: parameter {name!r} has no shape yet; use no lazy modules.")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise SpecError(
            f"model.factory = {factory!r} returned a model without trainable parameters; nothing can be trained."
        )
    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False
    return model
