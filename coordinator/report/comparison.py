"""Several runs side by side, on one page and as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coordinator.report.page import contribution_rows, facts, jain, page, read_run, score_charts, speed_chart


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Lay runs side by side on one page.

    Raises:
        SpecError: a folder holds no finished run.
    """
    runs = [read_run(folder) for folder in folders]
    labels = Counter(run.name for run in runs)
    for run in runs:
        if labels[run.name] > 1:  # the same campaign twice, or copies
            run.summary["campaign"] = f"{run.name} ({run.folder.name})"
    parts = [
        "<h1>Runs compared</h1>",
        facts(runs),
        "<h2>Over time</h2>" + score_charts(runs, "seconds"),
        "<h2>Over merged updates</h2>" + score_charts(runs, "merged"),
        "<h2>Updates merged per second</h2>" + speed_chart(runs),
    ]
    path.write_text(page("fedtide: runs compared", parts), encoding="utf-8")


def compare_rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The summaries of several runs, with their fairness; plain JSON types."""
    runs = [read_run(folder) for folder in folders]
    fairness = [round(jain(contribution_rows(run)), 4) for run in runs]
    return [
        {"folder": str(run.folder), "fairness": fair, **run.summary} for run, fair in zip(runs, fairness, strict=True)
    ]
