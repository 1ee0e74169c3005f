"""What may name a device, a queue, or anybody else in a federation: words that files, URLs and Redis take as is."""

from __future__ import annotations

import re

from fl_core.errors import SpecError

NAME_RULE = "use letters, digits, '.', '_' and '-', at most 64"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def is_name(value: object) -> bool:
    """Whether it may.

    >>> is_name("phone-1"), is_name("-x"), is_name("a b"), is_name("a\\n")
    (True, False, False, False)
    """
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def check_name(what: str, name: str) -> None:
    """Refuse what may not.

    Args:
        what: the setting, as the sentence calls it.

    Raises:
        SpecError: the characters, or too many of them.
    """
    if not is_name(name):
        raise SpecError(f"{what} = {name!r} is not a name; {NAME_RULE}.")
