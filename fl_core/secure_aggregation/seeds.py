"""Who holds which seed: one seed for each set of keepers that may collude, held by all who are not in it."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from functools import lru_cache

SEED_BYTES = 32


@lru_cache(maxsize=64)
def outsiders(num_keepers: int, colluders: int) -> tuple[tuple[int, ...], ...]:
    """For each seed, by its number: the keepers who do *not* hold it, by theirs.

    >>> outsiders(3, 1)
    ((0,), (1,), (2,))
    >>> len(outsiders(5, 2))
    10
    """
    return tuple(itertools.combinations(range(num_keepers), colluders))


def held_by(keeper: int, num_keepers: int, colluders: int) -> tuple[int, ...]:
    """The numbers of the seeds that a keeper holds.

    >>> held_by(0, 3, 1)
    (1, 2)
    """
    return tuple(seed for seed, out in enumerate(outsiders(num_keepers, colluders)) if keeper not in out)


def shared_out(
    seeds: Collection[int], order: Sequence[int], num_keepers: int, colluders: int
) -> dict[int, tuple[int, ...]]:
    """Who is asked for which of some seeds: as few keepers as can be, the first of ``order`` before the others.

    Args:
        seeds: that are wanted.
        order: the keepers that may be asked, by preference.

    Returns:
        The seeds by keeper. A seed that none of them holds is in none.

    >>> shared_out(range(3), (0, 1, 2), 3, 1)
    {0: (1, 2), 1: (0,)}
    >>> shared_out(range(3), (2,), 3, 1)
    {2: (0, 1)}
    """
    left, asked = sorted(seeds), dict[int, tuple[int, ...]]()
    for keeper in order:
        mine = tuple(seed for seed in left if seed in held_by(keeper, num_keepers, colluders))
        if mine:
            asked[keeper] = mine
            left = [seed for seed in left if seed not in mine]
    return asked
