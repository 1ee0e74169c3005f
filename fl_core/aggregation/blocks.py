"""The arithmetic on model-sized vectors, in blocks that stay in the cache.

Multiply and add are separate operations, each rounded to float32, element by element. So the result depends neither on
the number of threads nor on whether the processor fuses the two, and replaying an update log gives the same bits. The
scratch memory is one block per call, never a vector; that also keeps the functions safe to call from several threads.

Overflow and NaN pass in silence, as they do on any tensor: admission and the campaign's guard look for them.
"""

from __future__ import annotations

import math

import numpy as np

from fl_core.errors import InvariantError
from fl_core.vectors import FloatArray

BLOCK = 32_768
"""Elements per block: 128 KiB of each operand, so that three of them fit a core's level-2 cache."""


def add_scaled(accumulator: FloatArray, values: FloatArray, weight: float) -> None:
    """accumulator <- accumulator + weight · values, in place.

    Raises:
        InvariantError: the vectors differ in shape.

    >>> total = np.array([1.0, 2.0], np.float32)
    >>> add_scaled(total, np.array([10.0, -4.0], np.float32), 0.5)
    >>> total.tolist()
    [6.0, 0.0]
    """
    _verify_same_shape(accumulator, values)
    factor = np.float32(weight)
    scratch = np.empty(min(BLOCK, accumulator.size), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, accumulator.size, BLOCK):
            target = accumulator[start : start + BLOCK]
            product = scratch[: target.size]
            np.multiply(values[start : start + BLOCK], factor, out=product)
            np.add(target, product, out=target)


def mix(parameters: FloatArray, other: FloatArray, alpha: float) -> None:
    """parameters <- (1 - alpha) · parameters + alpha · other, in place.

    Raises:
        InvariantError: the vectors differ in shape.

    >>> x = np.array([0.0, 8.0], np.float32)
    >>> mix(x, np.array([4.0, 4.0], np.float32), 0.25)
    >>> x.tolist()
    [1.0, 7.0]
    """
    _verify_same_shape(parameters, other)
    keep, take = np.float32(1.0 - alpha), np.float32(alpha)
    scratch = np.empty(min(BLOCK, parameters.size), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, parameters.size, BLOCK):
            target = parameters[start : start + BLOCK]
            product = scratch[: target.size]
            np.multiply(other[start : start + BLOCK], take, out=product)
            np.multiply(target, keep, out=target)
            np.add(target, product, out=target)


def scale_into(target: FloatArray, values: FloatArray, weight: float) -> None:
    """target <- weight · values, in place.

    Raises:
        InvariantError: the vectors differ in shape.

    >>> target = np.empty(2, np.float32)
    >>> scale_into(target, np.array([1.0, 3.0], np.float32), 2.0)
    >>> target.tolist()
    [2.0, 6.0]
    """
    _verify_same_shape(target, values)
    with np.errstate(all="ignore"):
        np.multiply(values, np.float32(weight), out=target)


def divide(values: FloatArray, divisor: float) -> None:
    """values <- values / divisor, in place.

    >>> values = np.array([3.0, 6.0], np.float32)
    >>> divide(values, 3)
    >>> values.tolist()
    [1.0, 2.0]
    """
    if divisor != 1:
        with np.errstate(all="ignore"):
            np.divide(values, np.float32(divisor), out=values)


def norm_and_finite(values: FloatArray) -> float:
    """The 2-norm, summed in float64: NaN or infinite exactly when an element is, so one pass answers both questions.

    No float32 overflows it. The sum does not go through BLAS, whose order of additions depends on the number of
    threads: a norm at its bound is admitted on every replay or on none.

    >>> norm_and_finite(np.array([3.0, 4.0], np.float32))
    5.0
    >>> norm_and_finite(np.array([3.0, np.inf], np.float32))
    inf
    """
    scratch = np.empty(min(BLOCK, values.size), np.float64)
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, values.size, BLOCK):
            block = values[start : start + BLOCK]
            squares = scratch[: block.size]
            np.copyto(squares, block)
            np.multiply(squares, squares, out=squares)
            total += float(np.add.reduce(squares))
    return math.sqrt(total)


def _verify_same_shape(one: FloatArray, other: FloatArray) -> None:
    # numpy would stretch a vector of one element over the other; here that can only be a bug.
    if one.shape != other.shape or one.ndim != 1:
        raise InvariantError(f"Vectors of shapes {list(one.shape)} and {list(other.shape)} met in one merge.")
