"""What the coordinator asks keepers, and what they answer: the records that travel.

=================  ==========================================================  =======================================
record             where it travels                                            fields (beside ``v``)
=================  ==========================================================  =======================================
UnmaskOrder        inside a ``Request``                                        terms, headers, weights
Ask                inside a ``Request``, in a ``Signed``                       order, seeds
Request            list ``fedtide:k:{name}:asks``                              ask, order
Answer             update log, field ``k``, inside a ``Signed``                campaign, order, keeper, seeds, refused,
                   (its payload in ``p`` or as a blob)                         payload_bytes, payload_digest, blob,
                                                                               num_chunks
=================  ==========================================================  =======================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fl_core.secure_aggregation.bounds import MAX_SEEDS, MAX_UPDATES, WEIGHTS
from fl_core.wire.checks import bytes_up_to, is_blob_or_empty, is_count, is_digest, is_identifier, is_label
from fl_core.wire.record import Record, checked
from fl_core.wire.signed import Signed

MAX_ORDER_BYTES = 32 * 2**20


def _are_headers(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MAX_UPDATES
        and all(isinstance(header, bytes) and 0 < len(header) <= Signed.max_bytes for header in value)
    )


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MAX_UPDATES
        and all(type(weight) is int and 1 <= weight <= WEIGHTS for weight in value)
    )


def _are_seeds(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= MAX_SEEDS
        and all(type(seed) is int and 0 <= seed < MAX_SEEDS for seed in value)
        and len(set(value)) == len(value)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskOrder(Record):
    """Which updates are in a sum, and with which weights. Its digest names it.

    Attributes:
        terms: a ``Terms``, as bytes.
        headers: of the updates, each as its device signed it.
        weights: of each, from 1 up to ``WEIGHTS``.
    """

    max_bytes: ClassVar[int] = MAX_ORDER_BYTES

    terms: bytes = checked(bytes_up_to(4096))
    headers: tuple[bytes, ...] = checked(_are_headers)
    weights: tuple[int, ...] = checked(_are_weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Record):
    """One keeper's share of the work.

    Attributes:
        order: the digest of an ``UnmaskOrder``.
        seeds: the numbers of the seeds whose masks are wanted.
    """

    order: str = checked(is_digest)
    seeds: tuple[int, ...] = checked(_are_seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Record):
    """An ask and what it is about.

    Attributes:
        ask: an ``Ask``, signed by the coordinator.
        order: the ``UnmaskOrder`` whose digest it names, as bytes.
    """

    max_bytes: ClassVar[int] = MAX_ORDER_BYTES + Signed.max_bytes + 1024

    ask: bytes = checked(bytes_up_to(Signed.max_bytes))
    order: bytes = checked(bytes_up_to(MAX_ORDER_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Record):
    """What a keeper says to an ask.

    Attributes:
        campaign: whose order it is.
        order: its digest.
        keeper: who answers.
        seeds: what was asked for.
        refused: why there is no sum, in one sentence; empty where there is one.
        payload_bytes, payload_digest, blob, num_chunks: of the sum of the masks, as of an update.
    """

    campaign: str = checked(is_identifier)
    order: str = checked(is_digest)
    keeper: str = checked(is_identifier)
    seeds: tuple[int, ...] = checked(_are_seeds)
    refused: str = checked(is_label)
    payload_bytes: int = checked(is_count)
    payload_digest: str = checked(is_digest)
    blob: str = checked(is_blob_or_empty)
    num_chunks: int = checked(is_count)
