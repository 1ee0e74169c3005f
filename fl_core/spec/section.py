"""The base of all sections of a spec: strict, frozen, and with plain values only."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
)

ImportPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


def _verify_plain(value: Any) -> Any:
    """Arguments travel as msgpack: TOML's dates, NaN and integers beyond 64 bits cannot."""
    match value:
        case dict():
            for item in value.values():
                _verify_plain(item)
        case list():
            for item in value:
                _verify_plain(item)
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} is not finite; give a number")
        case int() if not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} does not fit 64 bits; give a smaller number")
        case None | bool() | int() | float() | str():
            pass
        case _:
            raise ValueError(f"{str(value)!r} is a {type(value).__name__}, which cannot travel; write it as text")
    return value


Arguments = Annotated[dict[str, Any], AfterValidator(_verify_plain)]


class Section(BaseModel):
    """One table of the spec, or a strategy's own ``[aggregation.args]``: frozen, and strict about keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, validate_default=True)


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def name_or_import_path(value: str, names: Collection[str]) -> str:
    if value in names:
        return value
    if ":" in value:
        module, _, name = value.partition(":")
        if all(part.isidentifier() for part in (*module.split("."), name)):
            return value
    nearest = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "or an import path 'package.module:callable'"
    raise ValueError(f"it is one of {', '.join(repr(n) for n in names)}; {hint}")
