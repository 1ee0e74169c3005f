"""The program ``fedtide``: one file for each kind of command. Nothing heavy is imported before the command is known."""

from __future__ import annotations

from coordinator.cli import (
    afterwards,
    checking,
    creating,
    enrolment,
    launching,
    simulating,
    steering,
    watching,
)  # each adds its commands to the group
from coordinator.cli.group import fedtide

__all__ = [
    "afterwards",
    "checking",
    "creating",
    "enrolment",
    "fedtide",
    "launching",
    "simulating",
    "steering",
    "watching",
]
