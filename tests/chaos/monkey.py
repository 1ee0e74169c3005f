"""A campaign under fire: coordinators, workers and servers are killed at random, and cables are pulled.

    make chaos CHAOS_SECONDS=300 CHAOS_SEED=7

The seed draws strategy, codecs, servers and faults (``scene.py``); ``CHAOS_SCENE`` chooses instead. Everything runs on
loopback and ends with the program, and only processes that were started here are killed, by id. It ends with one JSON
line; ``lost`` and ``doubled`` come from the referee, which does not ask the ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.models.build import build_model
from fl_core.vectors.layout import Layout
from tests.chaos.accounts import audit
from tests.chaos.referee import Rules, judge
from tests.chaos.scene import BATTERY, EXTRAS, LOSING, OF_KEEPERS, parse
from tests.chaos.theatre import Theatre

# After the last fault: time for a lease (5 s), a standby's wait (9 s), a restart of everything, and twice that.
CALM_SECONDS = 60.0
BEGIN_SECONDS = 120.0


def perform(theatre: Theatre, seconds: float, min_updates: int, rates: dict[str, float]) -> None:
    """Strike at random instants until the time is over and enough was merged."""
    draw = theatre.random
    _begin(theatre)
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


def _begin(theatre: Theatre) -> None:
    """Nothing is struck before the first update is merged: on a busy machine loading torch takes its time."""
    deadline = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < deadline and not theatre.fedtide("status", "chaos").get("merged"):
        if theatre.coordinator.process is not None and theatre.coordinator.process.poll() == 2:
            raise RuntimeError("the coordinator refuses to begin")
        theatre.tend()
        time.sleep(0.3)


def watch_calm(theatre: Theatre) -> dict[str, Any]:
    """Whether the campaign goes on when nothing is done to it any more: merges, not only signs of life."""
    theatre.calm()
    started = time.monotonic()
    first: int | None = None
    merged = 0
    while time.monotonic() < started + CALM_SECONDS:
        theatre.tend()
        merged = theatre.fedtide("status", "chaos").get("merged", merged)
        first = merged if first is None else first
        if merged >= first + 16:
            break
        time.sleep(0.3)
    return {
        "merged_after_last_fault": merged - (first or 0),
        "stood_still": merged < (first or 0) + 16,
        "seconds_to_go_on": round(time.monotonic() - started, 1),
    }


def finish(theatre: Theatre) -> dict[str, Any]:
    """Let everything come back, stop the campaign in order, and judge."""
    calm = watch_calm(theatre)
    deadline = time.monotonic() + 150
    asked, asked_ms = False, time.time() * 1000
    while time.monotonic() < deadline:
        if not asked and _has_stopped(theatre):
            break  # the answer to the request was lost with the coordinator's own server
        if not asked:
            theatre.tend()
            asked = theatre.fedtide("stop", "chaos").get("taken", False)
            if asked and theatre.scene.end:
                _kill_at_the_end(theatre)
        elif theatre.coordinator.end(60) == 0:
            break
        else:
            theatre.coordinator.start("--auto-resume")
        time.sleep(0.5)
    summary_file = theatre.run_folder / "summary.json"
    if not summary_file.is_file():
        return {**calm, "ended": False, "lost": None, "doubled": None, "replay_equal": False}
    summary = json.loads(summary_file.read_text())
    spec = theatre.scene.spec()
    model = build_model(spec["model"]["factory"], spec["model"]["args"], spec["campaign"]["seed"])
    layout = Layout.of(model)
    initial: np.ndarray = layout.flatten(model).values.copy()
    aggregation = spec["aggregation"]
    rules = Rules(
        summary["campaign"],
        aggregation.get("buffer_size", 1),
        1.0,
        0.5,
        aggregation.get("max_staleness", 0),
        merge_again=theatre.scene.referee_merges,
        forgetful=theatre.scene.losing or "clock" in theatre.scene.faults,
        asked_ms=None if theatre.scene.keeps_log else asked_ms,
    )
    verdict = judge(
        theatre.run_folder,
        [worker.log for worker in theatre.workers],
        initial,
        [tensor.name for tensor in layout.tensors],
        rules,
    )
    if (privacy := spec.get("privacy")) is not None:
        verdict |= audit(theatre.run_folder, summary, privacy["noise_multiplier"], privacy["delta"])
    replay = theatre.fedtide("replay", str(theatre.run_folder))
    rejected = sum(summary["rejected"].values())
    ended = summary["merged"] + rejected + summary["expired"] + summary["cancelled"]
    return {
        **{f"kills_{name}": count for name, count in theatre.kills.items()},
        **{name: summary[name] for name in ("issued", "merged", "expired", "cancelled", "out", "reissued", "surplus")},
        "rejected": rejected,
        "identity": summary["issued"] == ended + summary["out"],
        **calm,
        "ended": (theatre.run_folder / "model.safetensors").is_file(),
        "versions_seen": len(theatre.witness.seen),
        "versions_changed": theatre.witness.changed,
        **verdict,
        "replay_equal": replay.get("equal"),
        **({} if "equal" in replay else {"replay_said": str(replay.get("error"))[-300:]}),
    }


def _has_stopped(theatre: Theatre) -> bool:
    """Whether the campaign has ended with all its files."""
    summary = theatre.run_folder / "summary.json"
    ended = summary.is_file() and json.loads(summary.read_text())["state"] == "stopped"
    return ended and theatre.coordinator.end(30) is not None


def _kill_at_the_end(theatre: Theatre) -> None:
    """Between the last merge and the last file, some times, and then it may end."""
    for _ in range(3):
        time.sleep(theatre.random.uniform(0.0, 1.0))
        theatre.kills["end"] += theatre.coordinator.kill()
        theatre.coordinator.start("--auto-resume")


def is_well(verdict: dict[str, Any]) -> bool:
    """Whether what was promised was kept."""
    kept = verdict["lost"] == verdict["doubled"] == 0 and verdict["identity"] and verdict["ended"]
    scene = verdict["scene"]
    # With patches a version's bytes hang on those that were published before it; what a server forgot is done anew.
    may_change = scene["down"] != "fp32" or (LOSING | {"clock"}) & set(scene["faults"])
    same = may_change or not verdict["versions_changed"]
    honest = scene["privacy"] == "off" or (verdict["epsilon_holds"] and verdict["releases_told"])
    return bool(verdict["replay_equal"] and kept and same and honest and not verdict["stood_still"])


def main() -> int:
    """Run one performance; exit code 1 when something was lost or doubled, or stood still."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    setting = os.environ.get
    parser.add_argument("--seconds", type=float, default=float(setting("CHAOS_SECONDS", "120")))
    parser.add_argument("--seed", type=int, default=int(setting("CHAOS_SEED", "0")) or int(time.time()))
    parser.add_argument("--scene", default=setting("CHAOS_SCENE", "drawn"), help="plain, drawn, or KEY=VALUE ...")
    parser.add_argument("--min-updates", type=int, default=int(setting("CHAOS_MIN_UPDATES", "600")))
    for target in {**BATTERY, **EXTRAS, **OF_KEEPERS}:
        name = f"CHAOS_{target.upper()}_EVERY"
        given = setting(name)
        parser.add_argument(f"--{target}-every", type=float, default=float(given) if given else None, metavar="SECONDS")
    options = parser.parse_args()
    scene = parse(options.scene, options.seed)
    rates = {
        target: every if (given := getattr(options, f"{target}_every")) is None else given
        for target, every in scene.faults.items()
    }
    print(f"seed {options.seed}, {options.seconds:.0f} s, {scene.describe()}, mean seconds: {rates}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="fedtide-chaos-", ignore_cleanup_errors=True) as folder:
        theatre = Theatre(Path(folder), options.seed, scene)
        try:
            perform(theatre, options.seconds, options.min_updates, rates)
            told = {"seed": options.seed, "seconds": options.seconds, "scene": scene.describe()}
            verdict = {**told, "skipped": theatre.skipped, **finish(theatre)}
            well = verdict["ended"] and is_well(verdict)
            if not well:
                print(theatre.coordinator.log.read_text(errors="replace")[-6000:], file=sys.stderr)
        except BaseException:
            print(theatre.coordinator.log.read_text(errors="replace")[-6000:], file=sys.stderr)
            raise
        finally:
            theatre.close()
    print(json.dumps(verdict))
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
