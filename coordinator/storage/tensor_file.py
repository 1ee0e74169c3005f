"""Safetensors files, written from where the arrays lie and read into new ones: never a second copy in memory.

The library's own ``save`` makes one string of all arrays, and its ``load`` wants one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

# What safetensors calls numpy's types.
_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip
_DTYPES = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in _NAMES.items()}


def tensor_file_parts(tensors: Arrays, metadata: Mapping[str, str] | None = None) -> list[bytes | memoryview]:
    """A file's content in parts, to be written one after the other; the arrays' parts are views of them."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: list[bytes | memoryview] = []
    end = 0
    # The widest elements first, as the library does: each array then starts at a multiple of its element's size.
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        contiguous = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        start, end = end, end + contiguous.nbytes
        header[name] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
        parts.append(contiguous.reshape(-1).view(np.uint8).data if array.size else b"")
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little"), text, *parts]


def read_tensor_file(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file that can seek.

    Raises:
        ValueError: it is damaged; nothing larger than the file was allocated.
    """
    num_bytes = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= num_bytes - 8:
        raise ValueError("its header is not all there")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no map")
    header.pop("__metadata__", None)
    rows = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    tensors: dict[str, npt.NDArray[Any]] = {}
    end = 0
    for name, row in rows:
        dtype, shape = _DTYPES[row["dtype"]], [int(size) for size in row["shape"]]
        start, end = end, end + dtype.itemsize * math.prod(shape)
        if row["data_offsets"] != [start, end] or min(shape, default=0) < 0 or end > num_bytes - 8 - length:
            raise ValueError(f"{name!r} is not all there")
        array = np.empty(shape, dtype)
        left = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        while left:
            block = file.read(min(len(left), 2**20))
            if not block:
                raise ValueError(f"{name!r} is not all there")
            left[: len(block)] = block
            left = left[len(block) :]
        tensors[name] = array
    if end != num_bytes - 8 - length:
        raise ValueError("it has more bytes than its header says")
    return tensors
