"""A campaign under fire: coordinators, workers and the server are killed at random, and cables are pulled.

    make chaos CHAOS_SECONDS=300 CHAOS_SEED=7

Everything runs on loopback, ends with the program, and only processes that were started here are killed, by id. It ends
with one JSON line; ``lost`` and ``doubled`` come from the referee, which does not ask the ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis
import tomli_w

from fl_core.broker.embedded import EmbeddedServer
from fl_core.layout import Layout
from fl_core.models.build import build_model
from tests.chaos.proxy import Proxy
from tests.chaos.referee import Rules, judge

NUM_WORKERS = 8
DELAYS = (0.05, 0.05, 0.05, 0.05, 0.1, 0.1, 0.3, 0.6)
SPEC: dict[str, Any] = {
    "campaign": {"name": "chaos", "seed": 3},
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [32], "classes": 10}},
    "training": {"local_steps": 3},
    "aggregation": {"buffer_size": 4, "max_staleness": 1_000_000},
    "dispatch": {"concurrency": 10, "max_attempts": 1000, "lease_seconds": 5.0},
    "checkpoint": {"keep_log": True, "every_merges": 50, "every_seconds": 3.0},
}


class Actor:
    """One program that is started again whenever it is not running."""

    def __init__(self, name: str, folder: Path, command: list[str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._folder = folder
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *more: str) -> None:
        self.starts += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", *self._command, *more],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def kill(self) -> bool:
        if not self.running or self.process is None:
            return False
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return True

    def end(self, seconds: float) -> int | None:
        if self.process is None:
            return None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


class Theatre:
    """The server, two coordinators (one stands by) and the workers, each worker behind its own proxy."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.server = EmbeddedServer(folder / "server", persistent=True, flush="always")
        self.server.start()
        spec = folder / "spec.toml"
        spec.write_text(tomli_w.dumps(SPEC))
        self.run_folder = folder / "run"
        run = ["coordinator", "run", str(spec), "--broker", self.server.url, "--out", str(self.run_folder)]
        self.coordinator = Actor("coordinator", folder, run)
        self.proxies = [Proxy(("127.0.0.1", self.server.port)) for _ in range(NUM_WORKERS)]
        self.workers = [self._worker(index) for index in range(NUM_WORKERS)]
        self.kills = {"coordinator": 0, "worker": 0, "broker": 0, "cable": 0}

    def _worker(self, index: int) -> Actor:
        data_args = json.dumps({"shard": index, "num_shards": NUM_WORKERS})
        command = ["workers", "--broker", f"redis://127.0.0.1:{self.proxies[index].port}/0", "--name", f"w{index}"]
        command += ["--data", "fl_core.data:digits", "--data-args", data_args, "--threads", "1", "--log-level", "debug"]
        command += ["--state-dir", str(self.folder / f"state-{index}")]
        return Actor(f"w{index}", self.folder, [*command, "--emulate-delay-seconds", str(DELAYS[index])])

    def tend(self) -> None:
        """Start again whatever is not running."""
        if not self.coordinator.running:
            has_checkpoint = any((self.run_folder / "checkpoint").glob("*.msgpack"))
            self.coordinator.start(*(["--resume"] if has_checkpoint else []))
        for worker in self.workers:
            if not worker.running:
                worker.start()

    def strike(self, target: str) -> None:
        """Do one act of violence."""
        match target:
            case "coordinator":
                self.kills["coordinator"] += self.coordinator.kill()
            case "worker":
                self.kills["worker"] += self.random.choice(self.workers).kill()
            case "broker":
                self.server.kill()
                self.kills["broker"] += 1
                time.sleep(self.random.uniform(0.1, 2.0))
                self.server.restart()
            case "cable":
                proxy, seconds = self.random.choice(self.proxies), self.random.uniform(0.5, 8.0)
                (proxy.cut if self.random.random() < 0.5 else proxy.freeze)(seconds)
                self.kills["cable"] += 1

    def fedtide(self, *arguments: str) -> Any:
        command = [sys.executable, "-P", "-m", "coordinator", *arguments, "--broker", self.server.url, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"error": done.stderr.strip()}

    def close(self) -> None:
        for actor in [self.coordinator, *self.workers]:
            actor.kill()
        for proxy in self.proxies:
            proxy.close()
        self.server.stop()


