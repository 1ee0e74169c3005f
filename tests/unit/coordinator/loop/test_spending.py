"""Spending is on disk before a version is shown, and other lives' releases are charged before another one is made."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from coordinator.campaign.effects import Effects
from coordinator.loop.spending import Spending
from coordinator.outgoing.cadence import Cadence
from coordinator.storage.checkpoint_files import LocalFiles
from coordinator.storage.spend_journal import SpendJournal
from fedtide.testing.log import LogByHand
from fl_core.clock import MACHINE
from fl_core.errors import CampaignError
from fl_core.privacy.spend import Spend
from fl_core.wire.log_entry import LogEntry

ENTRY = LogEntry("1-0", "u", b"", b"")
SPEND = Spend(version=1, release="a" * 64, costs={"w1": 1.0, "w2": 1.0})
CADENCE = Cadence(full_disk_seconds=0.05, full_disk_pause_seconds=0.01)


def spending(journal: SpendJournal | None, log: LogByHand) -> Spending:
    """Of a campaign in memory."""
    broker = SimpleNamespace(
        rest_commands=lambda rows: [("rest", dict(rows))], rest_nobody_commands=lambda: [("rest nobody", {})]
    )
    identity = SimpleNamespace(campaign="digits-1")
    ctx: Any = SimpleNamespace(machine=MACHINE, cadence=CADENCE, identity=identity, broker=broker)
    transaction: Any = SimpleNamespace(commands=[])
    transaction.add = transaction.commands.extend
    return Spending(ctx, log.state, journal, transaction, threading.Event())


@pytest.fixture
def log() -> LogByHand:
    """A private campaign."""
    log = LogByHand(privacy={"mode": "central", "noise_multiplier": 1.0, "max_participations": 1})
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = b"n" * 32
    return log.open(12)


def test_a_merge_is_written_when_its_version_is_about_to_be_shown(log: LogByHand, tmp_path: Path) -> None:
    """Not before, since several merges may be shown as one; and not after."""
    made = spending(SpendJournal(LocalFiles(tmp_path), 1), log)
    made.applied(ENTRY, Effects(0, 0.0, spends=[SPEND]))
    assert not list(tmp_path.iterdir())
    made.make_durable()
    assert SpendJournal(LocalFiles(tmp_path), 2).read() == [SPEND]


def test_nothing_is_shown_while_the_disk_is_full(log: LogByHand, tmp_path: Path) -> None:
    """It is tried again for a while, and then the campaign ends in a way that can be resumed."""
    files: Any = SimpleNamespace(append=None, tries=0)

    def append(name: str, data: bytes) -> None:
        files.tries += 1
        if files.tries < 3 or name == "spent-000002.jsonl":
            raise OSError(28, "No space left on device")

    files.append = append
    made = spending(SpendJournal(files, 1), log)
    made.applied(ENTRY, Effects(0, 0.0, spends=[SPEND]))
    made.make_durable()
    assert files.tries == 3
    never = spending(SpendJournal(files, 2), log)
    never.applied(ENTRY, Effects(0, 0.0, spends=[SPEND]))
    with pytest.raises(CampaignError, match="No space left"):
        never.make_durable()


def test_releases_of_another_life_are_charged_and_saved(log: LogByHand, tmp_path: Path) -> None:
    """Once. A device that waits in the buffer and has nothing left for it is in no release."""
    journal = SpendJournal(LocalFiles(tmp_path), 1)
    journal.note([SPEND])
    journal.sync()
    log.apply(log.update(1, worker="w1"))
    saved: list[int] = []
    made = spending(SpendJournal(LocalFiles(tmp_path), 2), log)
    for _ in range(2):
        made.charge_other_lives(lambda: saved.append(1))
    assert len(saved) == 1
    assert log.state.privacy is not None
    assert dict(log.state.privacy.budgets.filter.spent) == {"w1": 1.0, "w2": 1.0}
    assert log.state.merging.num_waiting == 0
    log.state.ledger.verify()


def test_claims_are_told_who_has_to_wait(log: LogByHand, tmp_path: Path) -> None:
    """A device rests from when its update is let in; one that has spent its budget does for good."""
    made = spending(SpendJournal(LocalFiles(tmp_path), 1), log)
    commands: list[Any] = made._transaction.commands  # type: ignore[attr-defined]
    for number in range(1, 11):
        made.applied(ENTRY, log.apply(log.update(number, worker=f"w{number}")))
    spent = dict.fromkeys((f"w{number}" for number in range(1, 11)), "spent")
    assert commands[:2] == [("rest", {"w1": "1"}), ("rest", {"w2": "1"})]
    assert commands[-1] == ("rest", spent)
    log.apply(log.update(11, worker="w11"))
    commands.clear()
    made.show()
    assert commands == [("rest nobody", {}), ("rest", {"w11": "2", **spent})]


def test_a_delta_that_promises_little_is_told_once(tmp_path: Path) -> None:
    """As soon as as many devices have contributed as it has room for."""
    log = LogByHand(privacy={"mode": "central", "noise_multiplier": 1.0, "delta": 0.05}).open(50)
    assert log.state.privacy is not None
    log.state.privacy.noise_secret = b"n" * 32
    made = spending(SpendJournal(LocalFiles(tmp_path), 1), log)
    with structlog.testing.capture_logs() as told:
        for number in range(1, 41):
            made.applied(ENTRY, log.apply(log.update(number, worker=f"w{number}")))
    (line,) = told
    assert (line["delta"], line["devices"], line["log_level"]) == (0.05, 20, "warning")


def test_without_central_privacy_there_is_no_journal() -> None:
    """Nothing is read, and nothing written."""
    made = spending(None, LogByHand().open(1))
    made.applied(ENTRY, Effects(0, 0.0))
    made.make_durable()
    made.charge_other_lives(lambda: pytest.fail("saved"))
