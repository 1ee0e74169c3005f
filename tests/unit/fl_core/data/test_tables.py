"""Tables as people export them: right numbers, or a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_core.data import csv, npz, parquet
from fl_core.data.careful_csv import TextTable
from fl_core.errors import DataError


@pytest.fixture(params=["numpy", "field by field"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By numpy where it can, and as where it cannot."""
    if request.param != "numpy":
        monkeypatch.setattr(TextTable, "read_columns", _gives_up)
    return str(request.param)


def _gives_up(*args: Any) -> None:
    raise ValueError


def _file(tmp_path: Path, text: str, encoding: str = "utf-8") -> str:
    file = tmp_path / "table.csv"
    file.write_bytes(text.encode(encoding))
    return str(file)


@pytest.mark.parametrize(
    ("text", "options", "x", "y"),
    [
        ("a,y\n1.5,0\n-2e1,1\n", {}, [[1.5], [-20.0]], [0, 1]),
        ("a;b;y\n1,5;2;0\n2,5;3;1\n", {"delimiter": ";", "decimal": ","}, [[1.5, 2.0], [2.5, 3.0]], [0, 1]),
        ("\ufeff\"a\",\"y\"\n1,0\n2,1\n", {}, [[1.0], [2.0]], [0, 1]),
        ("a, b, y\n1, 2, 0\n2, 3, 1\n", {}, [[1.0, 2.0], [2.0, 3.0]], [0, 1]),
        ("a,y\n1, \"no\"\n2, \"yes\"\n", {"classes": ["no", "yes"]}, [[1.0], [2.0]], [0, 1]),
        ("a,y,\n1,0,\n2,1,\n", {}, [[1.0], [2.0]], [0, 1]),
        ("a,y\n1,0\n  \n2,1\n", {}, [[1.0], [2.0]], [0, 1]),
        ("\n\na,y\n1,True\n2,false\n", {}, [[1.0], [2.0]], [1, 0]),
        ("a,y\r\n1,1\r\n2,0\r\n", {}, [[1.0], [2.0]], [1, 0]),
        ("name,a,y\nann,1,1\nbob,2,0\n", {"drop": ["name"]}, [[1.0], [2.0]], [1, 0]),
        ("a,a,y\n1,5,0\n2,6,1\n", {"drop": [1]}, [[1.0], [2.0]], [0, 1]),
        ("0,1,2\n7,8,1\n9,10,0\n", {"label": "2"}, [[7.0, 8.0], [9.0, 10.0]], [1, 0]),
        ("7,1\n8,0\n", {"label": 1, "header": False}, [[7.0], [8.0]], [1, 0]),
        ("a,y\n1,16777217\n2,3\n", {"regression": True}, [[1.0], [2.0]], [16777216.0, 3.0]),
        ("t,y\n1700000000,0\n1700010000,1\n", {}, [[1.7e9], [1700009984.0]], [0, 1]),
        ('a,k,y\n1,"two\nlines",0\n2,"x, ""y""",1\n', {"drop": ["k"]}, [[1.0], [2.0]], [0, 1]),
        ("a;k;y\n1,5;x,y;no\n2,5;z;yes\n",
         {"delimiter": ";", "decimal": ",", "drop": ["k"], "classes": ["no", "yes"]}, [[1.5], [2.5]], [0, 1]),
        ("#a,y\n1,0\n2,1\n", {}, [[1.0], [2.0]], [0, 1]),
    ],
)  # fmt: skip
def test_what_can_be_understood(
    tmp_path: Path, reader: str, text: str, options: dict[str, Any], x: list[list[float]], y: list[float]
) -> None:
    """Decimal commas, byte order marks, blanks, quotes, trailing delimiters, truth values, numbered columns."""
    inputs, targets = csv(_file(tmp_path, text), **{"label": "y", **options}).tensors
    assert inputs.tolist() == x
    assert targets.tolist() == y
    assert inputs.dtype == torch.float32


