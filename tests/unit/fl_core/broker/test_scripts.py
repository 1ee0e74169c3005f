"""The functions as the server gets them; what they do is shown with a server, in test_broker_scripts.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fl_core.broker import scripts

FOLDER = Path(scripts.__file__).with_name("lua")
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem != "common")
GIVEN = {"KEYS", "ARGV", "redis", "cmsgpack", "string", "math", "unpack", "ipairs", "tonumber", "type"}
WORDS = set(
    re.findall(r"\w+", "and break do else elseif end false for function if in local nil not or return then while")
)
COMMON = (FOLDER / "common.lua").read_text(encoding="utf-8")


def test_each_file_is_a_function() -> None:
    """And each function has its file; nothing lies there that nobody calls."""
    assert sorted({file for file, _ in scripts._FUNCTIONS.values()}) == NAMES
    assert {name.lower() for name in vars(scripts)} >= set(scripts._FUNCTIONS)


def test_releases_that_differ_have_other_names() -> None:
    """So that one's functions are never another's."""
    assert scripts.LIBRARY.startswith(f"#!lua name=fedtide_{scripts.VERSION}\n")
    for name in scripts._FUNCTIONS:
        assert f"function_name='{name}_{scripts.VERSION}'" in scripts.LIBRARY


@pytest.mark.parametrize("name", NAMES)
def test_a_script_says_what_it_is_given_and_answers(name: str) -> None:
    """In the comment that it begins with; Python's side is written by it."""
    comment = re.match(r"(--.*\n)+", (FOLDER / f"{name}.lua").read_text(encoding="utf-8"))
    assert comment
    assert all(f"--   {word}" in comment[0] for word in ("KEYS", "answer"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_knows_every_number_and_function_that_it_mentions(name: str) -> None:
    """Of what no script may have, a global, Redis would tell at the first task that needs it."""
    numbers = "".join(f"local {word} = {value}\n" for word, value in scripts._NUMBERS.items())
    own = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    code = re.sub(r"--.*|'[^']*'", "", numbers + COMMON + own)
    made = set(re.findall(r"local function (\w+)", code))
    for names in re.findall(r"(?:local|for) ([\w, ]+?)(?: =| in |$)|function \w+\((.*?)\)", code, re.MULTILINE):
        made |= set(re.findall(r"\w+", " ".join(names)))
    mentioned = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", code))
    assert mentioned - GIVEN - WORDS <= made
