"""Keeps ``concurrency`` tasks out, and finds those that nobody works on any more.

The broker only delivers. That a task is abandoned shows in three things at the broker's server: who claimed it,
when that worker was last heard of, and what the worker says it holds. How long ago that was is measured without
comparing stamps from before and after a jump of the server's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from coordinator.campaign.ledger import Ledger, OpenTask
from coordinator.outgoing.bells import GRACE_SECONDS, Bells
from coordinator.outgoing.claims import Claims
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.overview.roster import BEAT_SECONDS, Roster
from fl_core.broker.task_rows import Owner
from fl_core.clock import MACHINE, Clock
from fl_core.spec import DispatchSection
from fl_core.wire.messages import holding_name

# So many tasks are issued at once: the server does nothing else while it writes them down.
MAX_ISSUED = 500
# Of so many workers the names are read at each look, to tell who came and who left; all are counted.
MAX_NAMED = 2000
# Workers that serve several of a campaign's queues are counted once, by name: of a large fleet only now and then.
TELL_APART_SECONDS = 30.0
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
        broker, roster: where tasks and workers are looked up.
        campaign: its id.
        settings: the spec's ``[dispatch]``.
        identify: the task id of a number.
        clock: this machine's.

    Attributes:
        present: the workers of the campaign's queues as of the last look, and whether each is alive.
    """

    def __init__(
        self,
        broker: CampaignBroker,
        roster: Roster,
        campaign: str,
        settings: DispatchSection,
        identify: Callable[[int], str],
        clock: Clock = MACHINE,
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._roster = roster
        self._campaign = campaign
        self._settings = settings
        self._identify = identify
        self._bells = Bells(broker.depth)
        self._answered: dict[int, int] = {}
        self._claims = Claims(clock)
        self._served: set[str] | None = None
        self._waiting_by_queue: Counter[str] = Counter()
        self._num_live = 0
        self._next_telling_apart = 0.0
        self.present: dict[str, bool] = {}

    # -- issuing ---------------------------------------------------------------------------------------------------

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
        queues = [queue for queue in self._settings.queues if self._served is None or queue in self._served]
        queues = queues or list(self._settings.queues)
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

    def forget_silent(self) -> None:
        """Drop workers from the roster that have been silent for a day.

        Raises:
            BrokerUnavailable: some may be left.
        """
        self._roster.forget_silent()

    # -- surveying -------------------------------------------------------------------------------------------------

    def survey(
        self, ledger: Ledger, *, now_ms: int, server_ms: int, judge_workers: bool, caught_up: bool = False
    ) -> Survey:
        """Look at every open task once.

        Args:
            ledger: the tasks that are out.
            now_ms: campaign time, by which tasks were issued.
            server_ms: the server's clock, by which they were claimed.
            judge_workers: False shortly after the broker was away or its clock was set: everybody's beat is old then.
            caught_up: the log was read to its end since the last survey.

        Raises:
            BrokerUnavailable: nothing is known.
        """
        names = {number: self._identify(number) for number in ledger.open}
        owners = self._broker.owners(list(names.values()))
        present = self._roster.lookup(sorted({owner.worker for owner in owners.values()}))
        abandoned: list[tuple[OpenTask, str, str]] = []
        waiting: list[OpenTask] = []
        claimed: list[OpenTask] = []
        answered: dict[int, int] = {}
        self._claims.begin_look()
        for task in ledger.open.values():
            owner = owners.get(names[task.number])
            if owner is None or owner.attempt != task.attempt:
                waiting.append(task)
            elif not owner.delivered:
                claimed.append(task)
                since_claim = self._claims.age_seconds(task.number, owner, server_ms)
                if reason := self._why_abandoned(task, owner, present, since_claim, judge_workers):
                    abandoned.append((task, task.queue, reason))
            elif caught_up and self._answered.get(task.number) == task.attempt:
                # Its answer was there before the log was read to its end, and ended nothing: it cannot be read, or it
                # is gone. The worker thinks that it is done.
                abandoned.append((task, task.queue, "no_answer"))
            else:
                answered[task.number] = task.attempt
        self._answered = answered
        self._claims.end_look()
        self._waiting_by_queue = Counter(task.queue for task in waiting)
        stranded = [task for task in waiting if judge_workers and self._is_stranded(task, now_ms)]
        if stranded:
            left, other = {task.number for task in stranded}, min(self._served or self._settings.queues)
            abandoned += [(task, other, "no_worker") for task in stranded]
            waiting = [task for task in waiting if task.number not in left]
        return Survey(abandoned, self._bells.missing(waiting, claimed, now_ms / 1000), len(claimed))

    def _is_stranded(self, task: OpenTask, now_ms: int) -> bool:
        """Nobody serves its queue, and has not for a moment."""
        if self._served is None or task.queue in self._served:
            return False
        return now_ms - task.issued_ms >= 1000 * GRACE_SECONDS

    def look_at_queues(self) -> int:
        """Learn which queues have a live worker (they are chosen by preference) and return how many workers live.

        Raises:
            BrokerUnavailable: unknown.
        """
        queues, patience = self._settings.queues, max(1.0, self._settings.lease_seconds - BEAT_SECONDS)
        live = self._roster.count_live(queues, patience)
        self._served = {queue for queue, count in live.items() if count} or None
        if sum(live.values()) <= MAX_NAMED // 2:
            named = [self._roster.serving(queue, max_workers=MAX_NAMED, patience_seconds=patience) for queue in queues]
            if sum(map(len, named)) < MAX_NAMED:
                self.present = {worker: alive for page in named for worker, alive in page.items()}
                return sum(self.present.values())
        if len(queues) == 1:
            return sum(live.values())
        if self._clock.monotonic() >= self._next_telling_apart:
            names = {name for queue in queues for name in self._roster.live_names(queue, patience)}
            self._num_live = len(names)
            self._next_telling_apart = self._clock.monotonic() + TELL_APART_SECONDS
        # Between two times of telling apart: at least as many as the largest queue has, at most their sum.
        return min(max(self._num_live, *live.values()), sum(live.values()))

    def _why_abandoned(
        self,
        task: OpenTask,
        owner: Owner,
        present: Mapping[str, tuple[float, str]],
        since_claim: float,
        judge_workers: bool,
    ) -> str | None:
        silent, holding = present.get(owner.worker, (float("inf"), ""))
        holds = holding == holding_name(self._campaign, self._identify(task.number), task.attempt)
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
