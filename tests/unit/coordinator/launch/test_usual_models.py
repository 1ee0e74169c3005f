"""What public models are made of goes all the way, or is refused at the launch by the name of what cannot be right.

Each way is: built on coordinator and devices, tried as a launch tries it, three rounds of two devices of which the
second is stale, an evaluation, and the written model loaded strictly by plain torch. Models are twins, in torch alone,
of how GPT-2, T5, Llama, wav2vec 2.0, torchvision's classifiers and quantisation's tools hold their tensors.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.data import TensorDataset

from coordinator.launch.trial import try_campaign
from coordinator.storage.run_folder import RunFolder
from fl_core.aggregation import Contribution, build_strategy
from fl_core.aggregation.statistics import unfit
from fl_core.codecs import codec
from fl_core.codecs.model_payload import decode_update
from fl_core.errors import FedtideError, SpecError
from fl_core.metrics.evaluation import evaluate
from fl_core.models.build import build_model
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.training.method import build_method
from fl_core.training.one_task import Device, DeviceModel, do_task
from fl_core.trial.findings import Finding, faults
from fl_core.vectors import Delta, Parameters, read_all
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import tensors_beside
from tests.unit.workers.tasks import TASK

pytestmark = pytest.mark.filterwarnings("ignore")  # much of what people use is deprecated
CPU = torch.device("cpu")


def rows(seed: int = 0) -> TensorDataset:
    """Two classes of six numbers."""
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x.sum(1) > 0).long())


def _net(*hidden: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), *hidden, nn.ReLU(), nn.Linear(width, 2))


# -- twins ---------------------------------------------------------------------------------------------------------


class TiedLanguageModel(nn.Module):
    """Embeddings that are the encoder's, the decoder's and the head's; rotary frequencies that are not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(6, 4)
        self.encoder, self.decoder = nn.Embedding(6, 4), nn.Embedding(6, 4)
        self.lm_head = nn.Linear(4, 6, bias=False)
        self.encoder.weight = self.decoder.weight = self.lm_head.weight = self.shared.weight
        self.register_buffer("inv_freq", 1 / 10000 ** (torch.arange(4.0) / 4), persistent=False)
        self.register_buffer("position_ids", torch.arange(6).expand(1, 6), persistent=False)
        self.register_buffer("bias", torch.ones(6, 6, dtype=torch.bool).tril())
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.argsort(1)
        hidden = self.encoder(tokens) + self.decoder(tokens) + torch.cos(self.inv_freq)  # type: ignore[operator]
        return self.out(self.lm_head(hidden).mean(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Its weights lie in one memory after flatten_parameters, each in its own part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True, proj_size=2)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.rnn.flatten_parameters()
        return self.head(self.rnn(x.view(-1, 2, 3))[0].mean(1))  # type: ignore[no-any-return]


class Averaged(nn.Module):
    """Beside the trained weights their moving average, by torch's own wrapper, which is what is evaluated."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.net = _net(nn.BatchNorm1d(8))
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)  # type: ignore[no-untyped-call]
        self.ema = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
        self.ema.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.ema(x)  # type: ignore[no-any-return]
        self.ema.update_parameters(self.net)
        return self.net(x)  # type: ignore[no-any-return]


class SharedStatistics(nn.Module):
    """Two normalisations with the same running statistics, one weight under two names, one buffer under two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.n, self.m = nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False)
        self.m.running_mean, self.m.running_var = self.n.running_mean, self.n.running_var
        self.b.weight = self.a.weight
        table = torch.arange(6.0)
        self.register_buffer("one", table)
        self.register_buffer("other", table)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.m(self.b(torch.relu(self.n(self.a(x + self.one))))))  # type: ignore[no-any-return]


