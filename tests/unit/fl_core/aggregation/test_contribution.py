"""A contribution says what it is: a delta is not parameters."""

import numpy as np
import pytest

from fl_core.aggregation import Contribution
from fl_core.errors import InvariantError
from fl_core.vectors import Delta, Parameters

VECTOR = np.zeros(2, np.float32)


def test_values_come_out_as_what_they_are() -> None:
    """Asking for the kind that is there gives it, asking for the other is a bug."""
    delta = Contribution(Delta(VECTOR), 1, 0, "anna")
    parameters = Contribution(Parameters(VECTOR), 1, 0, "anna")
    assert delta.delta.values is VECTOR
    assert parameters.parameters.values is VECTOR
    with pytest.raises(InvariantError, match="'anna' sent Parameters"):
        _ = parameters.delta
    with pytest.raises(InvariantError, match="'anna' sent Delta"):
        _ = delta.parameters


@pytest.mark.parametrize(("num_examples", "staleness"), [(0, 0), (-3, 0), (1, -1)])
def test_impossible_counts_are_bugs(num_examples: int, staleness: int) -> None:
    """An update without examples, or from the future, cannot have been admitted."""
    with pytest.raises(InvariantError, match="was admitted"):
        Contribution(Delta(VECTOR), num_examples, staleness, "anna")
