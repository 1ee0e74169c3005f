"""The journal of what a device has given away: never behind what has left it, whoever is killed when."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fl_core.errors import BudgetSpent, SpecError
from fl_core.privacy.budget import Budget
from fl_core.privacy.terms import Terms
from fl_core.wire.messages import TaskCall, TrainOrder, TrainTask
from workers.store import spending
from workers.store.spending import SpendingJournal

TERMS = Terms("local", 1.0, 8.0, 1e-6, 3)


def task(number: int = 1, campaign: str = "a", attempt: int = 1) -> TrainTask:
    order = TrainOrder(
        campaign=campaign, timeout_seconds=1.0, model_factory="a:b", model_args={}, layout_digest="0" * 32,
        training={}, codec="fp32", sends="delta", privacy=TERMS.order(),
    )  # fmt: skip
    call = TaskCall(campaign=campaign, task_id=f"{number}-x", attempt=attempt, queue="default")
    return TrainTask.of(call, order)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "spent.jsonl").read_text().splitlines()]


def test_as_many_as_were_promised(tmp_path: Path) -> None:
    """Each update has a key of its own and a line; then none leaves, also after a restart, and that is said."""
    journal = SpendingJournal(tmp_path)
    keys = {journal.spend(task(number), TERMS) for number in range(3)}
    assert len(keys) == 3 and all(len(key) == 32 for key in keys)
    for again in (journal, SpendingJournal(tmp_path)):
        with pytest.raises(BudgetSpent, match=r"given campaign a 3 updates .* epsilon = 1\.925 at delta = 1e-06"):
            again.verify("a", TERMS)
        with pytest.raises(BudgetSpent):
            again.spend(task(4), TERMS)
    assert [line["task"] for line in lines(tmp_path)] == ["0-x", "1-x", "2-x"]
    assert (tmp_path / "spent.jsonl").stat().st_mode & 0o077 == 0
    journal.verify("b", TERMS)


def test_another_attempt_is_another_update(tmp_path: Path) -> None:
    """It has noise of its own, so that both together tell more than one."""
    journal = SpendingJournal(tmp_path)
    assert journal.spend(task(1), TERMS) != journal.spend(task(1, attempt=2), TERMS)
    assert len(lines(tmp_path)) == 2


def test_a_budget_is_never_raised(tmp_path: Path) -> None:
    """A coordinator that later asks for more, or for less noise, finds what was promised first."""
    journal = SpendingJournal(tmp_path)
    journal.spend(task(), TERMS)
    more = Terms("local", 1.0, 8.0, 1e-6, 1000)
    journal.spend(task(), more)
    journal.spend(task(), more)
    with pytest.raises(BudgetSpent):
        SpendingJournal(tmp_path).spend(task(), more)
    with pytest.raises(BudgetSpent):
        SpendingJournal(tmp_path).verify("a", Terms("local", 1.0, 0.1, 1e-6, 1000))
    fewer = Terms("local", 1.0, 8.0, 1e-6, 1)
    journal.spend(task(campaign="b"), TERMS)
    with pytest.raises(BudgetSpent):
        journal.verify("b", fewer)


def test_the_owner_s_limit_is_for_all_campaigns_together(tmp_path: Path) -> None:
    """And nothing leaves without noise of this device's own."""
    limit = Budget.of_participations(2, TERMS.cost, 1e-6)
    journal = SpendingJournal(tmp_path, limit)
    for terms in (None, Terms("central", 1.0, 8.0, 1e-6, 3)):
        with pytest.raises(BudgetSpent, match=r"--max-epsilon 1\.544 lets updates leave .* campaign c does not ask"):
            journal.verify("c", terms)
    journal.spend(task(campaign="a"), TERMS)
    journal.spend(task(campaign="b"), TERMS)
    for again in (journal, SpendingJournal(tmp_path, limit)):
        with pytest.raises(BudgetSpent, match=r"--max-epsilon 1\.544 is spent"):
            again.verify("c", TERMS)
    SpendingJournal(tmp_path).verify("c", TERMS)
    SpendingJournal(tmp_path).verify("c", None)


def spend_until_refused(folder: Path, terms: Terms, counts: Any) -> None:
    journal = SpendingJournal(folder)
    count = 0
    while True:
        try:
            journal.spend(task(count), terms)
        except BudgetSpent:
            break
        count += 1
    counts.put(count)