class BatchRenorm(nn.Module):
    """Statistics of its own, under the usual names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 8), nn.Linear(8, 2)
        self.register_buffer("running_mean", torch.zeros(8))
        self.register_buffer("running_std", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(hidden.mean(0), 0.1)  # type: ignore[operator]
                self.running_std.lerp_(hidden.std(0), 0.1)  # type: ignore[operator]
        return self.head((hidden - self.running_mean) / self.running_std)  # type: ignore[no-any-return]


class Late(nn.Module):
    """What its first pass makes: a cache, a buffer that was None, a counter, or a parameter."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.head, self.kind = nn.Linear(6, 2), kind
        self.register_buffer("empty", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "cache" and not hasattr(self, "scale"):
            self.scale = torch.ones(6)  # the usual cache of a mask or of rotary angles
        elif self.kind == "none":
            self.empty = x.detach().mean(0)
        elif self.kind == "buffer":
            if not hasattr(self, "seen"):
                self.register_buffer("seen", torch.zeros(6))
            self.seen.add_(x.detach().mean(0))  # type: ignore[operator]
        elif self.kind == "parameter" and not hasattr(self, "late"):
            self.late = nn.Parameter(torch.zeros(2))
        scaled = x * self.scale if self.kind == "cache" else x
        return self.head(scaled) + (self.late if self.kind == "parameter" else 0)  # type: ignore[no-any-return]


class Thawing(nn.Module):
    """Decides in train() what is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 2)

    def train(self, mode: bool = True) -> Thawing:
        self.body.requires_grad_(mode)
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


class Odd(nn.Module):
    """A head, and tensors of any kind beside it: parameters and buffers by name."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        self.head, self.names = nn.Linear(6, 2), list(tensors)
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        trained = [each for each in map(self.get_parameter, self._parameters) if each.numel()]
        return self.head(x) + sum(each.float().sum() for each in trained)  # type: ignore[no-any-return]


class ExtraState(nn.Module):
    """State that is no tensor, or a new one at each call."""

    def __init__(self, as_tensor: bool) -> None:
        super().__init__()
        self.head, self.as_tensor, self.count = nn.Linear(6, 2), as_tensor, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.head(x)  # type: ignore[no-any-return]

    def get_extra_state(self) -> Any:
        return torch.tensor([float(self.count)]) if self.as_tensor else {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = 0


def _views(kind: str) -> nn.Module:
    """Tensors of one memory."""
    memory = torch.randn(6, 6)
    one, other = {
        "halves": (nn.Parameter(memory[:, :3]), nn.Parameter(memory[:, 3:])),  # interleaved, none in the other's place
        "window": (nn.Parameter(memory), memory[2:4]),
        "tied": (nn.Parameter(memory), nn.Parameter(memory)),
        "turned": (nn.Parameter(memory), nn.Parameter(memory.t())),
        "expanded": (nn.Parameter(memory), nn.Parameter(torch.ones(1, 6).expand(6, 6))),
    }[kind]
    return Odd(one=one, other=other)


def _parametrized(layer: nn.Module, how: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", how)
    return layer


class Symmetric(nn.Module):
    """The upper half on both sides."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def _observed(observer: str) -> nn.Module:
    import torch.ao.quantization as quantization

    return _net(getattr(quantization, observer)())


def _quantisation_aware() -> nn.Module:
    import torch.ao.quantization as quantization

    net = _net()
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment,no-untyped-call]
    return quantization.prepare_qat(net.train())  # type: ignore[no-any-return,no-untyped-call]


def _half() -> nn.Module:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = _net(nn.BatchNorm1d(8)).half()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.half()).float()  # type: ignore[no-any-return]

    return Half()


def _run_once(net: nn.Module) -> nn.Module:
    net(torch.randn(4, 6))
    return net


_norm = nn.BatchNorm1d
RIGHT: dict[str, Callable[[], nn.Module]] = {
    "tied embeddings": TiedLanguageModel,
    "recurrent": Recurrent,
    "BatchNorm": lambda: _net(_norm(8)),
    "BatchNorm without statistics": lambda: _net(_norm(8, track_running_stats=False)),
    "BatchNorm of all batches": lambda: _net(_norm(8, momentum=None)),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm.convert_sync_batchnorm(_net(_norm(8))),
    "InstanceNorm": lambda: _net(
        nn.Unflatten(1, (2, 4)), nn.InstanceNorm1d(2, affine=True, track_running_stats=True), nn.Flatten()
    ),
    "shared statistics": SharedStatistics,
    "statistics of its own": BatchRenorm,
    "weight norm": lambda: _net(parametrizations.weight_norm(nn.Linear(8, 8))),
    "weight norm by hooks": lambda: _net(nn.utils.weight_norm(nn.Linear(8, 8))),
    "spectral norm": lambda: _net(parametrizations.spectral_norm(nn.Linear(8, 8))),
    "spectral norm by hooks": lambda: _net(nn.utils.spectral_norm(nn.Linear(8, 8))),
    "orthogonal": lambda: _net(parametrizations.orthogonal(nn.Linear(8, 8))),
    "parametrized": lambda: _net(_parametrized(nn.Linear(8, 8), Symmetric())),
    "pruned": lambda: _net(prune.l1_unstructured(nn.Linear(8, 8), "weight", amount=0.5)),
    "observer of extremes": lambda: _observed("MinMaxObserver"),
    "observer of averages": lambda: _observed("MovingAverageMinMaxObserver"),
    "lazy, run once": lambda: _run_once(nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Linear(8, 2))),
    "empty average": lambda: torch.optim.swa_utils.AveragedModel(_net(_norm(8))),
    "scripted": lambda: torch.jit.script(_net(_norm(8))),
    "replicated": lambda: nn.DataParallel(_net()),
    "half precision": _half,
    "scalars and nothing": lambda: Odd(
        a=nn.Parameter(torch.zeros(())), b=nn.Parameter(torch.zeros(0, 3)), c=torch.zeros(0), d=torch.tensor(1e38)
    ),
    "kinds of numbers": lambda: Odd(
        a=nn.Parameter(torch.zeros(2, dtype=torch.float64)), b=nn.Parameter(torch.zeros(2, dtype=torch.bfloat16)),
        c=torch.ones(2, dtype=torch.int8), d=torch.tensor(True), e=torch.full((2,), -torch.inf),
    ),
    "halves of one memory": lambda: _views("halves"),
    "cache of its first pass": lambda: Late("cache"),
    "state as a tensor": lambda: ExtraState(as_tensor=True),
}  # fmt: skip
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(2)), "'0.weight' has no shape yet"),
    "without values": (lambda: nn.Linear(6, 2, device="meta"), "'weight' is on the device 'meta'"),
    "complex": (lambda: Odd(a=nn.Parameter(torch.zeros(2, dtype=torch.complex64))), "'a' is complex"),
    "complex buffer": (lambda: Odd(a=torch.zeros(2, dtype=torch.complex64)), "'a' is complex"),
    "eight bits": (lambda: Odd(a=torch.ones(2).to(torch.float8_e4m3fn)), "'a' is float8_e4m3fn"),
    "sparse": (lambda: Odd(a=torch.eye(2).to_sparse()), "'a' is stored as sparse_coo"),
    "too large": (lambda: Odd(a=torch.tensor(1e300, dtype=torch.float64)), "'a' holds values beyond 3.4e38"),
    "a window on weights": (lambda: _views("window"), "'one' and 'other' lie in the same memory"),
    "two parameters, one memory": (lambda: _views("tied"), "'one' and 'other' lie in the same memory"),
    "turned": (lambda: _views("turned"), "'one' and 'other' lie in the same memory"),
    "expanded": (lambda: _views("expanded"), "elements of the parameter 'other' are one place.*clone"),
    "a moving average, frozen": (lambda: Averaged(frozen=True), r"'ema.module.0.weight'.*\"ema.\*\" = \"mean\""),
    "an observer of channels": (_quantisation_aware, "'0.weight_fake_quant.scale' has shape.*= \"local\""),
    "a late parameter": (lambda: Late("parameter"), "'late' is trained and was not when the model was built"),
    "thawing": (Thawing, "'body.weight' is trained and was not when the model was built"),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], nn.Module]], str]:
    """The import path of a model's factory."""
    module = types.ModuleType("public_models")
    module.rows = rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "public_models", module)

    def name(build: Callable[[], nn.Module]) -> str:
        module.build = build  # type: ignore[attr-defined]
        return "public_models:build"

    return name


def _spec(factory: str, buffers: dict[str, str]) -> CampaignSpec:
    return parse_spec(
        {
            "model": {"factory": factory, "buffers": buffers},
            "training": {"learning_rate": 0.05, "local_steps": 3, "batch_size": 8},
            "aggregation": {"buffer_size": 1},
            "evaluation": {"data": "public_models:rows"},
        }
    )


def _launch(spec: CampaignSpec) -> tuple[nn.Module, Layout, list[Finding]]:
    model = build_model(spec.model.factory, spec.model.args, 0)
    layout = Layout.of(model, spec.model.buffers)
    found = [step for step in try_campaign(spec, model, layout) if isinstance(step, Finding)]
    if wrong := faults(found):
        raise SpecError(wrong[0].sentence)
    return model, layout, found


def _campaign(spec: CampaignSpec, layout: Layout) -> Parameters:
    """Three rounds of two devices, of which the second merges with a staleness of 1."""
    strategy = build_strategy(spec, layout, layout.flatten(build_model(spec.model.factory, {}, 0)))
    fleet = []
    for number in (1, 2):
        module = build_model(spec.model.factory, {}, 0)
        there = Layout.of(module, spec.model.buffers)
        assert there.digest == layout.digest, "every machine builds the same"
        model = DeviceModel(module, there, spec.training, build_method(spec.training))
        fleet.append((model, Device(name=f"pi-{number}", dataset=rows(number), device=CPU)))
    for place in range(3):
        base, version = strategy.parameters.values.copy(), strategy.version
        for staleness, (model, device) in enumerate(fleet):
            task = replace(TASK, task_id=f"{place}-{device.name}")
            done = do_task(task, model, Parameters(base.copy()), version, device)
            values, state = decode_update(codec("fp32", {}), layout, bytes(done.payload), layout.num_parameters)
            assert state is None or unfit(layout, state, strategy.parameters.values) is None
            delta = Delta(np.array(read_all(values)))
            assert np.isfinite(delta.values).all()
            strategy.offer(Contribution(delta, 24, staleness, device.name, {}, 0, state))
    return strategy.parameters


def _plain_torch(path: Path, build: Callable[[], nn.Module], layout: Layout, values: Parameters) -> nn.Module:
    """The written model in a module of the same factory, loaded strictly."""
    beside = tensors_beside(layout.names, build())
    folder = RunFolder(path)
    folder.write_model(values, layout, {}, beside)
    torch.manual_seed(99)
    fresh = build()
    fresh.load_state_dict(load_file(folder.model))
    return fresh


@pytest.mark.parametrize("kind", RIGHT)
def test_all_the_way(kind: str, made: Any, tmp_path: Path) -> None:
    """All weights that have a gradient move, nothing constant does, and plain torch computes the same."""
    build = RIGHT[kind]
    spec = _spec(made(build), {})
    _, layout, _ = _launch(spec)
    before = layout.flatten(build_model(spec.model.factory, {}, 0)).values
    values = _campaign(spec, layout)
    for tensor, where in zip(layout.tensors, layout.slices, strict=True):
        same = np.array_equal(values.values[where], before[where], equal_nan=True)
        assert same or tensor.role != "constant", f"{tensor} moved"
    assert not np.array_equal(values.values[layout.trainable], before[layout.trainable])
    model = build_model(spec.model.factory, {}, 0)
    layout.load_into(model, values)
    scores = evaluate(model, rows(), spec.training, 8, CPU)
    assert scores.loss is not None
    assert np.isfinite(scores.loss)
    with torch.no_grad():
        again = _plain_torch(tmp_path, build, layout, values).eval()(rows().tensors[0])
        torch.testing.assert_close(again, model.eval()(rows().tensors[0]))


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(kind: str, made: Any) -> None:
    """Before the launch, in a sentence with the tensor's name."""
    build, sentence = REFUSED[kind]
    with pytest.raises(FedtideError, match=sentence):
        _launch(_spec(made(build), {}))


def test_a_word_of_the_author_s_is_enough(made: Any, tmp_path: Path) -> None:
    """A moving average with the role that the refusal names, and a quantiser's scales that stay at home."""
    spec = _spec(made(lambda: Averaged(frozen=True)), {"ema.*": "mean"})
    _, layout, _ = _launch(spec)
    values = _campaign(spec, layout)
    frozen = [each.name for each in layout.tensors if each.role == "mean"]
    assert "ema.module.0.weight" in frozen
    assert np.isfinite(values.values).all()
    local = {f"*{name}": "local" for name in ("scale", "eps", "min_val", "max_val")}
    spec = _spec(made(_quantisation_aware), local)
    _, layout, _ = _launch(spec)
    assert all(each.role == "weight" for each in layout.tensors)
    assert np.isfinite(_campaign(spec, layout).values).all()


def test_an_average_that_is_trained_in_name_only_is_told(made: Any) -> None:
    """torch's wrapper leaves requires_grad on: sums of its stale changes would overshoot."""
    _, _, found = _launch(_spec(made(lambda: Averaged(frozen=False)), {}))
    [warning] = [each for each in found if "without a gradient" in each.detail]
    assert "'ema.module.0.weight'" in warning.detail
    assert '"mean" in model.buffers' in warning.remedy


def test_state_that_is_no_tensor_is_told(made: Any) -> None:
    """Neither the wire nor safetensors takes it."""
    _, _, found = _launch(_spec(made(lambda: ExtraState(as_tensor=False)), {}))
    [warning] = [each for each in found if "no tensor" in each.detail]
    assert "'_extra_state'" in warning.detail


@pytest.mark.parametrize("kind", ["none", "buffer"])
def test_what_a_pass_leaves_behind_is_gone_at_the_next_task(kind: str, made: Any) -> None:
    """A buffer that was None, or not there, when the model was built."""
    spec = _spec(made(lambda: Late(kind)), {})
    model, layout, _ = _launch(spec)
    assert set(model.state_dict()) == {"head.weight", "head.bias"}, "the trial leaves nothing behind"
    device = DeviceModel(model, layout, spec.training, build_method(spec.training))
    first = do_task(TASK, device, layout.flatten(model), 0, Device(name="pi", dataset=rows(1), device=CPU))
    assert set(model.state_dict()) > {"head.weight", "head.bias"}
    device.local.restore(model)
    assert set(model.state_dict()) == {"head.weight", "head.bias"}
    assert first.num_bytes == 4 * layout.num_parameters