def test_other_encodings(tmp_path: Path, reader: str) -> None:
    """They are named; a file in another one than that says how."""
    text = "größe,y\n1,0\n2,1\n"
    for encoding in ("latin-1", "utf-16"):
        file = _file(tmp_path, text, encoding)
        assert csv(file, label="y", encoding=encoding).tensors[0].tolist() == [[1.0], [2.0]]
        with pytest.raises(DataError, match="encoding = 'latin-1'"):
            csv(file, label="y")
    with pytest.raises(DataError, match="encoding = 'klingon' is not known"):
        csv(file, label="y", encoding="klingon")


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("1,0\n2,1\n3,0\n", {"label": 1}, "header = false if it is an example"),
        ("a,y\n1,0\n", {"header": False, "label": 1}, "line 1, column '1': 'y'.*header = true"),
        ("a;y\n1,5;0\n", {"delimiter": ";"}, "line 2, column 'a': '1,5'.*decimal = ','"),
        ("a,y\n\"1,234\",0\n", {}, "separators of thousands"),
        ("a,b,y\n1,,0\n", {}, "line 2, column 'b': ''.*fill it in"),
        ("a,b,y\n1,NA,0\n", {}, "line 2, column 'b': 'NA'.*drop"),
        ("a,y\n1,0\n", {"decimal": ";"}, "decimal = ';'"),
        ("a,a,y\n1,5,0\n", {"label": "a"}, "label = 'a' names columns 0 and 1"),
        ("t,y\n1700000000,0\n1700000060,1\n", {}, "column 't'.*1700000000 and 1700000060 are one number in float32"),
        ("t,y\n1700000000,0\n1700000060,1\n", {"label": "t", "regression": True}, "column 't'.*one number in float32"),
        ("id,y\n16777217,0\n16777216,1\n", {}, "column 'id'.*16777216 and 16777217"),
        ("a,y\n1,1099511627776\n", {}, "no class"),
        ("a,y\n1,maybe\n", {"classes": ["no"]}, "'maybe' is not in classes"),
        ('a,y,k\n1,0,"x\n2,1,y\n', {"drop": ["k"]}, "not a UTF-8 .csv file"),
        ("a,y\n1,0\n2,1,\n", {}, "line 3: 3 fields where the first line has 2"),
        ("a,b,y\n1,2,0\n2,1\n", {"drop": ["b"]}, "line 3: 2 fields where the first line has 3"),
        ("a,y\n", {}, "holds no examples"),
    ],
)  # fmt: skip
def test_what_cannot_is_refused_with_a_remedy(
    tmp_path: Path, reader: str, text: str, options: dict[str, Any], said: str
) -> None:
    """Nothing is lost, rounded into another or taken for a header without a word; both readers say the same."""
    with pytest.raises(DataError, match=said):
        csv(_file(tmp_path, text), **{"label": "y", **options})


def test_both_readers_read_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of all magnitudes, a key and named classes."""
    rng = np.random.default_rng(0)
    rows = [
        f"{float(v)!r},{float(w):.3f},k{i % 3},{'ab'[i % 2]}"
        for i, (v, w) in enumerate(rng.normal(size=(500, 2)) * 10.0 ** rng.integers(-30, 30, (500, 1)))
    ]
    file = _file(tmp_path, "v,w,k,y\n" + "\n".join(rows))
    options: dict[str, Any] = {"label": "y", "key": "k", "classes": ["a", "b"], "partition": "by_key", "num_shards": 3}
    fast = csv(file, shard=1, **options).tensors
    monkeypatch.setattr(TextTable, "read_columns", _gives_up)
    slow = csv(file, shard=1, **options).tensors
    assert all(torch.equal(one, other) for one, other in zip(fast, slow, strict=True))


def test_parquet(tmp_path: Path) -> None:
    """The same columns and errors as in text."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    def write(**columns: Any) -> str:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        return str(tmp_path / "t.parquet")

    good = {"a": pa.array([1, 2], pa.int8()), "b": pa.array([0.5, 1.5], pa.float16()), "y": pa.array([True, False])}
    x, y = parquet(write(**good, who=["ann", "bob"]), label="y", drop=["who"]).tensors
    assert x.tolist() == [[1.0, 0.5], [2.0, 1.5]]
    assert y.tolist() == [1, 0]
    x, y = parquet(write(a=[1, 2], y=["no", "yes"]), label="y", classes=["yes", "no"]).tensors
    assert y.tolist() == [1, 0]
    for columns, said in (
        ({"a": ["x", "y"], "y": [0, 1]}, "column 'a' has type string.*drop"),
        ({"a": [1, None], "y": [0, 1]}, "column 'a' has 1 empty values"),
        ({"a": [16777216, 16777217], "y": [0, 1]}, "one number in float32"),
        ({"a": [1, 2], "y": [0.5, 1]}, "no class"),
        ({"a": [1, 2], "z": [0, 1]}, "label = 'y' is no column"),
    ):
        with pytest.raises(DataError, match=said):
            parquet(write(**columns), label="y")
    (tmp_path / "t.parquet").write_text("hello")
    for name in ("t.parquet", "none.parquet"):
        with pytest.raises(DataError, match=r"\.parquet file"):
            parquet(str(tmp_path / name), label="y")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint64", "float16", "float64", ">i4", "bool"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_class_numbers_of_any_dtype(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """In an .npz file they are unmistakable, as a column too."""
    file = tmp_path / "a.npz"
    np.savez(file, x=np.eye(3, dtype="float16"), y=np.array([0, 1, 1], dtype).reshape(shape))
    x, y = npz(str(file)).tensors
    assert y.tolist() == [0, 1, 1]
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.eye(2), np.eye(2), r"shape \(2, 2\).*np\.argmax"),
        (np.eye(2), np.array(["a", "b"]), "dtype <U1; number its classes"),
        (np.eye(2), np.array([2**40, 1], np.uint64), "no class"),
        (np.array([[2**24], [2**24 + 1]]), np.array([0, 1]), "one number in float32"),
        (np.eye(2, dtype=complex), np.array([0, 1]), "dtype complex128"),
    ],
)  # fmt: skip
def test_arrays_that_mean_something_else(tmp_path: Path, x: Any, y: Any, said: str) -> None:
    """One-hot rows, text, identifiers: named with dtype or shape, and the remedy."""
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(DataError, match=said):
        npz(str(tmp_path / "a.npz"))
