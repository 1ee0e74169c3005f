"""A check judges before anything is launched; the exit code says which of spec and broker does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.cli import checking
from fl_core.trial.findings import Finding


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("warning", 0), ("fail", 1)])
def test_a_broker_that_is_not_fit_has_an_exit_code(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, verdict: Any, code: int
) -> None:
    """A warning is none."""
    finding = Finding("eviction", verdict, "it drops keys", "set noeviction")
    monkeypatch.setattr(checking, "_check_servers", lambda broker, blobs, need: [finding])
    said = run("check", "--json")
    assert said.exit_code == code
    assert json.loads(said.output)[0]["name"] == "eviction"
    assert run("check").exit_code == code


@pytest.mark.parametrize("words", [["--set", "training.epochs=2"], ["nowhere.toml"]])
def test_what_cannot_be_checked_is_one_sentence(run: Callable[..., Any], words: list[str]) -> None:
    """A key of a spec that was not named, and a spec that is not there."""
    said = run("check", *words)
    assert (said.exit_code, said.output.count("\n")) == (2, 1)
