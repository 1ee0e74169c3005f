"""Campaigns as seen from any machine that reaches the broker: which there are, how they are, what they are asked."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from fl_core.broker import keys, rows
from fl_core.broker.campaign import ENDED
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.overview.status import read_status
from fl_core.errors import BrokerRefused, BrokerUnfit, CampaignError, RejectedUpdate, UntrustedError
from fl_core.identity.domain import Domain, Seal
from fl_core.program.plain_text import shown
from fl_core.wire.messages import OperatorRequest, TrainOrder
from fl_core.wire.signed import body_of, is_signed_record
from fl_core.wire.states import ACCEPTING, Request
from fl_core.wire.status import Status

if TYPE_CHECKING:
    from fl_core.broker.bulk.trust import Trust

MAX_CAMPAIGNS = 1000
# Of an entry of the control stream: the request with its operator's signature, beside the same in plain words.
SIGNED = "signed"


class Registry:
    """Reads campaigns; the only thing that it writes is an operator's request.

    Args:
        client: the broker's.
        seal: signs requests; None sends them as they are.
    """

    def __init__(self, client: Client, seal: Seal | None = None) -> None:
        self._client = client
        self._seal = seal

    def campaigns(self) -> list[tuple[str, Status]]:
        """All campaigns, the newest first, each with its status (without a state if it has none).

        Raises:
            BrokerUnavailable: unknown.
        """
        names = self.newest(MAX_CAMPAIGNS)
        return [(name, status) for name, status in self.statuses(names).items()]

    def newest(self, limit: int) -> list[str]:
        """Ids of the newest campaigns, the newest first. What is no id is left out."""
        if rows.too_large(self._client, [keys.CAMPAIGNS]):
            return []
        with broker_errors("listing campaigns"):
            found = self._client.zrevrange(keys.CAMPAIGNS, 0, limit - 1)
        return rows.good(keys.CAMPAIGNS, found, rows.name)

    def statuses(self, campaigns: list[str]) -> dict[str, Status]:
        """Some campaigns' statuses, each with its ``writer``, in one round trip."""
        if not campaigns:
            return {}
        with broker_errors("reading campaigns' statuses"), self._client.pipeline(transaction=False) as pipeline:
            for name in campaigns:
                pipeline.getrange(keys.CampaignKeys(name).status, 0, rows.MAX_STRING_BYTES)
                pipeline.getrange(keys.CampaignKeys(name).writer, 0, 400)
            answers = pipeline.execute(raise_on_error=False)
        found: dict[str, Status] = {}
        for name, packed, writer in zip(campaigns, answers[::2], answers[1::2], strict=True):
            for answer in (packed, writer):
                if isinstance(answer, Exception):
                    self._skip(name, answer)
            status = read_status(packed) if isinstance(packed, bytes) else Status()
            found[name] = replace(status, writer=_token(writer))
        return found

    @staticmethod
    def _skip(campaign: str, error: Exception) -> None:
        """A key that is no string costs its campaign, and nobody else; all else went wrong for all."""
        try:
            with broker_errors("reading campaigns' statuses"):
                raise error
        except BrokerUnfit as unfit:
            rows.tell(keys.CampaignKeys(campaign).status, str(unfit))

    def orders(self, queues: Iterable[str], trust: Trust | None = None) -> list[TrainOrder]:
        """How the tasks of the campaigns that run now on one of these queues are to be done, the newest first.

        An order that this program cannot read, or that no coordinator has signed, is left out; a worker would learn
        that with its first task. A device with rights of its own may not read how campaigns are: it gets the orders of
        all that are not over.

        Args:
            trust: holds orders against their coordinator's signature; None believes them.

        Raises:
            BrokerUnavailable: unknown.
        """
        wanted, found = set(queues), []
        names = self.newest(MAX_CAMPAIGNS)
        try:
            running = [name for name, status in self.statuses(names).items() if _runs_on(status, wanted)]
        except BrokerRefused:
            running = self._unended(names)
        for name in running:
            with broker_errors("reading a campaign's order"):
                packed = self._client.getrange(keys.CampaignKeys(name).order, 0, rows.MAX_STRING_BYTES)
            with contextlib.suppress(RejectedUpdate, UntrustedError):
                found.append(TrainOrder.from_bytes(body_of(packed) if trust is None else trust.order(name, packed)))
        return found

    def _unended(self, names: list[str]) -> list[str]:
        with broker_errors("asking which campaigns are over"), self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.getrange(keys.CampaignKeys(name).incarnation, 0, 100)
            found = pipeline.execute() if names else []
        return [name for name, value in zip(names, found, strict=True) if value not in (b"", ENDED.encode())]

    def find(self, wanted: str) -> str:
        """The one campaign that ``wanted`` means: its id, the beginning of its id, or ``latest``.

        Where a beginning fits several, the one that is not over is meant.

        Raises:
            CampaignError: there is none, or more than one.
        """
        names = self.newest(MAX_CAMPAIGNS)
        if not names:
            raise CampaignError("the broker knows no campaign; launch one with `fedtide run SPEC.toml --broker URL`.")
        if wanted in names:
            return wanted
        if wanted == "latest":
            return names[0]
        matching = [name for name in names if name.startswith(wanted)]
        if not matching:
            raise CampaignError(
                f"there is no campaign {wanted!r}; the newest is {names[0]!r}, `fedtide campaigns` lists all."
            )
        active = [name for name in matching if not self.status(name).is_over]
        if len(matching) > 1 and len(active) == 1:
            return active[0]
        if len(matching) == 1:
            return matching[0]
        raise CampaignError(f"{wanted!r} means {len(matching)} campaigns ({', '.join(matching[:5])}); write more.")

    def status(self, campaign: str) -> Status:
        """What the campaign's coordinator last said of it, and ``writer``: who holds its lease, if anybody."""
        return self.statuses([campaign])[campaign]

    def request(self, campaign: str, request: Request, argument: str = "") -> None:
        """Ask the campaign's coordinator for something; durable, taken in order, also while no coordinator runs.

        Raises:
            CampaignError: it takes requests from operators of its authority alone, and this is none.
        """
        names = keys.CampaignKeys(campaign)
        fields: dict[str, str | bytes] = {"request": request, "argument": argument}
        with broker_errors(f"asking a campaign to {request}"):
            incarnation = self._client.getrange(names.incarnation, 0, 100).decode(errors="replace")
            has_authority = is_signed_record(self._client.getrange(names.order, 0, 100))
        if self._seal is not None:
            asked = OperatorRequest(
                campaign=campaign, incarnation=incarnation or "none", request=request, argument=argument,
                nonce=secrets.token_hex(16),
            )  # fmt: skip
            fields[SIGNED] = self._seal(Domain.CONTROL, asked.to_bytes())
        elif has_authority:
            raise CampaignError(
                f"campaign {campaign} takes requests from operators of its authority alone; ask with `fedtide "
                "--identity DIR`, the folder of one."
            )
        with broker_errors(f"asking a campaign to {request}"):
            self._client.xadd(names.control, fields, maxlen=1000)


def _token(raw: object) -> str | None:
    """Who holds a lease, for people."""
    return shown(raw.decode(errors="replace"), 200) if isinstance(raw, bytes) and raw else None


def _runs_on(status: Status, queues: set[str]) -> bool:
    return status.state in ACCEPTING and not queues.isdisjoint(status.queues or ())
