"""One model over several devices: each stage on its own, activations handed from one to the next.

Y. Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism", NeurIPS 2019, arXiv
1811.06965: a batch is cut into chunks, so that a stage can work on one while the next stage works on the one before.
The gradient is that of the unsplit model. On accelerators chunks overlap by themselves, since kernels are queued.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from fl_core import factory as factories
from fl_core.errors import SpecError
from fl_core.models.arguments import verify_positive, verify_sizes


class Pipeline(nn.Sequential):
    """A model's layers under their own names, so that its layout is that of the unsplit model.

    The trainer calls ``model.to(device)`` and brings batches there, as for any model. Each tensor follows to
    ``device`` if that is of another type than the first stage's device, and to its own stage's device otherwise; where
    a machine lacks that one, to ``device``. So a coordinator without accelerators scores on its CPU what devices train
    on two GPUs. Until the first ``to`` all of it is where it was built.

    Args:
        layers: in order.
        devices: of each layer; neighbours on the same one are a stage.
        chunks: pieces of a batch.
    """

    def __init__(self, layers: Mapping[str, nn.Module], devices: Sequence[torch.device], chunks: int = 1) -> None:
        super().__init__(OrderedDict(layers))
        self.devices = tuple(devices)
        self.chunks = chunks

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # All of `to`, `cuda`, `cpu` and `half` come by here, also when called on a module around this one. An empty
        # tensor tells where it goes: the first device never has to hold the whole model, and what is home stays there.
        first = self.devices[0].type
        for layer, device in zip(self, self.devices, strict=True):

            def place(tensor: Tensor, device: torch.device = device) -> Tensor:
                goal = fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device))
                if goal.device.type != first or goal.device == device or not _is_present(device):
                    return fn(tensor)
                return tensor.to(device, goal.dtype)

            layer._apply(place, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The unsplit model's output, on the device where ``x`` is."""
        chunks = x.chunk(self.chunks) if self.chunks > 1 else (x,)
        outputs = [self._run(chunk).to(x.device) for chunk in chunks]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _run(self, x: Tensor) -> Tensor:
        for layer in self:
            parameter = next(layer.parameters(), None)
            x = layer(x if parameter is None else x.to(parameter.device))
        return x


def pipeline(
    factory: str,
    devices: Sequence[str],
    args: Mapping[str, Any] | None = None,
    cuts: Sequence[int] | None = None,
    chunks: int = 1,
) -> Pipeline:
    """Another factory's model, split over several devices; the model has to be an ``nn.Sequential``.

    ``mlp``, ``cnn`` and ``language_model`` are. The order of layers is the order of stages.

    Args:
        factory: import path of the model's factory.
        devices: one per stage, such as ``["cuda:0", "cuda:1"]``; the same one may come again.
        args: the factory's keyword arguments.
        cuts: number of the first layer of each stage but the first, counted from 0. By default stages get about as many
            parameters each.
        chunks: pieces that a batch is cut into. With batch normalisation, which looks at a whole batch, keep 1.

    Raises:
        SpecError: an argument is wrong, or the model cannot be cut so.
    """
    if not isinstance(factory, str):
        raise SpecError(f"pipeline: factory = {factory!r} is not an import path; write 'package.module:callable'.")
    verify_positive("pipeline", chunks=chunks)
    places = _devices(devices)
    model = factories.call(factory, args or {}, "model.args.factory")
    if type(model) is not nn.Sequential:
        raise SpecError(
            f"pipeline: factory = {factory!r} returned {type(model).__name__}; only an nn.Sequential has stages to cut."
        )
    stages = _even_stages(model, len(places)) if cuts is None else _cut_stages(model, len(places), cuts)
    return Pipeline(dict(model.named_children()), [places[stage] for stage in stages], chunks)


def _devices(devices: object) -> list[torch.device]:
    if not isinstance(devices, Sequence) or isinstance(devices, str) or not devices:
        raise SpecError(f"pipeline: devices = {devices!r} is not a list of devices; write one such as ['cpu', 'cpu'].")
    places = []
    for device in devices:
        try:
            places.append(torch.device(device))
        except (RuntimeError, TypeError):
            raise SpecError(f"pipeline: device {device!r} is not known; write one such as 'cuda:0' or 'cpu'.") from None
    return places


def _even_stages(model: nn.Sequential, num_stages: int) -> list[int]:
    """The stage of each layer: where the middle of its parameters falls."""
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in model]
    total = max(1, sum(sizes))
    ends = accumulate(sizes)
    stages = [
        min(num_stages - 1, int((end - size / 2) * num_stages / total)) for end, size in zip(ends, sizes, strict=True)
    ]
    if len(set(stages)) < num_stages:
        raise SpecError(
            f"pipeline: {len(sizes)} layers with {', '.join(map(str, sizes))} parameters make no "
            f"{num_stages} stages of about the same size; give cuts, or fewer devices."
        )
    return stages


def _cut_stages(model: nn.Sequential, num_stages: int, cuts: Sequence[int]) -> list[int]:
    verify_sizes("pipeline", "cuts", cuts)
    edges = [0, *cuts, len(model)]
    if len(cuts) != num_stages - 1 or any(low >= high for low, high in pairwise(edges)):
        raise SpecError(
            f"pipeline: cuts = {list(cuts)} makes no {num_stages} stages of {len(model)} layers; name the first layer "
            "of each stage but the first, in rising order."
        )
    return [sum(layer >= cut for cut in cuts) for layer in range(len(model))]


def _is_present(device: torch.device) -> bool:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter where torch was built without that kind of device
        return False
    return True
