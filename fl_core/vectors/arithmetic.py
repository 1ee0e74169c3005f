"""The arithmetic on model-sized vectors, in blocks that stay in the cache.

Multiply and add are separate operations, each rounded to float32, element by element. So the result depends neither on
the number of threads nor on whether the processor fuses the two, and replaying an update log gives the same bits. The
scratch memory is one block per call, never a vector; that also keeps the functions safe to call from several threads.

Overflow and NaN raise nothing, as on any tensor: admission and the campaign's guard look for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fl_core.errors import InvariantError
from fl_core.vectors import BLOCK, FloatArray, Vector, read_into


def add_scaled(accumulator: FloatArray, values: Vector, weight: float) -> None:
    """accumulator <- accumulator + weight · values, in place.

    Raises:
        InvariantError: the vectors differ in shape.

    >>> total = np.array([1.0, 2.0], np.float32)
    >>> add_scaled(total, np.array([10.0, -4.0], np.float32), 0.5)
    >>> total.tolist()
    [6.0, 0.0]
    """
    _verify_same_shape(accumulator, values)
    scratch = np.empty(min(BLOCK, accumulator.size), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, accumulator.size, BLOCK):
            target = accumulator[start : start + BLOCK]
            product = scratch[: target.size]
            read_into(product, values, start, weight)
            np.add(target, product, out=target)


def mix(parameters: FloatArray, other: Vector, alpha: float) -> None:
    """parameters <- (1 - alpha) · parameters + alpha · other, in place.

    Raises:
        InvariantError: the vectors differ in shape.

    >>> x = np.array([0.0, 8.0], np.float32)
    >>> mix(x, np.array([4.0, 4.0], np.float32), 0.25)
    >>> x.tolist()
    [1.0, 7.0]
    """
    _verify_same_shape(parameters, other)
    keep = np.float32(1.0 - alpha)
    scratch = np.empty(min(BLOCK, parameters.size), np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, parameters.size, BLOCK):
            target = parameters[start : start + BLOCK]
            product = scratch[: target.size]
            read_into(product, other, start, alpha)
            np.multiply(target, keep, out=target)
            np.add(target, product, out=target)


def scale_into(target: FloatArray, values: Vector, weight: float) -> None:
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
        for start in range(0, target.size, BLOCK):
            read_into(target[start : start + BLOCK], values, start, weight)


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


def peak(values: Vector) -> float:
    """The largest magnitude; NaN or infinite exactly when an element is. 0 for no elements.

    Exact in any order, and two to three times as fast as the norm, which it bounds: norm <= peak · √num_elements.

    >>> peak(np.array([3.0, -4.0], np.float32))
    4.0
    """
    size = values.size
    scratch = np.empty(min(BLOCK, size), np.float32)
    largest = 0.0
    for start in range(0, size, BLOCK):
        block = _block(values, start, scratch)
        high, low = float(np.maximum.reduce(block)), float(np.minimum.reduce(block))
        # NaN goes through numpy's maximum and minimum, and must not get lost in Python's.
        if not math.isfinite(high) or not math.isfinite(low):
            return math.nan if math.isnan(high) or math.isnan(low) else math.inf
        largest = max(largest, high, -low)
    return largest


def norm_and_finite(values: Vector, minus: FloatArray | None = None) -> float:
    """The 2-norm, summed in float64: NaN or infinite exactly when an element is, so one pass answers both questions.

    No float32 overflows it. The sum does not go through BLAS, whose order of additions depends on the number of
    threads: a norm at its bound is admitted on every replay or on none.

    Args:
        values: the vector.
        minus: another one, whose distance to it is asked for.

    >>> norm_and_finite(np.array([3.0, 4.0], np.float32))
    5.0
    >>> norm_and_finite(np.array([3.0, np.inf], np.float32))
    inf
    >>> norm_and_finite(np.array([3.0, 4.0], np.float32), minus=np.array([3.0, 3.0], np.float32))
    1.0
    """
    if minus is not None:
        _verify_same_shape(minus, values)
    size = values.size
    scratch = np.empty(min(BLOCK, size), np.float32)
    wide = np.empty(min(BLOCK, size), np.float64)
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, size, BLOCK):
            block = _block(values, start, scratch)
            squares = wide[: block.size]
            np.copyto(squares, block)
            if minus is not None:
                np.subtract(squares, minus[start : start + BLOCK], out=squares)
            np.multiply(squares, squares, out=squares)
            total += float(np.add.reduce(squares))
    return math.sqrt(total)


class Segments:
    """Consecutive slices that cover a vector, such as a layout's tensors, cut at the edges of the blocks.

    Attributes:
        slices: the segments.
        pieces: for every block in turn, (segment, its elements in this block) for the segments that reach into it.

    Raises:
        InvariantError: the slices leave a gap, overlap or do not cover the vector.
    """

    def __init__(self, slices: Sequence[slice], num_elements: int) -> None:
        self.slices = tuple(slices)
        self.pieces: list[list[tuple[int, slice]]] = [[] for _ in range(0, num_elements, BLOCK)]
        place = 0
        for number, segment in enumerate(self.slices):
            if segment.start != place:
                raise InvariantError(f"Segment {number} begins at {segment.start}, the one before ends at {place}.")
            while place < segment.stop:
                end = min(segment.stop, (place // BLOCK + 1) * BLOCK)
                self.pieces[place // BLOCK].append((number, slice(place, end)))
                place = end
        if place != num_elements:
            raise InvariantError(f"The segments end at {place}, the vector at {num_elements}.")

    @property
    def count(self) -> int:
        """How many segments there are."""
        return len(self.slices)


def scale_and_add(
    accumulator: FloatArray, values: Vector, segments: Segments, keep: Sequence[float], weights: Sequence[float]
) -> None:
    """accumulator <- keep · accumulator + weight · values, in place, with a keep and a weight for each segment.

    Raises:
        InvariantError: the vectors differ in shape.
    """
    _verify_same_shape(accumulator, values)
    scratch = np.empty(min(BLOCK, accumulator.size), np.float32)
    with np.errstate(all="ignore"):
        for start, pieces in zip(range(0, accumulator.size, BLOCK), segments.pieces, strict=True):
            block = _block(values, start, scratch)
            for number, piece in pieces:
                target = accumulator[piece]
                if keep[number] != 1:
                    np.multiply(target, np.float32(keep[number]), out=target)
                product = block[piece.start - start : piece.stop - start] * np.float32(weights[number])
                np.add(target, product, out=target)


def norms_by_segment(values: Vector, segments: Segments) -> list[float]:
    """The 2-norm of each segment, summed in float64 as in ``norm_and_finite``.

    >>> norms_by_segment(np.array([3.0, 4.0, 2.0], np.float32), Segments([slice(0, 2), slice(2, 3)], 3))
    [5.0, 2.0]
    """
    scratch = np.empty(min(BLOCK, values.size), np.float32)
    totals = [0.0] * segments.count
    with np.errstate(all="ignore"):
        for start, pieces in zip(range(0, values.size, BLOCK), segments.pieces, strict=True):
            block = _block(values, start, scratch)
            for number, piece in pieces:
                wide = block[piece.start - start : piece.stop - start].astype(np.float64)
                np.multiply(wide, wide, out=wide)
                totals[number] += float(np.add.reduce(wide))
    return [math.sqrt(total) for total in totals]


def _block(values: Vector, start: int, scratch: FloatArray) -> FloatArray:
    """A block as it is, which is not copied where nothing is to be decoded."""
    if isinstance(values, np.ndarray):
        return values[start : start + BLOCK]
    block = scratch[: values.size - start]
    values.read_into(block, start, 1.0)
    return block


def _verify_same_shape(one: FloatArray, other: Vector) -> None:
    # numpy would stretch a vector of one element over the other; here that can only be a bug.
    shape = other.shape if isinstance(other, np.ndarray) else (other.size,)
    if one.shape != shape or one.ndim != 1:
        raise InvariantError(f"Vectors of shapes {list(one.shape)} and {list(shape)} met in one merge.")
