"""Safetensors as we write and read them: the library agrees, and damage is found before memory is taken."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coordinator.storage.tensor_file import read_tensor_file, tensor_file_parts

DTYPES = ["<f8", "<f4", "<f2", "?", "<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1"]
SHAPES = hnp.array_shapes(min_dims=0, min_side=0, max_side=4)
ARRAYS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.sampled_from(DTYPES).flatmap(lambda name: hnp.arrays(np.dtype(name), SHAPES)),
    max_size=4,
)


def _written(tensors: Any, **metadata: str) -> bytes:
    return b"".join(bytes(part) for part in tensor_file_parts(tensors, metadata))


@settings(deadline=None, max_examples=60)
@given(ARRAYS)
def test_what_is_written_is_read_to_the_bit(tensors: dict[str, Any]) -> None:
    """Any shape and type, empty ones too; and safetensors' own reader finds the same."""
    from safetensors.numpy import load

    data = _written(tensors)
    for read in (read_tensor_file(io.BytesIO(data)), load(data)):
        assert read.keys() == tensors.keys()
        for name, array in tensors.items():
            assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
            assert read[name].tobytes() == array.tobytes()


def test_an_array_that_is_turned_is_written_as_it_reads() -> None:
    """A transposed view has no memory of that order."""
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert read_tensor_file(io.BytesIO(_written({"x": turned})))["x"].tolist() == turned.tolist()


def _edited(**changes: Any) -> bytes:
    header = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff" * 8, _written({"x": np.zeros(2)})[:-1], _written({"x": np.zeros(2)}) + b"x",
        _edited(shape=[2**40], data_offsets=[0, 2**42]), _edited(shape=[-2]), _edited(data_offsets=[4, 12]),
        b"\x02" + bytes(7) + b"[]",
    ],
    ids=["empty", "header too long", "cut", "too long", "huge", "negative", "shifted", "no map"],
)  # fmt: skip
def test_damage_is_an_error(data: bytes) -> None:
    """Nothing larger than the file is allocated."""
    with pytest.raises(ValueError, match=r"header|all there|no map|more bytes"):
        read_tensor_file(io.BytesIO(data))
