"""Distributions of what differs between devices: speeds, sizes, waits.

Each is drawn through its quantile function, from normal numbers: two quantities whose normal numbers are correlated are
then correlated as well, whatever their distributions (a Gaussian copula).
"""

from __future__ import annotations

import math
import zlib
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

FloatArray: TypeAlias = npt.NDArray[np.float64]


class _Distribution(BaseModel):
    """What all have: bounds, to which draws outside of them are moved."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    least: float | None = Field(default=None, ge=0)
    most: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> _Distribution:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least = {self.least:g} is above most = {self.most:g}; swap them")
        return self


_Positive = Annotated[float, Field(gt=0, le=1e12)]


class LogNormal(_Distribution):
    """median · exp(sigma Z)."""

    kind: Literal["lognormal"]
    median: _Positive
    sigma: float = Field(ge=0, le=10)


class HalfNormal(_Distribution):
    """The magnitude of a normal number of this deviation."""

    kind: Literal["half_normal"]
    deviation: _Positive


class Pareto(_Distribution):
    """P(X > x) = (smallest / x) ** exponent."""

    kind: Literal["pareto"]
    smallest: _Positive
    exponent: _Positive


class Zipf(_Distribution):
    """Whole numbers k from 1 to ``largest``, P(k) ~ k ** -exponent."""

    kind: Literal["zipf"]
    exponent: float = Field(ge=0, le=100)
    largest: int = Field(ge=1, le=1_000_000)


class Exponential(_Distribution):
    """Of this mean."""

    kind: Literal["exponential"]
    mean: _Positive


class Uniform(_Distribution):
    """Between ``least`` and ``most``, which it needs."""

    kind: Literal["uniform"]

    @model_validator(mode="after")
    def _has_bounds(self) -> Uniform:
        if self.least is None or self.most is None:
            raise ValueError("kind = 'uniform' needs least and most")
        return self


class Empirical(_Distribution):
    """One of these values, each as often as it is there."""

    kind: Literal["empirical"]
    values: list[Annotated[float, Field(ge=0, le=1e12)]] = Field(min_length=1, max_length=100_000)


Distribution: TypeAlias = Annotated[
    LogNormal | HalfNormal | Pareto | Zipf | Exponential | Uniform | Empirical, Field(discriminator="kind")
]
Quantity: TypeAlias = Annotated[float, Field(ge=0, le=1e12)] | Distribution
"""A number that all devices share, or how it is distributed over them."""


def quantile(distribution: Any, normal: FloatArray) -> FloatArray:
    """The values of a quantity that belong to normal numbers, rising with them.

    Args:
        distribution: a ``Quantity``.
        normal: standard normal, ``(devices,)``.

    >>> quantile(3, np.zeros(2))
    array([3., 3.])
    >>> quantile(LogNormal(kind="lognormal", median=2.0, sigma=1.0), np.array([0.0, 1.0])).round(3)
    array([2.   , 5.437])
    """
    if isinstance(distribution, (int, float)):
        return np.full(len(normal), float(distribution))
    below = torch.special.ndtr(torch.from_numpy(normal)).numpy().clip(1e-16, 1 - 1e-16)
    values = _values(distribution, normal, below)
    return values.clip(distribution.least, distribution.most) if _is_bounded(distribution) else values


def _is_bounded(distribution: _Distribution) -> bool:
    return distribution.least is not None or distribution.most is not None


def _values(distribution: _Distribution, normal: FloatArray, below: FloatArray) -> FloatArray:
    found: Any
    match distribution:
        case LogNormal():
            found = distribution.median * np.exp(distribution.sigma * normal)
        case HalfNormal():
            found = distribution.deviation * torch.special.ndtri(torch.from_numpy((1 + below) / 2)).numpy()
        case Pareto():
            found = distribution.smallest * (1 - below) ** (-1 / distribution.exponent)
        case Zipf():
            weights = np.arange(1, distribution.largest + 1, dtype=np.float64) ** -distribution.exponent
            found = 1.0 + np.searchsorted(np.cumsum(weights) / weights.sum(), below)
            found = found.clip(1, distribution.largest)
        case Exponential():
            found = -distribution.mean * np.log1p(-below)
        case Uniform(least=least, most=most):
            assert least is not None and most is not None  # it is validated
            found = least + (most - least) * below
        case Empirical():
            values = np.sort(np.array(distribution.values))
            found = values[(below * len(values)).astype(np.int64).clip(0, len(values) - 1)]
        case _:
            raise AssertionError(distribution)
    return np.asarray(found, np.float64)


def normal_numbers(seed: int, name: str, count: int) -> FloatArray:
    """Standard normal numbers of that name: others for each name and each seed."""
    key = [seed % 2**64, zlib.crc32(name.encode())]
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(count)


def correlated(first: FloatArray, second: FloatArray, correlation: float) -> FloatArray:
    """``second``, moved so that it has this correlation with ``first``."""
    return correlation * first + math.sqrt(1 - correlation**2) * second
