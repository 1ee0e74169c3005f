"""The quarantine as operators see it: what was refused and why, and letting one in after all."""

from __future__ import annotations

import time
from typing import Any

from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview.quarantine import MAX_PARKED, Parked, Quarantine
from fl_core.broker.overview.registry import Registry
from fl_core.errors import CampaignError, RejectedUpdate
from fl_core.wire.signed import update_of
from fl_core.wire.states import TAKEN_IN

ANSWER_SECONDS = 4.0


def list_parked(client: Client, campaign: str, limit: int = MAX_PARKED) -> list[dict[str, Any]]:
    """The campaign's parked updates, the newest first, at most ``limit``; plain JSON types.

    Raises:
        BrokerUnavailable: unknown.
    """
    parked_updates = Quarantine(client, CampaignKeys(campaign)).newest(limit)
    return [_describe(index, parked) for index, parked in enumerate(parked_updates, 1)]


def _describe(index: int, parked: Parked) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": index,
        "reason": parked.reason,
        "detail": parked.detail,
        "worker": parked.worker or None,
        "task": parked.task,
        "payload_bytes": parked.payload_bytes,
        "kept_bytes": len(parked.payload),
        "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(parked.milliseconds / 1000)),
        "readmittable": parked.task is not None and parked.has_payload,
        "position": parked.position,
    }
    try:
        header = update_of(parked.header)
    except RejectedUpdate:
        return row
    names = ("base_version", "num_examples", "attempt", "sends", "codec", "layout_digest", "metrics", "seconds")
    return {**row, **{name: getattr(header, name) for name in names}}


def readmit_parked(client: Client, registry: Registry, campaign: str, row: dict[str, Any]) -> dict[str, Any]:
    """Ask the coordinator to merge a parked update, and wait shortly for the answer.

    Raises:
        CampaignError: this one cannot be merged.
    """
    if not row["readmittable"]:
        raise CampaignError(
            f"rejected update {row['number']} cannot be merged: "
            + ("it answered no open task." if row["task"] is None else "its payload was too large to keep.")
        )
    state = registry.status(campaign).state
    if state not in TAKEN_IN["readmit"]:
        raise CampaignError(f"campaign {campaign} is {state}; only a running or paused one takes updates.")
    registry.request(campaign, "readmit", row["position"])
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.1)
        # It leaves the quarantine in the transaction that takes it into the log.
        if Quarantine(client, CampaignKeys(campaign)).find(row["position"]) is None:
            return {"readmitted": True, "sentence": f"update {row['number']} of {campaign} was readmitted."}
    return {"readmitted": False, "sentence": "the request waits for the coordinator, which does not answer now."}
