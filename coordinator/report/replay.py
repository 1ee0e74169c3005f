"""Replay: the recorded update log, applied again from version 0, must give the same model, history and counts.

Of a run that did not keep its log, what is left is held against itself (``coordinator/report/agreement.py``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coordinator.campaign.admission import Admission
from coordinator.campaign.identity import Identity
from coordinator.campaign.rules import RULES
from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import summarise
from coordinator.report.agreement import compare_folder
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import read_history
from coordinator.storage.kept_log import read_kept_log
from coordinator.storage.run_folder import RunFolder
from fl_core.aggregation import build_strategy
from fl_core.errors import CampaignError, MissingBlob, PayloadLost
from fl_core.models.build import build_model
from fl_core.spec import load_spec, parse_spec
from fl_core.vectors.layout import Layout
from fl_core.wire.history import HistoryLine
from fl_core.wire.log_entry import LogEntry


def replay_run(path: Path) -> dict[str, Any]:
    """Apply the whole log again and compare with what the campaign's newest checkpoint and history say.

    Args:
        path: the run's folder.

    Returns:
        ``entries``, ``versions``, ``merged``, whether the ``model``, the ``history`` and the ``counts`` are equal, and
        ``equal`` for all three; ``log_kept`` is False where the log was not kept and nothing was applied again. ``why``
        is a sentence where it is not equal and another release's rules may be the reason.

    Raises:
        CampaignError: there is no checkpoint, or not all of a kept log is there.
    """
    torch.set_num_threads(1)
    if not path.is_dir():
        raise CampaignError(f"there is no folder {path}; give the folder of a run.")
    folder = RunFolder(path)
    loaded = CheckpointStore(_checkpoints(folder)).load()
    if loaded is None:
        raise CampaignError(f"there is no checkpoint in {path}; give the folder of a run.")
    tensors, meta = loaded
    spec = parse_spec(meta["spec"], source="the checkpoint's spec")
    identity = Identity(*meta["identity"])
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model, spec.model.buffers)
    payloads = _Payloads()

    def state() -> CampaignState:
        strategy = build_strategy(spec, layout, layout.flatten(model))
        admission = Admission(identity.campaign, spec, layout, identity.secret, payloads.fetch)
        return CampaignState(identity.campaign, spec, identity.secret, strategy, admission, layout)

    saved, again = state(), state()
    saved.restore(tensors, meta["state"])
    if not spec.checkpoint.keep_log:
        summary = summarise(identity.campaign, spec, saved, layout)
        same = compare_folder(folder, saved, layout, summary, meta["history_bytes"])
        return _result(identity, saved, same, log_kept=False)
    history: list[HistoryLine] = []
    for kind, *rest in read_kept_log(folder.kept_log, meta.get("kept_log", [])):
        match kind:
            case "life":
                again.begin_life(rest[0])
            case "payload":
                payloads.found[rest[0]] = rest[1]
            case "lost":
                payloads.lost_payloads.add(rest[0])
            case "entry":
                history += again.apply(LogEntry(*rest)).history
                payloads.found.clear()
                payloads.lost_payloads.clear()
    if again.num_entries < saved.num_entries:
        raise CampaignError(
            f"the log in {folder.kept_log} lacks {saved.num_entries - again.num_entries} of {saved.num_entries} "
            "entries: the campaign began with a release that kept it at the broker, or in another folder."
        )
    same_model = np.array_equal(
        saved.strategy.parameters.values.view(np.uint32), again.strategy.parameters.values.view(np.uint32)
    )
    written = list(read_history(folder.history))[: len(history)]
    counts = [summarise(identity.campaign, spec, one, layout) for one in (saved, again)]
    same = {"model": bool(same_model), "history": written == history, "counts": counts[0] == counts[1]}
    result = _result(identity, again, same, log_kept=True)
    older = [rules for rules in meta.get("rules", [1]) if rules != RULES]
    if not result["equal"] and older:
        result["why"] = (
            f"The log was written by another release of fedtide, whose rules or defaults (number {older[0]}) are not "
            f"this one's (number {RULES}); replay it with that release."
        )
    return result


def _checkpoints(folder: RunFolder) -> str:
    """Where the run's checkpoints are: its own, or where its spec has put them."""
    if folder.checkpoint.is_dir() or not folder.spec.is_file():
        return str(folder.checkpoint)
    url = os.environ.get("FEDTIDE_CHECKPOINT_URL") or load_spec(folder.spec).checkpoint.url
    return url or str(folder.checkpoint)


def _result(identity: Identity, state: CampaignState, same: dict[str, bool], *, log_kept: bool) -> dict[str, Any]:
    return {
        "campaign": identity.campaign,
        "log_kept": log_kept,
        "entries": state.num_entries,
        "versions": state.strategy.version,
        "merged": state.ledger.merged,
        **same,
        "equal": all(same.values()),
    }


class _Payloads:
    """What the next entry's payload was."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}
        self.lost_payloads: set[str] = set()

    def fetch(self, name: str, num_bytes: int) -> memoryview:
        if name in self.lost_payloads:
            raise PayloadLost(name)
        if name not in self.found:
            raise MissingBlob(name)
        return memoryview(self.found[name])
