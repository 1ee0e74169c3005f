"""One campaign at the broker, as its coordinator sees it: what it reads, and the commands that it commits.

Functions that end in ``_commands`` do nothing by themselves: the coordinator collects them and sends them as one
transaction under its fence (``lease.Writer.commit``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fl_core.broker import keys as broker_keys
from fl_core.broker import rows, scripts
from fl_core.broker.bulk import blobs
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Command
from fl_core.broker.line.reply_bound import ReplyTooLong
from fl_core.broker.log import START, is_position
from fl_core.broker.overview import feed
from fl_core.broker.overview.quarantine import Quarantine
from fl_core.broker.overview.status import read_status
from fl_core.broker.scripts import Script
from fl_core.broker.task_rows import OpenRow, Owner, attempt_name, is_attempt, word_of
from fl_core.errors import BrokerRefused, BrokerUnfit
from fl_core.wire.log_entry import event_mac, order
from fl_core.wire.status import Status

# Redis' script engine takes a command of some thousand words.
_WORDS = 2000
_PAGE = 5_000
_ASKED = 500
# The incarnation of a campaign that is over.
ENDED = "ended"


class CampaignBroker:
    """Reads and commands of one campaign.

    Attributes:
        keys: the campaign's.
        quarantine: its rejected updates.
    """

    def __init__(self, client: Client, campaign: str) -> None:
        self._client = client
        self._campaign = campaign
        self._continue = Script(client, scripts.CONTINUE)
        self._stream_end = Script(client, scripts.STREAM_END)
        self._said = Script(client, scripts.SAID)
        self.keys = CampaignKeys(campaign)
        self.quarantine = Quarantine(client, self.keys)

    # -- reading ---------------------------------------------------------------------------------------------------

    def clock_ms(self) -> float:
        """The server's clock."""
        with broker_errors("reading the server's clock"):
            seconds, micros = self._client.time()
        return float(seconds * 1000 + micros / 1000)

    def server_run(self) -> str:
        """What the server drew when it was started, by which a restart is known; empty where it does not say."""
        try:
            with broker_errors("reading the server's run"):
                return str(self._client.info("server").get("run_id", ""))[:100]
        except (BrokerRefused, BrokerUnfit):
            return ""  # INFO is not for everybody

    def incarnation(self) -> str | None:
        """What was drawn at the campaign's launch; None if the server does not know the campaign (any more)."""
        with broker_errors("reading the campaign's incarnation"):
            value = self._client.getrange(self.keys.incarnation, 0, 100)
        return value.decode(errors="replace") or None

    def holder(self) -> str | None:
        """Who coordinates the campaign now; None if nobody does."""
        with broker_errors("reading the lease"):
            value = self._client.getrange(self.keys.writer, 0, 400)
        return value.decode(errors="replace") or None

    def trimmed(self) -> str:
        """The position up to which the log was trimmed; ``0-0`` if it never was."""
        with broker_errors("reading how far the log was trimmed"):
            value = self._client.getrange(self.keys.trimmed, 0, 100).decode(errors="replace")
        return value if is_position(value) else START

    def owners(self, attempts: Mapping[str, int]) -> dict[str, Owner]:
        """Who has which of some tasks, by task id; a row that cannot be read is the claim of nobody who lives.

        Args:
            attempts: of each task id the attempt that is out.

        Raises:
            BrokerUnfit: somebody has filled the key, and it is to be dropped.
            BrokerUnavailable: unknown.
        """
        if not attempts:
            return {}
        if rows.too_large(self._client, [self.keys.owners]):
            raise BrokerUnfit(f"{self.keys.owners} holds more than any campaign's claims; somebody has filled it.")
        task_ids = list(attempts)
        names = [attempt_name(*attempt) for attempt in attempts.items()]
        found: list[bytes | None] = []
        with broker_errors("reading who has which task"):
            for start in range(0, len(names), _PAGE):
                found += self._client.hmget(self.keys.owners, names[start : start + _PAGE])
        claimed = [(task_id, row) for task_id, row in zip(task_ids, found, strict=True) if row is not None]
        read = dict(rows.good(self.keys.owners, claimed, lambda item: (item[0], Owner.from_row(item[1]))))
        return {task_id: read.get(task_id, Owner("", 0)) for task_id, _ in claimed}

    def all_owners(self) -> dict[str, Owner | None]:
        """Who has which attempt of a task (``attempt_name``), those included that nobody waits for any more; None for a
        row that cannot be read."""
        if rows.too_large(self._client, [self.keys.owners]):
            return {}
        with broker_errors("reading who has which task"):
            # Page by page: the server serves others in between.
            found = dict(self._client.hscan_iter(self.keys.owners, count=_PAGE))
        named = rows.good(self.keys.owners, found.items(), lambda item: (rows.text(item[0]), item[1]))
        return {name: next(iter(rows.good(self.keys.owners, [row], Owner.from_row)), None) for name, row in named}

    def said(self, owners: Mapping[str, Owner]) -> dict[str, int]:
        """What the owners of attempts (``attempt_name``) say of them: ``ANSWERED``, or when bytes of it moved last."""
        words: list[bytes] = []
        asked = [(name, owner) for name, owner in owners.items() if owner.worker]
        with broker_errors("reading what devices say"):
            for start in range(0, len(asked), _ASKED):
                page = asked[start : start + _ASKED]
                words += self._said([self.keys.said(owner.worker) for _, owner in page], [name for name, _ in page])
        found = ((name, word_of(word)) for (name, _), word in zip(asked, words, strict=True))
        return {name: word for name, word in found if word is not None}

    def has_entry(self, position: str) -> bool:
        """Whether the log holds the entry at a position."""
        with broker_errors("looking at the update log"):
            try:
                return bool(self._client.xrange(self.keys.log, position, position))
            except ReplyTooLong:
                return True

    def log_end(self) -> str:
        """The position of the newest entry that the log ever had; ``0-0`` if there is no log."""
        with broker_errors("looking at the update log"):
            return str(self._stream_end([self.keys.log], []).decode())

    def can_be_claimed(self, tasks: Sequence[OpenRow]) -> bool:
        """Whether workers find all of these tasks, their order, and a version to begin with."""
        if not tasks:
            return True
        with broker_errors("reading the open tasks"), self._client.pipeline(transaction=False) as pipeline:
            pipeline.hmget(self.keys.head, "version", "order")
            pipeline.exists(self.keys.order)
            pipeline.hmget(self.keys.open_tasks, [task.task_id for task in tasks])
            try:
                head, has_order, found = pipeline.execute()
            except ReplyTooLong:
                return False
        return (
            None not in head
            and bool(has_order)
            and all(is_attempt(row, task.attempt) for row, task in zip(found, tasks, strict=True))
        )

    def depth(self, queue: str) -> int:
        """How many doorbells wait on a queue, those of other campaigns included."""
        with broker_errors("reading a queue's depth"):
            return int(self._client.llen(broker_keys.train_queue(queue)))

    def fetch_blob(self, name: str, num_bytes: int) -> memoryview:
        """A payload that did not ride in its log entry.

        Raises:
            MissingBlob: it is not there, or not of that size.
            BrokerUnavailable: ask again.
        """
        return blobs.get(self._client, self.keys.blob(name), num_bytes)

    # -- commands --------------------------------------------------------------------------------------------------

    def open_commands(self, tasks: Iterable[OpenRow]) -> list[Command]:
        """Let workers claim these tasks."""
        words = [word for task in tasks for word in (task.task_id, task.to_row())]
        return [["HSET", self.keys.open_tasks, *page] for page in _pages(words)]

    def rest_commands(self, rows: Mapping[str, str]) -> list[Command]:
        """Have devices wait: each until a version, or for ever (``spent``)."""
        words = [word for row in rows.items() for word in row]
        return [["HSET", self.keys.rests, *page] for page in _pages(words)]

    def rest_nobody_commands(self) -> list[Command]:
        """Forget who has to wait."""
        return [["DEL", self.keys.rests]]

    def close_commands(self, task_ids: Sequence[str]) -> list[Command]:
        """Let nobody claim these tasks any more."""
        return [["HDEL", key, *page] for page in _pages(task_ids) for key in (self.keys.open_tasks, self.keys.pins)]

    def forget_commands(self, attempts: Sequence[str]) -> list[Command]:
        """Forget who had these attempts (``attempt_name``)."""
        return [["HDEL", self.keys.owners, *page] for page in _pages(attempts)]

    def close_all_commands(self, stale: Sequence[str] = ()) -> list[Command]:
        """Let nobody claim any task, and forget who had some.

        Args:
            stale: attempts (``attempt_name``) that nobody has, though a row says so: nobody could claim them any more.
        """
        return [["UNLINK", self.keys.open_tasks, self.keys.pins], *self.forget_commands(stale)]

    def event_commands(self, secret: bytes, header: bytes) -> list[Command]:
        """Append an event to the log, authenticated."""
        return [["XADD", self.keys.log, "*", "e", header, "m", event_mac(secret, header)]]

    def status(self) -> Status:
        """What monitors are shown; without a state if nothing was written, or it is not a status."""
        with broker_errors("reading the status"):
            packed = self._client.getrange(self.keys.status, 0, rows.MAX_STRING_BYTES)
        return read_status(packed)

    def status_commands(self, status: bytes) -> list[Command]:
        """Replace what monitors show."""
        return [["SET", self.keys.status, status]]

    def trim_commands(self, position: str) -> list[Command]:
        """Drop the log up to and including a position."""
        milliseconds, sequence = order(position)
        trim = ["XTRIM", self.keys.log, "MINID", f"{milliseconds}-{sequence + 1}"]
        return [trim, ["SET", self.keys.trimmed, position]]

    def lost_payloads(self) -> set[str]:
        """Names of payloads that were found to be lost."""
        if rows.too_large(self._client, [self.keys.lost_payloads]):
            return set()
        with broker_errors("reading which payloads are lost"):
            names = list(self._client.sscan_iter(self.keys.lost_payloads, count=_PAGE))
        return set(rows.good(self.keys.lost_payloads, names, rows.text))

    def lost_commands(self, names: Sequence[str]) -> list[Command]:
        """Write down that payloads are lost, for good."""
        return [["SADD", self.keys.lost_payloads, *page] for page in _pages(names)]

    def drop_payload_commands(self, payloads: Iterable[tuple[str, int]]) -> list[Command]:
        """Drop payloads by name and size."""
        return [*blobs.unlink_commands(*((self.keys.blob(name), size) for name, size in payloads))]

    def end_commands(self) -> list[Command]:
        """Leave only what monitors show, for a month: nobody trains, delivers or coordinates here any more."""
        keys = self.keys
        gone = [keys.open_tasks, keys.order, keys.owners, keys.pins, keys.versions, keys.patches, keys.control]
        gone += [keys.lost_payloads, keys.inbox, keys.bell, keys.log, keys.trimmed, keys.writer]
        told = [keys.incarnation, keys.spec, keys.status, keys.head, keys.fence, keys.commits, keys.parked]
        expiring = [["EXPIRE", key, str(feed.KEEP_SECONDS)] for key in told]
        return [["UNLINK", *gone], ["SET", keys.incarnation, ENDED], *expiring]

    # -- writing outside the fence ---------------------------------------------------------------------------------

    def register(self, created_ms: int, incarnation: str, spec: str, *, position: str, control_position: str) -> None:
        """Write what the server must know of a campaign before it is published: at launch, or after a loss of data.

        Args:
            created_ms, incarnation, spec: the campaign's.
            position, control_position: up to where its log and its control stream were read. New entries come after
                them, whatever the server's clock says: others would never be read.
        """
        keys = self.keys
        with broker_errors("registering the campaign"):
            self._continue(keys=[keys.log], args=[position])
            self._continue(keys=[keys.control], args=[control_position])
        with broker_errors("registering the campaign"), self._client.pipeline() as pipeline:
            pipeline.zadd(broker_keys.CAMPAIGNS, {self._campaign: created_ms})
            pipeline.delete(keys.open_tasks, keys.owners, keys.pins, keys.versions, keys.patches, keys.head)
            pipeline.set(keys.spec, spec)
            pipeline.set(keys.incarnation, incarnation)
            pipeline.execute()


def _pages(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at a time as one command of a script may have."""
    for start in range(0, len(words), _WORDS):
        yield words[start : start + _WORDS]
