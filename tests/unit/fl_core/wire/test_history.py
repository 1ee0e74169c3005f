"""A history's lines: what is decoded can be counted on, an earlier release's are read, and bytes stay as they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.wire.history import EvaluationLine, RejectionLine, history_line
from fl_core.wire.mapped import BadMap

RECORDED = Path(__file__).parents[2] / "coordinator" / "campaign" / "formats" / "history.jsonl"
LINES = [json.loads(line) for line in RECORDED.read_text().splitlines()]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line['kind']}-{line['seconds']}")
def test_recorded_lines_come_back_as_they_were(line: dict[str, Any]) -> None:
    """Key by key, in their order: those of every kind, and one of an earlier release."""
    assert json.dumps(history_line(line).to_map()) == json.dumps(line)


@given(st.sampled_from(LINES), st.data())
def test_a_spoilt_line_is_refused_or_has_its_form(line: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in the place of a field: an error of ours, or a record that is written as JSON again."""
    name = data.draw(st.sampled_from([*line]))
    try:
        found = history_line({**line, name: data.draw(JUNK)})
    except BadMap:
        return
    assert history_line(json.loads(json.dumps(found.to_map(), allow_nan=False))) == found


@given(JUNK)
def test_what_is_no_line_is_refused(junk: Any) -> None:
    """No other error than ours."""
    with pytest.raises(BadMap):
        history_line(junk)


def test_scores_of_an_earlier_release() -> None:
    """It had accuracy alone, and wrote NaN where there was no number; a later one may add what nobody knows here."""
    old = {"kind": "evaluation", "seconds": 1.0, "version": 3, "merged": 6, "loss": math.nan, "accuracy": 0.5}
    found = history_line({**old, "new": {}})
    assert isinstance(found, EvaluationLine)
    assert found.scores == {"accuracy": 0.5, "loss": None}
    assert found.to_map() == {**old, "loss": None}


def test_a_detail_stands_with_who_said_it() -> None:
    """The order of keys is part of the format: of a refusal worker and task, of a failure task, worker and detail."""
    refused = RejectionLine(seconds=1.0, reason="duplicate", worker="w", task="1-a")
    failed = RejectionLine(seconds=1.0, reason="training_failed", worker="w", task="1-a", detail="it broke")
    assert [*refused.to_map()] == ["kind", "seconds", "reason", "worker", "task"]
    assert [*failed.to_map()] == ["kind", "seconds", "reason", "task", "worker", "detail"]
