"""The contract between batches, models and losses; training, evaluation and every check go through it.

A *batch* is one of

- a pair (input, target). The input is a tensor, a tuple of arguments, or a mapping of keyword arguments;
- a mapping with one of ``TARGETS`` as its target, as Hugging Face's data sets give it. The rest are the model's keyword
  arguments; a single entry that ``forward`` has no argument for is its only argument, whatever it is called.

An *output* is a tensor, or something that says which of its parts the prediction is: ``logits``, as Hugging Face's
outputs and torchvision's Inception have it, ``out`` of torchvision's segmentation models, or the only part there is.
The loss is the spec's, never the one that such a model computes itself, and auxiliary outputs are not trained.

Everything else is refused with one sentence that names what came: it cannot be guessed which part of ``(output,
hidden)`` or of ``(image, mean, variance)`` is meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from fl_core.errors import DataError

TARGETS = ("labels", "label", "targets", "target")
"""The names that the target of a batch may have, if the batch is a mapping."""
PREDICTIONS = ("logits", "out")
"""The names that the prediction may have in an output of several parts."""
_ONE_VALUE = "Expected more than 1 value per channel"


def split_batch(batch: Any) -> tuple[Any, Tensor]:
    """A collated batch as (input, target).

    Raises:
        DataError: it has neither of these forms, or the target is not a tensor.
    """
    if isinstance(batch, Mapping):
        found = [name for name in TARGETS if name in batch]
        if len(found) != 1 or len(batch) < 2:
            raise DataError(
                f"The dataset's examples are mappings with {_quoted(batch)}; the target is the one that is called "
                f"{' or '.join(TARGETS)}, which must be there once, beside the model's inputs. Or return pairs (input, "
                "target)."
            )
        inputs: Any = {name: part for name, part in batch.items() if name != found[0]}
        target = batch[found[0]]
    elif isinstance(batch, (tuple, list)) and len(batch) == 2:
        inputs, target = batch
    else:
        raise DataError(f"The dataset's examples are {_examples(batch)}")
    if not isinstance(target, Tensor):
        raise DataError(
            f"The dataset's target is {form(target)}; return a tensor or a number, and parts of the input in the "
            "first place of the pair."
        )
    return inputs, target


def arguments(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch's inputs as ``model``'s positional and keyword arguments.

    Raises:
        DataError: ``forward`` does not take them.
    """
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        named = dict(inputs)
        known, any_name = _names(getattr(model.forward, "__func__", model.forward))
        strange = [] if any_name else [name for name in named if name not in known]
        if strange and len(named) == 1:
            return tuple(named.values()), {}
        if strange:
            raise DataError(
                f"{type(model).__name__}.forward has no argument {_quoted(strange)}, which the dataset's examples "
                f"have; it takes {_quoted(known)}. Leave out of the examples what the model does not take."
            )
    elif isinstance(inputs, (tuple, list)):
        args = tuple(inputs)
    else:
        args = (inputs,)
    if len(args) != 1:
        _verify_call(model, inputs, args, named)
    return args, named


def _verify_call(model: nn.Module, inputs: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return  # it is written in C and does not say
    try:
        signature.bind(*args, **named)
    except TypeError as error:
        raise DataError(
            f"{type(model).__name__}.forward cannot be called with the dataset's inputs, {form(inputs)}: {error}."
        ) from None


def apply(model: nn.Module, inputs: Any) -> Tensor:
    """Call a model with a batch's inputs, and take the prediction out of what it returns.

    Raises:
        DataError: the inputs are no arguments of it, or the output has no prediction; or batch normalisation meets one
            value per channel.
    """
    args, named = arguments(model, inputs)
    try:
        output = model(*args, **named)
    except ValueError as error:
        if not str(error).startswith(_ONE_VALUE):
            raise
        raise DataError(
            f"Batch normalisation cannot train on one value per channel, which a batch of one came to ({error}); "
            "use training.batch_size of 2 or more and give each device at least 2 examples, or keep such layers in "
            "evaluation mode."
        ) from None
    return prediction(model, output)


def prediction(model: nn.Module, output: Any) -> Tensor:
    """The tensor of a model's output that the loss compares with the target.

    Raises:
        DataError: it is not clear which one that is.
    """
    if isinstance(output, Tensor):
        return output
    for name in PREDICTIONS:
        part = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(part, Tensor):
            return part
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if isinstance(parts, (tuple, list)) and len(parts) == 1 and isinstance(parts[0], Tensor):
        return parts[0]
    raise DataError(
        f"{type(model).__name__} returned {form(output)}; return the one tensor that the loss compares with the "
        "target, or a mapping that has it under 'logits'. Where the model is somebody else's, a module around it does."
    )


@lru_cache(maxsize=64)
def _names(forward: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """The arguments that a ``forward`` can be given by name, and whether it takes any other."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return (), True
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = tuple(each.name for each in parameters if each.kind in kinds and each.name != "self")
    return names, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _examples(batch: Any) -> str:
    """A description of examples that are neither pairs nor mappings, with the remedy."""
    if isinstance(batch, Tensor):
        shape = f"{_dtype(batch)} of shape {tuple(batch.shape[1:])}"
        return f"single tensors, {shape}; return pairs (input, target), for an autoencoder (x, x)."
    if isinstance(batch, (tuple, list)):
        parts = ", ".join(form(part) for part in batch[:8])
        remedy = "several inputs go into a tuple or a dictionary: ((a, b), target)"
        return f"{len(batch)} parts ({parts}); return pairs (input, target), where {remedy}."
    return f"of type {type(batch).__name__}; return pairs (input, target)."


def form(value: Any) -> str:
    """A short description of a value: dtype and shape of a tensor, and the parts of anything that has parts.

    >>> import torch
    >>> form({"input_ids": torch.zeros(8, 6, dtype=torch.int64)})
    'a dict of input_ids: int64 (8, 6)'
    """
    if isinstance(value, Tensor):
        return f"{_dtype(value)} of shape {tuple(value.shape)}"
    kind = type(value).__name__
    if isinstance(value, Mapping):
        parts = ", ".join(f"{name}: {_brief(part)}" for name, part in list(value.items())[:8])
        return f"a {kind} of {parts or 'nothing'}"
    if isinstance(value, (tuple, list)):
        parts = ", ".join(_brief(part) for part in value[:8])
        return f"a {kind} of {parts or 'nothing'}"
    return f"a {kind}"


def _brief(value: Any) -> str:
    return f"{_dtype(value)} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _quoted(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
