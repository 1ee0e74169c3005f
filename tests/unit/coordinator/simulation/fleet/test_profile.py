"""Profiles: a file says what a fleet is like, and what is wrong with it is said in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.simulation.fleet.profile import parse_profile, read_profile
from fl_core.errors import SpecError

FILE = """
start_hour = 8
[data]
factory = "fl_core.data:digits"
args = { split = "train" }
partition = "dirichlet"
examples = { kind = "zipf", exponent = 1.2, largest = 300 }

[[devices]]
name = "phone"
share = 9
seconds_per_example = { kind = "lognormal", median = 0.05, sigma = 0.8 }
drop_out = 0.1
available = { hours = [4, 4, 4, 4, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 4] }

[[devices]]
name = "gateway"
overhead_seconds = 0.5
"""


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    """Numbers stand for all devices of a class, tables for how they differ."""
    (tmp_path / "profile.toml").write_text(FILE)
    profile = read_profile(tmp_path / "profile.toml")
    assert [(each.name, each.share) for each in profile.devices] == [("phone", 9), ("gateway", 1)]
    assert profile.devices[1].overhead_seconds == 0.5
    assert profile.devices[0].available is not None and profile.start_hour == 8


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"data": {"factory": "digits"}}, "data.factory"),
        ({"devices": [{"speed": 1.0}]}, "unknown key 'devices.0.speed'"),
        ({"devices": [{"drop_out": 1.0}]}, "devices.0.drop_out = 1.0"),
        ({"devices": [{"name": "a"}, {"name": "a"}]}, "'a' is there twice"),
        ({"devices": [{"available": {"hours": [0.0] * 24}}]}, "hours are all 0"),
        ({"devices": [{"share": 0}]}, "devices.0.share = 0"),
        ({"devices": []}, "devices"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], words: str) -> None:
    """With the file that it is in."""
    with pytest.raises(SpecError) as caught:
        parse_profile(document, "fleet.toml")
    assert str(caught.value).startswith("fleet.toml: ") and words in str(caught.value)
