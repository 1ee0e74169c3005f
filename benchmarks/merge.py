"""How fast payloads become part of the sum, as a share of this machine's memory bandwidth.

    python benchmarks/merge.py --params 50000000

Per codec, GB/s of the memory that has to be touched once: the payload's bytes, and the accumulator's read and written
(8 bytes per element). ``merge`` is ``add_scaled`` on a checked payload, what the buffer of FedBuff does; ``check`` is
``peak``, what admission does to each update before (4 bytes per element of fp32, the payload's bytes else). The
bandwidth is that of STREAM's triad, a = b + s * c, by torch's fused kernel on one thread and on all: 12 bytes per
element, the write-allocate not counted, as STREAM counts. Merging uses one thread, so both shares are given.
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
import torch

from fl_core.codecs import codec
from fl_core.vectors.arithmetic import add_scaled, peak

CODECS = ("fp32", "fp16", "bf16", "int8", "topk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--params", type=int, default=50_000_000, help="elements; far more than the caches hold")
    parser.add_argument("--repeat", type=int, default=7, help="passes over all, of which the medians are printed")
    options = parser.parse_args()
    for result in measure(options.params, options.repeat):
        print(json.dumps(result), flush=True)
        print(table(result), file=sys.stderr)


def measure(num_elements: int, repeat: int) -> list[dict[str, Any]]:
    """All codecs, and the triad between them, in turns: a disturbance hits all alike."""
    values = np.random.default_rng(0).standard_normal(num_elements, dtype=np.float32)
    accumulator = np.zeros(num_elements, np.float32)
    vectors, sizes = {}, {}
    for name in CODECS:
        # Writable memory, as it comes from the network.
        payload = bytearray(codec(name).encode(values, seed=0))
        sizes[name] = len(payload)
        vectors[name] = codec(name).decode(memoryview(payload), num_elements)
    one, two, out = torch.from_numpy(values), torch.ones(num_elements), torch.empty(num_elements)
    threads = torch.get_num_threads()

    def triad(num_threads: int) -> Callable[[], Any]:
        def run() -> None:
            torch.set_num_threads(num_threads)
            torch.add(two, one, alpha=3.0, out=out)
            torch.set_num_threads(1)

        return run

    work: dict[str, tuple[Callable[[], Any], int]] = {
        "triad": (triad(1), 12 * num_elements),
        "triad on all": (triad(threads), 12 * num_elements),
    }
    for name in CODECS:
        vector = vectors[name]
        work[f"merge {name}"] = (
            lambda vector=vector: add_scaled(accumulator, vector, 0.5),  # type: ignore[misc]
            sizes[name] + 8 * num_elements,
        )
        work[f"check {name}"] = (lambda vector=vector: peak(vector), sizes[name])  # type: ignore[misc]
    rates: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repeat + 1):
        for name, (action, num_bytes) in work.items():
            begun = time.perf_counter()
            action()
            if number:  # the first pass warms up
                rates[name].append(num_bytes / (time.perf_counter() - begun) / 1e9)
    median = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            "benchmark": "merge",
            "codec": name,
            "params": num_elements,
            "repeat": repeat,
            "payload_bytes": sizes[name],
            "merge_gb_per_second": round(median[f"merge {name}"], 2),
            "merge_share": round(median[f"merge {name}"] / median["triad"], 3),
            "merge_share_of_all_threads": round(median[f"merge {name}"] / median["triad on all"], 3),
            "check_gb_per_second": round(median[f"check {name}"], 2),
            "triad_gb_per_second": round(median["triad"], 2),
            "triad_all_threads_gb_per_second": round(median["triad on all"], 2),
            "threads": threads,
        }
        for name in CODECS
    ]


def table(result: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{result['codec']:>5} {result['params']:,} elements: merge {result['merge_gb_per_second']:6.2f} GB/s = "
        f"{100 * result['merge_share']:3.0f} % of the triad's {result['triad_gb_per_second']:.1f} on one thread, "
        f"{100 * result['merge_share_of_all_threads']:3.0f} % of {result['triad_all_threads_gb_per_second']:.1f} on "
        f"{result['threads']}; check {result['check_gb_per_second']:.2f} GB/s"
    )


if __name__ == "__main__":
    main()