def perform(theatre: Theatre, seconds: float, min_updates: int, rates: dict[str, float]) -> None:
    """Strike at random instants until the time is over and enough was merged."""
    draw = theatre.random
    theatre.tend()
    next_strike = {target: time.monotonic() + draw.expovariate(1 / every) for target, every in rates.items() if every}
    end, last_end = time.monotonic() + seconds, time.monotonic() + seconds * 2 + 120
    next_word = 0.0
    merged = 0
    while time.monotonic() < end or (merged < min_updates and time.monotonic() < last_end):
        theatre.tend()
        now = time.monotonic()
        for target, when in list(next_strike.items()):
            if now >= when:
                theatre.strike(target)
                next_strike[target] = time.monotonic() + draw.expovariate(1 / rates[target])
        if now >= next_word:
            next_word = now + 10
            merged = theatre.fedtide("status", "chaos").get("merged", merged)
            print(f"{seconds - (end - now):6.0f} s  merged {merged}  {theatre.kills}", file=sys.stderr, flush=True)
        time.sleep(0.05)


def finish(theatre: Theatre) -> dict[str, Any]:
    """Let everything come back, stop the campaign in order, and judge."""
    deadline = time.monotonic() + 120
    asked = False
    while time.monotonic() < deadline:
        if not asked:
            theatre.tend()
            asked = theatre.fedtide("stop", "chaos").get("taken", False)
        elif theatre.coordinator.end(60) is not None:
            break
        time.sleep(0.5)
    campaign = json.loads((theatre.run_folder / "summary.json").read_text())["campaign"]
    model = build_model(SPEC["model"]["factory"], SPEC["model"]["args"], SPEC["campaign"]["seed"])
    layout = Layout.of(model)
    initial: np.ndarray = layout.flatten(model).values.copy()
    aggregation = SPEC["aggregation"]
    rules = Rules(campaign, aggregation["buffer_size"], 1.0, 0.5, aggregation["max_staleness"])
    verdict = judge(
        redis.Redis.from_url(theatre.server.url),
        theatre.run_folder,
        [worker.log for worker in theatre.workers],
        initial,
        [tensor.name for tensor in layout.tensors],
        rules,
    )
    replay = theatre.fedtide("replay", str(theatre.run_folder))
    summary = json.loads((theatre.run_folder / "summary.json").read_text())
    return {
        **{f"kills_{name}": count for name, count in theatre.kills.items()},
        "issued": summary["issued"],
        "merged": summary["merged"],
        "rejected": sum(summary["rejected"].values()),
        "expired": summary["expired"],
        "cancelled": summary["cancelled"],
        "out": summary["out"],
        "reissued": summary["reissued"],
        "surplus": summary["surplus"],
        **verdict,
        "replay_equal": bool(replay.get("equal")),
    }


def main() -> int:
    """Run one performance; exit code 1 when something was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    setting = os.environ.get
    parser.add_argument("--seconds", type=float, default=float(setting("CHAOS_SECONDS", "120")))
    parser.add_argument("--seed", type=int, default=int(setting("CHAOS_SEED", "0")) or int(time.time()))
    parser.add_argument("--min-updates", type=int, default=600)
    for target, every in (("coordinator", 8.0), ("worker", 5.0), ("broker", 25.0), ("cable", 15.0)):
        name = f"CHAOS_{target.upper()}_EVERY"
        parser.add_argument(
            f"--{target}-every", type=float, default=float(setting(name, str(every))), metavar="SECONDS"
        )
    options = parser.parse_args()
    rates = {target: getattr(options, f"{target}_every") for target in ("coordinator", "worker", "broker", "cable")}
    print(f"seed {options.seed}, {options.seconds:.0f} s, mean seconds between strikes: {rates}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="fedtide-chaos-", ignore_cleanup_errors=True) as folder:
        theatre = Theatre(Path(folder), options.seed)
        try:
            perform(theatre, options.seconds, options.min_updates, rates)
            verdict = {"seed": options.seed, "seconds": options.seconds, **finish(theatre)}
        except BaseException:
            print(theatre.coordinator.log.read_text(errors="replace")[-6000:], file=sys.stderr)
            raise
        finally:
            theatre.close()
    print(json.dumps(verdict))
    return 0 if verdict["lost"] == verdict["doubled"] == 0 and verdict["replay_equal"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
