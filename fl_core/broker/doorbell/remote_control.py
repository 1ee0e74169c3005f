"""Celery's remote control, of which fedtide's programs answer questions and nothing else."""

from __future__ import annotations

from celery.worker.control import Panel

# What may be asked of a worker that answers Celery's tools. The others stop it, its tasks or its child.
ANSWERED = frozenset(
    {
        "active", "active_queues", "clock", "conf", "disable_events", "enable_events", "heartbeat", "hello", "ping",
        "query_task", "registered", "report", "reserved", "revoked", "scheduled", "stats",
    }
)  # fmt: skip


def answer_questions_only() -> None:
    """Let Celery's remote control read how a worker of this process is, and change nothing."""
    for command in set(Panel.data) - ANSWERED:
        del Panel.data[command]
