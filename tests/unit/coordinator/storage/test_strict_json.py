"""What is written for programs that are not Python: no NaN and no Infinity, wherever they stand."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coordinator.storage.strict_json import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def _absent(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _absent(item) for key, item in value.items()}
    return [_absent(item) for item in value] if isinstance(value, list) else value


@given(VALUES, st.sampled_from([None, 2]))
def test_a_strict_reader_finds_what_was_written(value: Any, indent: int | None) -> None:
    """Null in the place of what JSON has no word for; all else as it was."""
    assert json.loads(strict_json(value, indent), parse_constant=_refuse) == _absent(value)
