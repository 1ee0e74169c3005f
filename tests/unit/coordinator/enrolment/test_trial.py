"""A trial's federation: everybody has an identity of their role, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.enrolment.trial import trial_federation
from fl_core.errors import SpecError
from fl_core.identity.certificates import Role
from fl_core.identity.folder import read_identity

DEVICES = {"bank-0": ("default",), "bank-1": ("slow", "default")}


def test_everybody_has_an_identity(tmp_path: Path) -> None:
    """Of one authority, with the queues of their work; keepers have a key that seeds are sealed for."""
    folders = trial_federation(tmp_path / "federation", "leader", "operator", DEVICES, ["auditor"])
    found = {name: read_identity(folder) for name, folder in folders.items()}
    assert {name: one.certificate.role for name, one in found.items()} == {
        "leader": Role.COORDINATOR, "operator": Role.OPERATOR, "auditor": Role.KEEPER,
        "bank-0": Role.DEVICE, "bank-1": Role.DEVICE,
    }  # fmt: skip
    assert set(found["bank-1"].certificate.queues) == {"slow", "default"}
    assert len(found["auditor"].certificate.sealing_key) == 32
    assert len({one.authority for one in found.values()}) == 1


def test_a_resume_finds_them_again(tmp_path: Path) -> None:
    """Whoever is new gets one, and all others keep theirs."""
    first = trial_federation(tmp_path / "federation", "leader", "operator", DEVICES, ["auditor"])
    again = trial_federation(
        tmp_path / "federation", "leader", "operator", {**DEVICES, "bank-2": ("default",)}, ["auditor"]
    )
    assert set(again) - set(first) == {"bank-2"}
    for name, folder in first.items():
        assert read_identity(again[name]).certificate == read_identity(folder).certificate


def test_a_name_for_two(tmp_path: Path) -> None:
    """A keeper that is called as a device is refused."""
    with pytest.raises(SpecError, match="bank-0 is a member already"):
        trial_federation(tmp_path / "federation", "leader", "operator", DEVICES, ["bank-0"])
