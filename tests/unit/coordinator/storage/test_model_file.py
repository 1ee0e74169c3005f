"""The file that a campaign leaves behind, loaded by two lines of plain torch, without fedtide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from coordinator.storage.run_folder import RunFolder
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import tensors_beside

MODEL = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.norm = nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.embed.weight
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.late = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
        self.turned = nn.Parameter(torch.randn(3, 4).t())
        self.register_buffer("shuffle", torch.randperm(5))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("small", torch.full((2,), 0.5, dtype=torch.float16))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("cache", torch.ones(2), persistent=False)

    def forward(self, x):
        h = self.embed(self.shuffle[x]) + self.late.float()
        return self.out(self.norm(h) * self.scale) + self.turned.sum()

class Adapter(Tied):
    def state_dict(self, *args, **kwargs):
        return {name: t for name, t in super().state_dict(*args, **kwargs).items() if not name.startswith("norm.num")}
"""

# Without a seed: nothing may be left to what the factory draws.
PLAIN = """
import sys, torch
from made import {kind}
from safetensors.torch import load_file
model = {kind}()
model.load_state_dict(load_file("model.safetensors"), strict={strict})
assert not any(name.split(".")[0] in ("fl_core", "coordinator") for name in sys.modules)
assert model.out.weight is model.embed.weight and model.scale.ndim == 0 and model.late.dtype == torch.bfloat16
expected, x = torch.load("expected.pt")
torch.testing.assert_close(model.eval()(x), expected)
"""


def _written(folder: Path, kind: str) -> None:
    (folder / "made.py").write_text(MODEL)
    namespace: dict[str, type[nn.Module]] = {}
    exec(MODEL, namespace)  # type: ignore[arg-type]
    model = namespace[kind]()
    layout = Layout.of(model, {"small": "local"})
    beside = tensors_beside(layout.names, model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape).to(parameter.dtype))
    model(torch.arange(5))  # moves the running statistics
    x = torch.arange(5)
    torch.save((model.eval()(x), x), folder / "expected.pt")
    RunFolder(folder).write_model(layout.flatten(model), layout, {"version": "1"}, beside)


def _loads(folder: Path, kind: str, strict: bool) -> None:
    code = PLAIN.format(kind=kind, strict=strict)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_file_loads_strictly_in_plain_torch(tmp_path: Path) -> None:
    """Tied names, integer and boolean buffers, scalars, empty and transposed tensors, half precision."""
    _written(tmp_path, "Tied")
    _loads(tmp_path, "Tied", strict=True)


def test_what_the_authors_state_dict_leaves_out_is_not_in_the_file(tmp_path: Path) -> None:
    """The file has exactly its names, so it loads as that author's own files do."""
    _written(tmp_path, "Adapter")
    _loads(tmp_path, "Adapter", strict=False)
