"""The fleet file, and the processes that it starts."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from coordinator.launch.fleet import Fleet, FleetWorker, allowed_by, load_fleet, verify_queues
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec


def _load(tmp_path: Path, text: str) -> list[FleetWorker]:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return load_fleet(path)


def test_an_entry_needs_its_data_only(tmp_path: Path) -> None:
    """The rest has defaults that suit a trial on one machine: one process, one thread, the default queue."""
    (worker,) = _load(tmp_path, "[[worker]]\ndata = 'json:loads'")
    assert worker == FleetWorker(data="json:loads", queue=("default",), name="worker", threads=1, count=1)


def test_a_count_is_written_out(tmp_path: Path) -> None:
    """Each copy gets its own name, and its own number where the arguments say {index}."""
    workers = _load(
        tmp_path,
        """
        [[worker]]
        name = "slow"
        count = 3
        data = "json:loads"
        data_args = {shard = "{index}", shards = 5, note = "shard {index}"}
        queue = ["cpu", "gpu"]
        emulate_delay_seconds = 0.5
        [[worker]]
        data = "json:dumps"
        data_args = {shard = "{index}"}
        queue = "cpu"
        """,
    )
    assert [worker.name for worker in workers] == ["slow-0", "slow-1", "slow-2", "worker"]
    assert [worker.data_args.get("shard") for worker in workers] == [0, 1, 2, 0]
    assert {worker.data_args.get("note") for worker in workers[:3]} == {"shard {index}"}
    assert [worker.queue for worker in workers] == [("cpu", "gpu")] * 3 + [("cpu",)]
    assert {worker.count for worker in workers} == {1}
    assert workers[1].emulate_delay_seconds == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "worker is missing; add it."),
        ("worker = []", "worker = [] is not accepted; name at least one."),
        ("[[worker]]\ncount = 2", "worker.0.data is missing; add it."),
        ("[[worker]]\ndata = 'json:loads'\ndta = 1", "unknown key 'worker.0.dta'; did you mean 'data'?"),
        ("[[worker]]\ndata = 'json:loads'\nzzz = 1", "unknown key 'worker.0.zzz'; known keys: data, data_args, queue,"),
        (
            "[[worker]]\ndata = 'json:loads'\nname = 'a b'",
            "worker.0.name = 'a b' is not accepted; use letters, digits, '.', '_' and '-', at most 64.",
        ),
        ("[[worker]]\ndata = 'json:loads'\ncount = 0", "worker.0.count = 0 is not accepted; input should be greater"),
        ("[[worker]]\ndata = 'json:loads'\nqueue = []", "worker.0.queue = () is not accepted; name at least one."),
        ("[[worker]]\ndata = 'json:loads'\nthreads = 1.5", "worker.0.threads = 1.5 is not accepted; "),
        ("[[worker]]\ndata = 'mnist'", "worker.data = 'mnist' is not an import path"),
        ("[[worker]]\ndata = 'there_is_none:f'", "there is no module 'there_is_none' here; install it"),
        (
            "[[worker]]\ndata = 'json:loads'\n" * 2,
            "worker.name = 'worker' is there twice; give each worker its own name.",
        ),
        (
            "[[worker]]\ndata = 'json:loads'\nname = 'a-1'\n[[worker]]\ndata = 'json:loads'\nname = 'a'\ncount = 2",
            "worker.name = 'a-1' is there twice",
        ),
        ("[[worker", "is not valid TOML"),
    ],
)
def test_every_mistake_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """The file, the key, the value and the remedy, before any process is started."""
    with pytest.raises(SpecError) as caught:
        _load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/fleet.toml")
    assert said in str(caught.value)


def _wait(condition: object, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_a_fleet_whose_workers_all_end_says_why(tmp_path: Path) -> None:
    """The last word of a worker is the reason: here a module that this machine does not have."""
    worker = FleetWorker(data="there_is_none:f", name="pi")
    fleet = Fleet([worker], "redis://127.0.0.1:1/0", tmp_path)
    fleet.check()
    fleet.start()
    try:
        (pid,) = fleet.pids.values()
        assert _wait(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)
        with pytest.raises(
            SpecError, match="every worker of the fleet has ended; pi said: Error: data = 'there_is_none"
        ):
            fleet.check()
    finally:
        fleet.stop()


def test_a_fleet_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    """Workers that will not leave in time are ended, each has its own log, and one that ended alone is no error."""
    workers = [FleetWorker(data="json:loads", name="a"), FleetWorker(data="there_is_none:f", name="b")]
    fleet = Fleet(workers, "redis://127.0.0.1:1/0", tmp_path / "workers")
    fleet.start()
    pids = list(fleet.pids.values())
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGSTOP)  # deaf to any request
    assert _wait(lambda: os.waitid(os.P_PID, pids[1], os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)
    fleet.check()
    fleet.stop(grace_seconds=0.2)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert fleet.pids == {}
    assert {path.name for path in (tmp_path / "workers").glob("*.log")} == {"a.log", "b.log"}


def test_a_worker_of_the_fleet_is_told_all_that_its_entry_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command has the architecture, the speeds and the attack; an entry without them has no such options."""
    commands: dict[str, list[str]] = {}
    environments: list[dict[str, str]] = []

    class Started:
        pid, returncode = 1, 0

        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            commands[command[command.index("--name") + 1]] = command
            environments.append(env)

        def poll(self) -> int:
            return 0

        def wait(self, _: float | None = None) -> int:
            return 0

    monkeypatch.setattr("coordinator.launch.fleet.subprocess.Popen", Started)
    workers = _load(
        tmp_path,
        """
        [[worker]]
        name = "wide"
        data = "json:loads"
        model = "json:dumps"
        model_args = {width = 3}
        emulate_example_seconds = 0.25
        emulate_delay_seconds = 0.5
        emulate_attack = "scale"
        [[worker]]
        name = "plain"
        data = "json:loads"
        """,
    )
    Fleet(workers, "redis://:secret@h/0", tmp_path / "workers", ["a.b:c", "d"]).start()
    assert "secret" not in str(commands)  # everybody on the machine reads command lines
    assert {(e["FEDTIDE_BROKER"], e["FEDTIDE_ALLOW"]) for e in environments} == {("redis://:secret@h/0", "a.b:c d")}
    wide, plain = commands["wide"], commands["plain"]
    options = dict(pairwise(wide))
    assert options["--model"] == "json:dumps"
    assert options["--model-args"] == '{"width": 3}'
    assert (options["--emulate-example-seconds"], options["--emulate-delay-seconds"]) == ("0.25", "0.5")
    assert options["--emulate-attack"] == "scale"
    assert not {"--model", "--model-args", "--emulate-attack"} & set(plain)


