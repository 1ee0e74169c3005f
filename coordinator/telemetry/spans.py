"""The coordinator's spans: what became of each task, exported when it happens. See ``fl_core/program/tracing.py``."""

from __future__ import annotations

import time
from collections.abc import Iterable

from coordinator.campaign.effects import Effects
from coordinator.campaign.ledger import OpenTask, task_id, task_number
from fl_core.program.tracing import Tracer
from fl_core.wire.history import MergeLine


class Traces:
    """One campaign's. It keeps a number per task that is out or in the buffer, no more.

    Args:
        tracer: of this process.
        campaign: its id.
        secret: from which task ids are made.
    """

    def __init__(self, tracer: Tracer, campaign: str, secret: bytes) -> None:
        self._tracer = tracer
        self._campaign = campaign
        self._secret = secret
        # When each open task was issued, and each update in the buffer admitted, by this machine's clock.
        self._issued_ns: dict[int, int] = {}
        self._buffered: dict[int, tuple[int, int]] = {}

    def published(self, tasks: Iterable[OpenTask], now_ms: int) -> None:
        """Doorbells were written.

        Args:
            now_ms: campaign time, by which tasks were issued.
        """
        now_ns = time.time_ns()
        for task in tasks:
            issued_ns = now_ns - max(0, now_ms - task.issued_ms) * 10**6
            self._issued_ns.setdefault(task.number, issued_ns)
            self._record(task.number, "publish", issued_ns, now_ns, attempt=task.attempt, queue=task.queue)

    def applied_first(self, effects: Effects, seconds: float, now_ms: int) -> None:
        """An entry of the log was read and applied for the first time.

        Args:
            seconds: what applying took.
            now_ms: campaign time.
        """
        end_ns = time.time_ns()
        arrived_ns = end_ns - max(0, now_ms - effects.moment_ms) * 10**6
        if (admitted := effects.admitted) is not None:
            number, update = admitted.task.number, admitted.update
            issued_ns = end_ns - max(0, now_ms - admitted.task.issued_ms) * 10**6
            self._buffered[number] = (self._issued_ns.pop(number, issued_ns), end_ns)
            self._record(
                number, "admit", arrived_ns, end_ns, worker=update.worker, attempt=update.attempt,
                staleness=admitted.contribution.staleness, base_version=update.base_version,
                payload_bytes=update.payload_bytes, seconds=seconds,
            )  # fmt: skip
        for refused in effects.refusals:
            # A name that is none of ours makes no trace.
            known = refused.update
            refusal = None if known is None else task_number(self._secret, known.task_id)
            if known is not None and refusal is not None:
                reason = refused.reason.value
                self._record(refusal, "admit", arrived_ns, end_ns, worker=known.worker, error=reason)
                if refused.task is not None:
                    self._end(refusal, self._issued_ns.pop(refusal, arrived_ns), end_ns, "rejected", error=reason)
        for line in effects.history:
            if isinstance(line, MergeLine):
                for number in line.tasks:
                    issued_ns, buffered_ns = self._buffered.pop(number, (arrived_ns, arrived_ns))
                    self._record(number, "merge", buffered_ns, end_ns, version=line.version)
                    self._end(number, issued_ns, end_ns, "merged")
        for number in effects.closed:
            if (issued := self._issued_ns.pop(number, None)) is not None:
                self._end(number, issued, end_ns, "expired_or_cancelled")

    def close(self) -> None:
        """Send what waits."""
        self._tracer.close()

    def _end(self, number: int, issued_ns: int, end_ns: int, outcome: str, error: str = "") -> None:
        self._record(number, "task", issued_ns, end_ns, outcome=outcome, error=error)

    def _record(self, number: int, name: str, start_ns: int, end_ns: int, *, error: str = "", **known: object) -> None:
        told = task_id(self._secret, number)
        self._tracer.record(self._campaign, told, name, start_ns, end_ns, error=error, **known)
