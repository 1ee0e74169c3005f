"""TOML files as people's editors write them."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any

from fl_core.errors import SpecError

# The longer ones first: UTF-32's begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary; a byte order mark of UTF-8 is skipped.

    Raises:
        SpecError: it cannot be read or is not TOML.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"{path} cannot be read ({reason}); give the path of a TOML file.") from error
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            raise SpecError(f"{path} is not valid TOML: it is written in {encoding}; save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = data[error.start]
        raise SpecError(
            f"{path} is not valid TOML: line {line} has byte 0x{wrong:02x}, which is not UTF-8; save it so."
        ) from error
    try:
        return tomllib.loads(text)
    except ValueError as error:  # among them integers of too many digits
        raise SpecError(f"{path} is not valid TOML: {error}.") from error
    except RecursionError:
        raise SpecError(f"{path} is not valid TOML: its values are nested too deeply.") from None
