"""Numbers of files: as float32 where nothing is lost by it, and classes as whole numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_core.data.arrays import MAX_CLASS, as_classes, as_float32
from fl_core.data.columns import roles_of
from fl_core.errors import DataError

FILE, COLUMNS = Path("t.csv"), ["id", "age", "name", "age", "label"]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "float32", "float64"])
def test_numbers_become_float32_in_their_shape(dtype: str) -> None:
    """Rounded as float32 rounds."""
    found = as_float32(np.ones((3, 2), dtype), "x")
    assert (found.dtype, found.shape) == (np.float32, (3, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_is_named_by_its_place(value: float) -> None:
    """A file with one is corrected, not trained on."""
    with pytest.raises(DataError, match=r"t: 'x' is not a finite float32 number at index \(1, 0\)"):
        as_float32(np.array([[1.0, 2.0], [value, 3.0]]), "t: 'x'")


def test_whole_numbers_that_would_become_one_are_refused() -> None:
    """Identifiers, that is; measurements are rounded anyway."""
    with pytest.raises(DataError, match="16777216 and 16777217 are one number"):
        as_float32(np.array([2**24, 2**24 + 1, 3]), "x")
    assert as_float32(np.array([2**24, 2**24 + 2]), "x")[1] == 2**24 + 2
    as_float32(np.array([2**24 + 0.5, 2**24 + 1.5]), "x")


@pytest.mark.parametrize("values", [[0, 1, 2], [[0], [1], [2]], [0.0, 1.0, 2.0]])
def test_classes(values: list[int]) -> None:
    """Whole numbers in any dtype, in a row or a column."""
    found = as_classes(np.array(values), "y")
    assert (found.dtype, found.tolist()) == (np.int64, [0, 1, 2])
    assert as_classes(np.array([True, False]), "y").tolist() == [1, 0]


@pytest.mark.parametrize("values", [[-1], [0.5], [np.nan], [MAX_CLASS + 1], [[0, 1], [1, 0]]])
def test_what_is_no_class_is_refused(values: list[float]) -> None:
    """One-hot rows with what to do about them."""
    with pytest.raises(DataError):
        as_classes(np.array(values), "y")


def test_columns_are_named_or_numbered() -> None:
    """What is neither label, key nor left out is an input; a name that is there twice needs its index."""
    roles = roles_of(FILE, COLUMNS, "label", "id", ["name"], "check it")
    assert (roles.label, roles.key, roles.inputs) == (4, 0, [1, 3])
    assert roles_of(FILE, COLUMNS, -1, None, [], "check it").inputs == [0, 1, 2, 3]
    for wrong, said in ((("age", None, []), "names columns 1 and 3"), (("x", None, []), "label = 'x' is no column"),
                        ((5, None, []), "is no column"), ((0, None, [1, 2, 3, 4]), "check it")):  # fmt: skip
        with pytest.raises(DataError, match=said):
            roles_of(FILE, COLUMNS, *wrong, "check it")  # type: ignore[arg-type]