def test_an_architecture_that_is_not_installed_is_told(tmp_path: Path) -> None:
    """Before any process is started, with the file and the key."""
    with pytest.raises(SpecError, match=r"worker.model = 'there_is_none:f'"):
        _load(tmp_path, "[[worker]]\ndata = 'json:loads'\nmodel = 'there_is_none:f'")


def test_a_trial_s_workers_allow_what_its_spec_names() -> None:
    """Model, method, codec and loss of one's own, and what their arguments name; built-in names need nothing."""
    sections: dict[str, Any] = {
        "model": {"factory": "fl_core.models:lora", "args": {"factory": "mine:net", "args": {"inner": "mine:part"}}},
        "training": {"method": "mine:Method", "loss": "mine:loss", "method_args": {"public_data": "mine:public"}},
        "codec": {"name": "mine:Codec"},
    }
    wanted = [f"mine:{name}" for name in ("Codec", "Method", "loss", "net", "part", "public")]
    assert allowed_by(CampaignSpec.model_validate(sections)) == ["fl_core.models:lora", *wanted]


def test_a_fleet_that_serves_no_queue_is_refused() -> None:
    """Unless others may come to the broker; it would wait for ever."""
    workers = [FleetWorker(data="json:loads", name="one"), FleetWorker(data="json:loads", name="two", queue=("gpu",))]
    verify_queues(workers, ("gpu",), alone=True)
    verify_queues(workers, ("phone",), alone=False)
    with pytest.raises(SpecError) as refused:
        verify_queues(workers, ("phone", "watch"), alone=True)
    assert "dispatch.queues = ['phone', 'watch'] is served by no worker" in str(refused.value)
    assert "whose queues are default, gpu" in str(refused.value)
