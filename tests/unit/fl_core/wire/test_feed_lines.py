"""The feed's lines: each comes back as it was, and what no coordinator wrote is refused."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.wire.feed_lines import (
    CoordinatorLine,
    FeedLine,
    LeftOutLine,
    MergesLine,
    RejectionsLine,
    UnknownLine,
    WorkerLine,
    feed_line,
)
from fl_core.wire.history import PhaseLine
from fl_core.wire.mapped import BadMap

MERGES = MergesLine(
    seconds=1.5, version=3, merged=7, updates=4, merges=2, staleness=((0, 3), (2, 1)), workers={"a": (4, 2, 0.5)}
)
LINES = [
    MERGES,
    RejectionsLine(seconds=2.0, reasons={"too_stale": 2}, workers={"": 1, "a": 1}),
    WorkerLine(seconds=3.0, worker="a", event="lost"),
    CoordinatorLine(seconds=0.0, event="launched", holder="h:1:ab", fence=1),
    CoordinatorLine(seconds=9.0, event="took_over", holder="h:2:cd", fence=2, predecessor="h:1:ab"),
    LeftOutLine(seconds=4.0, lines=7),
    PhaseLine(seconds=5.0, state="paused"),
]
JUNK = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.kind}-{line.seconds}")
def test_lines_come_back_as_they_were(line: FeedLine) -> None:
    """Over the wire, as msgpack; a field that is absent is left out."""
    packed = msgpack.packb(line.to_map())
    assert feed_line(msgpack.unpackb(packed)) == line
    assert b"predecessor" not in packed or (isinstance(line, CoordinatorLine) and line.predecessor)


@given(st.sampled_from(LINES), st.data())
def test_a_spoilt_line_is_refused_or_has_its_form(line: FeedLine, data: st.DataObject) -> None:
    """Whatever stands in the place of a field: an error of ours, or what a page can be told."""
    found: dict[str, Any] = line.to_map()
    found[data.draw(st.sampled_from([*found]))] = data.draw(JUNK)
    try:
        read = feed_line(found)
    except BadMap:
        return
    json.dumps(read.to_map())


def test_a_later_release_s_line_is_an_event_of_which_nothing_is_known() -> None:
    """Its kind and its time are told, and nothing else of it."""
    found = feed_line({"kind": "eclipse", "seconds": 1.0, "html": "<b>"})
    assert found == UnknownLine(seconds=1.0, name="eclipse")
    assert found.to_map() == {"kind": "eclipse", "seconds": 1.0}
    for junk in ({"kind": "eclipse"}, {"kind": 1, "seconds": 1.0}, [], None):
        with pytest.raises(BadMap):
            feed_line(junk)
