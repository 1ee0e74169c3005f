"""The device's side: what it takes for keepers, what leaves it, and what one masked update says: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_core.errors import SpecError
from fl_core.identity.certificates import Role
from fl_core.privacy.grid import RESOLUTION
from fl_core.secure_aggregation.masking import Masking
from fl_core.secure_aggregation.masks import add_mask, residues
from fl_core.secure_aggregation.sealing import sealing_key, unseal
from tests.unit.keepers.federation import Authority, Federation

VALUES = np.array([0.5, -0.25, 0.0, 1e-3, -1e-9], np.float32)


def seeds_of(federation: Federation, boxes: tuple[bytes, ...], **names: Any) -> dict[int, bytes]:
    """All seeds of an update, as its keepers together open them; those that several hold are the same."""
    found: dict[int, bytes] = {}
    terms = federation.masking.terms
    for name, box in zip(terms.keepers, boxes, strict=True):
        secret = unseal(box, sealing_key(federation.identities[name].key), terms.context(keeper=name, **names))
        for place, number in enumerate(terms.held_by(name)):
            seed = secret[32 * place : 32 * (place + 1)]
            assert found.setdefault(number, seed) == seed
    return found


def test_the_masks_of_the_seeds_come_off_and_leave_the_clipped_update(tmp_path: Path) -> None:
    """On the grid, with the norm that the terms say; each seed was drawn for this update alone."""
    federation = Federation(tmp_path)
    names = {"campaign": "c", "task_id": "1", "attempt": 1, "worker": "dev-1"}
    for values in (VALUES, VALUES * 100, np.full(5, np.nan, np.float32)):
        masked, boxes = federation.masking.mask(values, **names)  # type: ignore[arg-type]
        seeds = seeds_of(federation, boxes, **names)
        assert len(set(seeds.values())) == federation.masking.terms.num_seeds == 3
        for seed in seeds.values():
            add_mask(masked, seed, 2**32 - 1)
        plain = masked.view(np.int32).astype(np.int64)
        assert float(np.sqrt(np.dot(plain, plain))) <= RESOLUTION
        if values is VALUES:
            assert np.array_equal(plain, np.rint(VALUES.astype(np.float64) * RESOLUTION).astype(np.int64))
        if np.isnan(values).any():
            assert not plain.any()


def test_two_masked_updates_of_the_same_values_have_nothing_in_common(tmp_path: Path) -> None:
    """Their difference is as good as chance; without the masks it would be zero."""
    federation = Federation(tmp_path, num_elements=4096)
    values = np.full(4096, 1e-3, np.float32)
    names = {"campaign": "c", "task_id": "1", "attempt": 1, "worker": "dev-1"}
    one, other = (federation.masking.mask(values, **names)[0] for _ in range(2))  # type: ignore[arg-type]
    same = float((one - other == residues(np.zeros(1, np.int64))).mean())
    assert same < 0.01
    assert abs(float((one >> 31).mean()) - 0.5) < 0.05


def test_a_device_trusts_its_authority_s_keepers_alone(tmp_path: Path) -> None:
    """And no other word of an order that is not what it should be."""
    federation = Federation(tmp_path)
    mine = federation.authority.certificate
    stranger = Authority(tmp_path)
    theirs = federation.member("keeper-0", Role.KEEPER, stranger).certificate.der
    device = federation.device("dev-1").certificate.der
    good = federation.args
    wrong: list[tuple[dict[str, Any], bytes, str]] = [
        (good, b"", "start the worker with --identity"),
        ({**good, "keepers": [theirs, *good["keepers"][1:]]}, mine, "not to be trusted"),
        ({**good, "keepers": [device, *good["keepers"][1:]]}, mine, "is a device"),
        ({**good, "keepers": [good["keepers"][0]] * 3}, mine, "cannot guard"),
        ({**good, "keepers": [b"rubbish"] * 3}, mine, "not to be trusted"),
        ({**good, "colluders": 3}, mine, "cannot guard"),
        ({**good, "colluders": 0}, mine, "not what this release"),
        ({**good, "clip": float("nan")}, mine, "not what this release"),
        ({**good, "clip": 0.0}, mine, "not what this release"),
        ({**good, "noise": -1.0}, mine, "not what this release"),
        ({**good, "min_devices": "many"}, mine, "not what this release"),
        ({**good, "extra": 1}, mine, "not what this release"),
        ({}, mine, "not what this release"),
    ]
    for args, authority, said in wrong:
        with pytest.raises(SpecError, match=said):
            Masking.from_args(args, 5, authority)
