"""Keeps ``concurrency`` tasks out, and finds those that nobody works on any more; it decides from values alone.

The broker only delivers. That a task is abandoned shows in three things at the broker's server (``lookout.py``): who
claimed it, when that worker was last heard of, and what the worker says it holds. How long ago that was is measured
without comparing stamps from before and after a jump of the server's clock. Before a task is given up, its owner is
asked: it may have answered meanwhile, or bytes of the task may move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from coordinator.campaign.identity import Identity
from coordinator.campaign.ledger import Ledger, OpenTask
from coordinator.outgoing.bells import GRACE_SECONDS, Bells
from coordinator.outgoing.claims import Claims
from coordinator.outgoing.lookout import Fleet, Sightings
from fl_core.broker.overview.roster import BEAT_SECONDS
from fl_core.broker.task_rows import ANSWERED, Owner
from fl_core.clock import MACHINE, Clock
from fl_core.spec import DispatchSection
from fl_core.wire.messages import holding_name

# What owners say of their tasks, by the task's number: ``ANSWERED``, or when bytes moved last (server's clock, ms).
AskOwners = Callable[[Sequence[tuple[OpenTask, Owner]]], Mapping[int, int]]
# So many tasks are issued at once: the server does nothing else while it writes them down.
MAX_ISSUED = 500
# A device that is alive and at work on a task past its deadline asks the training to stop, and kills it 5 s later.
DEVICE_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at the open tasks found.

    Attributes:
        abandoned: tasks to re-issue, with queue and reason (``lost``, ``deadline``, ``no_answer``, ``no_worker``).
        silent: tasks whose doorbell has to be rung again.
        claimed: how many open tasks a worker has.
    """

    abandoned: list[tuple[OpenTask, str, str]]
    silent: list[OpenTask]
    claimed: int


