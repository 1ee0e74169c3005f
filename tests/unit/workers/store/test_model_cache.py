"""The model cache: built once, checked against the campaign's layout, never fed with bytes of another size, bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from fl_core.broker.bulk.head import Head
from fl_core.codecs import ErrorFeedback, codec
from fl_core.errors import LayoutError, SpecError
from fl_core.models.build import build_model
from fl_core.spec import TrainingSection
from fl_core.training.method import build_method
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainTask
from tests.unit.workers.tasks import ARGS, LAYOUT, TASK
from workers.store.model_cache import CachedModel, ModelCache


def _cache(folder: Path, max_bytes: int = 1 << 30) -> ModelCache:
    return ModelCache(torch.device("cpu"), folder, max_bytes)


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    """An empty cache on the CPU, with room for many small models."""
    return _cache(tmp_path)


def _other(classes: int, campaign: str = "digits-1") -> TrainTask:
    args = {**ARGS, "classes": classes}
    digest = Layout.of(build_model(TASK.model_factory, args, seed=0)).digest
    return replace(TASK, campaign=campaign, model_args=args, layout_digest=digest)


def test_a_model_is_built_once(cache: ModelCache) -> None:
    """Another task, attempt or queue of the same campaign gets the same model; the first has no version yet."""
    first = cache.get(TASK)
    assert (first.digest, first.base) == ("", None)
    assert first.layout == LAYOUT
    again = replace(TASK, task_id="2-abc", attempt=3, queue="gpu", training={"batch_size": 1})
    assert cache.get(TrainTask.from_bytes(again.to_bytes())) is first


def test_each_task_is_trained_by_its_own_words(cache: ModelCache) -> None:
    """A forged order with other settings takes the model, and leaves nothing behind for the next one."""
    assert cache.get(TASK).settings.batch_size == 32
    assert cache.get(replace(TASK, training={"batch_size": 1, "method": "personal"})).settings.batch_size == 1
    with pytest.raises(SpecError):
        cache.get(replace(TASK, training={"method": "no_such_method"}))
    model = cache.get(TASK)
    assert (model.settings.batch_size, type(model.method).__name__) == (32, "LocalSGD")


def test_two_campaigns_do_not_share_a_model(cache: ModelCache) -> None:
    """Each campaign has its own versions, so its own model, even when they are built alike."""
    assert cache.get(TASK) is not cache.get(replace(TASK, campaign="digits-2"))
    assert cache.get(TASK) is not cache.get(_other(5))


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    """With memory for two, a device that serves two campaigns in turn keeps both; a third displaces the older one."""
    a, b, c = TASK, replace(TASK, campaign="b"), replace(TASK, campaign="c")
    cache = _cache(tmp_path, 2 * _cache(tmp_path).get(TASK).num_bytes)
    model_a, model_b = cache.get(a), cache.get(b)
    assert cache.get(a) is model_a
    cache.get(c)
    assert cache.find("b") is None
    assert cache.get(a) is model_a
    assert cache.get(b) is not model_b


def test_what_a_model_comes_to_hold_is_counted(tmp_path: Path) -> None:
    """Version, spare memory and residuals count when the next task comes; one larger than all there is for it stays."""
    size = _cache(tmp_path).get(TASK).num_bytes
    vector = np.zeros(LAYOUT.num_parameters, np.float32)
    more = 3 * vector.nbytes
    for max_bytes, kept in ((2 * size + more, True), (2 * size + more - 1, False)):
        cache = _cache(tmp_path, max_bytes)
        model = cache.get(TASK)
        model.keep(head(1), memoryview(bytearray(LAYOUT.num_bytes)))
        model.spare, model.feedback[0].residual = vector, vector.copy()
        assert model.num_bytes == size + more
        for _ in range(2):
            cache.get(replace(TASK, campaign="b"))
        assert (cache.find(TASK.campaign) is model) == kept
    alone = _cache(tmp_path, 0)
    assert alone.get(TASK) is alone.get(TASK)


def test_what_was_left_out_outlives_the_model(tmp_path: Path) -> None:
    """By eviction and by the process's end, to the bit, once only, and never in a model of another layout."""
    other = replace(TASK, campaign="b")
    left = {part: np.linspace(-1, part, size, dtype=np.float32) for part, size in ((0, LAYOUT.num_parameters), (3, 2))}

    def held(model: CachedModel) -> dict[int, bytes]:
        return {part: each.residual.tobytes() for part, each in model.feedback.items() if each.residual is not None}

    cache = _cache(tmp_path, 0)
    for part, residual in left.items():
        cache.get(TASK).feedback[part].residual = residual.copy()
    expected = {part: residual.tobytes() for part, residual in left.items()}
    cache.get(other)
    assert held(cache.get(TASK)) == expected
    assert held(_cache(tmp_path).get(TASK)) == {}, "used twice"
    cache.close()
    again = _cache(tmp_path)
    assert held(again.get(TASK)) == expected
    again.get(TASK).feedback[3].residual = np.array([1, np.nan], np.float32)
    again.close()
    assert set(held(_cache(tmp_path).get(TASK))) == {0}, "not finite"
    again.get(TASK).feedback[0].residual = left[0]
    assert held(again.get(_other(5))) == {}, "another layout's"
    assert held(again.get(TASK)) == {}
    again.get(TASK).feedback[0].residual = left[0]
    again.forget(TASK.campaign)
    assert again.find(TASK.campaign) is None
    assert held(again.get(TASK)) == {}, "the campaign had ended"


