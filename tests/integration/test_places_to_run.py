"""Where programs run: users without a home, closed streams, odd locales and terminals, readers that go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_core.broker.server.embedded import EmbeddedServer
from tests.integration.lab import Lab

FEDTIDE = [sys.executable, "-P", "-m", "coordinator"]
WORKER = [sys.executable, "-P", "-m", "workers", "--broker", "redis://127.0.0.1:1/0", "--data", "json:loads"]
POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ROOT = str(Path(__file__).parents[2])


def _namesakes(folder: Path, *names: str) -> Path:
    """A folder of a user's own with modules that are called like some that we import, and may not be imported."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('of the user')\n")
    return folder


def _start(
    command: list[str], folder: Path, prepare: Callable[[], Any] | None = None, **environment: str | None
) -> Any:
    variables: dict[str, str | None] = {**os.environ, "PYTHONPATH": ROOT, **environment}
    return subprocess.run(
        command,
        cwd=folder,
        env={name: value for name, value in variables.items() if value is not None},
        preexec_fn=prepare,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None, "XDG_STATE_HOME": None, "USER": None, "LOGNAME": None},
        {"HOME": "/proc", "TMPDIR": "/nowhere"},
        {**POSIX, "LANG": "C", "TZ": "Nowhere/Atlantis"},
        {"PYTHONIOENCODING": "ascii", "TERM": "dumb", "COLUMNS": "20"},
        {"PYTHONOPTIMIZE": "2", "TZ": "Australia/Lord_Howe", "PATH": "/nowhere"},
    ],
    ids=["no home", "no folder to write", "no locale", "dumb terminal", "optimised"],
)
def test_commands_work_in_bare_environments(
    tmp_path: Path, broker_server: EmbeddedServer, environment: dict[str, str | None]
) -> None:
    """A table of the broker's fitness is printed, and a worker with a folder gets as far as the broker."""
    done = _start([*FEDTIDE, "check", "--broker", broker_server.url], tmp_path, **environment)
    assert done.returncode in (0, 1), done.stderr
    assert "persistence" in done.stdout
    assert not done.stderr
    done = _start([*WORKER, "--state-dir", str(tmp_path / "ü-state")], tmp_path, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "Error: reaching the broker at redis://127.0.0.1:1/0" in done.stderr


def test_a_user_without_a_home_is_asked_for_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Containers are run as users that the system does not know; and a home that cannot be written is none."""
    from fl_core.errors import SpecError
    from fl_core.program.host import state_home
    from workers.cli import _make_state_dir

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(SpecError, match=r"no home directory .* --state-dir"):
        state_home()
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match=r"--state-dir .* cannot be written \(Not a directory\); name another folder"):
        _make_state_dir(tmp_path / "file" / "fedtide")


def _close(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_do_no_harm(tmp_path: Path, broker_server: EmbeddedServer, closed: tuple[int, ...]) -> None:
    """``>&-`` gives a stream's number to the next socket: nothing of what is printed may go there."""
    done = _start([*FEDTIDE, "workers", "--broker", broker_server.url, "--json"], tmp_path, _close(*closed))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("" if 1 in closed else "[]")
    done = _start([*WORKER, "--state-dir", str(tmp_path / "state")], tmp_path, _close(*closed))
    assert done.returncode == 2
    assert ("Error: reaching the broker" in done.stderr) == (2 not in closed)


def test_a_working_directory_that_is_gone_is_told(tmp_path: Path, broker_server: EmbeddedServer) -> None:
    """Commands that need none work; those that write beside them say so in a sentence."""
    gone = tmp_path / "gone"
    gone.mkdir()
    spec = Path(ROOT, "examples/digits/campaign.toml")
    done = _start([*FEDTIDE, "workers", "--broker", broker_server.url, "--json"], gone, gone.rmdir)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    gone.mkdir()
    done = _start([*FEDTIDE, "run", str(spec)], gone, gone.rmdir)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_a_campaign_runs_where_nothing_is_as_usual(tmp_path: Path) -> None:
    """A folder with a colon, spaces, letters beyond ASCII and too long a name for a socket; no locale; a closed umask.

    The readers of both programs' output go away after a line. And PYTHONPATH has packages with the names of ours.
    """
    theirs = _namesakes(tmp_path / "theirs", "fl_core", "workers", "fedtide")
    folder = tmp_path / f"ü 12:30, {'very-long-' * 12}"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "import torch\n\n\ndef net():\n    return torch.nn.Linear(4, 2)\n\n\ndef bits(shard):\n"
        "    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(shard))\n"
        "    return torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())\n"
    )
    (folder / "campaign.toml").write_text(
        "\ufeff# größe\r\n[model]\r\nfactory = 'mine:net'\r\n[stop]\r\nupdates = 12\r\n"
        "[aggregation]\r\nbuffer_size = 1\r\n[evaluation]\r\ndata = 'mine:bits'\r\ndata_args = {shard = 9}\r\n"
    )
    (folder / "fleet.toml").write_text(
        "\ufeff[[worker]]\nname = 'w'\ncount = 2\ndata = 'mine:bits'\ndata_args = {shard = '{index}'}\n"
    )
    process = subprocess.Popen(
        [*FEDTIDE, "run", str(folder / "campaign.toml"), "--fleet", str(folder / "fleet.toml"), "--port", "0",
         "--out", str(folder / "out"), "--log-level", "debug"],
        cwd="/",
        env={**os.environ, **POSIX, "PYTHONPATH": f"{theirs}:{ROOT}", "COLUMNS": "20"},
        umask=0o077,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()
    words = (folder / "out/workers/w-0.log").read_text() if process.wait(100) else ""
    assert process.returncode == 0, first.decode() + words
    summary = json.loads((folder / "out/summary.json").read_text())
    assert summary["merged"] >= 12
    assert set(summary["merged_by_worker"]) <= {"w-0", "w-1"}
    assert (folder / "out/model.safetensors").is_file()
    assert (folder / "out/report.html").is_file()
    assert summary["final_accuracy"] is not None


def test_a_worker_outlives_the_reader_of_its_log(lab: Lab) -> None:
    """journald was restarted: the worker goes on with its tasks, and ends in order when it is told to."""
    run = lab.run(lab.spec(stop={"updates": 10}))
    process = subprocess.Popen(
        [*WORKER[:4], "--broker", lab.url, "--data", "fl_core.data:digits", "--name", "w",
         "--state-dir", str(lab.folder / "state"), "--log-level", "debug"],
        cwd=lab.folder,
        env={**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert run.wait(100) == 0, run.output
        assert lab.summary()["merged_by_worker"] == {"w": lab.summary()["merged"]}
        assert lab.summary()["reissued"] == 0
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()


OURS = ("coordinator", "workers", "keepers", "fl_core", "fedtide")


@pytest.mark.parametrize("program", ["coordinator", "workers", "fedtide"])
def test_a_program_finds_its_own_packages_beside_namesakes(tmp_path: Path, program: str) -> None:
    """In the working directory, which ``python -m`` searches first; the user's modules are found all the same."""
    others = [name for name in OURS if name != program]
    _namesakes(tmp_path, *others, "click")
    (tmp_path / "mine.py").write_text("import json\nloads = json.loads\n")
    arguments = [sys.executable, "-m", program]
    if program == "workers":
        done = _start([*arguments, *WORKER[4:-1], "mine:loads", "--state-dir", str(tmp_path / "state")], tmp_path)
        assert done.returncode == 2
        assert "Error: reaching the broker" in done.stderr
    else:
        done = _start([*arguments, "compare", "--help"], tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_installed_programs_find_their_own_packages(tmp_path: Path) -> None:
    """Whatever lies where PYTHONPATH looks first."""
    theirs = _namesakes(tmp_path, "coordinator", "workers", "fl_core")
    for program in ("fedtide", "fedtide-worker"):
        done = _start([str(Path(sys.executable).parent / program), "--help"], tmp_path, PYTHONPATH=f"{theirs}:{ROOT}")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"Usage: {program} " in done.stdout


@pytest.mark.parametrize(
    "line", ["import fedtide; fedtide.run('campaign.toml')", "from fedtide.testing import LogByHand"]
)
def test_a_script_is_told_what_its_folder_takes_away(tmp_path: Path, line: str) -> None:
    """A script's own folder comes first, rightly; one sentence names the file that is in the way."""
    theirs = _namesakes(tmp_path, "coordinator")
    (tmp_path / "script.py").write_text(line)
    done = _start([sys.executable, "script.py"], tmp_path)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: fedtide needs its own package 'coordinator', but that name is taken here by "
        f"{theirs / 'coordinator/__init__.py'}; rename yours."
    )
