"""What the documents' code meets in a test: a run made before, a launch without processes, a campaign on a broker.

``tests/integration/test_front_door.py`` runs the same calls with real servers and workers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import redis

import fedtide
from coordinator.storage.run_folder import RunFolder
from fedtide import running
from fl_core.broker import keys
from fl_core.broker.keys import CampaignKeys
from fl_core.models.build import build_model
from fl_core.spec import to_toml
from fl_core.vectors.layout import Layout
from fl_core.vectors.module_tensors import tensors_beside

SUMMARY = {"state": "finished", "versions": 0, "merged": 0, "final_accuracy": None}


def leave_a_run(folder: Path, spec: fedtide.CampaignSpec) -> fedtide.Run:
    """A run's folder as it is after the end of a campaign that merged nothing: its model is version 0."""
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model, spec.model.buffers)
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.write_spec(to_toml(spec))
    run.write_summary({"campaign": f"{spec.campaign.name}-1", **SUMMARY})
    run.write_model(layout.flatten(model), layout, {}, tensors_beside(layout.names, model))
    run.history.touch()
    return fedtide.open_run(folder)


def launch_without_processes(folder: Path) -> Callable[..., fedtide.Run]:
    """In the place of ``fedtide.run``: what it was given is read in full, and the run left in the folder."""
    signature = inspect.signature(fedtide.run)

    def run(*args: Any, **kwargs: Any) -> fedtide.Run:
        given = signature.bind(*args, **kwargs).arguments
        spec = running.read_spec(given["spec"])
        assert running._read_fleet(given.get("fleet")) or given.get("broker")
        if "on_progress" in given:
            given["on_progress"]({**SUMMARY, "state": "running"})
        return leave_a_run(folder / "launched", spec)

    return run


def put_up_a_campaign(client: redis.Redis, name: str) -> Callable[[float], None]:
    """A running campaign on the broker. Calling what is returned ends it, as time would."""

    def say(state: str) -> None:
        client.set(CampaignKeys(name).status, msgpack.packb({"state": state, "versions": 3}))

    client.zadd(keys.CAMPAIGNS, {name: 1})
    say("running")
    return lambda seconds: say("stopped")
