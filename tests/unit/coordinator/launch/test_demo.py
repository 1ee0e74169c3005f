"""The demonstration compares like with like."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.launch.demo import synchronous_spec, warm_up_spec
from coordinator.launch.examples import example
from fl_core.errors import SpecError
from fl_core.spec import StopSection, load_spec


def test_the_baseline_differs_in_nothing_but_the_barrier() -> None:
    """Model, local training, data and goal are those of the asynchronous campaign."""
    spec = load_spec(example("digits") / "campaign.toml")
    baseline = synchronous_spec(spec, cohort=8)
    for section in ("model", "training", "evaluation", "stop", "codec", "checkpoint"):
        assert getattr(baseline, section) == getattr(spec, section), section
    assert baseline.campaign.seed == spec.campaign.seed
    assert baseline.aggregation.strategy == "fedavg"
    assert baseline.server_optimizer.learning_rate == 1.0
    assert baseline.dispatch.concurrency == 8


def test_the_warm_up_is_not_scored_and_has_no_clock() -> None:
    """Nobody counts it, and it ends when each worker has done a task, however long a busy machine takes for that."""
    warm_up = warm_up_spec(load_spec(example("digits") / "campaign.toml"), num_workers=8)
    assert warm_up.evaluation.data is None
    assert warm_up.stop == StopSection()
    assert warm_up.campaign.name == "digits-warm-up"


def test_an_example_that_is_not_there_is_named() -> None:
    """The error says which one is missing."""
    assert (example("digits") / "fleet.toml").is_file()
    with pytest.raises(SpecError, match="'unicorns'"):
        example("unicorns")


def test_examples_are_found_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel has them inside the package, where no checkout is around it."""
    package = tmp_path / "site-packages" / "coordinator"
    inside = package / "_examples" / "digits"
    inside.mkdir(parents=True)
    (inside / "campaign.toml").touch()
    monkeypatch.setattr("coordinator.launch.examples.__file__", str(package / "launch" / "examples.py"))
    assert example("digits") == inside
