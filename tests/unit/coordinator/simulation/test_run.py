"""A campaign in virtual time: what arrives when, the same bits for the same seed, and the folder that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import fedtide
from coordinator.report.replay import replay_run
from fedtide import SimulatedDevice

TASKS = {"local_steps": 1, "batch_size": 4}


def _data(seed: int, size: int = 12) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 4, generator=generator)
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def held_out() -> TensorDataset:
    """What specs name as ``evaluation.data``."""
    return _data(99, 40)


def _spec(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    document: dict[str, dict[str, Any]] = {
        "campaign": {"name": "sim", "seed": 1},
        "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [3], "classes": 2}},
        "training": TASKS,
        "aggregation": {"buffer_size": 1},
        "dispatch": {"concurrency": 2},
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return document


def _devices(*seconds: float, **fields: Any) -> list[SimulatedDevice]:
    return [SimulatedDevice(f"device-{i}", _data(i), each, **fields) for i, each in enumerate(seconds)]


def _merges(run: fedtide.Run) -> list[tuple[float, str, int]]:
    """Seconds, device and staleness of each merged update."""
    rows = [row for row in run.history() if row["kind"] == "merge"]
    return [(row["seconds"], *each) for row in rows for each in zip(row["workers"], row["staleness"], strict=True)]


EVALUATED = {"data": f"{__name__}:held_out"}


def test_updates_arrive_when_the_devices_are_done() -> None:
    """One takes 1 s, the other 2.6 s; each is as stale as the merges that it has missed, and gets a task at once."""
    run = fedtide.simulate(_spec(), _devices(1.0, 2.6), updates=7)
    assert _merges(run) == [
        (1.0, "device-0", 0),
        (2.0, "device-0", 0),
        (2.6, "device-1", 2),
        (3.0, "device-0", 1),
        (4.0, "device-0", 0),
        (5.0, "device-0", 0),
        (5.2, "device-1", 3),
    ]
    assert run.summary["wall_seconds"] == 5.2
    assert run.summary["merged_by_worker"] == {"device-0": 5, "device-1": 2}


def test_work_takes_time_by_the_examples_that_are_seen() -> None:
    """Three steps of four examples at 0.1 s, and 0.3 s beside them."""
    spec = _spec(training={**TASKS, "local_steps": 3}, dispatch={"concurrency": 1})
    run = fedtide.simulate(spec, _devices(0.3, seconds_per_example=0.1), updates=2)
    assert [row[0] for row in _merges(run)] == [1.5, 3.0]


def test_the_same_seed_is_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with devices that have served before, and whatever the process has drawn meanwhile; another seed is another
    model. What devices remember (residuals of top-k) belongs to one simulation."""
    spec = _spec(codec={"name": "topk", "fraction": 0.3}, evaluation=EVALUATED, aggregation={"buffer_size": 3})
    devices = _devices(1.0, 1.0, 2.0)
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(runs))
        runs.append(fedtide.simulate(spec, devices, updates=24, seed=seed))
    first, second, other = runs
    assert first.summary == second.summary
    assert first.history() == second.history()
    assert first.id == second.id != other.id
    assert first.summary["model_digest"] != other.summary["model_digest"]


@pytest.mark.parametrize(("limit", "merged", "seconds"), [({"seconds": 3.75}, 3, 3.75), ({"updates": 2}, 2, 2.0)])
def test_a_simulation_ends_where_it_was_told_to(limit: dict[str, Any], merged: int, seconds: float) -> None:
    """To the millisecond of virtual time, also between two arrivals; what is given goes before the spec's own words."""
    spec = _spec(dispatch={"concurrency": 1}, stop={"versions": 1})
    run = fedtide.simulate(spec, _devices(1.0), **limit)
    assert (run.state, run.summary["merged"], run.summary["wall_seconds"]) == ("finished", merged, seconds)


def test_a_target_ends_it_at_the_version_that_met_it() -> None:
    """Evaluations take no virtual time, and the history has one of each version, the first included."""
    spec = _spec(evaluation=EVALUATED, training={**TASKS, "learning_rate": 0.5})
    run = fedtide.simulate(spec, _devices(1.0, 1.5), updates=500, target=0.9)
    scored = [row for row in run.history() if row["kind"] == "evaluation"]
    assert run.summary["target_met"]
    assert scored[-1]["accuracy"] >= 0.9 > scored[-2]["accuracy"]
    assert [row["version"] for row in scored] == list(range(len(scored)))
    assert run.summary["merged"] < 500


def test_a_buffer_is_merged_when_its_patience_ends() -> None:
    """Not at the next arrival, and not at the next look of the clock: 0.7 s after the first update came."""
    spec = _spec(aggregation={"buffer_size": 9, "max_wait_seconds": 0.7}, dispatch={"concurrency": 1})
    run = fedtide.simulate(spec, _devices(0.5), updates=5)
    assert [row[0] for row in _merges(run)] == [1.2, 1.2, 2.2, 2.2, 2.5]


def test_a_device_that_is_too_slow_fails_its_task_in_time() -> None:
    """As a worker would: after ``task_timeout_seconds``, and others do the task."""
    spec = _spec(dispatch={"concurrency": 2, "task_timeout_seconds": 2.0, "max_attempts": 5})
    run = fedtide.simulate(spec, _devices(9.0, 1.5), updates=3)
    assert run.summary["merged_by_worker"] == {"device-1": 3}
    reissues = [(row["seconds"], row["reason"], row["worker"]) for row in run.history() if row["kind"] == "reissue"]
    assert reissues[0] == (2.0, "failed", "device-0")


