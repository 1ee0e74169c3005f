"""The end of a campaign: killed at any of its steps, `--resume` completes what is missing, and nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from safetensors.numpy import load_file

from coordinator.campaign import fruitless
from coordinator.cli import fedtide
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.program import crash_points
from fl_core.wire.digest import digest

SPEC = """
campaign = { name = "brief" }
model = { factory = "fl_core.models:mlp", args = { inputs = 64, hidden = [4], classes = 10 } }
evaluation = { data = "fl_core.data:digits", data_args = { split = "test" } }
dispatch = { concurrency = 2 }
stop = { seconds = 0.2 }
"""
OVER = [  # everything from here on follows from the last checkpoint
    "after_last_checkpoint", "before_model.safetensors_counts", "before_summary.json_counts", "after_summary",
    "spool_removed", "doorbells_removed", "before_end_commit", "before_release", "before_report", "before_complete",
]  # fmt: skip
POINTS = ["before_last_publish", "before_last_evaluation", "before_last_checkpoint", *OVER]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    import matplotlib.pyplot  # noqa: F401 - before the forks, which inherit what is loaded
    import sklearn.datasets  # noqa: F401
    import torch  # noqa: F401

    with EmbeddedServer(tmp_path_factory.mktemp("broker"), persistent=False) as server:
        yield server


def run(folder: Path, url: str, *more: str, crash_at: str = "") -> tuple[int, str]:
    """`fedtide run` in a child of this process: its exit code (negative: the signal) and what it said."""
    (folder / "spec.toml").write_text(SPEC)
    said = folder / "said.txt"
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
            os.dup2(1, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            crash_points._wanted = crash_at
            fruitless.nothing_came_of_it = lambda summary: ""  # no device takes part, which is another matter
            code = 1
            try:
                fedtide(["run", str(folder / "spec.toml"), "--broker", url, "--out", str(folder / "run"), *more])
            except SystemExit as end:
                code = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        os._exit(99)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.read_text()


def assert_complete(folder: Path, url: str) -> None:
    """All that a run leaves behind is there and fits together, and another resume says that it is over."""
    run_folder = folder / "run"
    summary = json.loads((run_folder / "summary.json").read_text())
    assert summary["state"] == "finished"
    (end,) = [row for row in map(json.loads, (run_folder / "history.jsonl").open()) if row["kind"] == "end"]
    assert end["reason"] == "seconds"
    named = load_file(run_folder / "model.safetensors")
    assert sum(array.size for array in named.values()) == summary["num_parameters"]
    # Two layers of two tensors, in the layout's order.
    order = ["1.weight", "1.bias", "3.weight", "3.bias"]
    values = b"".join(named[name].tobytes() for name in sorted(named, key=lambda name: _rank(order, name)))
    assert digest(values) == summary["model_digest"]
    for name in ("report.html", "curves.png", ".complete"):
        assert (run_folder / name).is_file(), name
    assert not (run_folder / "spool").exists()
    assert not list(run_folder.glob(".*.partial"))
    code, said = run(folder, url, "--resume")
    assert code == 2
    assert f"is finished; launch a new one. Its model is {run_folder / 'model.safetensors'}" in said
    code, said = run(folder, url, "--auto-resume")
    assert code == 0
    assert "there is nothing to do" in said


def _rank(order: list[str], name: str) -> int:
    return next((index for index, tail in enumerate(order) if name.endswith(tail)), len(order))


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step_of_the_end_it_is_completed(server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Model, summary, pictures and a tidy broker are there after --resume, wherever the coordinator died."""
    client = redis.Redis.from_url(server.url)
    client.flushall()
    assert run(tmp_path, server.url, crash_at=point)[0] == -signal.SIGKILL
    assert not (tmp_path / "run" / ".complete").exists()
    code, said = run(tmp_path, server.url, "--resume")
    assert code == 0, said
    assert_complete(tmp_path, server.url)
    (campaign,) = client.zrange("fedtide:campaigns", 0, -1)
    left = {key.decode().rpartition(":")[2] for key in client.keys(f"fedtide:c:{{{campaign.decode()}}}:*")}
    assert left <= {"status", "spec", "epoch", "feed", "fence", "commits", "head", "parked"}
    assert client.get(f"fedtide:c:{{{campaign.decode()}}}:epoch") == b"ended"
    assert not client.llen("fedtide.train.default")


@pytest.mark.parametrize("point", ["after_last_checkpoint", "before_end_commit"])
@pytest.mark.parametrize("fate", ["wiped", "away"])
def test_the_end_is_completed_without_the_broker(server: EmbeddedServer, tmp_path: Path, point: str, fate: str) -> None:
    """A broker that has forgotten the campaign, or is gone by then, keeps nobody from the model."""
    redis.Redis.from_url(server.url).flushall()
    assert run(tmp_path, server.url, crash_at=point)[0] == -signal.SIGKILL
    if fate == "wiped":
        redis.Redis.from_url(server.url).flushall()
    else:
        server.kill()
    try:
        code, said = run(tmp_path, server.url, "--resume")
        assert code == 0, said
        assert_complete(tmp_path, server.url)
        assert ("what the campaign left there stays" in said) == (fate == "away")
    finally:
        server.restart()
