"""Scores of a version: read as a worker would read it, and evaluated on the held-out data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coordinator.loop.evaluation.scorer import Scorer
from fl_core.broker.bulk.constants import write_constants
from fl_core.broker.bulk.places import Places
from fl_core.broker.bulk.versions import drop_commands, droppable
from fl_core.errors import DataError
from fl_core.vectors.layout import Layout
from tests.unit.coordinator.loop.evaluation.published import LABELLED, UNLABELLED, WRONG, Published, labelled


def _scorer(published: Published, data: str = LABELLED, **more: object) -> Scorer:
    return Scorer(
        Places(published.client), published.keys, published.spec(data), published.model, published.layout,
        torch.device("cpu"), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_version_is_scored_by_its_own_values() -> None:
    """The one that was asked for, or the newest; whatever the model was left as before."""
    published = Published()
    right, wrong = published.publish(1), published.publish(2, WRONG)
    scorer = _scorer(published)
    found = [scorer.score(head) for head in (right, wrong, right, None)]
    assert [(one.version, one.metrics["accuracy"], one.num_examples) for one in found] == [
        (1, 1.0, 8), (2, 0.0, 8), (1, 1.0, 8), (2, 0.0, 8),
    ]  # fmt: skip
    assert found[0] == found[2]
    assert found[0].loss == pytest.approx(np.log1p(np.exp(-1.0)), rel=1e-6), "cross entropy of logits 1 and 0"


def test_in_the_place_of_one_that_is_gone_the_newest_is_scored() -> None:
    """Versions are dropped while an evaluation is under way."""
    published = Published()
    gone = published.publish(1)
    published.publish(2, WRONG)
    for kept in droppable(published.client, published.keys, 0):
        for command in drop_commands(published.keys, kept):
            published.client.execute_command(*command)
    published.publish(3)
    assert _scorer(published).score(gone).version == 3


def test_data_that_was_loaded_already_is_not_loaded_again() -> None:
    """By the trial; what the spec names would raise here."""
    published = Published()
    published.publish(1)
    scorer = _scorer(published, "nowhere:at_all", dataset=labelled())
    assert scorer.score(None).metrics["accuracy"] == 1.0
    with pytest.raises(Exception, match="nowhere"):
        _scorer(published, "nowhere:at_all")


def test_data_without_a_target_is_a_sentence() -> None:
    """It names the data."""
    published = Published()
    published.publish(1)
    with pytest.raises(DataError, match=r"published:unlabelled'.*no target of its 8 examples counts; name held-out"):
        _scorer(published, UNLABELLED).score(None)


def test_constants_are_the_campaigns_and_not_the_factorys() -> None:
    """A campaign that was resumed may have others than its factory gives today: those that the broker shows count."""
    published = Published()
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.eye(2))
    model[1].weight.requires_grad_(False)
    published.model, published.layout = model, Layout.of(model)  # type: ignore[assignment]
    assert (published.layout.num_moving, published.layout.num_elements) == (4, 8)
    published.publish(1)
    assert _scorer(published).score(None).metrics["accuracy"] == 1.0
    written = write_constants(Places(published.client), published.keys, WRONG.data.cast("B"), "")
    published.client.execute_command(*written.command(published.keys))
    assert _scorer(published).score(None).metrics["accuracy"] == 0.0
