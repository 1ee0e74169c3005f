"""People's own .npz and .csv files, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_core.data import csv, npz
from fl_core.errors import DataError

CSV = "height,kind,weight,who\n1.5,0,2,ann\n\n2.5,1,3e1,bob\n-3,1,4,ann\n"


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A small CSV file with a blank line."""
    file = tmp_path / "table.csv"
    file.write_text(CSV, encoding="utf-8")
    return str(file)


def _write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "bad.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def _save(tmp_path: Path, **arrays: Any) -> str:
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    return str(file)


@pytest.mark.parametrize("label", ["kind", 1, -3])
def test_csv_columns_become_inputs_and_labels(table: str, label: str | int) -> None:
    """The label's column may be named or counted from either side; all others but the key are inputs."""
    x, y = csv(table, label=label, key="who").tensors
    assert x.tolist() == [[1.5, 2.0], [2.5, 30.0], [-3.0, 4.0]]
    assert y.tolist() == [0, 1, 1]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


def test_csv_partition_by_key(table: str) -> None:
    """Rows of one key form a shard."""
    x, _ = csv(table, label="kind", key="who", partition="by_key", shard=0, num_shards=2).tensors
    assert x.tolist() == [[1.5, 2.0], [-3.0, 4.0]]


def test_csv_regression_keeps_values(table: str) -> None:
    """With regression the target is float32."""
    _, y = csv(table, label="weight", key="who", regression=True).tensors
    assert y.dtype == torch.float32
    assert y.tolist() == [2.0, 30.0, 4.0]


def test_csv_without_header_and_with_named_classes(tmp_path: Path) -> None:
    """Text labels are numbered by the given order, the same on every device."""
    file = _write(tmp_path, "1;oak\n2;elm\n3;oak\n")
    x, y = csv(file, label=1, header=False, delimiter=";", classes=["elm", "oak"]).tensors
    assert x.tolist() == [[1.0], [2.0], [3.0]]
    assert y.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no examples"),
        ("a,y\n", "holds no examples"),
        ("a,y\n1,0\n2\n", "line 3: 1 fields"),
        ("a,y\n1,0\n\n2,0,9\n", "line 4: 3 fields"),
        ("a,y\n1,0\nx,1\n", "line 3, column 'a': 'x'"),
        ("a,y\n1,0\n,1\n", "line 3, column 'a': ''"),
        ("a,y\nnan,0\n", "line 2, column 'a': 'nan'"),
        ("a,y\n1e39,0\n", "line 2, column 'a': '1e39'"),
        ("a,y\n1,zero\n", "column 'y': 'zero'"),
        ("a,y\n1,0.5\n", "0.5 at example 0"),
        ("a,y\n1,-1\n", "-1.0 at example 0"),
        ("y\n1\n", "no column beside the label"),
        ("a,b\n1,0\n", "label = 'y' is no column"),
        ('a,y\n1,"0\n', "not a UTF-8 .csv file"),
    ],
)
def test_bad_csv_files_name_the_place(tmp_path: Path, text: str, named: str) -> None:
    """The error names the line and the column, so that the file can be corrected."""
    with pytest.raises(DataError, match=named):
        csv(_write(tmp_path, text), label="y")


@pytest.mark.parametrize("label", [4, -5, True, "who "])
def test_csv_label_outside_the_table(table: str, label: str | int) -> None:
    """A label that is no column lists the columns."""
    with pytest.raises(DataError, match="the columns are 'height', 'kind'"):
        csv(table, label=label)


def test_csv_other_failures(tmp_path: Path, table: str) -> None:
    """A missing file, an unknown class, binary content and a bad delimiter are data errors."""
    with pytest.raises(DataError, match="cannot be read"):
        csv(str(tmp_path / "none.csv"), label=0)
    with pytest.raises(DataError, match="'bob' is not in classes"):
        csv(table, label="who", classes=["ann"])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        csv(str(tmp_path / "binary.csv"), label=0)
    with pytest.raises(DataError, match="delimiter = '::'"):
        csv(table, label=0, delimiter="::")


def test_npz_arrays_become_tensors(tmp_path: Path) -> None:
    """Integer inputs become float32, labels int64; names may be chosen."""
    file = _save(tmp_path, images=np.arange(24, dtype=np.uint8).reshape(4, 2, 3), labels=np.array([0.0, 1, 2, 1]))
    x, y = npz(file, x="images", y="labels").tensors
    assert x.shape == (4, 2, 3)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert y.tolist() == [0, 1, 2, 1]


def test_npz_regression_with_several_targets(tmp_path: Path) -> None:
    """Values keep their shape, one-dimensional inputs become a column."""
    file = _save(tmp_path, x=np.arange(3.0), y=np.arange(6.0).reshape(3, 2))
    x, y = npz(file, regression=True).tensors
    assert x.shape == (3, 1)
    assert y.shape == (3, 2)


def test_npz_split_and_shard(tmp_path: Path) -> None:
    """A file that all share is divided like any other data: nothing held out reaches a shard."""
    file = _save(tmp_path, x=np.arange(100.0), y=np.arange(100) % 2)
    held_out = set(npz(file, split="test").tensors[0].flatten().tolist())
    shards = [npz(file, split="train", shard=i, num_shards=4).tensors[0].flatten().tolist() for i in range(4)]
    members = [value for shard in shards for value in shard]
    assert sorted([*members, *held_out]) == list(range(100))


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"x": np.ones(3)}, "no array 'y'; it has 'x'"),
        ({"x": np.ones(3), "y": np.zeros(2, int)}, "as many rows"),
        ({"x": np.ones(3), "y": np.int64(1)}, "as many rows"),
        ({"x": np.ones((0, 2)), "y": np.zeros(0, int)}, "holds no examples"),
        ({"x": np.array(["a"]), "y": np.zeros(1, int)}, "has dtype"),
        ({"x": np.array([[1], [np.inf]]), "y": np.zeros(2, int)}, r"not a finite float32 number at index \(1, 0\)"),
        ({"x": np.array([1e300]), "y": np.zeros(1, int)}, "not a finite float32"),
        ({"x": np.ones(2), "y": np.array([0.5, 1])}, "0.5 at example 0"),
        ({"x": np.ones(2), "y": np.array([0, -2])}, "-2 at example 1"),
        ({"x": np.ones(2), "y": np.zeros((2, 2), int)}, "regression = true"),
        ({"x": np.array([None, {}], dtype=object), "y": np.zeros(2, int)}, "plain arrays"),
    ],
)
def test_bad_npz_files_are_named(tmp_path: Path, arrays: dict[str, Any], named: str) -> None:
    """The error names the array and what is wrong with it; pickled arrays are refused."""
    with pytest.raises(DataError, match=named):
        npz(_save(tmp_path, **arrays))


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    """Missing files, text, single arrays and truncated archives are data errors."""
    with pytest.raises(DataError, match="cannot be read"):
        npz(str(tmp_path / "none.npz"))
    with pytest.raises(DataError, match="cannot be read"):
        npz(str(tmp_path))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"np\.savez"):
        npz(str(tmp_path / "text.npz"))
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"np\.savez"):
        npz(str(tmp_path / "empty.npz"))
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(DataError, match="single array"):
        npz(str(tmp_path / "single.npy"))
    whole = Path(_save(tmp_path, x=np.ones(300), y=np.zeros(300, int))).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"np\.savez"):
        npz(str(tmp_path / "cut.npz"))
