"""Real programs for the integration tests: started as a user would, always ended, by the id that we started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fl_core.broker.server.embedded import EmbeddedServer
from tests.integration.warm import start, start_new

SPEC: dict[str, dict[str, Any]] = {
    "campaign": {"name": "trial", "seed": 1},
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [16], "classes": 10}},
    "training": {"local_steps": 2, "learning_rate": 0.05},
    "aggregation": {"buffer_size": 2},
    "dispatch": {"concurrency": 4, "lease_seconds": 4.0},
    "stop": {"updates": 20},
}


class Program:
    """One process of ours, with what it has printed."""

    def __init__(self, arguments: list[str], folder: Path, name: str, environment: dict[str, str], new: bool) -> None:
        self.embeds = "--broker" not in arguments
        self.output_path = folder / f"{name}.out"
        self._output = self.output_path.open("wb")
        begin = start_new if new else start
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process = begin(arguments, folder, self._output, self._output, variables)

    @property
    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    def wait(self, seconds: float = 60) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {seconds} s; it said:\n{self.output[-4000:]}") from None

    def wait_for(self, text: str, seconds: float = 60) -> None:
        until(lambda: text in self.output or self.process.poll() is not None, seconds)
        assert text in self.output, self.output[-4000:]

    def send(self, signum: int) -> None:
        os.kill(self.process.pid, signum)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def assert_identity(summary: dict[str, Any]) -> None:
    """issued = merged + rejected + expired + cancelled + out."""
    ended = summary["merged"] + sum(summary["rejected"].values()) + summary["expired"] + summary["cancelled"]
    assert summary["issued"] == ended + summary["out"], summary


class Lab:
    """A broker of its own and the programs that a test starts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = EmbeddedServer(folder / "broker", persistent=True)
        self.server.start()
        self.url = self.server.url
        self._programs: list[Program] = []

    def spec(self, name: str = "spec.toml", **sections: dict[str, Any]) -> Path:
        """Write a small spec; sections are merged over the default ones, None removes a key."""
        import tomli_w

        document = {name: dict(values) for name, values in SPEC.items()}
        for section, values in sections.items():
            document.setdefault(section, {}).update(values)
        cleaned = {s: {k: v for k, v in values.items() if v is not None} for s, values in document.items()}
        path = self.folder / name
        path.write_text(tomli_w.dumps(cleaned))
        return path

    def program(self, *arguments: str, name: str, new: bool = False, **environment: str) -> Program:
        """Start one of our programs; ``new`` in an interpreter of its own (see ``warm.py``)."""
        program = Program(list(arguments), self.folder, name, environment, new)
        self._programs.append(program)
        return program

    def run(self, spec: Path, *more: str, out: str = "run", name: str = "coordinator") -> Program:
        arguments = ["coordinator", "run", str(spec), "--broker", self.url, "--out", str(self.folder / out), *more]
        return self.program(*arguments, name=name)

    def worker(self, name: str, *more: str, shard: int = 0, delay: float = 0.0) -> Program:
        data_args = json.dumps({"shard": shard, "num_shards": 4})
        arguments = ["workers", "--broker", self.url, "--data", "fl_core.data:digits", "--data-args", data_args]
        arguments += ["--name", name, "--threads", "1", "--state-dir", str(self.folder / f"state-{name}")]
        return self.program(*arguments, "--emulate-delay-seconds", str(delay), *more, name=name)

    def ask(self, *arguments: str) -> Any:
        """Run a `fedtide` command that prints JSON."""
        broker = [] if arguments[0] == "replay" else ["--broker", self.url]
        command = ["coordinator", *arguments, *broker, "--json"]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            code = start(command, self.folder, output, errors, dict(os.environ)).wait(60)
            output.seek(0)
            errors.seek(0)
            assert code == 0, errors.read().decode()
            return json.load(output)

    def summary(self, out: str = "run") -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / out / "summary.json").read_text())
        return loaded

    def history(self, out: str = "run") -> list[dict[str, Any]]:
        path = self.folder / out / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        embedding = [program for program in self._programs if program.embeds]  # these have servers to tidy up
        for program in embedding:
            if program.process.poll() is None:
                program.send(signal.SIGTERM)
        for program in embedding:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(6)
        for program in self._programs:
            program.kill()
        self.server.stop()
