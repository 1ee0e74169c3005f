"""Tables for people: what they say is what the records say, and a campaign without a word has a sentence."""

from __future__ import annotations

import pytest

from coordinator.terminal.tables import ledger_sentence, print_campaigns, print_queues, print_status, print_workers
from fl_core.wire.status import Failures, MetricScores, Staleness, Status

STATUS = Status(
    state="paused", stop_reason="", strategy="fedbuff", versions=3, issued=12, merged=6, rejected={"too_stale": 2},
    expired=1, out=3, staleness=Staleness(mean=0.5, p95=2, max=4), metrics={"auc": MetricScores(final=0.5, best=0.75)},
    num_parameters=1234, bytes_up=2_000_000, writer="host:1:ab", fruitless=Failures(sentence="[b]all fail[/b]"),
    waits_for="3 devices", stop={"updates": 12}, wall_seconds=6.0,
)  # fmt: skip


def test_a_status_is_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """State, scores, goal, ledger and warnings, markup shown as it is."""
    print_status("digits-1", STATUS)
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "campaign digits-1", "state paused", "coordinator host:1:ab", "fedbuff, 1,234 parameters",
        "auc ↑ 0.5000, best 0.7500",
        "50% of 12 updates, about 6 s left", "mean 0.5, p95 2, max 4", "nothing comes of it [b]all fail[/b]",
        "before there are 3 devices", "2.0 MB up",
        "issued 12 = merged 6 + rejected 2 + expired 1 + cancelled 0 + out 3",
    ):  # fmt: skip
        assert words in told, words


def test_campaigns_that_have_said_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """In the list as unknown, alone as a sentence; and a broker without any."""
    print_campaigns([("digits-1", STATUS), ("digits-2", Status())])
    rows = capsys.readouterr().out.splitlines()
    assert any("digits-1" in row and "paused" in row and "auc ↑ 0.5000" in row for row in rows)
    assert any("digits-2" in row and "unknown" in row for row in rows)
    print_status("digits-2", Status())
    print_campaigns([])
    told = capsys.readouterr().out
    assert "digits-2: launched, no word from its coordinator yet." in told
    assert "No campaign yet" in told


def test_queues_and_workers(capsys: pytest.CaptureFixture[str]) -> None:
    """One row each, the task in hand short, and what fails below the table."""
    queue = {"queue": "gpu", "depth": 4, "oldest_seconds": 1.5, "in_flight": 2, "workers": 3,
             "arrivals_per_second": 0.5, "departures_per_second": 1.0, "wait_p50_seconds": 0.25,
             "wait_p95_seconds": None}  # fmt: skip
    print_queues([queue])
    worker = {"worker": "pi", "state": "silent", "holding": "digits-1/17-dff3#2", "silent_seconds": 31.0,
              "queues": ["gpu"], "done": 5, "failed": 1, "bytes_up": 999, "bytes_down": 0,
              "trouble": "no data"}  # fmt: skip
    print_workers([worker])
    told = " ".join(capsys.readouterr().out.split())
    for words in ("gpu 4 1.5 2 3 0.5 1.0 250 ms –", "pi silent digits-1 17#2 31.0 gpu 5 1 999 B 0 B", "pi: no data"):
        assert words in told, words


def test_the_ledger_s_hole_is_a_property_of_the_record() -> None:
    """What the sentence adds up to."""
    assert STATUS.missing == 0
    assert Status(issued=5, merged=2).missing == 3
    assert ledger_sentence(Status()).startswith("issued 0 = merged 0")