def test_a_long_task_is_nobody_s_loss() -> None:
    """A device at work is taken for alive for as long as it works, and its task for its own."""
    run = fedtide.simulate(_spec(), _devices(500.0, 80.0), updates=9)
    assert (run.summary["reissued"], run.summary["surplus"]) == (0, {})
    assert run.summary["merged_by_worker"] == {"device-0": 1, "device-1": 8}


def test_tasks_go_to_the_classes_that_the_spec_names() -> None:
    """Each device serves its queue."""
    spec = _spec(dispatch={"concurrency": 4, "queues": ["cpu", "gpu"]})
    devices = [SimulatedDevice(f"{queue}-{i}", _data(i), 1.0, queue=queue) for queue in ("cpu", "gpu") for i in (0, 1)]
    run = fedtide.simulate(spec, devices, updates=16)
    assert all(count >= 3 for count in run.summary["merged_by_worker"].values())
    assert len(run.summary["merged_by_worker"]) == 4


def test_a_large_idle_fleet_takes_turns() -> None:
    """Who has waited longest is next."""
    run = fedtide.simulate(_spec(), _devices(*[1.0] * 6), updates=6)
    assert sorted(run.summary["merged_by_worker"].values()) == [1] * 6


@pytest.mark.parametrize("down", ["fp32", "fp16", "int8"])
def test_what_goes_down_is_counted_as_it_travels(down: str) -> None:
    """A device that works alone fetches each version once: whole, in half, or by its patch."""
    model = {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [400, 400], "classes": 2}}
    spec = _spec(model=model, codec={"down": down}, dispatch={"concurrency": 1})
    run = fedtide.simulate(spec, _devices(1.0), updates=9)
    whole = 4 * run.summary["num_parameters"]
    per_task = run.summary["bytes_down"] / 9
    expected = {"fp32": (whole, whole), "fp16": (whole / 2, whole / 2), "int8": (0.3 * whole, 0.5 * whole)}[down]
    assert expected[0] <= per_task <= expected[1]
    assert run.summary["bytes_up"] == 9 * whole


def test_a_hostile_device_sends_what_it_likes() -> None:
    """Admission and strategy see what it sends, and refuse it where it is no update."""
    poisoned = _devices(1.0, 1.0)
    poisoned[1].alter = lambda values, sends, base: np.full_like(values, np.nan)
    run = fedtide.simulate(_spec(), poisoned, updates=3)
    assert run.summary["rejected"] == {"not_finite": 2}
    assert set(run.summary["merged_by_worker"]) == {"device-0"}


def test_a_simulation_leaves_what_a_campaign_leaves(tmp_path: Path) -> None:
    """Model, history, summary and report; a kept log can be replayed, and its arrivals are those of another run."""
    spec = _spec(evaluation=EVALUATED, checkpoint={"keep_log": True}, aggregation={"buffer_size": 2})
    devices = _devices(1.0, 1.7)
    run = fedtide.simulate(spec, devices, updates=8, out=tmp_path / "run")
    assert run.model()(torch.zeros(1, 4)).shape == (1, 2)
    assert {path.name for path in run.folder.iterdir()} >= {
        "spec.toml", "history.jsonl", "summary.json", "model.safetensors", "report.html", ".complete",
    }  # fmt: skip
    assert fedtide.open_run(run.folder).summary == run.summary
    assert replay_run(run.folder)["equal"]
    again = fedtide.simulate(spec, devices, updates=8, recorded=run.folder)
    assert again.summary["model_digest"] == run.summary["model_digest"]
    assert [row[1:] for row in _merges(again)] == [row[1:] for row in _merges(run)]
    with pytest.raises(fedtide.CampaignError, match="which this campaign has not issued by then"):
        fedtide.simulate(_spec(aggregation={"buffer_size": 7}), devices, updates=8, recorded=run.folder)
    with pytest.raises(fedtide.SpecError, match="'device-1', which is none of the devices"):
        fedtide.simulate(spec, devices[:1], updates=8, recorded=run.folder)
    with pytest.raises(fedtide.SpecError, match="holds a campaign already"):
        fedtide.simulate(spec, devices, updates=8, out=run.folder)


def test_a_temporary_folder_goes_with_its_run() -> None:
    """Where none was named."""
    run = fedtide.simulate(_spec(), _devices(1.0), updates=1)
    folder = run.folder
    assert run.report().is_file()
    del run
    assert not folder.exists()


class _Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        raise RuntimeError("this disk is broken")


def test_what_user_code_raises_is_raised() -> None:
    """A mistake in a notebook is seen where it was made, instead of as a device that fails."""
    with pytest.raises(Exception, match="this disk is broken"):
        fedtide.simulate(_spec(), [SimulatedDevice("a", _Broken())], updates=1)


MASKED = {"aggregation": {"buffer_size": 4}, "secure_aggregation": {"keepers": ["a", "b", "c"], "min_devices": 2}}


@pytest.mark.parametrize(
    ("devices", "sections", "words"),
    [
        ([], {}, "there are no devices"),
        (_devices(1.0) * 2, {}, "two devices are called 'device-0'"),
        (_devices(1.0, queue="gpu"), {}, "serves queue 'gpu', and dispatch.queues has only 'default'"),
        (_devices(1.0), {"stop": {"versions": 3}}, ""),
        (_devices(1.0), {}, "would never end; give updates, seconds or target"),
        (_devices(1.0), MASKED, "needs keepers and proven devices"),
    ],
)
def test_what_does_not_fit_is_said_at_once(devices: Any, sections: dict[str, Any], words: str) -> None:
    """In one sentence each."""
    if not words:
        assert fedtide.simulate(_spec(**sections), devices).summary["versions"] == 3
        return
    with pytest.raises(fedtide.SpecError, match=words):
        fedtide.simulate(_spec(**sections), devices)
