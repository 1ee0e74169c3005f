"""The glossary holds: no code, docstring, comment or page uses a word for a thing that has another one."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name_of, prose

GLOSSARY = ROOT / "docs/glossary.md"
CODE = sorted(
    file for name in ("fedtide", "fl_core", "coordinator", "workers", "keepers") for file in (ROOT / name).rglob("*.py")
)

# Words that have another sense beside the one that the glossary refuses: what is looked for in texts instead.
SENSES = {
    "client": r"(?:\ball|\beach|\bevery|\bper|slow|fast|stale|federated|number of) clients?\b(?! drift)",
    "round": r"(?:\beach|\bevery|\bper|\bnext|\blast|training|communication|number of|\d+) rounds?\b(?! trip)",
    "epoch": r"(?:campaign|broker|server|life)'?s? epochs?\b|\bepochs? of (?:a|the) (?:campaign|broker|server|life)",
    "consequence": r"``Consequences?``",
    "account": r"\b(?:task|worker) accounts?\b",
    "session": r"(?:training|federated) sessions?\b",
    "experiment": r"(?:an|each|this|federated|our) experiments?\b",
    "node": r"(?:\ball|\beach|\bevery|\bper|slow|fast|worker|edge|number of|\d+) nodes?\b",
}
# The same in names: what speaks to a server is a client, and who has logged in there has a session.
NAME_SENSES = {
    "client": r" (?:num|all|slow|fast|per|each) clients? | clients? (?:ids?|updates?|states?|data|models?) ",
    "epoch": r" (?:max|last|next|campaign|broker|server|life|new) epochs? ",
    "session": r" (?:training|federated|campaign|fl) sessions? ",
}
# Names that are not ours, and whose they are.
NAMES = {
    "round": "Python's function",
    "round_trip": "everybody's word for there and back",
    "StopIteration": "Python's",
    "node": "the standard library's, in platform.node()",
    "experiment": "MLflow's word for what holds runs",
    "experiment_id": "MLflow's",
    "create_experiment": "MLflow's",
    "get_experiment_by_name": "MLflow's",
    "without_heartbeat": "Celery's",
}


def never() -> dict[str, str]:
    """The words of the last column, and the word that stands in their place."""
    found: dict[str, str] = {}
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3:
            for word in re.findall(r"`([^`]+)`", cells[2]):
                found.setdefault(word, cells[0])
    return found


NEVER = never()


def _words(name: str) -> str:
    """A name's parts in lower case, between spaces: `` client id `` of ``_ClientId``."""
    return f" {' '.join(re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+', name))} ".lower()


def _names(tree: ast.AST) -> set[str]:
    """Whatever the code gives a name to, or calls by one."""
    attributes = ("name", "id", "attr", "arg", "asname")
    found = {getattr(node, attribute, None) for node in ast.walk(tree) for attribute in attributes}
    return {part for name in found if isinstance(name, str) for part in name.split(".")}


def _texts(source: str) -> Iterator[str]:
    """Comments and docstrings."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.lstrip("r")[:3] == '"""'):
            yield token.string


@cache
def _of(file: Path) -> tuple[frozenset[str], str]:
    """A file's names, and all that it says in words."""
    source = file.read_text(encoding="utf-8")
    return frozenset(_names(ast.parse(source))), "\n".join(_texts(source))


def test_the_glossary_is_read() -> None:
    """Its last columns hold words, and those with another sense are among them."""
    assert len(NEVER) > 10
    assert set(SENSES) <= set(NEVER)


@pytest.mark.parametrize("word", NEVER)
def test_no_name_in_code_is_one_of_the_others(word: str) -> None:
    """Classes, functions, arguments, variables, attributes and files; the names of others' libraries excepted."""
    pattern = re.compile(NAME_SENSES.get(word, rf" {word}s? "))
    for file in CODE:
        names = _of(file)[0] | {file.stem}
        found = sorted(name for name in names if pattern.search(_words(name)) and name.strip("_") not in NAMES)
        assert not found, f"{name_of(file)} has {found[0]}; the glossary's word is {NEVER[word]!r}"


def test_a_name_says_what_is_lost() -> None:
    """``lost`` alone could be a worker, a task, a doorbell, a payload, a server's data or a lease."""
    found = [(name_of(file), name) for file in CODE for name in _of(file)[0] if name.strip("_").lower() == "lost"]
    assert not found


@pytest.mark.parametrize("word", NEVER)
def test_no_text_has_one_of_the_others(word: str) -> None:
    """Docstrings, comments and pages; the glossary itself names them."""
    pattern = re.compile(SENSES.get(word, rf"\b{word}s?\b"), re.IGNORECASE)
    texts = [(file, _of(file)[1]) for file in CODE] + [(page, _prose(page)) for page in PAGES if page != GLOSSARY]
    for file, text in texts:
        found = pattern.search(text)
        assert found is None, f"{name_of(file)} says {found[0]!r}; the glossary's word is {NEVER[word]!r}"


@cache
def _prose(page: Path) -> str:
    """A page's sentences, without what is in backquotes."""
    return re.sub(r"`[^`]*`", "", prose(page))


def test_exceptions_are_needed() -> None:
    """A name that is excepted is there; what is there no more is no exception either."""
    used = {name.strip("_") for file in CODE for name in _of(file)[0]}
    assert not {name for name in NAMES if name.strip("_") not in used}
