"""Examples are found beside the packages of a checkout, and named where they are not there."""

from __future__ import annotations

import pytest

from coordinator.launch.examples import example
from fl_core.errors import SpecError


def test_the_demonstration_s_example_is_there() -> None:
    """With its spec and its fleet."""
    assert (example("digits") / "fleet.toml").is_file()


def test_one_that_is_not_there_is_named() -> None:
    """In one sentence."""
    with pytest.raises(SpecError, match="'nothing' is not installed here"):
        example("nothing")
