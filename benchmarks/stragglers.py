"""Seconds and updates to an accuracy on a fleet in which one device is forty times slower than most.

    python benchmarks/stragglers.py --strategy fedbuff

The task of ``examples/digits``: eight devices with shards of their own (Dirichlet, alpha 0.5), MLP 64-128-10, SGD 0.05,
batch 32, one local epoch, and delays of 0.05 s (four devices), 0.1 s (two), 0.5 s and 2 s in every task. All workers
have loaded torch before the clock starts, which is when the campaign opens.

``synchronous_floor_seconds`` is what no system with a barrier can beat: the versions that FedAvg over all eight devices
needs (counted by running it without delays in this process), times the longest delay. ``perfect_updates_per_second`` is
what devices reach that never wait for anything: the sum over devices of 1 / (delay + training time).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from trial import HERE, trial

from coordinator.launch.fleet import Fleet, load_fleet
from fl_core.aggregation import Contribution, build_strategy
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.data import digits
from fl_core.metrics.evaluation import evaluate
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec, TrainingSection, parse_spec
from fl_core.training.local import train_locally
from fl_core.vectors import Delta
from fl_core.vectors.layout import Layout

EXAMPLE = HERE.parent / "examples" / "digits"
TARGETS = (0.90, 0.93)
CPU = torch.device("cpu")
MAX_VERSIONS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strategy", default="fedbuff", choices=["fedasync", "fedbuff"])
    parser.add_argument("--repeat", type=int, default=1, help="campaigns, one result each")
    parser.add_argument("--seed", type=int, default=0, help="of the first campaign's model; the next ones count on")
    parser.add_argument("--seconds", type=float, default=120.0, help="give a campaign up after so long")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="any other key (TOML)")
    options = parser.parse_args()
    delays = [worker.emulate_delay_seconds for worker in load_fleet(EXAMPLE / "fleet.toml")]
    with tempfile.TemporaryDirectory(prefix="fedtide-stragglers-") as temporary:
        folder = Path(temporary)
        names = {worker.name for worker in load_fleet(EXAMPLE / "fleet.toml")}
        with EmbeddedServer(folder / "broker") as server:
            fleet = Fleet(load_fleet(EXAMPLE / "fleet.toml"), server.url, folder / "workers")
            fleet.start()
            try:
                warm_up(folder, server.url, names)
                for number in range(options.repeat):
                    spec = spec_of(options, options.seed + number)
                    result = measure(folder, server.url, spec, number, options)
                    result |= floors(parse_spec(spec), delays)
                    print(json.dumps(result), flush=True)
                    print(table(result), file=sys.stderr)
            finally:
                fleet.stop()


def spec_of(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The example's campaign, up to the higher target."""
    spec = tomllib.loads((EXAMPLE / "campaign.toml").read_text())
    spec["campaign"]["seed"] = seed
    spec["stop"] = {"accuracy": max(TARGETS), "seconds": options.seconds}
    if options.strategy == "fedasync":
        del spec["server_optimizer"]
        spec["training"]["proximal_weight"] = 0.005
        spec["aggregation"] = {"strategy": "fedasync", "mixing": 0.6, "max_staleness": 1000}
    for setting in options.set:
        key, _, value = setting.partition("=")
        section, _, name = key.partition(".")
        spec.setdefault(section, {}).update(tomllib.loads(f"{name} = {value}"))
    return spec


def warm_up(folder: Path, broker: str, names: set[str]) -> None:
    """Let every worker do a task of a campaign that does not count: the first one loads torch and the data."""
    spec = tomllib.loads((EXAMPLE / "campaign.toml").read_text())
    spec["campaign"]["name"] = "warm-up"
    spec["evaluation"] = {}
    spec["stop"] = {"updates": 200, "seconds": 20.0}
    for attempt in range(5):
        place = folder / f"warm-up-{attempt}"
        place.mkdir()
        with trial(place, spec, broker=broker) as campaign:
            campaign.wait(120)
            names = names - campaign.end()["merged_by_worker"].keys()
        if not names:
            time.sleep(2.5)  # the slowest device may still be in a task that nobody waits for
            return
    raise SystemExit(f"worker {min(names)} did no task; see its log.")


