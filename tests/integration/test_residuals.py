"""What top-k left out on a device: kept when the worker ends in peace, used once, forgotten with the campaign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import redis

from fl_core.broker.server.embedded import EmbeddedServer
from tests.integration.test_claim_first import KEYS, TASK, Device


def test_a_residual_lives_from_the_worker_s_end_to_the_campaign_s(
    client: redis.Redis, broker_server: EmbeddedServer, tmp_path: Path
) -> None:
    """On disk only while no process has it; a campaign that takes nothing more leaves neither it nor its model."""

    def on_disk() -> list[str]:
        return [path.name for path in tmp_path.glob("residuals/*/*.npy")]

    task = replace(TASK, codec="topk", codec_args={"fraction": 0.1})
    first = Device(client, broker_server.url, tmp_path)
    assert len(first.do(task)) == 1
    assert on_disk() == []
    first.trainer.close()
    assert on_disk() == [f"{task.layout_digest}.0.npy"]

    second = Device(client, broker_server.url, tmp_path)
    assert len(second.do(replace(task, task_id="2-abc"))) == 1
    assert on_disk() == []
    second.trainer.close()
    assert len(on_disk()) == 1

    last = Device(client, broker_server.url, tmp_path)
    client.set(KEYS.incarnation, "ended")
    assert last.do(replace(task, task_id="3-abc")) == []
    last.trainer.close()
    assert on_disk() == []
