"""A campaign's identity: its names, and the secret that proves who coordinates it."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.campaign.ledger import task_id


@dataclass(frozen=True, slots=True)
class Identity:
    """What names a campaign and proves who coordinates it. ``secret`` never leaves the coordinator's side."""

    campaign: str
    secret: bytes
    incarnation: str
    created_ms: int

    def task_id(self, number: int) -> str:
        """What workers know a task by."""
        return task_id(self.secret, number)
