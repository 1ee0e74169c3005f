"""The same throughput work on Flower, in its deployment mode, beside fedtide's.

    python benchmarks/against_flower.py --params 1000000 --venv /tmp/flower

A SuperLink, a SuperNode per client and an app that is submitted with ``flwr run``, from a virtual environment of its
own (made with pip when ``--venv`` is not there). The app holds one flat
float32 array; its clients send back what they got, its server averages with Flower's own ``FedAvg`` (Flower has no
asynchronous strategy in deployment mode), every client in every round, no evaluation. Updates count from the end of the
first round to the end of the last. Everything else is Flower's default: its transport on the loopback without TLS, a
process per app and task that SuperLink and SuperNodes start by themselves.

What differs: Flower waits for all clients in each round and keeps its state in memory; fedtide merges one by one
(FedAsync) and writes an append-only file and checkpoints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processes import command, descendants, peak_rss_bytes
from throughput import measure as measure_fedtide

FLOWER = "flwr==1.41.0"
ROUND_TIMEOUT_SECONDS = 300.0

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "peer"
version = "1.0.0"
description = "Sends one array back and forth."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "peer.server_app:app"
clientapp = "peer.client_app:app"

[tool.flwr.app.config]
num-elements = 1000
num-clients = 4
num-rounds = 3
times = ""
"""

SERVER_APP = """
import json
import time

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config, times = context.run_config, []

    def note(server_round, arrays):
        times.append(time.time())
        with open(config["times"], "w") as file:
            json.dump(times, file)

    strategy = FedAvg(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=config["num-clients"],
        min_available_nodes=config["num-clients"],
    )
    model = ArrayRecord([np.zeros(config["num-elements"], np.float32)])
    strategy.start(grid=grid, initial_arrays=model, num_rounds=config["num-rounds"], evaluate_fn=note)
"""

CLIENT_APP = """
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    content = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long fedtide counts")
    parser.add_argument("--venv", type=Path, help="Flower's environment; made if missing  [default: a temporary one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedtide-flower-") as temporary:
        folder = Path(temporary)
        programs = environment(options.venv or folder / "venv")
        flower = measure_flower(folder, programs, options.params, options.workers, options.rounds)
    ours = measure_fedtide(
        argparse.Namespace(
            params=options.params,
            workers=options.workers,
            codec="fp32",
            strategy="fedasync",
            seconds=options.seconds,
            concurrency=None,
            limit_seconds=0,
            set=[],
            keep=None,
        )
    )
    ratio = ours["updates_per_second"] / flower["updates_per_second"]
    result = {"benchmark": "against_flower", "params": options.params, "workers": options.workers, "peer": FLOWER}
    result |= {f"flower_{name}": value for name, value in flower.items()}
    names = ("updates_per_second", "seconds_to_first_merge", "coordinator_peak_rss_bytes", "worker_peak_rss_bytes")
    result |= {f"fedtide_{name}": ours[name] for name in names}
    result["ratio"] = round(ratio, 1)
    print(json.dumps(result), flush=True)
    print(
        f"{options.params:,} params: Flower {flower['updates_per_second']:.3f} updates/s, first merge after "
        f"{flower['seconds_to_first_merge']:.0f} s, server {flower['server_peak_rss_bytes'] / 2**20:.0f} MiB; fedtide "
        f"{ours['updates_per_second']:.2f}, {ours['seconds_to_first_merge']:.0f} s, "
        f"{ours['coordinator_peak_rss_bytes'] / 2**20:.0f} MiB; ratio {ratio:.0f}",
        file=sys.stderr,
    )


def environment(venv: Path) -> Path:
    """The folder of Flower's programs, installed if need be."""
    programs = venv / "bin"
    if not (programs / "flwr").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(programs / "python"), "-m", "pip", "install", "--quiet", FLOWER], check=True)
    return programs


def measure_flower(folder: Path, programs: Path, num_elements: int, num_clients: int, rounds: int) -> dict[str, Any]:
    """Deploy Flower, run the app, and read when its rounds ended."""
    app, times = folder / "app", folder / "times.json"
    (app / "peer").mkdir(parents=True)
    (app / "pyproject.toml").write_text(PYPROJECT.lstrip())
    (app / "peer" / "__init__.py").write_text("")
    (app / "peer" / "server_app.py").write_text(SERVER_APP.lstrip())
    (app / "peer" / "client_app.py").write_text(CLIENT_APP.lstrip())
    with deployed(folder, programs, num_clients) as (variables, pids):
        started = time.time()
        settings = f"num-elements={num_elements} num-clients={num_clients} num-rounds={rounds} times='{times}'"
        submit = [str(programs / "flwr"), "run", str(app), "bench", "--run-config", settings]
        subprocess.run(submit, env=variables, check=True, stdout=subprocess.DEVNULL)
        ends: list[float] = []
        server = client = 0
        deadline = time.monotonic() + ROUND_TIMEOUT_SECONDS
        # The first time is that of the untrained model.
        while len(ends) < rounds + 1:
            if time.monotonic() > deadline:
                raise SystemExit(f"Flower ended {max(0, len(ends) - 1)} rounds of {rounds} in time; see {folder}.")
            time.sleep(0.2)
            server = max(server, _largest(pids[0]))
            client = max(client, *map(_largest, pids[1:]))
            with contextlib.suppress(OSError, ValueError):
                now = json.loads(times.read_text())
                if len(now) > len(ends):
                    ends, deadline = now, time.monotonic() + ROUND_TIMEOUT_SECONDS
    return {
        "rounds": rounds,
        "updates_per_second": round((rounds - 1) * num_clients / (ends[-1] - ends[1]), 4),
        "seconds_to_first_merge": round(ends[1] - started, 2),
        "server_peak_rss_bytes": server,
        "client_peak_rss_bytes": client,
    }


@contextlib.contextmanager
def deployed(folder: Path, programs: Path, num_clients: int) -> Iterator[tuple[dict[str, str], list[int]]]:
    """A SuperLink and its SuperNodes: the variables that ``flwr`` needs, and the process ids, the SuperLink's first."""
    ports = _free_ports(num_clients + 1)
    home = folder / "home"
    (home / ".flwr").mkdir(parents=True)
    (home / ".flwr" / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "127.0.0.1:{ports[0]}"\ninsecure = true\n'
    )
    variables = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "FLWR_TELEMETRY_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    commands = [["flower-superlink", "--insecure", "--port", str(ports[0])]]
    commands += [
        ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{ports[0]}", "--port", str(port)]
        for port in ports[1:]
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, (program, *arguments) in enumerate(commands):
            with (folder / f"{number}.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [str(programs / program), *arguments], env=variables, cwd=folder, stdout=log, stderr=log
                    )
                )
            if number == 0:
                _await_port(ports[0])
        time.sleep(5)  # the SuperNodes register
        yield variables, [process.pid for process in running]
    finally:
        below = [pid for process in running for pid in descendants(process.pid)]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in below:  # what they started and left behind
            if str(programs.parent) in command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _largest(pid: int) -> int:
    """The peak of the largest process at or below ``pid``."""
    return max(map(peak_rss_bytes, (pid, *descendants(pid))))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [link.getsockname()[1] for link in sockets]
    for link in sockets:
        link.close()
    return ports


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"Flower's SuperLink does not listen on port {port}.")


if __name__ == "__main__":
    main()
