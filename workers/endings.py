"""Errors of user code, in words that a person can act on."""

from __future__ import annotations


def what_was_raised(error: BaseException) -> str:
    """What user code raised, in words; ``sys.exit`` and Ctrl-C are exceptions too.

    >>> what_was_raised(SystemExit(3)), what_was_raised(ValueError("no"))
    ('ended with code 3 (sys.exit)', 'raised ValueError: no')
    """
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        return f"ended with code {code} (sys.exit)"
    said = str(error)
    return f"raised {type(error).__name__}{f': {said}' if said else ''}"
