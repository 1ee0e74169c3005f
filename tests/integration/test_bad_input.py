"""Wrong input to the real programs: one sentence, exit code 2, no traceback, and nothing else disturbed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fl_core.wire.digest import digest
from tests.integration.lab import Lab, until


def assert_one_sentence(output: str, *words: str) -> None:
    """The error is told in one line that has these words in it."""
    assert "Traceback" not in output, output
    lines = [line for line in output.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, output
    for word in words:
        assert word in lines[0], output


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"aggregation": {"bufer_size": 3}}, ("aggregation.bufer_size", "buffer_size")),
        ({"model": {"factory": "nowhere.to:find"}}, ("model.factory", "nowhere")),
        ({"model": {"args": {"inputs": -1}}}, ("inputs", "-1")),
        ({"stop": {"accuracy": 0.9}}, ("evaluation.data",)),
        ({"evaluation": {"data": "fl_core.data:nothing"}}, ("evaluation.data", "nothing")),
    ],
)
def test_wrong_spec_is_refused(lab: Lab, sections: dict[str, Any], words: tuple[str, ...]) -> None:
    """A wrong spec ends the program before or right after its launch with the key in the sentence."""
    program = lab.run(lab.spec(**sections))
    assert program.wait(30) == 2
    assert_one_sentence(program.output, *words)


def test_unreachable_broker_is_told(lab: Lab) -> None:
    """Nobody listens there: both programs say so and end with code 2."""
    lab.url = "redis://127.0.0.1:1/0"
    coordinator, worker = lab.run(lab.spec()), lab.worker("lonely")
    for program in (coordinator, worker):
        assert program.wait(30) == 2
        assert_one_sentence(program.output, "127.0.0.1:1", "does not answer")


def test_worker_with_missing_data_module_does_not_start(lab: Lab) -> None:
    """The data factory's module is not installed on the device."""
    program = lab.worker("wrong", "--data", "no_such_package:shard")
    assert program.wait(20) == 2
    assert_one_sentence(program.output, "data", "no_such_package")


def test_worker_with_an_empty_shard_leaves_and_the_task_goes_to_another(lab: Lab) -> None:
    """A device without examples ends with one sentence; its task is handed back without spending an attempt."""
    (lab.folder / "empty.py").write_text(
        "from torch.utils.data import TensorDataset\nimport torch\n"
        "def shard(**_):\n    return TensorDataset(torch.zeros(0, 64), torch.zeros(0, dtype=torch.long))\n"
    )
    coordinator = lab.run(lab.spec(dispatch={"concurrency": 2, "max_attempts": 1}, stop={"updates": 10}))
    empty = lab.worker("empty", "--data", "empty:shard")
    assert empty.wait(30) == 2
    assert_one_sentence(empty.output, "empty:shard", "no example")
    lab.worker("full")
    assert coordinator.wait(30) == 0
    summary = lab.summary()
    assert summary["merged"] == 10
    assert summary["rejected"] == {}
    assert summary["expired"] == 0


def test_device_with_another_model_is_counted_and_disturbs_nobody(lab: Lab) -> None:
    """The factory builds another layout on one device: its tasks fail there and are done elsewhere."""
    (lab.folder / "drifting.py").write_text(
        "import os, torch\n"
        "def model():\n    return torch.nn.Linear(64, 10 + int(os.environ.get('EXTRA_CLASSES', '0')))\n"
    )
    spec = lab.spec(model={"factory": "drifting:model", "args": None}, stop={"updates": 10})
    coordinator = lab.run(spec)
    data_args = '{"shard": 0, "num_shards": 4}'
    odd = lab.program(
        "workers", "--broker", lab.url, "--data", "fl_core.data:digits", "--data-args", data_args, "--name", "odd",
        "--state-dir", str(lab.folder / "odd"), "--allow", "drifting", name="odd", EXTRA_CLASSES="1",
    )  # fmt: skip
    until(lambda: "install the same model code" in odd.output)
    lab.worker("good", "--allow", "drifting", delay=0.05)
    assert coordinator.wait(40) == 0
    assert lab.summary()["merged_by_worker"] == {"good": 10}
    assert "training failed" in coordinator.output


