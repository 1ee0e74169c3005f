"""Replay: the recorded update log, applied again from version 0, must give the same model, history and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from coordinator.campaign.admission import Admission
from coordinator.campaign.identity import Identity
from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import summarise
from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.history import read_history
from coordinator.storage.run_folder import RunFolder
from fl_core.aggregation import build_strategy
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.connection import Client
from fl_core.broker.log import scan
from fl_core.errors import CampaignError
from fl_core.models.build import build_model
from fl_core.spec import parse_spec
from fl_core.vectors.layout import Layout


def replay_run(path: Path, client: Client) -> dict[str, Any]:
    """Apply the whole log again and compare with what the campaign's newest checkpoint and history say.

    Args:
        path: the run's folder.
        client: the broker that still has the log.

    Returns:
        ``entries``, ``versions``, ``merged``, whether the ``model``, the ``history`` and the ``counts`` are equal, and
        ``equal`` for all three.

    Raises:
        CampaignError: there is no checkpoint, or the log was not kept.
    """
    torch.set_num_threads(1)
    folder = RunFolder(path)
    loaded = CheckpointStore(str(folder.checkpoint)).load()
    if loaded is None:
        raise CampaignError(f"there is no checkpoint in {path}; give the folder of a run.")
    tensors, meta = loaded
    spec = parse_spec(meta["spec"], source="the checkpoint's spec")
    if not spec.checkpoint.keep_log:
        raise CampaignError(f"{path} did not keep its log; set checkpoint.keep_log = true before the launch.")
    identity = Identity(*meta["identity"])
    broker = CampaignBroker(client, identity.campaign)
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    layout = Layout.of(model, spec.model.buffers)

    def state() -> CampaignState:
        strategy = build_strategy(spec, layout, layout.flatten(model))
        admission = Admission(identity.campaign, spec, layout, identity.secret, broker.fetch_blob)
        return CampaignState(identity.campaign, spec, identity.secret, strategy, admission, layout)

    saved, again = state(), state()
    saved.restore(tensors, meta["state"])
    history: list[dict[str, Any]] = []
    for entry in scan(client, broker.keys):
        if again.position == saved.position:
            break
        history += again.apply(entry).history
    same_model = np.array_equal(
        saved.strategy.parameters.values.view(np.uint32), again.strategy.parameters.values.view(np.uint32)
    )
    written = list(read_history(folder.history))[: len(history)]
    counts = [summarise(identity.campaign, spec, one, layout) for one in (saved, again)]
    result = {
        "campaign": identity.campaign,
        "entries": again.num_entries,
        "versions": again.strategy.version,
        "merged": again.ledger.merged,
        "model": bool(same_model),
        "history": written == history,
        "counts": counts[0] == counts[1],
    }
    return {**result, "equal": result["model"] and result["history"] and result["counts"]}
