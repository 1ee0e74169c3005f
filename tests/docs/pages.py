"""The documents as their tests read them: each page's code blocks, in order, as CommonMark has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "examples", "deploy", "benchmarks", "fl_core")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in ROOT.glob(f"{folder}/**/*.md"))])


@dataclass(frozen=True)
class Block:
    """One code block of a page.

    Attributes:
        page: the file.
        line: number of its first line of code, from 1.
        language: the word behind the fence; empty where there is none, and for indented blocks.
        text: the code.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """A page by its path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The page's code blocks in these languages."""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block") and token.map is not None and token.info.strip() in languages:
            yield Block(page, token.map[0] + 1 + (token.type == "fence"), token.info.strip(), token.content)


def prose(page: Path) -> str:
    """The page without its code blocks; what is in backquotes stays."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for token in MarkdownIt().parse("\n".join(lines)):
        if token.type in ("fence", "code_block") and token.map is not None:
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
    return re.sub(r"<!--.*?-->", "", "\n".join(lines), flags=re.DOTALL)
