"""Payments by card at one bank, about one to four in a hundred of them fraud. All of it is drawn at random.

Real payments cannot be shipped with an example, so this is a generator with a known structure:

- A **bank** has customers of its own: how much they usually spend, how much of it online and abroad, at what hours, and
  how often its cards are misused. These differ from bank to bank (``_Bank``), as between a savings bank and one for
  travellers. No two banks see the same mixture of fraud.
- A **genuine payment** is near what the card usually pays, mostly by day, mostly near home.
- **Fraud** is one of three kinds. *Card testing*: small payments online, one after the other. *A stolen card*: large
  payments in shops, far from home, at night. *An account taken over*: large payments online from a new device, abroad.
- One fraud in eight looks like a genuine payment, and some genuine payments look like fraud (travellers, presents), so
  no model is right about all.

The columns are on one scale by constants that stand here. Means and deviations of all banks' payments would be a
release of their own, which no budget covers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

COLUMNS = (
    "log of the amount",
    "amount against what the card usually pays, log",
    "hour, sine",
    "hour, cosine",
    "at night",
    "online",
    "abroad",
    "distance from home, log",
    "payments in the last hour",
    "new device",
    "small and online",
    "large and far away",
    "electronics",
    "vouchers",
    "groceries",
    "travel",
)


class _Bank:
    """What is particular about one bank."""

    def __init__(self, number: int) -> None:
        draw = np.random.default_rng([7, number])
        self.usual = draw.normal(3.4, 0.4)  # log of the amount
        self.online = draw.beta(4, 6)
        self.abroad = draw.beta(2, 18)
        self.late = draw.beta(2, 10)
        self.fraud = draw.uniform(0.01, 0.04)
        self.kinds = draw.dirichlet([1.5, 1.5, 1.5])


class Payments(Dataset[tuple[Tensor, Tensor]]):
    """Payments with ``len`` and indexing: 16 columns, float32, and whether it is fraud, int64.

    Args:
        bank: its number; each has customers and fraudsters of its own kind.
        num_examples: how many payments.
        seed: which ones.
    """

    def __init__(self, bank: int, num_examples: int, seed: int) -> None:
        x, y = _draw(_Bank(bank), num_examples, np.random.default_rng([seed, bank]))
        self.columns, self.fraud = torch.from_numpy(x), torch.from_numpy(y)

    def __len__(self) -> int:
        return len(self.fraud)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.columns[index], self.fraud[index]


def at_bank(bank: int, num_examples: int = 3000, seed: int = 0) -> Payments:
    """What one bank has."""
    return Payments(bank, num_examples, seed)


def everywhere(num_banks: int = 16, num_examples: int = 1000, seed: int = 1) -> Dataset[tuple[Tensor, Tensor]]:
    """Later payments at many banks, for the evaluation."""
    return torch.utils.data.ConcatDataset([Payments(bank, num_examples, seed) for bank in range(num_banks)])


def _draw(bank: _Bank, size: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    fraud = draw.random(size) < bank.fraud
    disguised = draw.random(size) < np.where(fraud, 0.125, 0.004)
    kind = np.where(fraud ^ disguised, 1 + draw.choice(3, size, p=bank.kinds), 0)  # 0 looks genuine
    testing, stolen, taken = kind == 1, kind == 2, kind == 3

    usual = bank.usual + 0.5 * draw.normal(size=size)
    amount = usual + 0.6 * draw.normal(size=size)
    amount = np.where(testing, 0.8 + 0.5 * draw.normal(size=size), amount)
    amount = np.where(stolen | taken, usual + 1.4 + 0.7 * draw.normal(size=size), amount)
    hour = np.where(draw.random(size) < bank.late, draw.normal(23.5, 2.5, size), draw.normal(14.5, 3.5, size))
    hour = np.where(stolen, draw.normal(1.5, 3.0, size), hour) % 24
    online = draw.random(size) < np.select([testing | taken, stolen], [0.97, 0.05], bank.online)
    abroad = draw.random(size) < np.select([taken, testing, stolen], [0.7, 0.4, 0.3], bank.abroad)
    distance = draw.exponential(np.where(abroad, 4.0, np.where(stolen, 3.0, 0.8)), size)
    recent = draw.poisson(np.where(testing, 5.0, np.where(fraud, 1.0, 0.4)), size)
    new_device = draw.random(size) < np.where(taken, 0.85, np.where(testing, 0.5, 0.06))
    goods = _goods(kind, draw)

    night = (hour < 6) | (hour >= 23)
    columns = [
        (amount - 3.4) / 1.2,
        amount - usual,
        np.sin(hour * np.pi / 12),
        np.cos(hour * np.pi / 12),
        night,
        online,
        abroad,
        distance / 2,
        np.minimum(recent, 8) / 2,
        new_device,
        online & (amount < 1.8),
        (distance > 2) & (amount - usual > 1),
        *(goods == each for each in range(4)),
    ]
    return np.stack(columns, axis=1).astype(np.float32), fraud.astype(np.int64)


def _goods(kind: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Electronics, vouchers, groceries, travel, or none of these (4)."""
    shares = np.array(
        [
            [0.08, 0.02, 0.40, 0.10, 0.40],  # genuine
            [0.15, 0.30, 0.05, 0.05, 0.45],
            [0.45, 0.15, 0.05, 0.10, 0.25],
            [0.40, 0.25, 0.02, 0.18, 0.15],
        ]
    )
    above = shares.cumsum(axis=1)[kind]
    found: np.ndarray = (draw.random(len(kind))[:, None] > above).sum(axis=1)
    return found
