"""The broker's knowledge of open tasks and of the fleet, read at one look: decisions are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.campaign.ledger import Ledger, OpenTask
from coordinator.outgoing.context import Context
from fl_core.broker.overview.roster import BEAT_SECONDS, Roster
from fl_core.broker.task_rows import Owner, attempt_name

# Of so many workers the names are read at each look, to tell who came and who left; all are counted.
MAX_NAMED = 2000
# Where all have to be named, which is asked for near the end of a private campaign.
MOST_NAMED = 1_000_000
# Workers that serve several of a campaign's queues are counted once, by name: of a large fleet only now and then.
TELL_APART_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of a campaign's queues.

    Attributes:
        served: the queues that have a live one.
        num_live: how many live; of a large fleet that serves several queues, as last counted by name.
        present: each by name, and whether it is alive; None where there are too many to name.
    """

    served: frozenset[str] = frozenset()
    num_live: int = 0
    present: Mapping[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class Sightings:
    """Who has which open task.

    Attributes:
        owners: who claimed the attempt of a task that is out, by its number; where nobody has, there is none.
        beats: of those workers: seconds since the last beat, and the name of what the worker says it holds.
        depths: how many messages wait on each queue, those of other campaigns included.
        now_ms: campaign time, by which tasks were issued.
        server_ms: the server's clock, by which they were claimed.
    """

    owners: Mapping[int, Owner] = field(default_factory=dict)
    beats: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)
    now_ms: int = 0
    server_ms: int = 0


class Lookout:
    """Reads them.

    Args:
        ctx: the campaign.
        roster: of all workers.
    """

    def __init__(self, ctx: Context, roster: Roster) -> None:
        self._ctx = ctx
        self._roster = roster
        self._num_live = 0
        self._next_telling_apart = float("-inf")

    def look_at_tasks(self, ledger: Ledger) -> Sightings:
        """Look at every open task once.

        Raises:
            BrokerUnavailable: nothing is known.
        """
        broker, clock = self._ctx.broker, self._ctx.clock
        names = {self._ctx.identity.task_id(number): number for number in ledger.open}
        owners = broker.owners({name: ledger.open[number].attempt for name, number in names.items()})
        beats = self._roster.lookup(sorted({owner.worker for owner in owners.values() if owner.worker}))
        depths = {queue: broker.depth(queue) for queue in {task.queue for task in ledger.open.values()}}
        by_number = {names[name]: owner for name, owner in owners.items()}
        return Sightings(by_number, beats, depths, clock.now_ms(), clock.server_ms())

    def ask_owners(self, owned: Sequence[tuple[OpenTask, Owner]]) -> dict[int, int]:
        """What those who have tasks say of them, by the task's number: ``ANSWERED``, or when bytes moved last.

        Raises:
            BrokerUnavailable: unknown.
        """
        names = {attempt_name(self._ctx.identity.task_id(task.number), task.attempt): task.number for task, _ in owned}
        said = self._ctx.broker.said(dict(zip(names, (owner for _, owner in owned), strict=True)))
        return {names[name]: word for name, word in said.items()}

    def names(self) -> frozenset[str]:
        """All workers of the campaign's queues, however many, silent ones too.

        Raises:
            BrokerUnavailable: unknown.
        """
        pages = [self._roster.serving(queue, max_workers=MOST_NAMED) for queue in self._ctx.spec.dispatch.queues]
        return frozenset(name for page in pages for name in page)

    def look_at_fleet(self) -> Fleet:
        """Look at who serves the campaign's queues, and forget who has been silent for a day.

        Raises:
            BrokerUnavailable: unknown.
        """
        dispatch, machine = self._ctx.spec.dispatch, self._ctx.machine
        queues, patience = dispatch.queues, max(1.0, dispatch.lease_seconds - BEAT_SECONDS)
        self._roster.forget_silent(queues)
        live = self._roster.count_live(queues, patience)
        served = frozenset(queue for queue, count in live.items() if count)
        total = sum(live.values())
        if total <= MAX_NAMED // 2:
            named = [self._roster.serving(queue, max_workers=MAX_NAMED, patience_seconds=patience) for queue in queues]
            if sum(map(len, named)) < MAX_NAMED:
                present = {worker: alive for page in named for worker, alive in page.items()}
                return Fleet(served, sum(present.values()), present)
        if len(queues) == 1:
            return Fleet(served, total)
        if machine.monotonic() >= self._next_telling_apart:
            entries = {entry for queue in queues for entry in self._roster.live_entries(queue, patience)}
            self._num_live = len(entries)
            self._next_telling_apart = machine.monotonic() + TELL_APART_SECONDS
        # Between two times of telling apart: at least as many as the largest queue has, at most their sum.
        return Fleet(served, min(max(self._num_live, *live.values()), total))
