"""The keeper's daemon: it says that it is there, takes what it is asked, and answers."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from fl_core.broker.access.mailbox import read_revocation_list
from fl_core.broker.connection import connect
from fl_core.broker.keepers import answers, asks
from fl_core.broker.patience import Outage, device_outage
from fl_core.broker.url import public_url
from fl_core.errors import BrokerRefused, BrokerUnavailable, UntrustedError, WorkerFailed
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.revocations import Revocations, read_revocations
from fl_core.identity.signer import Signer
from fl_core.program.crash_points import crash_point
from fl_core.secure_aggregation.orders import Answer
from fl_core.wire.checks import MAX_LABEL_CHARACTERS
from fl_core.wire.digest import strong_digest
from keepers.answered import Answered
from keepers.judging import Judge, Judged, Refusal
from keepers.summing import sum_of_masks

log = structlog.get_logger()

WAIT_SECONDS = 1.0
# Rights are edited in moments; after so long somebody has to give this keeper others.
REFUSED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back.

    Attributes:
        answer: the record.
        payload: the sum, as bytes; empty for a refusal.
    """

    answer: Answer
    payload: memoryview


class Keeper:
    """Judges and answers; it knows no broker.

    Args:
        identity: who it is.
        answered: what it has answered before.
        min_devices: its own floor.
    """

    def __init__(self, identity: Identity, answered: Answered, min_devices: int = 2) -> None:
        self._name = identity.name
        self._judge = Judge(identity, min_devices)
        self._answered = answered

    def reply(self, packed: bytes, revoked: frozenset[int], now_ms: float) -> Reply | None:
        """The reply to an ask; None where nobody is to hear of it.

        Args:
            packed: what came.
            revoked: serials that the authority has taken back.
            now_ms: by this machine's clock.

        Raises:
            SpecError: what is answered cannot be noted.
        """
        began = time.perf_counter()
        try:
            judged = self._judge.judge(packed, revoked, now_ms)
            self._claim(judged)
        except Refusal as refusal:
            log.warning("refused", why=str(refusal), campaign=refusal.campaign)
            if not refusal.campaign:
                return None
            sentence = "".join(letter if letter.isprintable() else " " for letter in str(refusal))
            return self._reply(refusal.campaign, refusal.order, refusal.seeds, sentence[:MAX_LABEL_CHARACTERS], b"")
        crash_point("keeper_has_noted")
        total = sum_of_masks(
            judged.seeds, judged.weights, bytes.fromhex(judged.order), judged.terms.noise, judged.terms.num_elements
        )
        log.info(
            "a sum of masks is told", campaign=judged.campaign, updates=len(judged.weights),
            seeds=list(judged.numbers), seconds=round(time.perf_counter() - began, 3),
        )  # fmt: skip
        payload = total.astype("<u4", copy=False).tobytes()
        return self._reply(judged.campaign, judged.order, judged.numbers, "", payload)

    def _claim(self, judged: Judged) -> None:
        if not self._answered.claim(judged.updates, bytes.fromhex(judged.order)):
            raise Refusal(
                "an update in it was in another order before, and their difference would show single updates.",
                judged.campaign, judged.order, judged.numbers,
            )  # fmt: skip

    def _reply(self, campaign: str, order: str, seeds: tuple[int, ...], refused: str, payload: bytes) -> Reply:
        blob, num_chunks = answers.place_of_sum(order, self._name, min(seeds), len(payload))
        answer = Answer(
            campaign=campaign, order=order, keeper=self._name, seeds=seeds, refused=refused,
            payload_bytes=len(payload), payload_digest=strong_digest(payload), blob=blob, num_chunks=num_chunks,
        )  # fmt: skip
        return Reply(answer, memoryview(payload))


class Daemon:
    """A keeper at a broker.

    Args:
        identity: who it is.
        url: the broker, with the keeper's user.
        state_dir: where it notes what it has answered.
        min_devices: its own floor.
    """

    def __init__(self, identity: Identity, url: str, state_dir: Path, min_devices: int) -> None:
        self._identity = identity
        self._url = url
        self._client = connect(url)
        self._answered = Answered(state_dir)
        self._keeper = Keeper(identity, self._answered, min_devices)
        self._signer = Signer(identity)
        self._revocations = Revocations()
        self._leaving = threading.Event()
        self._next_word = 0.0
        self._pending: Reply | None = None

    def run(self) -> None:
        """Work until asked to stop.

        Raises:
            WorkerFailed: the broker has refused this keeper for a minute.
            SpecError: what is answered cannot be noted.
        """
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: self._leaving.set())
        outage: Outage | None = None
        while not self._leaving.is_set():
            try:
                self._turn()
                if outage is not None and outage.seconds > 1:
                    log.info("the broker is back")
                outage = None
            except BrokerUnavailable as error:
                outage = outage or device_outage()
                outage.note(error)
                if outage.is_worth_a_word(error):
                    log.warning("waiting for the broker", reason=str(error), seconds=round(outage.seconds))
                if isinstance(error, BrokerRefused) and outage.refused_seconds > REFUSED_SECONDS:
                    raise WorkerFailed(f"the broker has refused {self._identity.name} for a minute: {error}") from error
                self._leaving.wait(outage.next_pause())
                self._next_word = 0.0
        self._answered.close()
        try:
            asks.take_leave(self._client, self._identity.name)
        except BrokerUnavailable as error:
            log.debug("no leave was taken", reason=str(error))
        log.info("keeper ends")

    def _turn(self) -> None:
        self._say()
        if self._pending is None:
            packed = asks.take(self._client, self._identity.name, WAIT_SECONDS)
            if packed is not None:
                self._pending = self._keeper.reply(packed, self._revoked(), time.time() * 1000)
        if (reply := self._pending) is not None:
            answer = reply.answer
            header = self._signer.seal(Domain.UNMASKED, answer.to_bytes())
            if not answers.deliver(self._client, answer.campaign, header, answer.blob, reply.payload):
                log.info("the campaign is over; nobody waits for the answer", campaign=answer.campaign)
            self._pending = None

    def _say(self) -> None:
        """That it is there, now and then; at the first time also in the log."""
        now = time.monotonic()
        if now < self._next_word:
            return
        asks.announce(self._client, self._identity.name, self._identity.certificate.der)
        if not self._next_word:
            log.info("keeper is ready", keeper=self._identity.name, broker=public_url(self._url))
        self._next_word = now + asks.SAY_SECONDS

    def _revoked(self) -> frozenset[int]:
        """What the authority has taken back; a list that is older than one before is not taken."""
        found = read_revocation_list(self._client)
        if found:
            try:
                read = read_revocations(found, self._identity.authority)
            except UntrustedError as error:
                log.warning("what stands at the broker as revoked is not taken", reason=str(error))
            else:
                if read.number > self._revocations.number:
                    self._revocations = read
        return self._revocations.serials
