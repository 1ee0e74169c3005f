"""Scores in virtual time: there as soon as they are asked for, and taken once."""

from __future__ import annotations

import pytest

from coordinator.simulation.evaluator import InlineEvaluator
from fl_core.errors import DataError
from tests.unit.coordinator.loop.evaluation.published import LABELLED, UNLABELLED, Published


def _evaluator(published: Published, data: str) -> InlineEvaluator:
    client, keys, spec = published.client, published.keys, published.spec(data)
    return InlineEvaluator(client, keys, spec, published.model, published.layout)


def test_scores_wait_to_be_taken_once() -> None:
    """No time passes; the coordinator sees them at its next look."""
    published = Published()
    head = published.publish(4)
    evaluator = _evaluator(published, LABELLED)
    before = published.server.keyspace.now_ms
    assert not evaluator.has_results
    evaluator.request(head)
    assert evaluator.has_results and evaluator.busy
    (scores,) = evaluator.take_results()
    assert (scores.version, scores.num_examples, published.server.keyspace.now_ms) == (4, 8, before)
    assert (evaluator.has_results, evaluator.busy, evaluator.take_results()) == (False, False, [])
    assert (evaluator.error, evaluator.died) == (None, False)


def test_what_the_evaluation_raises_is_raised() -> None:
    """Where the simulation was called, instead of as a campaign without scores."""
    published = Published()
    published.publish(0)
    with pytest.raises(DataError, match="no target of its 8 examples counts"):
        _evaluator(published, UNLABELLED).request()