def test_update_for_another_campaign_is_a_counted_rejection(lab: Lab) -> None:
    """A payload that belongs elsewhere is refused by name, parked, and nothing else happens."""
    import redis

    from fl_core.wire.messages import ModelUpdate

    coordinator = lab.run(lab.spec(stop={"updates": 30}))
    lab.worker("steady", delay=0.1)
    until(lambda: lab.history())
    payload = b"\0" * 64
    stranger = ModelUpdate(
        campaign="other-1", task_id="1-000000000000", attempt=1, worker="w", base_version=0, num_examples=1,
        sends="delta", codec="fp32", layout_digest="0" * 32, payload_bytes=64, payload_digest=digest(payload),
        blob="", num_chunks=0, bytes_down=0, metrics={}, seconds={},
    )  # fmt: skip
    name = lab.ask("campaigns")[0]["campaign"]
    redis.Redis.from_url(lab.url).xadd(f"fedtide:c:{{{name}}}:log", {"u": stranger.to_bytes(), "p": payload})
    assert coordinator.wait(40) == 0
    summary = lab.summary()
    assert summary["surplus"] == {"wrong_campaign": 1}
    assert summary["merged"] == 30


def test_killed_training_process_is_reported_and_replaced(lab: Lab) -> None:
    """The kernel ends the training child (out of memory, say): the worker reports the task and goes on."""
    (lab.folder / "waiting.py").write_text(
        "import pathlib, time, torch\n"
        "class Waiting(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        while pathlib.Path('hold').exists():\n"
        "            time.sleep(0.05)\n"
        "        return super().forward(x)\n"
        "def model():\n    return Waiting(64, 10)\n"
    )
    (lab.folder / "hold").touch()
    spec = lab.spec(model={"factory": "waiting:model", "args": None}, dispatch={"concurrency": 1}, stop={"updates": 1})
    coordinator, worker = lab.run(spec, "--trial-seconds", "0"), lab.worker("fragile", "--allow", "waiting")
    until(lambda: any(row["state"] == "training" for row in lab.ask("workers")))
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    (lab.folder / "hold").unlink()
    until(lambda: "the training process died" in worker.output)
    assert coordinator.wait(60) == 0
    summary = lab.summary()
    assert summary["merged_by_worker"] == {"fragile": 1}
    assert summary["reissued"] == 1
    assert "the training process was killed by SIGKILL, perhaps for want of memory" in coordinator.output


def test_finished_campaign_cannot_be_resumed(lab: Lab) -> None:
    """--resume of a campaign that has ended says so."""
    spec = lab.spec(stop={"updates": 2})
    coordinator = lab.run(spec)
    lab.worker("quick")
    assert coordinator.wait(40) == 0
    again = lab.run(spec, "--resume", name="again")
    assert again.wait(20) == 2
    assert_one_sentence(again.output, "is finished; launch a new one")


def test_run_never_overwrites_a_campaign(lab: Lab) -> None:
    """A second launch into the same folder is refused; --auto-resume goes on, and ends well when all is done."""
    spec = lab.spec(stop={"updates": 4})
    coordinator = lab.run(spec)
    lab.worker("quick")
    assert coordinator.wait(40) == 0
    summary = lab.summary()
    second = lab.run(spec, name="second")
    assert second.wait(20) == 2
    assert_one_sentence(second.output, "holds a campaign already", "--resume")
    service = lab.run(spec, "--auto-resume", name="service")
    assert service.wait(20) == 0
    assert "there is nothing to do" in service.output
    assert lab.summary() == summary
    fresh = lab.run(spec, "--auto-resume", out="fresh", name="fresh")
    assert fresh.wait(30) == 0
    assert lab.summary("fresh")["merged"] == 4
