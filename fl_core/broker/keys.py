"""Every Redis key that fedtide uses, in one place.

Two are called otherwise in the code than on the server, where names are a format that releases share: ``open_tasks``
is ``out`` there, and ``incarnation`` is ``epoch``.

=====================================  ======  ====================================================================
key                                    type    holds
=====================================  ======  ====================================================================
``fedtide:campaigns``                  zset    campaign id -> created, ms
``fedtide:d:<name>``                   hash    what a worker says of itself: ``beat`` (``Beat``) and ``row``,
                                               ``ms|token|holding``: the server's clock, what the worker has drawn
                                               for itself, the task in hand (``campaign/task_id#attempt``) or nothing
``fedtide:devices``                    zset    ``name token`` -> last beat, ms of the server's clock
``fedtide:live:<queue>``               zset    ``name token`` -> when its next beat is due, ms of the server's clock
``fedtide:queues``                     hash    per queue: ``<queue>:published`` and ``<queue>:claimed`` -> count; waits
                                               until claimed: ``:waited_ms`` their sum, ``:wait<i>`` a histogram,
                                               ``:recent`` the last hundred or more
``fedtide.train.<queue>``              list    the Celery queue of doorbells (kombu adds ``_kombu.binding.*``)
``fedtide:c:{id}:spec``                string  the resolved spec, TOML
``fedtide:c:{id}:status``              string  what monitors show, msgpack, rewritten a few times a second
``fedtide:c:{id}:epoch``               string  drawn at launch; ``ended`` at the end, gone when the data is
``fedtide:c:{id}:writer``              string  the coordinator's lease: its token, with an expiry
``fedtide:c:{id}:fence``               string  ``number|token`` of the newest lease: the number counts them, and only
                                               this holder may write
``fedtide:c:{id}:commits``             string  ``number.try|token``: the mark that the coordinator's last commit left
``fedtide:c:{id}:inbox``               list    what devices send: ``u``, ``r`` or ``k``, the header's length, ``:``,
                                               header, payload; the coordinator moves it into the log
``fedtide:c:{id}:bell``                stream  one entry when the inbox is no longer empty, to wake the coordinator
``fedtide:c:{id}:log``                 stream  the update log: ``u`` ``p`` updates, ``r`` reports, ``e`` ``m`` events,
                                               ``k`` ``p`` keepers' answers; written by the coordinator alone
``fedtide:c:{id}:trimmed``             string  the position up to which the log was trimmed
``fedtide:c:{id}:control``             stream  what operators asked for: ``request``, ``argument``, and with an
                                               identity the same, ``signed`` (``OperatorRequest``)
``fedtide:c:{id}:parked``              stream  rejected updates, bounded
``fedtide:c:{id}:feed``                stream  the campaign's past for monitors, folded and bounded
``fedtide:c:{id}:order``               string  how the campaign's tasks are to be done (``TrainOrder``, signed where
                                               the campaign has an authority); ``head`` has its digest
``fedtide:c:{id}:head``                hash    newest version: version, digest, num_bytes, num_chunks, place,
                                               updates (the place for payloads of large updates),
                                               codec, order (digest of the order)
                                               with constants: constants (``digest|bytes|place``);
                                               with an authority: sealed (``Pointer``, signed)
``fedtide:c:{id}:constants:<d>:<i>``   string  chunk i of the constants of digest d, at their place (``constants.py``)
``fedtide:c:{id}:versions``            hash    version -> ``bytes|place``, of all versions whose chunks are kept
``fedtide:c:{id}:model:<v>:<i>``       string  chunk i of version v, at its place (``places.py``)
``fedtide:c:{id}:patches``             hash    digest of a version -> the patch to the next one (``patches.py``)
``fedtide:c:{id}:patch:<v>:<i>``       string  chunk i of the patch to version v, at its place
``fedtide:c:{id}:pins``                hash    task id -> version that its worker is fetching
``fedtide:c:{id}:out``                 hash    task id -> ``attempt|issued ms|queue``: the ledger's open tasks
``fedtide:c:{id}:owners``              hash    ``task id#attempt`` -> ``worker|claimed ms``, written once
``fedtide:c:{id}:rests``               hash    with central privacy: worker -> the version from which it may contribute
                                               again, or ``spent``
``fedtide:c:{id}:said:<worker>``       hash    ``task id#attempt`` -> what its worker says of it: ``answered``, or when
                                               bytes of it moved last, ms; ends a day after the last word
``fedtide:c:{id}:blob:<name>:<i>``     string  chunk i of a payload too large to ride in the log, at its place; the name
                                               is ``worker:task id.attempt``
``fedtide:c:{id}:lost``                set     names of payloads that were lost with the server that had them
``fedtide:k:<name>:certificate``       string  a keeper's certificate, with an expiry: it is there
``fedtide:k:<name>:asks``              list    what that keeper is asked (``Request``)
=====================================  ======  ====================================================================

What an authority publishes and what members ask of it is in ``access/rules.py``.

``{id}`` carries literal braces: a Redis Cluster keeps a campaign's keys in one slot, as its scripts need.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "fedtide:"
# What Redis calls the types above, by the last word of a campaign's keys.
CAMPAIGN_TYPES = {
    "spec": "string", "status": "string", "epoch": "string", "writer": "string", "fence": "string", "log": "stream",
    "inbox": "list", "bell": "stream",
    "control": "stream", "parked": "stream", "feed": "stream", "head": "hash", "versions": "hash", "patches": "hash",
    "pins": "hash", "out": "hash", "owners": "hash", "lost": "set", "rests": "hash", "commits": "string",
    "trimmed": "string", "order": "string",
}  # fmt: skip
CAMPAIGNS = PREFIX + "campaigns"
DEVICES = PREFIX + "devices"
QUEUE_COUNTS = PREFIX + "queues"
TRAIN_QUEUE_PREFIX = "fedtide.train."


def device(name: str) -> str:
    """What one worker says of itself.

    >>> device("phone-1")
    'fedtide:d:phone-1'
    """
    return PREFIX + "d:" + name


def keeper_certificate(name: str) -> str:
    """By which a keeper is known, and that it lives.

    >>> keeper_certificate("bank-a")
    'fedtide:k:bank-a:certificate'
    """
    return f"{PREFIX}k:{name}:certificate"


def keeper_asks(name: str) -> str:
    """The list of what a keeper is asked."""
    return f"{PREFIX}k:{name}:asks"


def live(queue: str) -> str:
    """The register of the workers that serve a queue.

    >>> live("gpu")
    'fedtide:live:gpu'
    """
    return PREFIX + "live:" + queue


SHARED_TYPES = {CAMPAIGNS: "zset", DEVICES: "zset", QUEUE_COUNTS: "hash"}


def train_queue(queue: str) -> str:
    """The Celery queue's (and Redis list's) name.

    >>> train_queue("gpu")
    'fedtide.train.gpu'
    """
    return TRAIN_QUEUE_PREFIX + queue


@dataclass(frozen=True, slots=True)
class CampaignKeys:
    """The keys of one campaign.

    >>> CampaignKeys("digits-1").log
    'fedtide:c:{digits-1}:log'
    """

    campaign: str

    def _key(self, name: str) -> str:
        return f"{PREFIX}c:{{{self.campaign}}}:{name}"

    def types(self) -> dict[str, str]:
        """The campaign's keys (chunks left out), and the type of each."""
        return {self._key(name): kind for name, kind in CAMPAIGN_TYPES.items()}

    @property
    def spec(self) -> str:
        return self._key("spec")

    @property
    def status(self) -> str:
        return self._key("status")

    @property
    def incarnation(self) -> str:
        return self._key("epoch")

    @property
    def writer(self) -> str:
        return self._key("writer")

    @property
    def fence(self) -> str:
        return self._key("fence")

    @property
    def commits(self) -> str:
        return self._key("commits")

    @property
    def log(self) -> str:
        return self._key("log")

    @property
    def inbox(self) -> str:
        return self._key("inbox")

    @property
    def bell(self) -> str:
        return self._key("bell")

    @property
    def trimmed(self) -> str:
        return self._key("trimmed")

    @property
    def control(self) -> str:
        return self._key("control")

    @property
    def parked(self) -> str:
        return self._key("parked")

    @property
    def feed(self) -> str:
        return self._key("feed")

    @property
    def order(self) -> str:
        return self._key("order")

    @property
    def head(self) -> str:
        return self._key("head")

    @property
    def versions(self) -> str:
        return self._key("versions")

    @property
    def model(self) -> str:
        """Prefix of the model's chunks: ``model(v)`` names those of one version."""
        return self._key("model")

    @property
    def patches(self) -> str:
        return self._key("patches")

    @property
    def lost_payloads(self) -> str:
        return self._key("lost")

    @property
    def pins(self) -> str:
        return self._key("pins")

    @property
    def open_tasks(self) -> str:
        return self._key("out")

    @property
    def owners(self) -> str:
        return self._key("owners")

    def said(self, worker: str) -> str:
        """What one device says of its tasks."""
        return self._key(f"said:{worker}")

    @property
    def rests(self) -> str:
        return self._key("rests")

    def version(self, version: int) -> str:
        """Prefix of one version's chunks."""
        return f"{self.model}:{version}"

    def constants(self, digest: str) -> str:
        """Prefix of the constants' chunks."""
        return self._key(f"constants:{digest}")

    def patch(self, version: int) -> str:
        """Prefix of the chunks of the patch to a version."""
        return self._key(f"patch:{version}")

    def blob(self, name: str) -> str:
        """Prefix of one payload's chunks."""
        return self._key(f"blob:{name}")
