"""A model over several devices: layout, gradient and training of the unsplit one, and where its tensors go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl_core.data import play
from fl_core.errors import SpecError
from fl_core.models import language_model, pipeline
from fl_core.models.build import build_model
from fl_core.spec import TrainingSection
from fl_core.training.local import train_locally
from fl_core.vectors.layout import Layout

CPU = torch.device("cpu")
LANGUAGE_MODEL = "fl_core.models:language_model"
ARGS = {"vocabulary": 97, "width": 8, "heads": 2, "layers": 2}


def both(devices: list[str], **options: Any) -> tuple[nn.Module, nn.Module]:
    """The same model unsplit and split, with the same parameters."""
    split = {"factory": LANGUAGE_MODEL, "args": ARGS, "devices": devices, **options}
    return build_model(LANGUAGE_MODEL, ARGS, 3), build_model("fl_core.models:pipeline", split, 3)


@pytest.mark.parametrize("chunks", [1, 3])
def test_output_and_gradient_are_those_of_the_unsplit_model(chunks: int) -> None:
    """Split in two stages, a batch in one or three chunks: the same logits and the same gradient."""
    whole, split = both(["cpu", "cpu"], chunks=chunks)
    x, y = torch.randint(0, 97, (8, 5)), torch.randint(0, 97, (8, 5))
    gradients = []
    for model in (whole, split):
        output = model(x)
        nn.functional.cross_entropy(output.flatten(0, 1), y.flatten()).backward()
        gradients.append((output, {name: p.grad for name, p in model.named_parameters()}))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_a_split_model_has_the_layout_of_the_unsplit_one() -> None:
    """The same names, so devices with and without several accelerators can read each other's runs."""
    whole, split = both(["cpu", "cpu", "cpu"])
    layout = Layout.of(whole)
    assert Layout.of(split).digest == layout.digest
    np.testing.assert_array_equal(layout.flatten(split).values, layout.flatten(whole).values)


def test_it_trains_as_the_unsplit_model_does() -> None:
    """A whole task's local training, as a worker does it, ends at the same parameters."""
    whole, split = both(["cpu", "cpu"])
    settings = TrainingSection(optimizer="adam", learning_rate=0.01, local_steps=5, batch_size=4, max_gradient_norm=1.0)
    dataset = play(speaker="PARIS", length=16)
    for model in (whole, split):
        train_locally(model, dataset, settings, seed=7, device=CPU)
    layout = Layout.of(whole)
    np.testing.assert_array_equal(layout.flatten(whole).values, layout.flatten(split).values)


def test_each_stage_goes_to_its_own_device() -> None:
    """After ``to``, also from a module around it, the first layers are here and the later ones there."""
    _, split = both(["cpu", "meta"], cuts=[2])
    assert {p.device.type for p in split.parameters()} == {"cpu"}, "until it is asked to move, it is where it was built"
    parameters = list(split.parameters())
    around = nn.ModuleList([split]).to(CPU)
    assert all(now is then for now, then in zip(around.parameters(), parameters, strict=True) if now.device == CPU)
    for number, layer in enumerate(split):  # type: ignore[arg-type]  # it is a Sequential
        assert {p.device.type for p in layer.parameters()} == {"cpu" if number < 2 else "meta"}


def test_activations_are_handed_on_and_the_output_comes_back() -> None:
    """Each stage sees its input on its own device, and the output is where the input was."""
    split = pipeline(LANGUAGE_MODEL, ["cpu", "meta"], ARGS, cuts=[2]).to(CPU)
    seen: list[str] = []
    for layer in split:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].device.type))
    with pytest.raises(NotImplementedError, match="meta"):  # a meta tensor has no values to bring back
        split(torch.randint(0, 97, (2, 5)))
    assert seen == ["cpu", "cpu", "meta", "meta", "meta"]


def test_another_kind_of_device_takes_it_whole() -> None:
    """A machine that trains on another kind of device than the first stage's, or lacks the second, has it in one."""
    elsewhere = pipeline(LANGUAGE_MODEL, ["cuda:0", "cuda:1"], ARGS).to(CPU)
    assert {p.device for p in elsewhere.parameters()} == {CPU}
    lacking = pipeline(LANGUAGE_MODEL, ["cpu", "cuda:99"], ARGS).to(CPU)
    assert {p.device for p in lacking.parameters()} == {CPU}
    assert lacking(torch.zeros(1, 3, dtype=torch.int64)).device == CPU


def test_stages_are_about_equal() -> None:
    """Without cuts, stages get about the same number of parameters, in order."""
    split = pipeline(LANGUAGE_MODEL, ["cpu", "meta"], {**ARGS, "width": 32, "layers": 6})
    kinds = [device.type for device in split.devices]
    assert kinds == sorted(kinds)
    sizes = [
        sum(p.numel() for layer, k in zip(split, kinds, strict=True) if k == kind for p in layer.parameters())
        for kind in ("cpu", "meta")
    ]
    assert max(sizes) / min(sizes) < 1.6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"devices": "cpu"}, "devices = 'cpu'"),
        ({"devices": []}, r"devices = \[\]"),
        ({"devices": ["cpu", "gpu"]}, "device 'gpu'"),
        ({"chunks": 0}, "chunks = 0"),
        ({"cuts": [9]}, r"cuts = \[9\]"),
        ({"cuts": [2, 3]}, r"cuts = \[2, 3\]"),
        ({"devices": ["cpu"] * 6}, "6 stages"),
        ({"factory": 3}, "factory = 3"),
        ({"factory": "fl_core.models:attention", "args": {"inputs": 8, "length": 8}}, "AttentionClassifier"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], named: str) -> None:
    """One sentence names the argument and its value."""
    with pytest.raises(SpecError, match=named):
        pipeline(**{"factory": LANGUAGE_MODEL, "args": ARGS, "devices": ["cpu", "cpu"], **options})


def test_the_whole_model_may_be_one_stage() -> None:
    """One device is a pipeline too."""
    assert isinstance(pipeline(LANGUAGE_MODEL, ["cpu"], ARGS), nn.Sequential)
    assert isinstance(language_model(**ARGS), nn.Sequential)
