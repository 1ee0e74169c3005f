"""Keepers are asked for the masks of full sums: as few as can be, and others where one does not answer.

An order names the same updates whoever asks again and however often, so that a coordinator that resumes, or does not
know what became of an ask, asks again.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from coordinator.campaign.masked.sums import MaskedSums
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.transaction import Transaction
from fl_core.broker.keepers.asks import ask_commands, certificates
from fl_core.identity.domain import Domain
from fl_core.secure_aggregation.masked_sum import MaskedSum
from fl_core.secure_aggregation.orders import Ask, Request

# A keeper that has not answered for so long is passed over while another one can answer.
ANSWER_SECONDS = 5.0
# On top of that, for each number of each update: ten times what it takes.
SECONDS_PER_NUMBER = 2e-8
PRESENCE_SECONDS = 1.0
PASSED_OVER_SECONDS = 60.0
WORD_SECONDS = 60.0

log = structlog.get_logger()


class KeeperAsks:
    """Asks, and says who is waited for; does nothing in a campaign without keepers.

    Args:
        ctx, state: the campaign's.
        transaction: where asks go.
        make_durable: what devices have spent on a sum is on disk when it returns; nobody is asked before.

    Attributes:
        waits_for: the keepers without whom nothing moves, and since when, in words; empty where none is waited for.
    """

    def __init__(
        self, ctx: Context, state: CampaignState, transaction: Transaction, make_durable: Callable[[], None]
    ) -> None:
        self._ctx = ctx
        self._make_durable = make_durable
        self._state = state
        self._transaction = transaction
        self._asked: dict[str, dict[tuple[str, tuple[int, ...]], float]] = {}
        self._since: dict[str, float] = {}
        self._passed_over: dict[str, float] = {}
        self._present: frozenset[str] = frozenset()
        self._next_look = self._next_word = float("-inf")
        self._log = log.bind(campaign=ctx.identity.campaign)
        self.waits_for = ""

    def look(self) -> None:
        """Ask for what is missing and not asked for.

        Raises:
            BrokerUnavailable: it is not known who is there; look again.
        """
        masked = self._state.masked
        if masked is None or not masked.waiting or not self._state.accepts:
            self._asked, self._since, self.waits_for = {}, {}, ""
            return
        now = self._ctx.machine.monotonic()
        if now >= self._next_look:
            self._next_look = now + PRESENCE_SECONDS
            self._present = frozenset(certificates(self._ctx.client, masked.waiting[0].terms.keepers))
        digests = {one.digest for one in masked.waiting}
        self._asked = {digest: asked for digest, asked in self._asked.items() if digest in digests}
        self._since = {one.digest: self._since.get(one.digest, now) for one in masked.waiting}
        for one in masked.waiting:
            self._ask(one, now)
        self._tell(masked, now)

    def forget(self) -> None:
        """What was asked may be gone with the server: ask again."""
        self._asked = {}

    def _ask(self, one: MaskedSum, now: float) -> None:
        patience = ANSWER_SECONDS + SECONDS_PER_NUMBER * one.count * one.terms.num_elements
        asked = self._asked.setdefault(one.digest, {})
        for (keeper, seeds), since in list(asked.items()):
            if keeper in one.refused_by or not one.missing.issuperset(seeds):
                del asked[keeper, seeds]
            elif now - since > patience:
                del asked[keeper, seeds]
                self._passed_over[keeper] = now
                self._log.info("a keeper does not answer; asking others where they can", keeper=keeper)
        pending = {seed for _, seeds in asked for seed in seeds}
        if not (missing := one.missing - pending):
            return
        self._make_durable()
        for keeper, seeds in one.asked(self._preferred(one, now), missing).items():
            seal = self._ctx.seal
            assert seal is not None  # the launch has seen to it
            ask = Ask(order=one.digest, seeds=seeds).to_bytes()
            request = Request(ask=seal(Domain.UNMASK, ask), order=one.order).to_bytes()
            self._transaction.add(ask_commands(keeper, request))
            asked[keeper, seeds] = now

    def _preferred(self, one: MaskedSum, now: float) -> list[str]:
        """Those first who are there and have answered; among them each in turn, by the order's digest."""
        names = one.terms.keepers
        start = int(one.digest[:8], 16) % len(names)
        turned = [*names[start:], *names[:start]]

        def is_late(name: str) -> bool:
            return now - self._passed_over.get(name, float("-inf")) < PASSED_OVER_SECONDS

        return sorted(turned, key=lambda name: (name not in self._present, is_late(name)))

    def _tell(self, masked: MaskedSums, now: float) -> None:
        """Who is waited for, once that takes long."""
        oldest = masked.waiting[0]
        seconds = now - self._since[oldest.digest]
        away = [name for name in oldest.terms.keepers if name not in self._present]
        if seconds <= ANSWER_SECONDS:
            self.waits_for = ""
            return
        asked = {keeper for keeper, _ in self._asked[oldest.digest]}
        names = sorted(asked or set(away))
        gone = f", of whom {', '.join(away)} are away" if away else ""
        self.waits_for = f"answers of the keepers {', '.join(names)}{gone} (for {seconds:.0f} s)"
        if now >= self._next_word:
            self._next_word = now + WORD_SECONDS
            self._log.warning(
                "a full sum waits for keepers", keepers=names, away=away, seconds=round(seconds),
                sums=len(masked.waiting),
            )  # fmt: skip
