"""The role of each tensor of a model: decided once, tensor by tensor, when a layout is made.

A buffer is not a weight. Its delta has no meaning, the sum of several stale ones overshoots, and the mean of two unit
vectors is not a unit vector. So each tensor has a *role*:

=============  =======================================================================================================
role           what becomes of it
=============  =======================================================================================================
``weight``     a parameter with ``requires_grad``: devices train it, the strategy merges it
``mean``       devices send its value, and the model's moves towards theirs (``fl_core/aggregation/statistics.py``)
``latest``     a device on which it has changed sends it, and the model takes the freshest device's, whole
``constant``   the coordinator's value holds everywhere and never moves: no version carries it. A device whose model
               was built with other values fetches it once
``local``      it never travels: at every task it begins as the model's factory makes it
=============  =======================================================================================================

The role that a buffer gets by default:

- ``mean``: running mean and variance of batch and instance normalisation, and what is called so in another module
  (``running_mean``, ``running_var``, ``running_std``, and the same with ``moving_``), unless that is named frozen.
- ``latest``: every other floating-point buffer. An average of spectral normalisation's unit vectors, of a codebook or
  of running extremes would mean nothing; one device's are whole. Masks and tables do not change, so they are not sent.
- ``local``: integer, boolean and non-persistent buffers, so counters, seeds and caches.
- ``constant``: frozen parameters, and what an author says is one.

A spec assigns other roles in ``model.buffers``, which maps patterns of names to roles. A frozen parameter that moves
nevertheless, such as a teacher's that follows the trained ones, gets its role there too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from fl_core.errors import LayoutError

if TYPE_CHECKING:
    import torch

Role: TypeAlias = Literal["weight", "mean", "latest", "constant"]
BufferRole: TypeAlias = Literal["mean", "latest", "constant", "local"]
ROLES: tuple[Role, ...] = get_args(Role)

_MEANS = {f"{word}_{what}" for word in ("running", "moving") for what in ("mean", "var", "variance", "std")}


def is_variance(name: str) -> bool:
    """Whether a running statistic is one that is never below 0, and 1 in a new layer.

    >>> is_variance("1.running_var"), is_variance("1.running_std"), is_variance("1.running_mean")
    (True, True, False)
    """
    return name.rpartition(".")[2].endswith(("var", "variance", "std"))


def changed_shape_remedy(name: str) -> str:
    """What is to be done about a buffer whose shape changes, as that of a quantisation's observer of channels does."""
    return f'; have the factory give it its last shape, or say model.buffers = {{ "{name}" = "local" }}'


def buffer_roles(module: torch.nn.Module, said: Mapping[str, BufferRole]) -> dict[str, BufferRole]:
    """The role of every floating-point buffer and frozen parameter, by name.

    Args:
        said: what the author of the spec says: patterns of names, such as ``"*.codebook"``; the first that fits counts.

    Raises:
        LayoutError: a pattern fits none of them.

    >>> import torch
    >>> buffer_roles(torch.nn.BatchNorm1d(2), {})
    {'running_mean': 'mean', 'running_var': 'mean'}
    """
    roles: dict[str, BufferRole] = {}
    unused = set(said)
    for prefix, owner in module.named_modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if not buffer.is_floating_point():
                continue
            roles[f"{prefix}.{name}" if prefix else name] = _usual_role(owner, name)
    frozen = [n for n, each in module.named_parameters() if not each.requires_grad and each.is_floating_point()]
    for whole in [*roles, *frozen]:
        fitting = [pattern for pattern in said if fnmatchcase(whole, pattern)]
        unused -= set(fitting)
        roles[whole] = said[fitting[0]] if fitting else roles.get(whole, "constant")
    for pattern in sorted(unused):
        names = ", ".join(map(repr, roles)) or "none"
        raise LayoutError(
            f"model.buffers: {pattern!r} fits no floating-point buffer or frozen parameter; the model has {names:.300}."
        )
    return roles


def _usual_role(owner: torch.nn.Module, name: str) -> BufferRole:
    from torch.nn.modules.batchnorm import _NormBase

    if isinstance(owner, _NormBase) or (name in _MEANS and "frozen" not in type(owner).__name__.lower()):
        return "mean"
    return "latest"


class LocalTensors:
    """What a model holds beside its layout, as its factory made it: integer buffers, and what never travels.

    One model serves task after task on a device. Without this, a counter or a cache of an earlier task would go into
    the next one, also one that is made in the first pass.

    Args:
        module: as built, before it was trained.
        carried: names of the layout's tensors.
    """

    def __init__(self, module: torch.nn.Module, carried: set[str]) -> None:
        frozen = ((name, each) for name, each in module.named_parameters() if not each.requires_grad)
        self._kept = {
            name: tensor.detach().clone() for name, tensor in (*module.named_buffers(), *frozen) if name not in carried
        }
        self._absent = {name: buffer is None for name, _, _, buffer in _buffer_slots(module)}

    @property
    def num_bytes(self) -> int:
        """The memory that they take."""
        return sum(tensor.nbytes for tensor in self._kept.values())

    def restore(self, module: torch.nn.Module) -> None:
        """Put them back, in place; one that was replaced by a tensor of another shape is replaced again.

        A buffer that was None is None again, and one that was not there is gone.
        """
        import torch

        for name, owner, last, buffer in list(_buffer_slots(module)):
            if buffer is not None and self._absent.get(name, True):
                if name in self._absent:
                    owner._buffers[last] = None
                else:
                    delattr(owner, last)
        with torch.no_grad():
            for name, tensor in (*module.named_buffers(), *module.named_parameters()):
                kept = self._kept.get(name)
                if kept is None:
                    continue
                same_form = tensor.shape == kept.shape and tensor.dtype == kept.dtype
                if same_form or isinstance(tensor, torch.nn.Parameter):
                    tensor.copy_(kept)
                else:
                    prefix, _, last = name.rpartition(".")
                    module.get_submodule(prefix)._buffers[last] = kept.clone().to(tensor.device)


def _buffer_slots(
    module: torch.nn.Module,
) -> Iterator[tuple[str, torch.nn.Module, str, torch.Tensor | None]]:
    """The places for buffers, empty ones too: whole name, module, name within it, buffer."""
    for prefix, owner in module.named_modules():
        for name, buffer in owner._buffers.items():
            yield f"{prefix}.{name}" if prefix else name, owner, name, buffer