def test_a_disk_that_takes_nothing_costs_the_residual_alone(tmp_path: Path) -> None:
    """No task fails for it, and one line says so however often it happens."""
    (tmp_path / "residuals").write_text("no folder")
    cache = _cache(tmp_path, 0)
    with capture_logs() as logs:
        for campaign in "abcd":
            feedback = ErrorFeedback()
            feedback.residual = np.ones(LAYOUT.num_parameters, np.float32)
            cache.get(replace(TASK, campaign=campaign)).feedback[0] = feedback
        cache.forget("d")
        cache.close()
    assert len(logs) == 1
    assert "what updates have left out cannot be kept" in logs[0]["event"]


def head(version: int, codec: str = "fp32") -> Head:
    """A pointer to a version whose digest is its number, 32 times."""
    return Head(version, str(version) * 32, 0, 1, codec=codec)


def test_another_model_than_the_campaign_s_is_refused(cache: ModelCache) -> None:
    """Code that builds other tensors here than there would train rubbish: both digests are in the sentence."""
    with pytest.raises(LayoutError, match=f"layout is {'0' * 32}, this model's is {LAYOUT.digest}; install"):
        cache.get(replace(TASK, layout_digest="0" * 32))
    with pytest.raises(SpecError, match="unexpected keyword argument"):
        cache.get(replace(TASK, model_args={"width": 3}))
    assert cache.get(TASK).layout.digest == LAYOUT.digest


def test_a_version_is_kept_to_the_bit(cache: ModelCache) -> None:
    """The bytes that arrived are the base that training starts from, and their digest tells them from the next."""
    model = cache.get(TASK)
    values = np.arange(LAYOUT.num_elements, dtype=np.float32)
    model.keep(head(3), memoryview(values.tobytes()))
    assert model.digest == "3" * 32
    assert model.base is not None
    assert model.base.values.tobytes() == values.tobytes()
    assert cache.get(TASK) is model


class Features(torch.nn.Module):
    """Random features that are drawn once; they do not travel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        self.register_buffer("projection", torch.randn(4, 4), persistent=False)


def test_what_does_not_travel_is_the_campaign_s(cache: ModelCache) -> None:
    """The order's seed is the campaign's, so what the factory draws is equal on every device and the coordinator."""
    path = f"{__name__}:Features"
    model = build_model(path, {}, seed=7)
    task = replace(TASK, model_factory=path, model_args={}, model_seed=7, layout_digest=Layout.of(model).digest)
    assert torch.equal(cache.get(task).module.projection, model.projection)  # type: ignore[arg-type]
    other = cache.get(replace(task, model_seed=8)).module.projection
    assert not torch.equal(other, model.projection)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_a_version_in_half_precision_is_the_base_as_it_was_decoded(cache: ModelCache, name: str) -> None:
    """What the device trains from, and takes its delta against, are the rounded values and no others."""
    model = cache.get(TASK)
    values = np.linspace(-3, 3, LAYOUT.num_elements, dtype=np.float32)
    model.keep(head(4, name), codec(name).encode(values, seed=0))
    assert model.base is not None
    rounded = torch.from_numpy(values).to(torch.float16 if name == "fp16" else torch.bfloat16).float().numpy()
    assert np.array_equal(model.base.values, rounded)


@pytest.mark.parametrize("num_bytes", [0, 3, 4, 4 * LAYOUT.num_elements - 4, 4 * LAYOUT.num_elements + 1])
def test_a_version_of_another_size_is_refused(num_bytes: int) -> None:
    """Bytes that are no such model leave the version before in place."""
    settings = TrainingSection()
    module = build_model(TASK.model_factory, ARGS, seed=0)
    model = CachedModel(module, LAYOUT, settings, build_method(settings))
    model.keep(head(1), bytes(4 * LAYOUT.num_elements))
    before = model.base
    with pytest.raises(LayoutError, match=r"version 2 does not fit the model built here, of .* install"):
        model.keep(head(2), bytes(num_bytes))
    assert (model.digest, model.base) == ("1" * 32, before)
