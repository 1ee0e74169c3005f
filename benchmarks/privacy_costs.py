"""What each way to protect updates costs: bytes, and processor time on the device, the coordinator and the keepers.

    python benchmarks/privacy_costs.py --params 100000 1000000

For one update of a buffer of ``--buffer`` (10): times of whole buffers are divided by its size, so a merge's fixed
cost is in them. What is timed is what the programs call; nothing travels. Each row has the plain cost in it: writing
the update, its check and its place in the sum. Three keepers, of whom one may collude (three masks for each update).
Medians of ``--repeat`` passes, processor time of one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fl_core.codecs import codec
from fl_core.encrypted_sum import ciphertexts
from fl_core.encrypted_sum.keys import SecretKey
from fl_core.privacy.grid import RESOLUTION, from_grid, to_grid
from fl_core.privacy.local import privatised
from fl_core.privacy.noise import rounded_gaussian
from fl_core.privacy.terms import Terms
from fl_core.secure_aggregation.masks import add_mask, residues, whole_numbers
from fl_core.secure_aggregation.sealing import box_bytes
from fl_core.secure_aggregation.seeds import SEED_BYTES
from fl_core.vectors.arithmetic import add_scaled, peak
from keepers.summing import sum_of_masks

CLIP, Z, NUM_SEEDS, KEEPERS = 1.0, 3.0, 3, 3
ANSWERS = 2  # one keeper may collude, so two know all seeds
KEY = bytes(range(32))
TERMS = Terms(mode="local", clip=CLIP, noise_multiplier=Z, delta=1e-6, max_participations=1)


class Costs:
    """Processor milliseconds by who spends them, of one update each, and bytes."""

    def __init__(self, mode: str, bytes_up: int, bytes_per_merge: int = 0) -> None:
        self.told: dict[str, Any] = {"mode": mode, "bytes_up": bytes_up, "bytes_per_merge": bytes_per_merge}

    def measure(self, who: str, action: Callable[[], Any], repeat: int, share: int = 1) -> Any:
        """Add an action's median to ``who``; of the coordinator's and the keepers' a share goes to each update."""
        times = []
        for _ in range(repeat):
            begun = time.process_time()
            result = action()
            times.append((time.process_time() - begun) * 1000 / share)
        self.told[who] = round(self.told.get(who, 0.0) + statistics.median(times), 3)
        return result


def measure(num_elements: int, buffer_size: int, repeat: int) -> list[dict[str, Any]]:
    """All modes."""
    draw = np.random.default_rng(0)
    delta = (draw.standard_normal(num_elements) / num_elements**0.5).astype(np.float32)
    rows = [
        plain("off", delta, buffer_size, repeat),
        plain("local", delta, buffer_size, repeat),
        central(delta, buffer_size, repeat),
        masked(delta, buffer_size, repeat, noise=False),
        masked(delta, buffer_size, repeat, noise=True),
    ]
    if num_elements <= ciphertexts.MAX_ELEMENTS:
        rows.append(encrypted(delta, buffer_size, repeat))
    return [{"params": num_elements, "buffer": buffer_size, **row.told} for row in rows]


def plain(mode: str, delta: np.ndarray, buffer_size: int, repeat: int) -> Costs:
    """fp32 and nothing else; with ``local`` the device clips and adds noise first."""
    costs = Costs(mode, codec("fp32").max_payload_bytes(delta.size))
    noised = mode == "local"
    sent = costs.measure("device", lambda: privatised(delta, TERMS, KEY), repeat) if noised else delta
    payload = costs.measure("device", lambda: bytes(codec("fp32").encode(sent, 0)), repeat)
    total = np.zeros(delta.size, np.float32)
    costs.measure("coordinator", lambda: _admit(payload, total), repeat)
    costs.measure("coordinator", lambda: total / np.float32(buffer_size), repeat, buffer_size)
    return costs


