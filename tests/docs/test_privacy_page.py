"""The table of what epsilon means, in docs/privacy.md, is what the accountant says."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import pytest

from fl_core.privacy.accountant import mu_of

PAGE = (Path(__file__).parents[2] / "docs/privacy.md").read_text(encoding="utf-8")
DELTA = 1e-6
ROWS = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.split("## What epsilon means")[1], re.MULTILINE)


def test_there_is_a_table() -> None:
    """With these rows."""
    assert [float(row[0]) for row in ROWS] == [0.5, 1, 2, 4, 8, 16]


@pytest.mark.parametrize(("epsilon", "right", "named"), ROWS)
def test_row(epsilon: str, right: str, named: str) -> None:
    """The best test between N(0, 1) and N(μ, 1): its success with even odds, and its power at a level of 1 %."""
    normal, mu = NormalDist(), mu_of(float(epsilon), DELTA)
    assert float(right) == pytest.approx(100 * normal.cdf(mu / 2), abs=0.051)
    assert float(named) == pytest.approx(100 * normal.cdf(normal.inv_cdf(0.01) + mu), abs=0.051)
