"""Keepers in a spec: how many guard against how many, what that costs, and what is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from fl_core.errors import SpecError
from fl_core.spec import parse_spec


def spec(**section: Any) -> Any:
    return parse_spec({"model": {"factory": "a:b"}, "secure_aggregation": section})


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"colluders": 2}, "colluders is given and no keepers"),
        ({"keepers": ["a", "a", "b"]}, "named twice"),
        ({"keepers": ["a"]}, "1 keepers cannot guard against 1 of them; name 2 at least, and 3"),
        ({"keepers": ["a", "b"], "colluders": 2}, "2 keepers cannot guard against 2"),
        ({"keepers": [f"k{n}" for n in range(12)], "colluders": 3}, "take 220 masks"),
        ({"keepers": ["a b", "c", "d"]}, "not accepted"),
        ({"keepers": ["a", "b", "c"], "min_devices": 1}, "min_devices"),
        ({"keepers": ["a", "b", "c"], "clip": 0.0}, "clip"),
        ({"keepers": ["a", "b", "c"], "min_devices": 11}, "below secure_aggregation.min_devices = 11"),
    ],
)
def test_what_cannot_be_meant_is_refused(section: dict[str, Any], said: str) -> None:
    """In one sentence with the remedy."""
    with pytest.raises(SpecError, match=said):
        spec(**section)


def test_who_may_be_away() -> None:
    """As many as leave a holder of each seed."""
    assert spec(keepers=["a", "b"]).secure_aggregation.may_be_away == 0
    assert spec(keepers=["a", "b", "c"]).secure_aggregation.may_be_away == 1
    wide = spec(keepers=["a", "b", "c", "d", "e"], colluders=2).secure_aggregation
    assert (wide.may_be_away, wide.num_seeds) == (2, 10)
    assert not spec(keepers=[]).secure_aggregation.is_on
