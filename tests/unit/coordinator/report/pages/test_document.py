"""HTML of a page: it says what it was given as text, loads nothing and runs nothing."""

from __future__ import annotations

import re

from coordinator.report.pages.document import document, table

EVIL = '<b onclick="x">&</b>'


def test_what_is_text_stays_text() -> None:
    """Title, heads and cells, whatever a campaign is called."""
    page = document(EVIL, [table([EVIL], [[EVIL]])])
    assert "<b " not in page
    assert page.count("&lt;b onclick=&quot;x&quot;&gt;&amp;&lt;/b&gt;") == 3


def test_a_table_has_a_line_for_each_row_and_a_head_where_there_is_one() -> None:
    """Cells in their order."""
    with_head = table(["name", "count"], [["a", "1"], ["b", "2"]])
    assert re.findall(r"<(t[hd])>(\w+)</\1>", with_head) == [
        ("th", "name"), ("th", "count"), ("td", "a"), ("td", "1"), ("td", "b"), ("td", "2"),
    ]  # fmt: skip
    assert [with_head.count("<tr>"), table([], iter([["a", "1"]])).count("<tr>")] == [3, 1]


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    """It is opened from a disk, without a network."""
    page = document("digits", ["<h1>digits</h1>"])
    assert not re.search(r"src=|href=|url\(|@import|<script", page)
    assert "<body><h1>digits</h1></body></html>" in page