def central(delta: np.ndarray, buffer_size: int, repeat: int) -> Costs:
    """The coordinator clips each update on the grid, and adds noise to each sum."""
    costs = Costs("central", codec("fp32").max_payload_bytes(delta.size))
    payload = costs.measure("device", lambda: bytes(codec("fp32").encode(delta, 0)), repeat)
    total = np.zeros(delta.size, np.int64)

    def admit() -> None:
        values = codec("fp32").decode(payload, delta.size)
        peak(values)
        np.add(total, to_grid(np.asarray(values), CLIP, 1.0), out=total)

    costs.measure("coordinator", admit, repeat)
    costs.measure(
        "coordinator",
        lambda: from_grid(total + rounded_gaussian(KEY, total.size, Z * RESOLUTION), CLIP, buffer_size),
        repeat,
        buffer_size,
    )
    return costs


def masked(delta: np.ndarray, buffer_size: int, repeat: int, *, noise: bool) -> Costs:
    """Keepers' masks; with noise, each seed's share of it is drawn by the keeper that answers for it."""
    size = delta.size
    boxes = KEEPERS * box_bytes(2 * SEED_BYTES)  # each keeper holds two of three seeds
    costs = Costs("keepers and central" if noise else "keepers", 4 * size + boxes, ANSWERS * 4 * size)
    seeds = [KEY] * NUM_SEEDS

    def mask() -> np.ndarray:
        values = residues(to_grid(delta, CLIP))
        for seed in seeds:
            add_mask(values, seed)
        return values

    update = costs.measure("device", mask, repeat)
    total = np.zeros(size, np.uint32)
    costs.measure("coordinator", lambda: np.add(total, update * np.uint32(16), out=total), repeat)
    deviation = Z * RESOLUTION * 16 if noise else 0.0
    sums = costs.measure(
        "keepers",
        lambda: [sum_of_masks([[KEY] * buffer_size], [16] * buffer_size, KEY, deviation, size) for _ in seeds],
        repeat,
        buffer_size,
    )

    def unmask() -> np.ndarray:
        for masks in sums:
            np.subtract(total, masks, out=total)
        return from_grid(whole_numbers(total), CLIP, 16 * buffer_size)

    costs.measure("coordinator", unmask, repeat, buffer_size)
    return costs


def encrypted(delta: np.ndarray, buffer_size: int, repeat: int) -> Costs:
    """CKKS: the coordinator adds residues, one keeper opens the sum and adds the noise."""
    size, key = delta.size, SecretKey.new()
    scale = ciphertexts.scale_bits(RESOLUTION, ciphertexts.MAX_WEIGHT * buffer_size)
    costs = Costs("encrypted", ciphertexts.num_bytes(size), ciphertexts.num_bytes(size) + 8 * size)
    payload = costs.measure("device", lambda: key.public.encrypt(to_grid(delta, CLIP), scale), repeat)
    total = ciphertexts.zero(size)
    costs.measure(
        "coordinator", lambda: ciphertexts.add(total, ciphertexts.read(payload, size), ciphertexts.MAX_WEIGHT), repeat
    )
    opened = costs.measure(
        "keepers",
        lambda: key.open(total, size, scale) + rounded_gaussian(KEY, size, Z * RESOLUTION * 16),
        repeat,
        buffer_size,
    )
    costs.measure("coordinator", lambda: from_grid(opened, CLIP, 16 * buffer_size), repeat, buffer_size)
    return costs


def _admit(payload: bytes, total: np.ndarray) -> None:
    values = codec("fp32").decode(payload, total.size)
    peak(values)
    add_scaled(total, values, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--params", type=int, nargs="+", default=[100_000, 1_000_000], help="elements of an update")
    parser.add_argument("--buffer", type=int, default=10, help="updates in a merge")
    parser.add_argument("--repeat", type=int, default=7, help="passes, of which the medians are printed")
    options = parser.parse_args()
    for size in options.params:
        for row in measure(size, options.buffer, options.repeat):
            print(json.dumps(row), flush=True)
            print(
                f"{row['mode']:>20} {size:>10} parameters: up {row['bytes_up'] / 1e6:.2f} MB, "
                f"with keepers {row['bytes_per_merge'] / 1e6:.1f} MB per merge; "
                f"device {row['device']:.1f} ms, coordinator {row['coordinator']:.1f} ms, "
                f"keepers {row.get('keepers', 0.0):.1f} ms",
                file=sys.stderr,
            )


if __name__ == "__main__":
    main()
