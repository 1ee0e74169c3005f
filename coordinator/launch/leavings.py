"""The files of a finished campaign beside its model and summary: pictures, a report, the output of its show.

Each is made of what is on disk already. One that cannot be made is named with its reason under ``left_out`` of the
summary and in the log; the campaign has ended all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from coordinator.storage.run_folder import RunFolder
from fl_core.errors import FedtideError
from fl_core.program.crash_points import crash_point
from fl_core.spec import CampaignSpec
from fl_core.user_code import RAISED, frames
from fl_core.wire.status import Summary

log = structlog.get_logger()

T = TypeVar("T")


def attempt(summary: dict[str, Any], what: str, again: str, make: Callable[[], T]) -> T | None:
    """Make one of them; None where it raises.

    Args:
        summary: gets a sentence under ``left_out`` then.
        what: its name, for the sentence.
        again: the command that makes it once the cause is mended.
        make: makes it.
    """
    try:
        return make()
    except RAISED as error:
        said = str(error) if isinstance(error, FedtideError) else f"{type(error).__name__}: {error}"
        trace = {} if isinstance(error, FedtideError) else {"traceback": frames(error)}
        log.warning("left out", what=what, reason=said, again=again, **trace)
        summary.setdefault("left_out", []).append(f"{what}: {said}")
        return None


def leave_pictures(folder: RunFolder, summary: dict[str, Any], title: str) -> None:
    """``curves.png`` and ``report.html``."""
    from coordinator.report.curves import draw_curves
    from coordinator.report.pages.page import write_report
    from coordinator.report.series import lower_is_better

    again = f"fedtide report {folder.path}"
    crash_point("before_curves")
    lower = lower_is_better(Summary.from_map(summary))
    curves = folder.curves
    attempt(summary, curves.name, again, lambda: draw_curves(folder.history, curves, title=title, lower=lower))
    crash_point("before_report")
    attempt(summary, "report.html", again, lambda: write_report(folder.path))


def show_at_end(spec: CampaignSpec, folder: Path, summary: dict[str, Any]) -> str:
    """What ``evaluation.show`` says of the run; empty where there is nothing to show."""
    if spec.evaluation.show is None or summary["state"] == "interrupted":
        return ""
    from coordinator.report.show import show_run

    return attempt(summary, "evaluation.show", f"fedtide show {folder}", lambda: show_run(folder)) or ""


def finish(spec: CampaignSpec, folder: RunFolder, summary: dict[str, Any]) -> str:
    """The last steps of a run: what its show says, which is returned, and the mark that nothing is missing."""
    from coordinator.loop.ending import complete

    shown = show_at_end(spec, folder.path, summary)
    complete(folder, summary)
    return shown
