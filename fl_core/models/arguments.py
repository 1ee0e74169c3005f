"""Checks on a model factory's arguments, which come from a TOML file and may have any type."""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.errors import SpecError


def verify_positive(factory: str, **sizes: object) -> None:
    """Refuse a size that is not a whole number of at least 1.

    Raises:
        SpecError: naming the argument and its value.
    """
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SpecError(f"{factory}: {name} = {value!r} is not a size; write a whole number of at least 1.")


def verify_sizes(factory: str, name: str, sizes: object) -> None:
    """Refuse what is not a list of whole numbers of at least 1; an empty list is fine.

    Raises:
        SpecError: naming the argument and its value.
    """
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise SpecError(f"{factory}: {name} = {sizes!r} is not a list of sizes; write one such as [128].")
    for index, size in enumerate(sizes):
        verify_positive(factory, **{f"{name}[{index}]": size})


def verify_fraction(factory: str, name: str, value: object) -> None:
    """Refuse a probability outside [0, 1).

    Raises:
        SpecError: naming the argument and its value.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise SpecError(f"{factory}: {name} = {value!r} is not a probability; write a number of at least 0, below 1.")
