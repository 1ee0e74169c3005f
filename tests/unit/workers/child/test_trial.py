"""``fedtide-worker --check``: what a task would meet on this device, told before there is one."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from fl_core.models.build import build_model
from fl_core.program.outside import send_findings
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.training.order import train_order
from fl_core.trial.findings import Finding, faults
from fl_core.vectors.layout import Layout
from workers.child import trial
from workers.child.trial import try_device
from workers.cli import worker
from workers.settings import WorkerSettings

X, Y = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3


def shard() -> TensorDataset:
    """Nothing wrong with it."""
    return TensorDataset(X, Y)


def few_examples() -> TensorDataset:
    """Too few to be divided."""
    return TensorDataset(X[:2], Y[:2])


def floats() -> TensorDataset:
    """Classes written as floats."""
    return TensorDataset(X, Y.float())


def net() -> nn.Module:
    """Not one of the built-in models."""
    return nn.Linear(4, 3)


class _Follower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.teacher = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.teacher.weight.data.mul_(0.9).add_(self.head.weight.data, alpha=0.1)
        return self.norm(self.head(x) + self.teacher(x))  # type: ignore[no-any-return]


def follower() -> nn.Module:
    """A frozen teacher that follows what is trained, and running statistics."""
    return _Follower()


@pytest.fixture(autouse=True)
def _users(monkeypatch: pytest.MonkeyPatch) -> None:
    users = types.ModuleType("device_users")
    for made in (shard, few_examples, floats, net, follower):
        monkeypatch.setattr(made, "__module__", "device_users")
        setattr(users, made.__name__, made)
    monkeypatch.setitem(sys.modules, "device_users", users)


def _spec(**sections: dict[str, Any]) -> CampaignSpec:
    document: dict[str, dict[str, Any]] = {
        "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [5], "classes": 3}},
        "training": {"batch_size": 8},
    }
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section}
    return parse_spec(document)


def _settings(tmp_path: Path, **changes: Any) -> WorkerSettings:
    return WorkerSettings(**{
        "broker": "", "data": "device_users:shard", "name": "one", "state_dir": tmp_path, "device": "cpu", **changes,
    })  # fmt: skip


def _found(settings: WorkerSettings, spec: CampaignSpec | None) -> list[Finding]:
    sent: list[Any] = []
    send_findings(types.SimpleNamespace(send=sent.append), try_device(settings, spec))  # type: ignore[arg-type]
    return [step for step in sent if isinstance(step, Finding)]


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"codec": {"name": "topk", "importance": "fisher"}},
        {"aggregation": {"strategy": "fedasync"}},
        {"training": {"method": "personal"}},
        {"training": {"method": "per_fedavg", "local_steps": 3}},
        {"training": {"method": "partial", "method_args": {"num_parts": 2}}, "aggregation": {"strategy": "partial"}},
        {"aggregation": {"strategy": "mine:Strategy"}},
    ],
    ids=lambda sections: str(sections)[:50],
)
def test_a_device_that_can(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Each method is tried by its own code; a strategy of the author's own need not be installed here."""
    findings = _found(_settings(tmp_path), _spec(**sections))
    assert not faults(findings), findings
    assert [finding.name for finding in findings] == [
        "device", "data", "model", "training", "time", "codec", "memory",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "sections", "words"),
    [
        ({"data": "device_users:none"}, {}, ("has no callable 'none'",)),
        ({"data_args": {"path": "x"}}, {}, ("unexpected keyword argument 'path'",)),
        ({"data": "device_users:floats"}, {}, ("data = 'device_users:floats': The target is float32",)),
        ({"data": "device_users:few_examples"}, {"training": {"method": "personal"}}, ("2 examples", "need one each")),
        ({}, {"model": {"factory": "device_users:net", "args": {}}}, ("not allowed", "--allow device_users:net")),
        ({}, {"training": {"loss": "cross_entropi"}}, ("did you mean 'cross_entropy'?",)),
        ({}, {"training": {"learning_rate": 1e38}}, ("lower training.learning_rate",)),
        ({}, {"codec": {"name": "mine:codec"}}, ("codec.name = 'mine:codec'", "--allow mine:codec")),
        ({"device": "cuda:99"}, {}, ("device = 'cuda:99' is not on this machine",)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_device_that_cannot(
    tmp_path: Path, changes: dict[str, Any], sections: dict[str, dict[str, Any]], words: tuple[str, ...]
) -> None:
    """One sentence, with the remedy."""
    [fault] = faults(_found(_settings(tmp_path, **changes), _spec(**sections)))
    for word in words:
        assert word in fault.sentence


def test_what_is_allowed_is_tried(tmp_path: Path) -> None:
    """The same gate as for tasks, and open where the owner says so."""
    spec = _spec(model={"factory": "device_users:net", "args": {}})
    assert not faults(_found(_settings(tmp_path, allow=("device_users",)), spec))


@pytest.mark.parametrize("method", ["local", "personal", "per_fedavg"])
def test_tensors_that_nobody_trains_are_watched(tmp_path: Path, method: str) -> None:
    """Running statistics are fine, and so is what the author has said a word about."""
    settings, training = _settings(tmp_path, allow=("device_users",)), {"method": method, "local_steps": 3}
    model = {"factory": "device_users:follower", "args": {}}
    [fault] = faults(_found(settings, _spec(model=model, training=training)))
    assert "changes the frozen parameter 'teacher.weight'" in fault.sentence
    assert 'model.buffers = { "teacher.*" = "mean" }' in fault.sentence
    findings = _found(settings, _spec(model={**model, "buffers": {"teacher.*": "mean"}}, training=training))
    assert not faults(findings)


def test_a_task_that_would_be_given_up_is_told(tmp_path: Path) -> None:
    """At the pace of this device it takes longer than the coordinator waits."""
    spec = _spec(training={"local_epochs": 100_000}, dispatch={"task_timeout_seconds": 1.0})
    [told] = [finding for finding in _found(_settings(tmp_path), spec) if finding.name == "time"]
    assert told.verdict == "warning"
    assert "above dispatch.task_timeout_seconds = 1" in told.detail


def test_what_the_device_may_still_give_is_told(tmp_path: Path) -> None:
    """With local noise; and a limit of its owner's refuses a campaign without."""
    private = _spec(privacy={"mode": "local", "noise_multiplier": 4.0, "clip": 0.5, "max_participations": 7})
    [told] = [finding for finding in _found(_settings(tmp_path), private) if finding.name == "privacy"]
    assert told.verdict == "ok"
    assert told.detail.startswith("7 updates of this device may leave it, with noise of 4 times privacy.clip = 0.5")
    limited = _settings(tmp_path, max_epsilon=4.0)
    [told] = [finding for finding in _found(limited, private) if finding.name == "privacy"]
    assert told.detail.startswith("2 updates")
    [fault] = faults(_found(limited, _spec()))
    assert "--max-epsilon 4 lets updates leave this device only with noise" in fault.sentence


def test_the_campaigns_of_the_broker_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that run on this worker's queues; a model that is another one here is a fault."""
    spec = _spec()
    good = train_order("good-1", spec, Layout.of(build_model(spec.model.factory, spec.model.args, 0)), "delta")
    other = train_order("other-1", spec, Layout.of(nn.Linear(4, 3)), "delta")
    asked: list[Any] = []

    class Registry:
        def __init__(self, client: Any) -> None:
            pass

        def orders(self, queues: Any, trust: Any) -> list[Any]:
            asked.append(queues)
            return [other, good]

    monkeypatch.setattr(trial, "Registry", Registry)
    monkeypatch.setattr(trial, "connect", lambda *args, **kwargs: types.SimpleNamespace(ping=lambda: True))
    findings = _found(_settings(tmp_path, broker="redis://127.0.0.1:1/0", queues=("gpu",)), None)
    assert asked == [("gpu",)]
    assert any("other-1, good-1 runs on gpu" in finding.detail for finding in findings)
    [fault] = faults(findings)
    assert fault.name == "other-1"
    assert findings[-2].name == "codec", "the other campaign was tried all the same"


def test_the_command_ends_with_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list for people, 0 or 2 for programs; nothing is written, and no broker is needed."""
    monkeypatch.setattr("fl_core.program.outside.threading.active_count", lambda: 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "campaign.toml").write_text(
        '[model]\nfactory = "fl_core.models:mlp"\nargs = { inputs = 64, hidden = [5], classes = 10 }\n'
    )
    arguments = ["--check", "--spec", "campaign.toml", "--data", "fl_core.data:digits"]
    sound = CliRunner().invoke(worker, arguments)
    assert sound.exit_code == 0, sound.output
    assert "ok       data: 1438 examples" in sound.output
    (tmp_path / "campaign.toml").write_text(
        '[model]\nfactory = "fl_core.models:mlp"\nargs = { inputs = 3, hidden = [5], classes = 10 }\n'
    )
    wrong = CliRunner().invoke(worker, arguments)
    assert wrong.exit_code == 2
    assert "fail     campaign (spec): training a few batches of data = 'fl_core.data:digits'" in wrong.output
    assert "Traceback" not in wrong.output
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.toml"]


def test_options_that_do_not_go_together() -> None:
    """A spec is for a check, and a worker needs a broker."""
    lacking = CliRunner().invoke(worker, ["--data", "json:loads"])
    assert (lacking.exit_code, "Missing option '--broker'" in lacking.output) == (2, True)
    spec = CliRunner().invoke(worker, ["--data", "json:loads", "--broker", "redis://127.0.0.1:1/0", "--spec", "a.toml"])
    assert (spec.exit_code, "--spec belongs to --check" in spec.output) == (2, True)
