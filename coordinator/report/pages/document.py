"""HTML that needs no network and runs no script: one page's frame and style, and tables. Everything is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root{color-scheme:light dark;--ink:#17212b;--quiet:#5b6873;--line:#dfe4e8;--grid:#e9edf0;--ground:#fff;--red:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4eaef;--quiet:#9aa8b4;--line:#2b3640;--grid:#25303a;--ground:#151b21;
--red:#ff8078}}
body{font:14px/1.5 system-ui,"DejaVu Sans",sans-serif;color:var(--ink);background:var(--ground);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p.quiet,small{color:var(--quiet)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .5rem;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;padding-left:0}
th{color:var(--quiet);font-weight:500}.scroll{overflow-x:auto}
svg{width:100%;height:auto;display:block}svg text{fill:var(--quiet);font-size:11px}
.grid{stroke:var(--grid)}.axis{stroke:var(--line)}
.legend span{margin-right:1rem;white-space:nowrap}.legend i{display:inline-block;width:.75rem;height:.75rem;
border-radius:3px;margin-right:.35rem;vertical-align:-1px}
.multiples{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:.5rem 1rem}
pre{background:var(--grid);padding:.7rem;border-radius:6px;overflow-x:auto}.bad{color:var(--red);font-weight:600}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A page.

    Args:
        title: of the page, as text.
        parts: of its body, as HTML.
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls where it is too wide; cells are text.

    Args:
        head: one name per column; empty for a table without a head.
    """
    first = f"<tr>{_cells('th', head)}</tr>" if head else ""
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f"<div class=scroll><table>{first}{body}</table></div>"


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)
