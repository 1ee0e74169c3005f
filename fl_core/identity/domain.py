"""What a signature is for."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Domain(StrEnum):
    """It is signed together with the bytes, so that no signature can stand in another one's place."""

    UPDATE = "fedtide/update/1"
    REPORT = "fedtide/report/1"
    ORDER = "fedtide/task/1"
    VERSION = "fedtide/version/1"
    CONTROL = "fedtide/control/1"
    UNMASK = "fedtide/unmask/1"
    UNMASKED = "fedtide/unmasked/1"
    ENROLMENT = "fedtide/enrolment/1"


Seal = Callable[[Domain, bytes], bytes]
"""Puts somebody's signature and certificate beside a record's bytes."""
