"""A finished run's folder: read once, or one sentence that names what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.report.finished_run import jain, read_run
from fl_core.errors import CampaignError, SpecError


def test_a_folder_is_read_once(tmp_path: Path, finished: Callable[..., Path]) -> None:
    """Summary as a record and as it is written, the history folded, the spec as text."""
    run = read_run(finished(tmp_path / "run", merged_by_worker={"a": 3, "b": 1}))
    assert (run.name, run.summary.merged, run.written["merged"]) == ("digits-1", 4, 4)
    assert run.contributions == [3, 1]
    assert len(run.series.update_seconds) == 4
    assert run.spec.startswith("[campaign]")


@pytest.mark.parametrize(
    ("file", "content", "error", "said"),
    [
        ("summary.json", None, SpecError, "holds no finished run"),
        ("history.jsonl", None, SpecError, "holds no finished run"),
        ("summary.json", "{", SpecError, "is not JSON"),
        ("history.jsonl", "[]\n", CampaignError, "is damaged at byte 0"),
    ],
)
def test_what_it_lacks_is_named(
    tmp_path: Path, finished: Callable[..., Path], file: str, content: str | None, error: type[Exception], said: str
) -> None:
    """In one sentence with the file."""
    folder = finished(tmp_path / "run")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(error, match=said):
        read_run(folder)


def test_fairness_lies_between_one_and_its_share() -> None:
    """1 when all gave the same, 1/n when one gave all; of nobody it is 1."""
    assert jain([2, 2, 2, 2]) == 1.0
    assert jain([4, 0, 0, 0]) == 0.25
    assert jain([]) == jain([0, 0]) == 1.0
