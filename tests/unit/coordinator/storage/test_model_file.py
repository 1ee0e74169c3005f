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

# Each kind in a folder of its own. Without a seed: nothing may be left to what the factory draws.
PLAIN = """
import sys, torch
from made import Adapter, Tied
from safetensors.torch import load_file
for kind, strict in ((Tied, True), (Adapter, False)):
    model = kind()
    loaded = load_file(f"{kind.__name__}/model.safetensors")
    model.load_state_dict(loaded, strict=strict)
    assert loaded.keys() == model.state_dict().keys()
    assert model.out.weight is model.embed.weight and model.scale.ndim == 0 and model.late.dtype == torch.bfloat16
    expected, x = torch.load(f"{kind.__name__}/expected.pt")
    torch.testing.assert_close(model.eval()(x), expected)
assert not any(name.split(".")[0] in ("fl_core", "coordinator") for name in sys.modules)
"""


def _written(folder: Path, kind: str) -> None:
    folder.mkdir()
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


def test_the_files_load_in_plain_torch(tmp_path: Path) -> None:
    """Tied names, integer and boolean buffers, scalars, empty and transposed tensors, half precision: strictly.

    Where the author's state_dict leaves names out, the file has exactly the others, as that author's own files do.
    """
    (tmp_path / "made.py").write_text(MODEL)
    for kind in ("Tied", "Adapter"):
        _written(tmp_path / kind, kind)
    done = subprocess.run([sys.executable, "-c", PLAIN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
