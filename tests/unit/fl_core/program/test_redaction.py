"""No password in a sentence, in whatever way it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.program import redaction
from fl_core.program.plain_text import shown, shown_lines
from fl_core.program.redaction import hide, redact


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:SECRET@host:6379/0", "rediss://:SECRET@host", "'redis://me:a@b:SECRET@host/0'",
        "redis://host/0?password=SECRET&x=1", "connecting to redis://me:SECRET@[::1]:6379: refused",
    ],
)  # fmt: skip
def test_credentials_are_found_by_their_form(text: str) -> None:
    """In a URL, wherever one is quoted."""
    assert "SECRET" not in redact(text)
    assert "host" in redact(text) or "[::1]" in redact(text)


def test_our_own_hint_stays() -> None:
    """It says what to write, and is nobody's password."""
    hint = "redis://USER:PASSWORD@HOST:PORT/0"
    assert redact(hint) == hint


def test_a_known_secret_is_found_where_it_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short one would be found in words that have nothing to do with it."""
    monkeypatch.setattr(redaction, "_secrets", set())
    hide("hunter2-and-more", "hunter2", "abc")
    assert redact("AUTH hunter2-and-more; hunter2; abc") == "AUTH ***; ***; abc"


@given(st.text())
def test_text_of_foreign_origin_is_fit_for_a_screen(text: str) -> None:
    """In one line and not too long, or in lines as they are."""
    assert shown(text, 20).isprintable()
    assert len(shown(text, 20)) <= 20
    assert shown_lines(text).replace("\n", "").replace("\t", "").isprintable()
