"""The straggler task of ``stragglers.py`` on Flower: same shards, model, start, local training and delays.

A round of Flower's ``FedAvg`` takes all eight devices, so it is no shorter than the longest delay. Its apps train with
numpy alone: an app is a new process for every task, and importing torch each time would be held against Flower. Time
counts from the server app's first line, when all SuperNodes have registered; its first rounds start everything else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from flower import FLOWER, deployed, environment, submit, write_app
from stragglers import EXAMPLE, TARGETS

from coordinator.launch.fleet import load_fleet
from fl_core.data import digits
from fl_core.models.build import build_model
from fl_core.spec import load_spec

HERE = Path(__file__).resolve().parent
MAX_ROUNDS = 300

SERVER_APP = """
import json
import time

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config, begun, said = context.run_config, time.time(), []
    data = np.load(config["folder"] + "/test.npz")
    start = np.load(config["folder"] + "/start.npz")
    model = ArrayRecord([start[name] for name in ("w1", "b1", "w2", "b2")])

    def score(server_round, arrays):
        w1, b1, w2, b2 = arrays.to_numpy_ndarrays()
        logits = np.maximum(data["x"] @ w1.T + b1, 0) @ w2.T + b2
        accuracy = float((logits.argmax(1) == data["y"]).mean())
        said.append([server_round, time.time() - begun, accuracy])
        with open(config["folder"] + "/scores.json", "w") as file:
            json.dump(said, file)
        return MetricRecord({"accuracy": accuracy})

    clients = config["num-clients"]
    strategy = FedAvg(
        fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
    )
    strategy.start(grid=grid, initial_arrays=model, num_rounds=config["num-rounds"], evaluate_fn=score)
"""

CLIENT_APP = """
import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    config, number = context.run_config, context.node_config["number"]
    data = np.load(config["folder"] + f"/{number}.npz")
    x, y = data["x"], data["y"]
    w1, b1, w2, b2 = (array.copy() for array in message.content["arrays"].to_numpy_ndarrays())
    rate, size = np.float32(config["learning-rate"]), config["batch-size"]
    order = np.random.default_rng().permutation(len(x))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        hidden = x[batch] @ w1.T + b1
        active = np.maximum(hidden, 0)
        logits = active @ w2.T + b2
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(batch)), y[batch]] -= 1
        shares /= len(batch)
        back = (shares @ w2) * (hidden > 0)
        w2 -= rate * (shares.T @ active)
        b2 -= rate * shares.sum(0)
        w1 -= rate * (back.T @ x[batch])
        b1 -= rate * back.sum(0)
    time.sleep(float(data["delay"]))
    metrics = MetricRecord({"num-examples": len(x)})
    content = RecordDict({"arrays": ArrayRecord([w1, b1, w2, b2]), "metrics": metrics})
    return Message(content=content, reply_to=message)
"""


def compare(venv: Path | None, limit_seconds: float) -> None:
    """Both systems, one JSON line."""
    with tempfile.TemporaryDirectory(prefix="fedtide-flower-") as temporary:
        folder = Path(temporary)
        flower = measure(folder, environment(venv or folder / "venv"), limit_seconds)
    command = [sys.executable, "stragglers.py", "--strategy", "fedbuff"]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    ours = json.loads(done.stdout)
    result: dict[str, Any] = {"benchmark": "against_flower_stragglers", "peer": FLOWER}
    result |= {f"flower_{name}": value for name, value in flower.items()}
    for target in TARGETS:
        mine, theirs = ours[f"seconds_to_{target:.2f}"], flower[f"seconds_to_{target:.2f}"]
        result[f"fedtide_seconds_to_{target:.2f}"] = mine
        result[f"ratio_to_{target:.2f}"] = round(theirs / mine, 1) if mine and theirs else None
    result["fedtide_updates_to_0.90"] = ours["updates_to_0.90"]
    print(json.dumps(result), flush=True)
    print(
        f"stragglers: 0.90 after {flower['seconds_to_0.90']} s on Flower ({flower['seconds_per_round']} s a round, "
        f"{flower['rounds']} rounds), {ours['seconds_to_0.90']} s here; ratio {result['ratio_to_0.90']}",
        file=sys.stderr,
    )


def measure(folder: Path, programs: Path, limit_seconds: float) -> dict[str, Any]:
    """Deploy Flower, run the app until both targets are met or the time is up."""
    config = write_data(folder)
    app = write_app(folder, SERVER_APP, CLIENT_APP, config)
    scores: list[tuple[int, float, float]] = []
    with deployed(folder, programs, int(config["num-clients"])) as (variables, _):
        submit(programs, app, variables)
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline and not (scores and scores[-1][2] >= max(TARGETS)):
            time.sleep(0.5)
            with contextlib.suppress(OSError, ValueError):
                scores = json.loads((folder / "scores.json").read_text())
    rounds, seconds, accuracy = scores[-1] if scores else (0, 0.0, 0.0)
    result: dict[str, Any] = {
        "rounds": rounds,
        "seconds_per_round": round(seconds / rounds, 2) if rounds else None,
        "last_accuracy": round(accuracy, 4),
        "limit_seconds": limit_seconds,
    }
    for target in TARGETS:
        first = next((score for score in scores if score[2] >= target), None)
        result[f"seconds_to_{target:.2f}"] = round(first[1], 1) if first else None
        result[f"rounds_to_{target:.2f}"] = first[0] if first else None
    return result


def write_data(folder: Path) -> dict[str, Any]:
    """Shards, test set and version 0 as numpy files; returns the app's settings."""
    spec, workers = load_spec(EXAMPLE / "campaign.toml"), load_fleet(EXAMPLE / "fleet.toml")
    sets = {str(number): digits(**worker.data_args) for number, worker in enumerate(workers)}
    sets["test"] = digits(split="test")
    for name, dataset in sets.items():
        pairs = [dataset[index] for index in range(len(dataset))]
        delay = 0.0 if name == "test" else workers[int(name)].emulate_delay_seconds
        np.savez(
            folder / f"{name}.npz",
            x=np.stack([np.asarray(x, np.float32).reshape(-1) for x, _ in pairs]),
            y=np.array([int(y) for _, y in pairs]),
            delay=delay,
        )
    tensors = list(build_model(spec.model.factory, spec.model.args, spec.campaign.seed).state_dict().values())
    np.savez(folder / "start.npz", **dict(zip(("w1", "b1", "w2", "b2"), (t.numpy() for t in tensors), strict=True)))
    return {
        "folder": str(folder),
        "num-clients": len(workers),
        "num-rounds": MAX_ROUNDS,
        "learning-rate": spec.training.learning_rate,
        "batch-size": spec.training.batch_size,
    }
