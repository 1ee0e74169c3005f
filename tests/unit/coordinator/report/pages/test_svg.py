"""Charts as text: well-formed, inside their frame, and without a word that a name could smuggle in."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.report.pages import svg

EVIL = '"><script>'


@example([(5e-324, 0.0)], False)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(-1e6, 1e6)), max_size=30), st.booleans())
def test_a_chart_is_well_formed_and_keeps_inside(points: list[tuple[float, float | None]], dots: bool) -> None:
    """Whatever the numbers, gaps and single points are: coordinates are numbers within the drawing."""
    points.sort(key=lambda point: point[0])
    drawn = svg.line_chart([svg.Line(EVIL, points)], x_label=EVIL, y_label="y", dots=dots)
    root = ElementTree.fromstring(drawn)
    assert "<script>" not in drawn
    if root.tag == "p":
        assert all(value is None for _, value in points)
        return
    places = re.findall(r"[\d.-]+,[\d.-]+", " ".join(each.get("points", "") for each in root.iter()))
    places += [f"{each.get('cx')},{each.get('cy')}" for each in root.iter() if each.get("cx")]
    for x, y in (map(float, place.split(",")) for place in places):
        assert svg.LEFT - 0.1 <= x <= svg.WIDTH - svg.RIGHT + 0.1
        assert svg.TOP - 0.1 <= y <= svg.HEIGHT - svg.BOTTOM + 0.1


def test_bars_and_stacks_say_their_values() -> None:
    """Names are escaped, widths go with the values, and nothing to draw is said."""
    bars = svg.bar_chart([("a", 4.0), (EVIL, 2.0)], label="updates")
    widths = [float(width) for width in re.findall(r'<rect x="178" y="\d+" width="([\d.]+)"', bars)]
    assert widths[0] == 2 * widths[1]
    assert "<script>" not in bars
    assert svg.bar_chart([], label="updates") == "<p>Nothing to draw.</p>"
    stack = svg.stacked_bar([("merged", 3.0), ("out", 1.0)], label="ledger")
    assert [float(width) for width in re.findall(r'y="0" width="([\d.]+)"', stack)] == [540.0, 180.0]


@pytest.mark.parametrize(("most", "length"), [(10, 10), (1000, 100)])
def test_thinned_curves_keep_their_end(most: int, length: int) -> None:
    """The newest point is never left out."""
    points = [(float(n), float(n)) for n in range(100)]
    thin = svg.thinned(points, most)
    assert thin[-1] == points[-1]
    assert len(thin) <= length + 1
