"""What a launch tries before it launches: every fault that is known then is told then, in one sentence."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from coordinator.launch.trial import check_disk, refuse_faults, try_campaign, try_spec
from fl_core.aggregation import Strategy
from fl_core.errors import SpecError
from fl_core.models.build import build_model
from fl_core.program.outside import send_findings
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.trial.findings import Doing, Finding, faults
from fl_core.vectors.layout import Layout

MINE = __name__
X, Y = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3


class _Sink:
    """Takes what a child would send."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, step: Any) -> None:
        self.sent.append(step)


def _found(spec: CampaignSpec) -> list[Finding]:
    sink: Any = _Sink()
    went_well = send_findings(sink, try_spec(spec))
    findings = [step for step in sink.sent if isinstance(step, Finding)]
    assert sink.sent[-1] is None
    assert any(isinstance(step, Doing) for step in sink.sent)
    assert went_well == (not faults(findings))
    return findings


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CampaignSpec]:
    """Makes a spec whose import paths may name what stands in this file, as ``users:NAME``."""
    import sys
    import types

    users = types.ModuleType("users")
    vars(users).update({name: value for name, value in globals().items() if not name.startswith("__")})
    monkeypatch.setitem(sys.modules, "users", users)

    def make(**sections: dict[str, Any]) -> CampaignSpec:
        document: dict[str, dict[str, Any]] = {
            "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [5], "classes": 3}},
            "evaluation": {"data": "users:three_classes"},
        }
        for name, section in sections.items():
            document[name] = {**document.get(name, {}), **section}
        return parse_spec(document)

    return make


# -- what users bring ----------------------------------------------------------------------------------------------


def three_classes() -> TensorDataset:
    """Nothing wrong with it."""
    return TensorDataset(X, Y)


def regression() -> TensorDataset:
    """Targets that are no classes."""
    return TensorDataset(X, X[:, :1])


def narrow() -> TensorDataset:
    """Another number of inputs than the model has."""
    return TensorDataset(X[:, :3], Y)


def many_classes() -> TensorDataset:
    """More classes than the model has."""
    return TensorDataset(X, Y + 3)


def nothing() -> TensorDataset:
    """No examples."""
    return TensorDataset(X[:0], Y[:0])


def ignored() -> TensorDataset:
    """No target counts."""
    return TensorDataset(X, torch.full((40,), -100))


def triples() -> TensorDataset:
    """Three parts."""
    return TensorDataset(X, X, Y)


def raising(path: str) -> TensorDataset:
    """A factory that cannot find its file."""
    raise FileNotFoundError(path)


class _Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        raise KeyError("image")


def broken() -> Dataset[Any]:
    """Raises when an example is read."""
    return _Broken()


Aux = namedtuple("Aux", ["logits", "aux_logits"])


class _Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.aux = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return Aux(self.head(x), self.aux(x))


def auxiliary() -> nn.Module:
    """A second head that the loss does not see."""
    return _Auxiliary()


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(x), x


class _Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        for name, value in {"mask": -torch.inf, "low": torch.inf, "unknown": torch.nan}.items():
            self.register_buffer(name, torch.tensor([0.0, value]))

    def forward(self, x: Tensor) -> Any:
        if self.training:
            with torch.no_grad():
                self.low.copy_(torch.minimum(self.low, x.min()))
        return self.head(x)


def masked() -> nn.Module:
    """Buffers that are not finite: a mask, an observer's extreme that moves, a value not measured yet."""
    return _Masked()


def two_outputs() -> nn.Module:
    """Which one is meant?"""
    return _Pair()


class _Follower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.teacher = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.teacher.weight.data.mul_(0.9).add_(self.head.weight.data, alpha=0.1)
        return self.head(x) + self.teacher(x)  # type: ignore[no-any-return]


def follower() -> nn.Module:
    """A frozen teacher that follows what is trained."""
    return _Follower()


def one_class() -> TensorDataset:
    """No AUC can be had of these."""
    return TensorDataset(X, torch.zeros(40, dtype=torch.int64))