def test_workers_that_share_a_folder_share_the_budget(tmp_path: Path) -> None:
    """Three programs at once never give more than one may."""
    terms, context = Terms("local", 1.0, 8.0, 1e-6, 60), multiprocessing.get_context("fork")
    counts = context.Queue()
    programs = [context.Process(target=spend_until_refused, args=(tmp_path, terms, counts)) for _ in range(3)]
    for program in programs:
        program.start()
    assert sum(counts.get(timeout=30) for _ in programs) == 60 == len(lines(tmp_path))
    for program in programs:
        program.join()


def killed_at(folder: Path, moment: str) -> int:
    """A program that dies by SIGKILL at a moment of its third update; its exit code."""

    def die(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def program() -> None:
        journal = SpendingJournal(folder)
        journal.spend(task(1), TERMS)
        journal.spend(task(2), TERMS)
        if moment == "before the line is durable":
            spending.os.fsync = die
        elif moment == "in the middle of a line":
            real = spending.SpendingJournal._append
            journal._append = lambda file, line: (file.write(line[:40]), die(), real)
        journal.spend(task(3), TERMS)
        die()  # counted, and not delivered

    process = multiprocessing.get_context("fork").Process(target=program)
    process.start()
    process.join()
    return process.exitcode or 0


@pytest.mark.parametrize(
    ("moment", "counted"), [("after it", 3), ("before the line is durable", 3), ("in the middle of a line", 2)]
)
def test_a_kill_never_counts_too_little(tmp_path: Path, moment: str, counted: int) -> None:
    """What had left was counted; the rest of a line that was never finished is taken off, and nothing else."""
    assert killed_at(tmp_path, moment) == -signal.SIGKILL
    journal = SpendingJournal(tmp_path)
    for number in range(3 - counted):
        journal.verify("a", TERMS)
        journal.spend(task(number), TERMS)
    with pytest.raises(BudgetSpent):
        journal.verify("a", TERMS)
    assert len(lines(tmp_path)) == 3


def test_the_line_is_on_the_disk_before_there_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync of the file and, for a new one, of its folders; a disk that refuses lets nothing leave."""
    synced: list[str] = []
    real, random = os.fsync, os.urandom

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    def urandom(size: int) -> bytes:
        synced.append("key")
        return random(size)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "urandom", urandom)
    journal = SpendingJournal(tmp_path / "privacy")
    journal.spend(task(), TERMS)
    journal.spend(task(), TERMS)
    assert synced == ["spent.jsonl", "privacy", tmp_path.name, "key", "spent.jsonl", "key"]

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpecError, match=r"No space left.*nothing may leave"):
        journal.spend(task(), TERMS)
    monkeypatch.setattr(os, "fsync", real)
    assert len(lines(tmp_path / "privacy")) == 2
    journal.spend(task(), TERMS)


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 40, b"{}", b"[]", b'{"v": 2, "campaign": "a", "cost": 0.1, "budget": 1.0}', b"\xff\xfe", b"[" * 10000,
     b'{"v": 1, "campaign": "a", "cost": -1.0, "budget": 1.0}', b'{"v": 1, "campaign": "a", "cost": 1.0}',
     b'{"v": 1, "campaign": "a", "cost": NaN, "budget": 1.0}'],
)  # fmt: skip
def test_damage_is_no_fresh_start(tmp_path: Path, damage: bytes) -> None:
    """What cannot be read may have been anything, so nothing more leaves; nor from a journal that became shorter."""
    journal = SpendingJournal(tmp_path)
    journal.spend(task(), TERMS)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + damage + b"\n" + whole)
    for again in (journal, SpendingJournal(tmp_path)):
        for _ in range(2):
            with pytest.raises(SpecError, match=r"spent\.jsonl cannot be read in line 2"):
                again.verify("a", TERMS)
        with pytest.raises(SpecError, match="line 2"):
            again.spend(task(), TERMS)
    journal.path.write_bytes(whole)
    journal.spend(task(), TERMS)
    journal.path.write_bytes(whole)
    with pytest.raises(SpecError, match="shorter"):
        journal.spend(task(), TERMS)
    journal.path.unlink()
    with pytest.raises(SpecError, match="shorter"):
        journal.spend(task(), TERMS)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Named, with the remedy."""
    (tmp_path / "privacy").write_text("in the way")
    with pytest.raises(SpecError, match="--privacy-dir"):
        SpendingJournal(tmp_path / "privacy").spend(task(), TERMS)
