"""A task, and the small model that it is about."""

from __future__ import annotations

from typing import Any

from fl_core.models.build import build_model
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainTask

ARGS: dict[str, Any] = {"inputs": 4, "hidden": [3], "classes": 2}
MODULE = build_model("fl_core.models:mlp", ARGS, seed=0)
LAYOUT = Layout.of(MODULE)
TASK = TrainTask(
    campaign="digits-1",
    task_id="1-abc",
    attempt=1,
    queue="default",
    timeout_seconds=60.0,
    model_factory="fl_core.models:mlp",
    model_args=ARGS,
    layout_digest=LAYOUT.digest,
    training={},
    codec="fp32",
    sends="delta",
)
