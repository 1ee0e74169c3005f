"""The page's files: all are served; both themes have the same colours; no rule is for what is nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import tinycss2

from coordinator.monitor.answers import FILES

PAGE = Path(__file__).parents[4] / "coordinator/monitor/page"
STYLE = (PAGE / "style.css").read_text(encoding="utf-8")
REST = "".join(path.read_text(encoding="utf-8") for path in (*sorted(PAGE.glob("*.html")), *sorted(PAGE.glob("*.js"))))


def _rules(nodes: list[tinycss2.ast.Node]) -> list[tuple[str, list[tinycss2.ast.Node]]]:
    """Each rule as its selector and its declarations, those within media queries too."""
    rules = []
    for node in nodes:
        assert node.type != "error", f"line {node.source_line}: {node.message}"
        if node.type == "at-rule" and node.content is not None:
            rules += _rules(tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True))
        elif node.type == "qualified-rule":
            declarations = tinycss2.parse_blocks_contents(node.content, skip_comments=True, skip_whitespace=True)
            for each in declarations:
                assert each.type == "declaration", f"line {each.source_line}: {each.serialize()}"
            rules.append((tinycss2.serialize(node.prelude).strip(), declarations))
    return rules


RULES = _rules(tinycss2.parse_stylesheet(STYLE, skip_comments=True, skip_whitespace=True))


def test_each_theme_has_each_colour() -> None:
    """What one theme names, the others name too; whatever is used is named."""
    themes = [{each.name for each in found} for selector, found in RULES if selector.startswith(":root")]
    assert len(themes) == 3
    assert themes[0] == themes[1] == themes[2]
    used = set(re.findall(r"var\((--[\w-]+)", STYLE + REST)) | set(re.findall(r'"(--[\w-]+)"', REST))
    assert used
    assert used <= themes[0]


def test_no_rule_is_for_what_is_not_there() -> None:
    """Each class and id of a selector is given somewhere by the page or its scripts."""
    for selector, _ in RULES:
        for name in re.findall(r"[.#]([a-z][\w-]*)", re.sub(r"\[[^]]*\]", "", selector)):
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", REST), f"{selector}: {name} is nowhere"


def test_each_file_of_the_page_is_served() -> None:
    """And nothing else: a script that another one imports is asked for by its name."""
    assert set(FILES) == {path.name for path in PAGE.iterdir()}
