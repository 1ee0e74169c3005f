"""The coordinator's side of distillation: the mean of the soft labels, the student, and how it is resumed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fedtide.testing import contributions, same_bits
from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.errors import CampaignError, SpecError
from fl_core.models.build import build_model
from fl_core.spec import parse_spec
from fl_core.vectors import FloatArray, Parameters, SoftLabels
from fl_core.vectors.layout import Layout

MODEL = {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [12], "classes": 10}}
ARGS = {
    "public_data": "fl_core.data:digits", "public_args": {"split": "public", "shard": 0, "num_shards": 4},
    "num_classes": 10, "student_learning_rate": 0.01,
}  # fmt: skip


def _build(model: dict[str, Any] = MODEL, buffer_size: int = 3, args: dict[str, Any] | None = None, **more: Any) -> Any:
    spec = parse_spec(
        {
            "model": model,
            "training": {"method": "distillation", "method_args": {**ARGS, **(args or {})}},
            "aggregation": {"strategy": "distillation", "buffer_size": buffer_size},
            **more,
        }
    )
    module = build_model(spec.model.factory, spec.model.args, 0)
    layout = Layout.of(module)
    return build_strategy(spec, layout, layout.flatten(module))


def _labels(strategy: Any) -> FloatArray:
    """What a model says that has learnt the true labels, nearly sure."""
    from fl_core.data import digits

    public = digits(**ARGS["public_args"])  # type: ignore[arg-type]
    targets = np.array([int(y) for _, y in public])
    rows = np.full((len(targets), 10), 0.01, np.float32)
    rows[np.arange(len(targets)), targets] = 0.91
    assert rows.size == strategy.update_elements(0)
    return rows.reshape(-1)


def _offer(strategy: Strategy, values: npt.NDArray[Any], staleness: int = 0, num_examples: int = 10) -> Any:
    return strategy.offer(
        Contribution(SoftLabels(np.asarray(values, np.float32).copy()), num_examples, staleness, "pi")
    )


def _kept(strategy: Any) -> FloatArray:
    labels: FloatArray = strategy.export_state()[0]["labels"]
    return labels


def _random(size: int, seed: int) -> FloatArray:
    rows = np.random.default_rng(seed).random((size // 10, 10))
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32).reshape(-1)


def test_the_wanted_labels_are_the_formula_s() -> None:
    """P <- m P + (1 - m) Σ w p / Σ w with w = s(τ) n, in float64, over two merges; the first keeps nothing."""
    strategy = _build(args={"memory": 0.4, "student_epochs": 1})
    size, expected = strategy.update_elements(0), None
    for merge in range(2):
        labels = [_random(size, 10 * merge + i) for i in range(3)]
        weights = [n / np.sqrt(1 + tau) for n, tau in ((5, 0), (20, 3), (7, 8))]
        for values, (n, tau) in zip(labels, ((5, 0), (20, 3), (7, 8)), strict=True):
            done = _offer(strategy, values, tau, n)
        mean = sum(w * p.astype(np.float64) for w, p in zip(weights, labels, strict=True)) / sum(weights)
        expected = mean if expected is None else 0.4 * expected + 0.6 * mean
        np.testing.assert_allclose(_kept(strategy), expected, rtol=1e-5)
        assert (done.version, done.num_updates, done.staleness) == (merge + 1, 3, (0, 3, 8))
    assert strategy.update_elements(1) is None


def test_the_student_learns_what_it_is_told() -> None:
    """After some merges of good soft labels it gives most public examples their class."""
    strategy = _build(buffer_size=1, args={"student_epochs": 20})
    labels = _labels(strategy)
    for _ in range(3):
        _offer(strategy, labels)
    model = build_model(MODEL["factory"], MODEL["args"], 0)  # type: ignore[arg-type]
    Layout.of(model).load_into(model, Parameters(strategy.parameters.values))
    from fl_core.data import digits

    public = digits(**ARGS["public_args"])  # type: ignore[arg-type]
    inputs = torch.stack([x for x, _ in public])
    found = model.eval()(inputs).argmax(dim=1).numpy()
    assert (found == labels.reshape(-1, 10).argmax(axis=1)).mean() > 0.8


def test_a_restored_campaign_goes_on_to_the_same_bits() -> None:
    """Exported in the middle of a buffer, through msgpack, restored and continued; torch's generator has no say."""

    def build() -> Strategy:
        torch.rand(1)
        return _build(buffer_size=2, args={"student_epochs": 1})

    same_bits(build, contributions(build(), 5), pauses=[1, 2, 4])


def test_a_hostile_device_weighs_as_much_as_another() -> None:
    """Negative and huge soft labels neither make NaN nor drown what the others say."""
    strategy = _build(args={"student_epochs": 1, "memory": 0.9})
    honest = _labels(strategy)
    hostile = np.random.default_rng(0).normal(size=honest.size) * 1e14
    for values in (honest, hostile, honest):
        _offer(strategy, values)
    assert np.isfinite(strategy.parameters.values).all()
    kept = _kept(strategy).reshape(-1, 10)
    np.testing.assert_allclose(kept.sum(axis=1), 1, rtol=1e-5)
    assert (kept.argmax(axis=1) == honest.reshape(-1, 10).argmax(axis=1)).all()


def test_a_foreign_checkpoint_is_refused() -> None:
    """Soft labels of another public set do not fit."""
    strategy = _build()
    tensors, meta = strategy.export_state()
    with pytest.raises(CampaignError, match=r"soft labels do not fit a public set"):
        strategy.restore_state({**tensors, "labels": np.zeros(5, np.float32)}, meta)
    with pytest.raises(CampaignError, match=r"checkpoint is of aggregation.strategy = 'fedbuff'"):
        strategy.restore_state(tensors, {**meta, "strategy": "fedbuff"})


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ({"args": {"num_classes": 9}}, "cannot be the student: Sequential puts out [10] per example and training."),
        ({"args": {"temperature": 0.0}}, "training.method_args: temperature = 0.0 is not accepted"),
        ({"args": {"public_data": "no_such:thing"}}, "public_data = 'no_such:thing': No module named 'no_such'"),
        (
            {"server_optimizer": {"learning_rate": 0.5}},
            "server_optimizer.learning_rate = 0.5 is not read by strategy 'distillation'; remove",
        ),
        ({"codec": {"name": "topk"}}, "topk"),
    ],
)
def test_what_does_not_fit_is_refused_at_launch(build: dict[str, Any], said: str) -> None:
    """One sentence for a student with other classes, a temperature of 0, a public set that is not installed."""
    with pytest.raises(SpecError) as caught:
        _build(**build)
    assert said in str(caught.value)


def test_another_method_sends_no_soft_labels() -> None:
    """The strategy names the method that it needs."""
    with pytest.raises(SpecError, match=r"set training.method = 'distillation'"):
        parse_spec({"model": MODEL, "aggregation": {"strategy": "distillation"}})


def test_slowing_is_a_smaller_rate_of_the_student() -> None:
    """The guard's smaller rate gives the bits of a spec that says it."""
    slowed, small, plain = (
        _build(buffer_size=1, args={"student_epochs": 1, "student_learning_rate": rate}) for rate in (0.02, 0.005, 0.02)
    )
    slowed.slow(0.25)
    values = _random(slowed.update_elements(0), 1)
    for strategy in (slowed, small, plain):
        _offer(strategy, values)
    assert slowed.parameters.values.tobytes() == small.parameters.values.tobytes()
    assert slowed.parameters.values.tobytes() != plain.parameters.values.tobytes()
