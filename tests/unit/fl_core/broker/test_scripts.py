"""The scripts as the server gets them; what they do is shown with a server, in test_broker_scripts.py."""

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
TEXTS = {name.lower(): text for name, text in vars(scripts).items() if name.lower() in NAMES}


def test_each_file_is_a_script() -> None:
    """And each script has its file; nothing lies there that nobody calls."""
    assert sorted(TEXTS) == NAMES
    assert len(set(TEXTS.values())) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_says_what_it_is_given_and_answers(name: str) -> None:
    """In the comment that it begins with; Python's side is written by it."""
    comment = re.match(r"(--.*\n)+", (FOLDER / f"{name}.lua").read_text(encoding="utf-8"))
    assert comment
    assert all(f"--   {word}" in comment[0] for word in ("KEYS", "answer"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_knows_every_number_and_function_that_it_mentions(name: str) -> None:
    """Of what no script may have, a global, Redis would tell at the first task that needs it."""
    code = re.sub(r"--.*|'[^']*'", "", TEXTS[name])
    made = set(re.findall(r"local function (\w+)", code))
    for names in re.findall(r"(?:local|for) ([\w, ]+?)(?: =| in |$)|function \w+\((.*?)\)", code, re.MULTILINE):
        made |= set(re.findall(r"\w+", " ".join(names)))
    mentioned = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", code))
    assert mentioned - GIVEN - WORDS <= made
