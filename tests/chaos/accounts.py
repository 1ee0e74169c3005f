"""An auditor of a private campaign: what the journals of all lives add up to, against what the campaign says.

It shares no code with the accountant: epsilon is bisected here from the curve of the Gaussian mechanism (Balle and Wang
2018) with as many digits as it takes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mpmath


def epsilon(mu: float, delta: float) -> float:
    """Of the Gaussian mechanism with sensitivity / deviation = ``mu``, to nine digits and more.

    >>> round(epsilon(10**0.5 / 5, 1e-5), 6)
    2.594383
    """
    with mpmath.workdps(60):
        wanted, low, high = mpmath.mpf(delta), mpmath.mpf(0), mpmath.mpf(mu) ** 2 / 2 + 20 * mpmath.mpf(mu)
        for _ in range(80):
            middle = (low + high) / 2
            curve = mpmath.ncdf(mu / 2 - middle / mu) - mpmath.exp(middle) * mpmath.ncdf(-mu / 2 - middle / mu)
            low, high = (middle, high) if curve > wanted else (low, middle)
        return float(high)


def audit(folder: Path, summary: dict[str, Any], noise_multiplier: float, delta: float) -> dict[str, Any]:
    """Whether a run tells of at least what its devices have spent.

    Args:
        folder: the run's.
        summary: as it wrote it.
        noise_multiplier, delta: of its spec; no update costs more than 1 / z².
    """
    releases: dict[str, dict[str, float]] = {}
    by_version: dict[int, set[str]] = {}
    for path in sorted((folder / "checkpoint").glob("spent-*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue  # the coordinator died while it wrote, and showed nothing of it
            releases[said["release"]] = said["costs"]
            by_version.setdefault(said["version"], set()).add(said["release"])
    spent: dict[str, float] = {}
    dearest = 0.0
    for costs in releases.values():
        for device, cost in costs.items():
            spent[device] = spent.get(device, 0.0) + cost
            dearest = max(dearest, cost)
    own = epsilon(max(spent.values()) ** 0.5, delta) if spent else 0.0
    told = summary["privacy"]["epsilon"]
    return {
        "releases": len(releases),
        "lives_apart": sum(len(names) > 1 for names in by_version.values()),
        "epsilon_spent": round(own, 6),
        "epsilon_told": told,
        "epsilon_holds": told >= own * (1 - 1e-9) and dearest <= noise_multiplier**-2 * (1 + 1e-9),
        "releases_told": summary["privacy"]["releases"] >= len(releases) > 0,
    }