def vector_loss(output: Tensor, target: Tensor) -> Tensor:
    """Not reduced."""
    return nn.functional.cross_entropy(output, target, reduction="none")


class _Strategy(Strategy):
    """Divides by what is left over, which is nothing."""

    def offer(self, contribution: Any) -> Any:
        return 1 // self.buffer_count


strategy = _Strategy


def show(model: nn.Module, summary: Any, folder: Path, *, prompt: str) -> str:
    """Wants a prompt."""
    return prompt


# -- the tests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("strategy", "codec"), [("fedbuff", "topk"), ("fedasync", "int8"), ("fedavg", "fp16")])
def test_a_sound_campaign_has_no_fault(
    spec: Callable[..., CampaignSpec], strategy: str, codec: str, batch_norm: bool
) -> None:
    """It is told what it is: sizes, shapes, scores of version 0."""
    findings = _found(
        spec(
            aggregation={"strategy": strategy},
            codec={"name": codec},
            model={"args": {"inputs": 4, "hidden": [5], "classes": 3, "batch_norm": batch_norm}},
        )
    )
    assert [finding.verdict for finding in findings if finding.name != "pictures"] == ["ok"] * (6 + batch_norm)
    told = " ".join(finding.sentence for finding in findings)
    for words in ("trainable parameters", "40 examples", "float32 of shape (40, 4)", ", accuracy 0.", codec, strategy):
        assert words in told


@pytest.mark.parametrize("strategy", ["fedbuff", "fedasync", "robust"])
def test_a_buffer_may_hold_what_is_not_finite(spec: Callable[..., CampaignSpec], strategy: str) -> None:
    """Plain torch trains such a model; only its weights have to stay finite."""
    findings = _found(spec(model={"factory": "users:masked", "args": {}}, aggregation={"strategy": strategy}))
    assert not faults(findings), findings


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"evaluation": {"data": "users:nothing"}}, ("'users:nothing' with {} has no examples",)),
        ({"evaluation": {"data": "users:triples"}}, ("examples are 3 parts", "pairs (input, target)")),
        ({"evaluation": {"data": "users:broken"}}, ("reading a batch raised KeyError: 'image'",)),
        ({"evaluation": {"data": "users:raising", "data_args": {"path": "a.csv"}}}, ("FileNotFoundError: a.csv",)),
        (
            {"evaluation": {"data": "users:raising", "data_args": {"file": "a"}}},
            ("unexpected keyword argument 'file'",),
        ),
        ({"evaluation": {"data": "users:narrow"}}, ("forward pass raised RuntimeError", "cannot be multiplied")),
        ({"evaluation": {"data": "users:many_classes"}}, ("loss(output, target) raised IndexError",)),
        ({"model": {"factory": "users:two_outputs", "args": {}}}, ("_Pair returned a tuple of", "the one tensor")),
        ({"training": {"loss": "users:vector_loss"}}, ("training.loss = 'users:vector_loss'",)),
        ({"training": {"loss": "cross_entropi"}}, ("did you mean 'cross_entropy'?",)),
        ({"training": {"learning_rate": 1e38}}, ("not finite", "lower training.learning_rate")),
        (
            {
                "training": {"batch_size": 1},
                "model": {"args": {"inputs": 4, "hidden": [5], "classes": 3, "batch_norm": True}},
            },
            ("one value per channel", "use training.batch_size of 2 or more"),
        ),
        ({"aggregation": {"strategy": "users:strategy"}}, ("'users:strategy'", "ZeroDivisionError")),
        ({"evaluation": {"show": "users:show"}}, ("missing a required argument: 'prompt'",)),
        ({"codec": {"name": "users:three_classes"}}, ("codec.name = 'users:three_classes'",)),
        (
            {"model": {"factory": "users:follower", "args": {}}},
            ("changes the frozen parameter 'teacher.weight'", '"teacher.*" = "mean"'),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_fault_is_told_in_a_sentence(
    spec: Callable[..., CampaignSpec], sections: dict[str, dict[str, Any]], words: tuple[str, ...]
) -> None:
    """Names the thing, and nobody is told to resume what was never launched."""
    findings = _found(spec(**sections))
    with pytest.raises(SpecError) as refused:
        refuse_faults(findings)
    for word in words:
        assert word in str(refused.value)
    assert "--resume" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sections", "name", "words"),
    [
        (
            {"model": {"factory": "users:auxiliary", "args": {}}},
            "training",
            "2 of the trainable tensors got no gradient: aux.weight",
        ),
        ({"stop": {"loss": 50.0}}, "stop", "stop.loss = 50 may be met at once"),
        ({"stop": {"accuracy": 0.01}}, "stop", "stop.accuracy = 0.01 may be met at once"),
        (
            {"stop": {"metric": {"name": "top_2_accuracy", "at_least": 0.01}}},
            "stop",
            "stop.metric 'top_2_accuracy' at_least 0.01 may be met at once",
        ),
        (
            {"evaluation": {"data": "users:one_class"}, "stop": {"metric": {"name": "auc", "at_least": 0.9}}},
            "stop",
            "give no auc, and stop.metric 'auc' at_least 0.9 is never met",
        ),
    ],
)
def test_what_may_be_meant_is_a_warning(
    spec: Callable[..., CampaignSpec], sections: dict[str, dict[str, Any]], name: str, words: str
) -> None:
    """It is told, and the launch goes on."""
    findings = _found(spec(**sections))
    [warning] = [finding for finding in findings if finding.verdict == "warning" and finding.name != "pictures"]
    assert warning.name == name
    assert words in warning.detail
    refuse_faults(findings)


