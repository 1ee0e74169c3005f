"""Text of foreign origin, made fit for a screen: no control characters, no escape sequences, and not too long."""

from __future__ import annotations


def shown(text: object, limit: int = 500) -> str:
    """The text in one line, every character printable, at most ``limit`` of them.

    >>> shown("gpu-1\\x1b[31m"), shown("a" * 9, 6), shown(None)
    ('gpu-1?[31m', 'aaaaa…', '')
    """
    found = "" if text is None else str(text)
    if len(found) > limit:
        found = found[: limit - 1] + "…"
    return found if found.isprintable() else "".join(c if c.isprintable() else "?" for c in found)


def shown_lines(text: object, limit: int = 10_000) -> str:
    """The same for text of several lines, whose ends and tabs stay."""
    found = "" if text is None else str(text)[:limit]
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in found)
