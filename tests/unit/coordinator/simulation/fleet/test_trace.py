"""Traces: a table says when each device is there, and what is no such table is refused with its row."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedtide
from coordinator.simulation.fleet.trace import read_trace

SPEC = {
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [], "classes": 10}},
    "training": {"local_steps": 1, "batch_size": 4},
    "aggregation": {"buffer_size": 1},
    "evaluation": {"data": "fl_core.data:digits", "data_args": {"split": "test"}},
    "dispatch": {"concurrency": 2},
}


def _table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_devices_are_there_when_the_trace_says(tmp_path: Path) -> None:
    """Each for its stretches, at its speed; stretches that touch are one."""
    rows = "device,start,end,speed\nb,100,105,0.5\na,0,10,0.25\nb,105,130,0.5\na,200,300,0.25\n"
    trace = read_trace(_table(tmp_path / "trace.csv", rows))
    assert (trace.names, trace.speeds) == (["b", "a"], [0.5, 0.25])
    assert [(each.starts, each.ends) for each in trace.available] == [([100.0], [130.0]), ([0.0, 200.0], [10.0, 300.0])]
    run = fedtide.simulate(
        SPEC, trace=tmp_path / "trace.csv", profile={"devices": [{"overhead_seconds": 1.0}]}, updates=16
    )
    merges = [(row["workers"][0], row["seconds"]) for row in run.history() if row["kind"] == "merge"]
    assert all(0 < at <= 10 or 200 < at <= 300 for name, at in merges if name == "a")
    assert all(100 < at <= 130 for name, at in merges if name == "b")
    assert [at for name, at in merges if name == "a"][:3] == [2.0, 4.0, 6.0], "1 s, and four examples of 0.25 s"
    assert {name for name, _ in merges} == {"a", "b"}


def test_other_forms_of_the_same(tmp_path: Path) -> None:
    """FedScale's columns, in any order, with others between; Parquet."""
    text = "model,inactive,client_id,active\nx,10,7,0\n"
    fedscale = read_trace(_table(tmp_path / "trace.csv", text))
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    columns = {"device": ["7"], "start": [0.0], "end": [10.0], "other": [1]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "trace.parquet")
    assert read_trace(tmp_path / "trace.parquet") == fedscale
    assert fedscale.speeds is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'device'; it has none"),
        ("device,start\na,0\n", "no column 'end'"),
        ("device,start,end\n", "no rows"),
        ("device,start,end\na,5,5\n", "row 2: end = 5 is not after start = 5"),
        ("device,start,end\na,0,1\na,soon,9\n", "row 3: start = 'soon'"),
        ("device,start,end\na,0,inf\n", "end = 'inf'"),
        ("device,start,end,speed\na,0,1,-1\n", "speed = '-1'"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """With the row and what is in it."""
    with pytest.raises(fedtide.SpecError, match=words):
        read_trace(_table(tmp_path / "trace.csv", text))


def test_a_fleet_is_no_larger_than_its_trace(tmp_path: Path) -> None:
    """Nor read from a file that is not there."""
    table = _table(tmp_path / "trace.csv", "device,start,end\na,0,10\n")
    with pytest.raises(fedtide.SpecError, match="more than the 1 of the trace"):
        fedtide.simulate(SPEC, 2, trace=table, updates=1)
    with pytest.raises(fedtide.SpecError, match="cannot be read"):
        fedtide.simulate(SPEC, trace=tmp_path / "none.csv", updates=1)