def test_a_loss_that_is_not_a_number_is_a_fault(spec: Callable[..., CampaignSpec]) -> None:
    """Targets that are all ignored have no mean loss: no update would ever be finite."""
    wrong = faults(_found(spec(evaluation={"data": "users:ignored"})))
    assert wrong
    assert "None of the targets" in wrong[0].sentence


def test_roles_that_the_author_gives_are_respected(spec: Callable[..., CampaignSpec]) -> None:
    """The same model goes through once somebody has said what becomes of its teacher."""
    model = {"factory": "users:follower", "args": {}, "buffers": {"teacher.*": "mean"}}
    findings = _found(spec(model=model))
    assert not faults(findings)
    [told] = [finding for finding in findings if finding.name == "buffers"]
    assert "training changes 1 of 2 tensors without gradient: 1 mean" in told.detail


def test_without_held_out_data_less_is_tried(spec: Callable[..., CampaignSpec]) -> None:
    """And that is told."""
    findings = _found(spec(evaluation={"data": None}))
    assert not faults(findings)
    assert "not tried" in findings[-1].sentence


def test_the_model_is_left_as_it_was(spec: Callable[..., CampaignSpec]) -> None:
    """The evaluator goes on with it: parameters, statistics and counters are those of version 0."""
    whole = spec(model={"args": {"inputs": 4, "hidden": [5], "classes": 3, "batch_norm": True}})
    model = build_model(whole.model.factory, whole.model.args, whole.campaign.seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in try_campaign(whole, model, Layout.of(model)):
        pass
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_disk_without_room_is_refused(
    spec: Callable[..., CampaignSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkpoints and the model have to fit."""
    layout = Layout.of(nn.Linear(100, 100))
    check_disk(tmp_path, layout, 1)
    free = namedtuple("free", ["total", "used", "free"])(0, 0, 3 * layout.num_bytes)
    monkeypatch.setattr("coordinator.launch.trial.shutil.disk_usage", lambda folder: free)
    check_disk(tmp_path, layout, 1)
    with pytest.raises(SpecError) as refused:
        check_disk(tmp_path, layout, 2)
    assert "has 0.121 MB free, and two checkpoints and the model take 0.202 MB" in str(refused.value)


def test_findings_of_numpy_numbers_are_sentences() -> None:
    """A clause and its remedy."""
    assert Finding("a", "fail", f"{np.float32(1.5):g} is odd.", "mend it").sentence == "1.5 is odd; mend it."
