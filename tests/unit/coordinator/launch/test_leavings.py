"""What a campaign leaves beside its model: one that cannot be made is named, and the campaign has ended anyway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.launch.leavings import attempt, finish, leave_pictures, show_at_end
from fl_core.errors import CampaignError
from fl_core.spec import parse_spec
from tests.unit.coordinator.loop.led import Led

SPEC: dict[str, Any] = {"model": {"factory": "a:b"}}


@pytest.mark.parametrize(
    ("error", "said"), [(CampaignError("mend it."), "mend it."), (ValueError("no"), "ValueError: no")]
)
def test_what_raises_is_left_out_with_its_reason(error: Exception, said: str) -> None:
    """Ours in its own sentence, another with its type; what works gives what it makes."""
    summary: dict[str, Any] = {}

    def fail() -> None:
        raise error

    assert attempt(summary, "curves.png", "fedtide report", fail) is None
    assert attempt(summary, "report.html", "fedtide report", lambda: 7) == 7
    assert summary == {"left_out": [f"curves.png: {said}"]}


def test_pictures_are_made_of_what_is_on_disk(tmp_path: Path) -> None:
    """Of a history that is gone there are none, and the summary says so."""
    led = Led(tmp_path / "run")
    summary = led.run()
    leave_pictures(led.folder, summary, title="digits")
    assert "left_out" not in summary
    assert {"curves.png", "report.html"} <= {path.name for path in led.folder.path.iterdir()}
    led.folder.history.unlink()
    leave_pictures(led.folder, summary, title="digits")
    assert [line.partition(":")[0] for line in summary["left_out"]] == ["curves.png", "report.html"]


def test_a_run_is_complete_when_it_is_over(tmp_path: Path) -> None:
    """One that was interrupted is not, and nothing is shown of it."""
    led = Led(tmp_path / "run")
    summary = led.run()
    spec = parse_spec({**SPEC, "evaluation": {"data": "a:b", "show": "a:show"}})
    interrupted = {**summary, "state": "interrupted"}
    assert (show_at_end(spec, led.folder.path, interrupted), led.folder.is_complete("digits-1")) == ("", False)
    assert finish(parse_spec(SPEC), led.folder, summary) == ""
    assert led.folder.is_complete("digits-1")
