"""The payments of examples/finance are as its text says: rare fraud, and banks that differ."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def payments() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples/finance"))
        import cards.payments

        return cards.payments


def test_payments(payments: ModuleType) -> None:
    """One row per payment on a common scale, the same again with the same numbers; fraud is rare at each bank."""
    banks = [payments.at_bank(number, 4000) for number in range(12)]
    again = payments.at_bank(3, 4000)
    assert (banks[3].columns == again.columns).all()
    assert (banks[3].fraud == again.fraud).all()
    shares = [bank.fraud.float().mean().item() for bank in banks]
    assert all(0.005 < share < 0.05 for share in shares)
    assert max(shares) > 2 * min(shares)
    x = np.concatenate([bank.columns.numpy() for bank in banks])
    assert x.shape == (48_000, len(payments.COLUMNS))
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.abs(x.mean(axis=0)).max() < 1
    assert 0.05 < x.std(axis=0).min() <= x.std(axis=0).max() < 1.5
    means = np.stack([bank.columns.numpy().mean(axis=0) for bank in banks])
    assert np.ptp(means, axis=0)[[0, 5]].min() > 0.2  # amounts and shares online differ


def test_evaluation_has_payments_that_no_bank_trains_on(payments: ModuleType) -> None:
    """Of all banks, the four absent ones too."""
    later = payments.everywhere(16, 200)
    assert len(later) == 16 * 200
    of_first = later.datasets[0].columns
    trained = payments.at_bank(0, 4000).columns
    assert not (of_first[:, None, :2] == trained[None, :, :2]).all(dim=2).any()
