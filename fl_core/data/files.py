"""People's own arrays in ``.npz`` files; tables are in ``fl_core/data/tables.py``.

A device's file is normally all its own, so ``split`` is ``"all"`` by default here. Where devices and the coordinator's
evaluation read the same file, write ``split = "train"`` for the ones and ``"test"`` for the other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import TensorDataset

from fl_core.data.arrays import as_classes, as_float32
from fl_core.data.partition import Partition
from fl_core.data.selection import Selection, Split
from fl_core.data.tensors import to_dataset
from fl_core.errors import DataError


def npz(
    path: str,
    x: str = "x",
    y: str = "y",
    key: str | None = None,
    regression: bool = False,
    split: Split = "all",
    shard: int | None = None,
    num_shards: int = 1,
    partition: Partition = "iid",
    alpha: float = 0.5,
    seed: int = 0,
    min_examples: int = 10,
    test_fraction: float = 0.2,
) -> TensorDataset:
    """Arrays of one ``.npz`` file, as ``np.savez`` writes it. Pickled arrays are refused, never loaded.

    Args:
        path: the file; a relative one starts at the working directory, ``~`` is the home directory.
        x: name of the inputs, numbers of shape ``(n, ...)``; ``(n,)`` becomes ``(n, 1)``.
        y: name of the targets: classes 0, 1, ... of shape ``(n,)`` or ``(n, 1)``, in any dtype, or any numbers with
            ``regression``.
        key: name of an array of shape ``(n,)`` for ``partition = "by_key"``.
        regression: targets are values, not classes.

    The other arguments are those of ``Selection``.

    Returns:
        x float32 ``(n, ...)``; y int64 ``(n,)``, or float32 of its own shape with ``regression``.

    Raises:
        DataError: the file is missing or unreadable, an array is missing, not numeric, not finite or of another
            length, or has whole numbers that float32 cannot tell apart.
        SpecError: an argument is wrong.
    """
    selection = Selection(split, shard, num_shards, partition, alpha, seed, min_examples, test_fraction)
    file = Path(path).expanduser()
    names = [name for name in (x, y, key) if name is not None]
    arrays = _read_npz(file, names)
    for name in names:
        if arrays[name].ndim == 0 or len(arrays[name]) != len(arrays[x]):
            raise DataError(
                f"{file}: {name!r} has shape {arrays[name].shape} and {x!r} has {arrays[x].shape}; "
                "give both as many rows."
            )
    inputs = as_float32(_numbers(arrays[x], f"{file}: {x!r}"), f"{file}: {x!r}")
    labels, what = _numbers(arrays[y], f"{file}: {y!r}"), f"{file}: {y!r}"
    targets: npt.NDArray[Any] = as_float32(labels, what) if regression else as_classes(labels, what)
    keys = None if key is None else arrays[key]
    return _select(file, inputs, targets, keys, selection)


def _select(
    file: Path,
    inputs: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    keys: npt.NDArray[Any] | None,
    selection: Selection,
) -> TensorDataset:
    if not len(inputs):
        raise DataError(f"{file} holds no examples; fill it or name another file.")
    chosen = selection.choose(targets, keys)
    if inputs.ndim == 1:
        inputs = inputs[:, None]
    return to_dataset(inputs[chosen], targets[chosen])


def _read_npz(file: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{file} holds a single array; save inputs and targets together with np.savez.")
        with archive:
            for name in names:
                if name not in archive.files:
                    raise DataError(
                        f"{file} has no array {name!r}; it has {', '.join(map(repr, archive.files)) or 'none'}."
                    )
            return {name: archive[name] for name in names}
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); give the path of a .npz file.") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a .npz file of plain arrays ({error}); write it with np.savez.") from error


def _numbers(array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf":
        remedy = "number its classes from 0 and store those" if array.dtype.kind in "US" else "store numbers"
        raise DataError(f"{what} has dtype {array.dtype}; {remedy}.")
    return array