def measure(
    folder: Path, broker: str, spec: dict[str, Any], number: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One campaign, read from its history."""
    place = folder / f"campaign-{number}"
    place.mkdir()
    with trial(place, spec, broker=broker) as campaign:
        campaign.wait(options.seconds + 60)
        evaluations, summary = campaign.series().evaluations, campaign.end()
    result: dict[str, Any] = {"benchmark": "stragglers", "strategy": options.strategy, "seed": options.seed + number}
    for target in TARGETS:
        first = next((e for e in evaluations if (e.metrics["accuracy"] or 0.0) >= target), None)
        result[f"seconds_to_{target:.2f}"] = first.seconds if first else None
        result[f"updates_to_{target:.2f}"] = first.merged if first else None
    return result | {
        "updates_per_second": round(summary["merged"] / summary["wall_seconds"], 2),
        "best_accuracy": summary["best_accuracy"],
        "staleness_mean": summary["staleness"]["mean"],
        "rejected": summary["rejected"],
    }


def floors(spec: CampaignSpec, delays: list[float]) -> dict[str, Any]:
    """What FedAvg with a barrier, and devices that never wait, would need on the same delays."""
    torch.set_num_threads(1)
    workers = load_fleet(EXAMPLE / "fleet.toml")
    shards = [digits(**worker.data_args) for worker in workers]
    test = digits(split="test")
    document = spec.model_dump(mode="json")
    document["aggregation"] = {"strategy": "fedavg"}
    document["server_optimizer"] = {}
    document["training"]["proximal_weight"] = 0.0
    synchronous = parse_spec(document)
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model)
    strategy = build_strategy(synchronous, layout, layout.flatten(model))
    training_seconds = [0.0] * len(shards)
    reached: dict[float, int] = {}
    for version in range(MAX_VERSIONS):
        base = strategy.parameters
        for index, shard in enumerate(shards):
            layout.load_into(model, base)
            done = train_locally(model, shard, synchronous.training, seed=1000 * version + index, device=CPU)
            training_seconds[index] += done.seconds
            delta = Delta(layout.flatten(model).values - base.values)
            strategy.offer(Contribution(delta, done.num_examples, 0, workers[index].name))
        strategy.flush()
        layout.load_into(model, strategy.parameters)
        accuracy = evaluate(model, test, TrainingSection(), 1024, CPU).accuracy or 0.0
        for target in TARGETS:
            if accuracy >= target:
                reached.setdefault(target, version + 1)
        if len(reached) == len(TARGETS):
            break
    seconds = [total / (version + 1) for total in training_seconds]
    result: dict[str, Any] = {
        "perfect_updates_per_second": round(sum(1 / (d + s) for d, s in zip(delays, seconds, strict=True)), 1)
    }
    for target in TARGETS:
        versions = reached.get(target)
        result[f"synchronous_versions_to_{target:.2f}"] = versions
        result[f"synchronous_floor_seconds_to_{target:.2f}"] = round(versions * max(delays), 1) if versions else None
    return result


def table(result: dict[str, Any]) -> str:
    """One line for people."""
    parts = [f"{result['strategy']:>8} seed {result['seed']}:"]
    parts += [
        f"{target:.2f} in {result[f'seconds_to_{target:.2f}']} s, {result[f'updates_to_{target:.2f}']} updates "
        f"(synchronous at best {result[f'synchronous_floor_seconds_to_{target:.2f}']} s);"
        for target in TARGETS
    ]
    parts.append(f"{result['updates_per_second']} updates/s of {result['perfect_updates_per_second']} possible")
    return " ".join(parts)


if __name__ == "__main__":
    main()
