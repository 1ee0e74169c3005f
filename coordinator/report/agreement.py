"""A run's folder checked without the log: do the last checkpoint, the history, the summary and the model agree?

A default run does not keep its log (``checkpoint.keep_log``): updates say much of the data that they were trained on,
and what has been merged is dropped. So nothing can be merged again, but each file can be held against the others.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy.typing as npt

from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary
from coordinator.report.series import Series, read_series
from coordinator.storage.run_folder import RunFolder
from coordinator.storage.tensor_file import read_tensor_file
from fl_core.errors import CampaignError
from fl_core.vectors.layout import Layout


def compare_folder(
    folder: RunFolder, saved: CampaignState, layout: Layout, summary: Summary, history_bytes: int
) -> dict[str, bool]:
    """Hold the folder's files against the state of its last checkpoint, whose own digest is checked when it is loaded.

    Args:
        folder: the run's.
        saved: as the checkpoint has it.
        summary: what ``saved`` comes to.
        history_bytes: how long the history was at the checkpoint.

    Returns:
        Whether the ``model`` is the same to the bit, the ``history`` adds up to the state, and the ``counts`` are the
        summary's. Where the campaign is not over there is no model and no summary yet, which is no contradiction.

    Raises:
        CampaignError: a file that must be there is missing or damaged.
    """
    over = saved.phase.is_over
    try:
        return {
            "model": not over or _same_model(folder, saved, layout),
            "history": _adds_up(read_series(folder.history, num_bytes=history_bytes), saved),
            "counts": not over or _same_counts(folder, summary),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CampaignError(f"a file in {folder.path} is missing or damaged ({error}); restore it.") from error


def _same_model(folder: RunFolder, saved: CampaignState, layout: Layout) -> bool:
    with folder.model.open("rb") as file:
        written = read_tensor_file(file)
    delivered = layout.to_named(saved.delivery.parameters(saved.strategy))
    return all(_same_bits(written[name], ours) for name, ours in delivered.items())


def _same_bits(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype) and one.tobytes() == other.tobytes()


def _same_counts(folder: RunFolder, summary: Summary) -> bool:
    written = json.loads(folder.summary.read_text(encoding="utf-8"))
    again = json.loads(json.dumps(summary))  # tuples have become lists in the file
    return all(written.get(key) == value for key, value in again.items())


def _adds_up(history: Series, saved: CampaignState) -> bool:
    """Merges, versions, staleness, workers, re-issues and rejections; and no task was merged twice."""
    ledger, tasks = saved.ledger, history.update_tasks
    # One that an operator took back out of quarantine has a line and no rejection any more.
    known = ledger.rejected + ledger.surplus
    return (
        history.version == saved.strategy.version
        and len(tasks) == len(set(tasks)) == ledger.merged
        and Counter(history.update_staleness) == saved.contributions.staleness
        and Counter(history.update_workers) == saved.contributions.merged_by_worker
        and history.reissued.total() == ledger.reissued
        and all(history.rejected[reason] >= count for reason, count in known.items())
    )