class Dispatcher:
    """Decides what to issue and what to re-issue; the coordinator writes the decisions down.

    Args:
        settings: the spec's ``[dispatch]``.
        identity: the campaign's.
        clock: this machine's.
    """

    def __init__(self, settings: DispatchSection, identity: Identity, clock: Clock = MACHINE) -> None:
        self._settings = settings
        self._identity = identity
        self._bells = Bells()
        self._claims = Claims(clock)
        self._moves = Claims(clock, from_the_start=False)
        self._answered: dict[int, int] = {}
        self._served: frozenset[str] = frozenset()
        self._waiting_by_queue: Counter[str] = Counter()

    # -- issuing ---------------------------------------------------------------------------------------------------

    def note_fleet(self, fleet: Fleet) -> None:
        """Queues with a live worker are chosen by preference; where nobody lives at all, none is."""
        self._served = fleet.served

    def plan(self, ledger: Ledger, *, pending: int, barrier: bool) -> list[str]:
        """The queues of the tasks to issue now, one entry per task.

        Args:
            ledger: the tasks that are out.
            pending: issued, but not yet read back from the log.
            barrier: issue a whole cohort, and only when the last one has ended.
        """
        room = self._settings.concurrency - len(ledger.open) - pending
        if room <= 0 or (barrier and (ledger.open or pending or ledger.buffered)):
            return []
        if not barrier:  # a cohort is issued as one; its rows and doorbells are written a part at a time
            room = min(room, MAX_ISSUED)
        queues = [queue for queue in self._settings.queues if queue in self._served] or list(self._settings.queues)
        if len(queues) == 1:
            return queues * room
        chosen = []
        # A class that empties its queue faster gets more: the next task goes where the fewest wait.
        waiting = Counter({queue: self._waiting_by_queue[queue] for queue in queues})
        for _ in range(room):
            queue = min(queues, key=lambda name: waiting[name])
            waiting[queue] += 1
            self._waiting_by_queue[queue] += 1
            chosen.append(queue)
        return chosen

    # -- surveying -------------------------------------------------------------------------------------------------

    def survey(
        self, ledger: Ledger, seen: Sightings, ask: AskOwners, *, judge_workers: bool, caught_up: bool = False
    ) -> Survey:
        """Judge every open task once.

        Args:
            ledger: the tasks that are out.
            seen: what the broker's server knows of them.
            ask: what the owners of tasks that would be given up say of them.
            judge_workers: False shortly after the broker was away or its clock was set: everybody's beat is old then.
            caught_up: the log was read to its end since the last survey.
        """
        waiting: list[OpenTask] = []
        claimed: list[OpenTask] = []
        suspects: list[tuple[OpenTask, Owner, str]] = []
        self._claims.begin_look()
        for task in ledger.open.values():
            owner = seen.owners.get(task.number)
            if owner is None:
                waiting.append(task)
                continue
            claimed.append(task)
            since_claim = self._claims.age_seconds(task.number, task.attempt, owner.claimed_ms, seen.server_ms)
            if reason := self._why_abandoned(task, owner, seen, since_claim, judge_workers):
                suspects.append((task, owner, reason))
        self._claims.end_look()
        abandoned = self._judge(suspects, ask, seen, judge_workers, caught_up)
        self._waiting_by_queue = Counter(task.queue for task in waiting)
        stranded = [task for task in waiting if judge_workers and self._is_stranded(task, seen.now_ms)]
        if stranded:
            left, other = {task.number for task in stranded}, min(self._served)
            abandoned += [(task, other, "no_worker") for task in stranded]
            waiting = [task for task in waiting if task.number not in left]
        silent = self._bells.missing(waiting, claimed, seen.depths, seen.now_ms / 1000)
        return Survey(abandoned, silent, len(claimed))

    def _judge(
        self, suspects: Sequence[tuple[OpenTask, Owner, str]], ask: AskOwners, seen: Sightings,
        judge_workers: bool, caught_up: bool,
    ) -> list[tuple[OpenTask, str, str]]:  # fmt: skip
        """Those of some tasks that are given up once their owners were asked."""
        said = ask([(task, owner) for task, owner, _ in suspects]) if suspects else {}
        abandoned: list[tuple[OpenTask, str, str]] = []
        answered: dict[int, int] = {}
        self._moves.begin_look()
        for task, owner, reason in suspects:
            word, still = said.get(task.number), reason
            if word is not None and word != ANSWERED:  # its bytes move: its task's time begins again
                since = self._moves.age_seconds(task.number, task.attempt, word, seen.server_ms)
                still = self._why_abandoned(task, owner, seen, since, judge_workers) or ""
            elif word == ANSWERED and caught_up and self._answered.get(task.number) == task.attempt:
                # Its answer was there before the log was read to its end, and ended nothing: it cannot be read, or it
                # is gone. The worker thinks that it is done.
                still = "no_answer"
            elif word == ANSWERED:
                answered[task.number] = task.attempt
                continue
            if still:
                abandoned.append((task, task.queue, still))
        self._moves.end_look()
        self._answered = answered
        return abandoned

    def _is_stranded(self, task: OpenTask, now_ms: int) -> bool:
        """Nobody serves its queue, and has not for a moment, while somebody serves another."""
        if not self._served or task.queue in self._served:
            return False
        return now_ms - task.issued_ms >= 1000 * GRACE_SECONDS

    def _why_abandoned(
        self, task: OpenTask, owner: Owner, seen: Sightings, since_claim: float, judge_workers: bool
    ) -> str | None:
        silent, holding = seen.beats.get(owner.worker, (float("inf"), ""))
        name = holding_name(self._identity.campaign, self._identity.task_id(task.number), task.attempt)
        holds = holding == name
        # A device ends what overruns by itself, and reports why: it is given the time to.
        grace = DEVICE_GRACE_SECONDS if holds and silent <= self._settings.lease_seconds else 0.0
        if since_claim > self._settings.task_timeout_seconds + grace:
            return "deadline"
        if not judge_workers:
            return None
        if silent > self._settings.lease_seconds and since_claim > self._settings.lease_seconds:
            return "lost"
        # It beats, but a beat well after the claim does not name this task: the worker was restarted, or its training
        # process died. Two beats of patience, because the claim and the next beat race.
        if since_claim - silent > 2 * BEAT_SECONDS and not holds:
            return "lost"
        return None
