"""The writes of one turn of the coordinator: commands, events and doorbells, sent as one fenced transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from coordinator.campaign.ledger import OpenTask
from coordinator.outgoing.context import Context
from coordinator.storage.last_commit import LastCommit
from coordinator.telemetry.spans import Traces
from fl_core.broker.doorbell.message import ring_commands
from fl_core.broker.lease import Command, LostData, Unanswered
from fl_core.broker.task_rows import OpenRow, attempt_name
from fl_core.errors import BrokerUnavailable
from fl_core.program.crash_points import crash_point
from fl_core.wire.events import CampaignEvent, Event, Issued
from fl_core.wire.messages import TaskCall

# So many tasks are opened, closed and rung for at once: a few milliseconds of the server.
MAX_TASKS = 500


class Transaction:
    """Collects until :meth:`commit`, which is to be repeated when the broker is away.

    What was sent and not answered is sent again as it was, before anything else: the server knows it by its mark, and
    it takes effect once.

    Args:
        ctx: the campaign.
        traces: where the tasks' spans go; None for nowhere.
        last_commit: notes each commit before it is sent; None for none.

    Attributes:
        sequence: of the last event that was added.
        issued: number of the last task that was added.
    """

    def __init__(
        self,
        ctx: Context,
        traces: Traces | None = None,
        last_commit: LastCommit | None = None,
    ) -> None:
        self._broker = ctx.broker
        self._writer = ctx.writer
        self._identity = ctx.identity
        self._clock = ctx.clock
        self._traces = traces
        self._last_commit = last_commit
        self._commands: list[Command] = []
        self._unanswered: list[Command] = []
        self._to_close: list[int] = []
        self._to_forget: list[tuple[int, int]] = []
        self._attempts: dict[int, int] = {}
        self._to_open: dict[int, OpenTask] = {}
        self._to_ring: list[OpenTask] = []
        self.sequence = 0
        self.issued = 0

    @property
    def is_empty(self) -> bool:
        """Nothing waits to be written."""
        waits = (self._commands, self._unanswered, self._to_close, self._to_forget, self._to_open, self._to_ring)
        return not any(waits)

    def go_on_from(self, sequence: int, issued: int) -> None:
        """Number events and tasks after these."""
        self.sequence, self.issued = sequence, issued

    def clear(self) -> None:
        """Forget what was not written."""
        self._commands = []
        self._unanswered = []
        self._to_close, self._to_forget, self._to_open, self._to_ring = [], [], {}, []
        self._attempts = {}

    def add(self, commands: Iterable[Command]) -> None:
        """Write these as well."""
        self._commands += commands

    def add_in_front(self, commands: Sequence[Command]) -> None:
        """Write these first: a server that is out of memory runs a transaction only if it begins by freeing some."""
        self._commands[:0] = commands

    def append(self, event: Event) -> None:
        """Put a decision into the log."""
        self.sequence += 1
        campaign, body = self._identity.campaign, event.to_map()
        signed = CampaignEvent(campaign=campaign, sequence=self.sequence, kind=event.kind, body=body)
        self._commands += self._broker.event_commands(self._identity.secret, signed.to_bytes())

    def issue(self, queues: Sequence[str]) -> None:
        """Put new tasks out, one on each of these queues: event, row and doorbell."""
        now_ms = self._clock.now_ms()
        tasks = [OpenTask(self.issued + 1 + i, 1, 0, queue, now_ms) for i, queue in enumerate(queues)]
        self.issued += len(tasks)
        self.append(Issued(queues=tuple(queues)))
        self.open(tasks)
        self.ring(tasks)

    def open(self, tasks: Iterable[OpenTask]) -> None:
        """Let workers claim these tasks; of one that is issued again, whoever may have claimed it before its time."""
        for task in tasks:
            before = self._attempts.get(task.number, task.attempt)
            if before != task.attempt:
                self._to_forget += [(task.number, before), (task.number, task.attempt)]
            self._attempts[task.number] = task.attempt
            self._to_open[task.number] = task

    def close(self, numbers: Iterable[int]) -> None:
        """Let nobody claim these tasks any more."""
        for number in numbers:
            self._to_close.append(number)
            self._to_open.pop(number, None)
            if (attempt := self._attempts.pop(number, None)) is not None:
                self._to_forget.append((number, attempt))

    def ring(self, tasks: Iterable[OpenTask]) -> None:
        """Put their doorbells on the queues, last of all."""
        self._to_ring += tasks

    def commit(self) -> None:
        """Write what was collected, doorbells last: as one transaction, or as several where it concerns many tasks.

        The server does nothing else during a transaction. Each leaves what a coordinator that resumes can go on from:
        events come first, and the rows of open tasks are written again from them.

        Raises:
            FencedOut: another coordinator has taken over; nothing was written.
            LostData: the server has lost the campaign, or a part of it; nothing was written.
            BrokerUnavailable: commit again.
        """
        if self._unanswered:
            self._send(self._unanswered, again=True)
        while not self.is_empty:
            self._send(self._next_batch())

    def _next_batch(self) -> list[Command]:
        batch, self._commands = self._commands, []
        closed, self._to_close = self._to_close[:MAX_TASKS], self._to_close[MAX_TASKS:]
        batch += self._broker.close_commands([self._identity.task_id(number) for number in closed])
        forgotten, self._to_forget = self._to_forget[:MAX_TASKS], self._to_forget[MAX_TASKS:]
        names = [attempt_name(self._identity.task_id(number), attempt) for number, attempt in forgotten]
        batch += self._broker.forget_commands(names)
        # Not before all claims that came too early are forgotten, and with them none that comes in time.
        opened = list(itertools.islice(self._to_open.values(), 0 if self._to_forget else MAX_TASKS))
        for task in opened:
            del self._to_open[task.number]
        identify, on_server_ms = self._identity.task_id, self._clock.on_server_ms
        batch += self._broker.open_commands(
            [OpenRow(identify(t.number), t.attempt, on_server_ms(t.issued_ms), t.queue) for t in opened]
        )
        batch += self._ring_commands()
        return batch

    def _ring_commands(self) -> list[Command]:
        """Ring for the next tasks, up to one that nobody can claim yet."""
        rung = list(itertools.takewhile(lambda task: task.number not in self._to_open, self._to_ring[:MAX_TASKS]))
        if not rung:
            return []
        self._to_ring = self._to_ring[len(rung) :]
        now_ms, identity = self._clock.now_ms(), self._identity
        if self._traces is not None:
            self._traces.published(rung, now_ms)
        calls = [
            TaskCall(campaign=identity.campaign, task_id=identity.task_id(t.number), attempt=t.attempt, queue=t.queue)
            for t in rung
        ]
        return ring_commands(calls, self._clock.server_ms())

    def _send(self, batch: list[Command], *, again: bool = False) -> None:
        self._unanswered = []
        crash_point("before_commit")
        if self._last_commit is not None:
            self._last_commit.note(self._identity.incarnation, self._writer.commits + 1)
        try:
            self._writer.commit(self._identity.incarnation, batch, again=again)
        except Unanswered:
            self._unanswered = batch
            raise
        except (BrokerUnavailable, LostData):
            self._commands[:0] = batch
            raise
        crash_point("after_commit")
