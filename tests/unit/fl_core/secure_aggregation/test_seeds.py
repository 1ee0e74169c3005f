"""Who holds which seed, and who is asked for it."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest

from fl_core.secure_aggregation.seeds import held_by, outsiders, shared_out

SIZES = [(2, 1), (3, 1), (4, 1), (4, 2), (5, 2), (6, 2), (7, 3)]


@pytest.mark.parametrize(("keepers", "colluders"), SIZES)
def test_colluders_lack_a_seed_and_one_more_does_not(keepers: int, colluders: int) -> None:
    """Whoever they are: any so many know all seeds but one, and any one more all of them."""
    seeds = set(range(comb(keepers, colluders)))
    assert len(outsiders(keepers, colluders)) == len(seeds)
    for few in combinations(range(keepers), colluders):
        known = {seed for one in few for seed in held_by(one, keepers, colluders)}
        assert seeds - known == {outsiders(keepers, colluders).index(few)}
    for many in combinations(range(keepers), colluders + 1):
        assert {seed for one in many for seed in held_by(one, keepers, colluders)} == seeds


@pytest.mark.parametrize(("keepers", "colluders"), SIZES)
def test_each_seed_is_asked_for_once_of_somebody_who_holds_it(keepers: int, colluders: int) -> None:
    """With as many keepers away as may be, and never more of them than ``colluders`` + 1."""
    seeds = set(range(comb(keepers, colluders)))
    for present in combinations(range(keepers), colluders + 1):
        asked = shared_out(seeds, present, keepers, colluders)
        told = [seed for mine in asked.values() for seed in mine]
        assert sorted(told) == sorted(seeds)
        assert all(set(mine) <= set(held_by(one, keepers, colluders)) for one, mine in asked.items())
    assert len(shared_out(seeds, range(keepers), keepers, colluders)) <= colluders + 1
    too_few = shared_out(seeds, range(colluders), keepers, colluders)
    assert {seed for mine in too_few.values() for seed in mine} < seeds
