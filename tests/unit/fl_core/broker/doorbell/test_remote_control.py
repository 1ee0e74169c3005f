"""Celery's remote control answers questions, and changes nothing."""

from __future__ import annotations

import pytest
from celery.worker.control import Panel

from fl_core.broker.doorbell.remote_control import ANSWERED, answer_questions_only


def test_what_would_stop_a_worker_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the installed Celery has is asked for by name, so that a command that is new there is left out."""
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    assert {"shutdown", "pool_restart", "rate_limit", "revoke", "ping"} <= Panel.data.keys()
    answer_questions_only()
    assert Panel.data.keys() <= ANSWERED
    assert "ping" in Panel.data
