"""The evaluating process, as a real one: killed, it is replaced; hanging, it holds up nothing; what raises is named."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.loop.evaluation.evaluator import Evaluator
from coordinator.loop.evaluation.scoring import Evaluation
from fl_core.aggregation import build_strategy
from fl_core.broker.bulk import versions
from fl_core.broker.bulk.places import Places
from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.models.build import build_model
from fl_core.spec import parse_spec
from fl_core.vectors.layout import Layout
from tests.integration.lab import until
from tests.integration.stage import Device, Stage

USERS = """
import time

def raising(): raise KeyError("no such table")

def hanging(examples): return Hanging(range(examples))

class Hanging:
    def __init__(self, examples): self.examples = examples
    def __len__(self): return len(self.examples)
    def __getitem__(self, index): time.sleep(3600)
"""


@pytest.fixture
def evaluator(
    broker_server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Evaluator]]:
    """Makes an evaluator of a version that lies at the broker."""
    (tmp_path / "users_data.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("fl_core.program.restarts.FIRST_PAUSE_SECONDS", 0.05)
    made: list[Evaluator] = []

    def make(data: str) -> Evaluator:
        arguments = {"data_args": {"split": "test"}} if data.startswith("fl_core") else {}
        spec = parse_spec({
            "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [8], "classes": 10}},
            "evaluation": {"data": data, **arguments},
        })  # fmt: skip
        model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
        layout = Layout.of(model)
        strategy = build_strategy(spec, layout, layout.flatten(model))
        _publish(client, strategy.parameters.values)
        made.append(Evaluator("digits-1", broker_server.url, spec, model, layout))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _publish(client: Client, values: Any) -> None:
    keys = CampaignKeys("digits-1")
    head = versions.write_version(Places(client), keys, 0, memoryview(values.tobytes()))
    for command in versions.publish_commands(keys, head):
        client.execute_command(*command)


def _result(evaluator: Evaluator, seconds: float = 60) -> Evaluation:
    results: list[Evaluation] = []

    def look() -> bool:
        results.extend(evaluator.take_results())
        assert evaluator.error is None
        return bool(results)

    until(look, seconds)
    return results[0]


def test_one_that_is_killed_is_replaced_and_asked_again(evaluator: Callable[[str], Evaluator]) -> None:
    """The answer comes all the same, from an interpreter of its own, and is the same."""
    one = evaluator("fl_core.data:digits")
    one.request()
    first, killed = _result(one), one.pid
    os.kill(killed, signal.SIGKILL)
    one.request()
    assert _result(one) == first
    assert one.pid != killed


def test_a_hanging_evaluation_holds_up_no_campaign(
    broker_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It merges all the same, ends in time, and says what its summary lacks."""
    (tmp_path / "hanging_data.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("coordinator.loop.evaluation.evaluator.FIRST_PAUSE_SECONDS", 0.01)
    evaluation = {"data": "hanging_data:hanging", "data_args": {"examples": 8}, "timeout_seconds": 0.1}
    device = Device(broker_server.url)
    try:
        stage = Stage(broker_server.url, tmp_path / "run", stop={"updates": 200}, evaluation=evaluation)
        summary = stage.finish()
    finally:
        device.close()
    assert summary["merged"] == 200
    assert "3 evaluations in a row had no answer after 0.1 s" in summary["left_out"][0]


def test_code_that_raises_is_told_at_once(evaluator: Callable[[str], Evaluator]) -> None:
    """It would raise again: no other process is tried."""
    one = evaluator("users_data:raising")
    until(lambda: one.take_results() == [] and one.error)
    assert not one.died
    assert str(one.error).startswith(
        "evaluation.data = 'users_data:raising' failed with {}: KeyError: 'no such table' ("
    )
