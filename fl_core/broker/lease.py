"""One writer per campaign: a lease with a fencing token, and the one door through which a coordinator writes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgpack
import redis

from fl_core.broker import inbox, scripts
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.line.short_way import Word
from fl_core.broker.scripts import Script, is_missing
from fl_core.errors import BrokerUnavailable, CampaignError, FencedOut

Command = Sequence[str | bytes]
# A transaction that begins with one of these is run by a server that is out of memory.
FREEING = ("XTRIM", "UNLINK", "HDEL")


class LostData(CampaignError):
    """The server answers, but it has less of this campaign than its coordinator knows to have been there.

    Attributes:
        how: what shows it, as the end of a sentence that begins with "the broker".
    """

    def __init__(self, campaign: str, how: str) -> None:
        super().__init__(f"campaign {campaign}: the broker {how}.")
        self.how = how


FORGOTTEN = "no longer has the campaign"
INCOMPLETE = "no longer has all of the campaign: keys were deleted or evicted"
OLDER = "is older than this coordinator's memory: it was rolled back or restored"


class Unanswered(BrokerUnavailable):
    """A commit was sent and no answer came: it may or may not have taken effect."""


class Writer:
    """A coordinator's right to write one campaign.

    Attributes:
        token: names this holder, for people to read.
        fence: rises with every change of holder.
        commits: how many commits the campaign has had, over all holders.
        predecessor: the holder that this one, a standby until then, saw keeping its lease; empty if it saw none.
        num_waiting: how many entries were left in the inbox when it was taken in last.
    """

    def __init__(self, client: Client, keys: CampaignKeys, *, holder: str, lease_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._lease_ms = round(lease_seconds * 1000)
        self._acquire = Script(client, scripts.ACQUIRE)
        self._renew = Script(client, scripts.RENEW)
        self._release = Script(client, scripts.RELEASE)
        self._fenced = Script(client, scripts.FENCED)
        self._fenced_freeing = Script(client, scripts.FENCED_FREEING)
        self._intake = Script(client, scripts.INTAKE)
        self.token = f"{holder}:{secrets.token_hex(4)}"
        self.fence = 0
        self.commits = 0
        self.predecessor = ""
        self._mark = b""  # of the last commit
        self._doubtful = b""  # of one whose answer got lost
        self._tries = 0
        self.num_waiting = 0

    @property
    def campaign(self) -> str:
        """Whose lease it is."""
        return self._keys.campaign

    def acquire(self, floor: int) -> bool:
        """Take the lease if it is free or ours already; False while another holds it.

        Args:
            floor: the new fence will be above it (the highest fence that the checkpoints know).

        Raises:
            BrokerUnavailable: unknown; ask again.
        """
        with broker_errors("taking the lease"):
            answer = self._acquire(
                keys=[self._keys.writer, self._keys.fence, self._keys.commits],
                args=[self.token, self._lease_ms, floor],
            )
        if answer is None:
            return False
        self.fence = int(answer[0])
        self._mark = self._doubtful = answer[1]
        self.commits = max(self.commits, count_of(self._mark))
        return True

    def evict(self, holder: str) -> None:
        """Give back the lease of a holder that is known to be dead; it does nothing if another has it by now."""
        with broker_errors("giving a dead holder's lease back"):
            self._release(keys=[self._keys.writer], args=[holder])

    def holder(self) -> str | None:
        """Who holds the lease now, for a message; None if nobody does."""
        with broker_errors("reading the lease"):
            value = self._client.getrange(self._keys.writer, 0, 400)
        return value.decode(errors="replace") or None

    def left_ms(self) -> int:
        """How long the lease still lasts unless its holder keeps it; negative if nobody holds it."""
        with broker_errors("reading the lease"):
            return int(self._client.pttl(self._keys.writer))

    def renew(self) -> bool:
        """Keep the lease; False when it has passed to another.

        Raises:
            BrokerUnavailable: unknown; ask again.
        """
        with broker_errors("keeping the lease"):
            kept = self._renew(
                keys=[self._keys.writer, self._keys.fence], args=[self.token, self.fence, self._lease_ms]
            )
        return bool(kept)

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        with broker_errors("giving the lease back"):
            self._release(keys=[self._keys.writer], args=[self.token])

    def commit(self, incarnation: str, commands: Sequence[Command], *, again: bool = False) -> None:
        """Run commands as one transaction that takes effect once, and only while the lease is ours.

        Args:
            incarnation: the campaign's.
            commands: what to write.
            again: these are the commands of the last call, which ended with ``Unanswered``.

        Raises:
            FencedOut: another coordinator has taken over; nothing was written.
            LostData: the server has lost the campaign, or a part of it; nothing was written.
            Unanswered: it may or may not have been written; commit the very same again.
            BrokerUnavailable: nothing was written; commit again.
        """
        packed = msgpack.packb([list(command) for command in commands], use_bin_type=False)
        self._tries += not again
        mark = f"{self.commits + 1}.{self._tries}|{self.token}".encode()
        keys = self._keys
        words: tuple[list[str], list[Word]] = (
            [keys.writer, keys.fence, keys.incarnation, keys.commits],
            [self.token, self.fence, incarnation, self._lease_ms, self._mark, self._doubtful, mark, packed],
        )
        try:
            with broker_errors("committing"):
                try:
                    try:
                        self._fenced(*words)
                    except redis.exceptions.OutOfMemoryError:
                        if not commands or commands[0][0] not in FREEING:
                            raise
                        self._fenced_freeing(*words)
                except redis.ResponseError as error:
                    raise self._told(error) from None
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, redis.ResponseError):
                raise  # it answered, and wrote nothing
            self._doubtful = mark
            raise Unanswered(str(error)) from error
        self._mark = self._doubtful = mark
        self.commits += 1
        self._tries = 0

    def take_in(self, then: Sequence[Word]) -> Any:
        """Move what waits in the inbox into the log, and run one more command in the same round trip.

        It takes effect only while the lease is ours. An answer that gets lost does no harm: what was moved is in the
        log, and what was not is in the inbox.

        Args:
            then: the other command.

        Returns:
            Its reply.

        Raises:
            FencedOut: another coordinator has taken over; nothing was moved.
            LostData: the server has lost the campaign, or a part of it; nothing was moved.
            BrokerUnavailable: take in again.
        """
        keys = self._keys
        words = self._intake.words(
            [keys.writer, keys.fence, keys.commits, keys.inbox, keys.log, keys.bell],
            [
                self.token, self.fence, self._mark, self._doubtful,
                inbox.MAX_MOVED, inbox.MAX_MOVED_BYTES, inbox.MAX_ENTRY_BYTES,
            ],
        )  # fmt: skip
        left, reply = self._client.quick_both(words, then)
        if isinstance(left, redis.ResponseError) and is_missing(left):
            self._intake.supply(left)
            left, reply = self._client.quick_both(words, then)
        if isinstance(left, redis.ResponseError):
            raise self._told(left) from None
        if isinstance(reply, redis.ResponseError):
            raise reply
        self.num_waiting = int(left)
        return reply

    def _told(self, error: redis.ResponseError) -> Exception:
        campaign = self._keys.campaign
        if "FENCEDOUT" in str(error):
            return FencedOut(f"campaign {campaign} has passed to another coordinator; this one ends.")
        if "LOSTDATA" in str(error):
            how = {"older": OLDER, "incomplete": INCOMPLETE}.get(str(error).rpartition(" ")[2], FORGOTTEN)
            return LostData(campaign, how)
        return error


def count_of(mark: bytes) -> int:
    """How many commits there were when this mark was left.

    >>> count_of(b"12.1|host:7:ab"), count_of(b"")
    (12, 0)
    """
    number = mark.partition(b".")[0]
    return int(number) if number.isdigit() and len(number) <= 16 else 0
