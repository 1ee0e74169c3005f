"""The tensors of a module that a layout carries: which they are, and how they are copied out of it and into it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import LayoutError
from fl_core.vectors.buffers import BufferRole, changed_shape_remedy
from fl_core.vectors.tensor_spec import DTYPES, TensorSpec

if TYPE_CHECKING:
    import torch


def carried_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The floating tensors of the ``state_dict``, each once even where several modules share it."""
    import torch

    seen: set[int] = set()
    for name, tensor in state_dict_of(module).items():
        if not isinstance(tensor, torch.Tensor) or id(tensor) in seen or is_extra_state(name):
            continue
        seen.add(id(tensor))
        if tensor.is_complex():
            raise LayoutError(f"The tensor {name!r} is complex; hold its real and imaginary parts as two tensors.")
        if tensor.is_floating_point():
            yield name, tensor


def state_dict_of(module: torch.nn.Module) -> dict[str, Any]:
    try:
        return module.state_dict(keep_vars=True)
    except TypeError as error:
        raise LayoutError(
            f"{type(module).__name__}.state_dict cannot be called as torch's is ({error}); give it the arguments of "
            "torch.nn.Module.state_dict, keep_vars among them."
        ) from error


def is_extra_state(name: str) -> bool:
    """Whether this is what ``Module.get_extra_state`` gave, which is made again at each call."""
    return name.rpartition(".")[2] == "_extra_state"


def verify_same_model(module: torch.nn.Module, carried: list[tuple[str, torch.Tensor]]) -> None:
    """What devices train and what travels has to be the same set."""
    sent = {id(tensor) for _, tensor in carried}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in sent:
            raise LayoutError(
                f"The parameter {name!r} would be trained and never sent: the model's state_dict does not have it; add "
                "it there, or freeze it with requires_grad_(False)."
            )


def spec_of(name: str, tensor: torch.Tensor, roles: Mapping[str, BufferRole]) -> TensorSpec:
    """A tensor's row of the layout.

    Raises:
        LayoutError: it has no shape yet, or a dtype that no layout carries.
    """
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        raise LayoutError(f"The tensor {name!r} has no shape yet; give the lazy module its sizes, or run it once.")
    if tensor.is_meta:
        raise LayoutError(
            f"The tensor {name!r} is on the device 'meta' and has no values; build the model on the CPU, or load its "
            "values in the factory."
        )
    if tensor.layout != torch.strided:
        kind = str(tensor.layout).removeprefix("torch.")
        raise LayoutError(
            f"The tensor {name!r:.80} is stored as {kind}; a layout carries dense tensors: use to_dense()."
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise LayoutError(f"The tensor {name!r:.80} is {dtype}; a layout carries {', '.join(sorted(DTYPES))}.")
    if tensor.dtype == torch.float64 and bool((tensor.isfinite() & tensor.float().isinf()).any()):
        raise LayoutError(
            f"The tensor {name!r:.80} holds values beyond 3.4e38, which float32 does not have, and layouts are "
            "float32; hold them in another unit or as their logarithm."
        )
    if tensor.requires_grad and isinstance(tensor, torch.nn.Parameter):
        return TensorSpec(name, tuple(tensor.shape), dtype)
    role = roles.get(name, "constant")
    return TensorSpec(name, tuple(tensor.shape), dtype, "constant" if role == "local" else role)


def copy_out(
    module: torch.nn.Module, specs: Sequence[TensorSpec], parts: Sequence[npt.NDArray[np.float32] | None]
) -> None:
    """Copy a module's tensors, from whatever device they are on, into float32 arrays of the same shapes.

    Args:
        parts: one for each of ``specs``; None leaves that tensor out.

    Raises:
        LayoutError: the module lacks a tensor, or has it in another shape.
    """
    import torch

    with torch.no_grad():
        for tensor, part in zip(_tensors_of(module, specs), parts, strict=True):
            if part is not None:
                torch.from_numpy(part).copy_(tensor)


def copy_in(
    module: torch.nn.Module, specs: Sequence[TensorSpec], parts: Sequence[npt.NDArray[np.float32] | None]
) -> None:
    """Overwrite a module's tensors in place; arguments and errors are those of ``copy_out``."""
    import torch

    with torch.no_grad():
        for tensor, part in zip(_tensors_of(module, specs), parts, strict=True):
            if part is None:
                continue
            if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
                # By way of numpy, because torch warns about memory that it may not write to, which is what a decoded
                # payload is.
                np.copyto(tensor.detach().numpy(), part)
            else:
                tensor.copy_(torch.from_numpy(part if part.flags.writeable else part.copy()))


def _tensors_of(module: torch.nn.Module, specs: Sequence[TensorSpec]) -> list[torch.Tensor]:
    tensors = dict(carried_tensors(module))
    found = []
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            raise LayoutError(f"The model has no tensor {spec}; build it with the campaign's factory.")
        if tuple(tensor.shape) != spec.shape:
            remedy = "" if spec.trainable else changed_shape_remedy(spec.name)
            raise LayoutError(
                f"The model's tensor {spec.name!r} has shape {list(tensor.shape)}; the layout wants {spec}{remedy}."
            )
        found.append(tensor)
    return found


def tensors_beside(carried: Collection[str], module: torch.nn.Module) -> dict[str, str | npt.NDArray[Any]]:
    """The tensors of a module's ``state_dict`` that a layout does not hold, so that a file of all loads strictly.

    Args:
        carried: the names of the layout's tensors.

    Returns:
        By name: the name of the layout's tensor that it is another name of (tied parameters), or a copy of its
        values as the factory made them (integer and local buffers); half precision as float32. Quantised and
        complex ones are left out.
    """
    import torch

    names: dict[int, str] = {}
    found: dict[str, str | npt.NDArray[Any]] = {}
    for name, tensor in state_dict_of(module).items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if name in carried:
            names[id(tensor)] = name
        elif id(tensor) in names:
            found[name] = names[id(tensor)]
        elif not tensor.is_quantized and not tensor.is_complex() and tensor.layout == torch.strided:
            plain = tensor.detach().cpu()
            half = plain.is_floating_point() and plain.dtype not in (torch.float32, torch.float64)
            found[name] = (plain.float() if half else plain).numpy().copy()
    return found
