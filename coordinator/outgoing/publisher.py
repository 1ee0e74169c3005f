"""Publishes versions, makes sure that the newest can be fetched, and drops those that are not needed any more."""

from __future__ import annotations

import structlog

from coordinator.outgoing.device_view import DeviceView
from coordinator.outgoing.transaction import Transaction
from coordinator.telemetry.timing import Timing
from fl_core.aggregation import Strategy
from fl_core.backoff import Backoff
from fl_core.broker.bulk import constants, versions
from fl_core.broker.bulk.head import Head
from fl_core.broker.bulk.patches import Patch, chain_commands, drop_old_patches, write_patch
from fl_core.broker.bulk.places import Places
from fl_core.broker.claiming import INLINE_MODEL_BYTES
from fl_core.broker.connection import Client
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.overview import leftovers
from fl_core.clock import MACHINE, Clock
from fl_core.codecs import codec
from fl_core.codecs.model_payload import encode_version
from fl_core.errors import BrokerError
from fl_core.vectors import FloatArray
from fl_core.vectors.layout import Layout
from fl_core.wire.digest import Namer, digest

KEPT_VERSIONS = 3
# So many versions, or bytes of them, may come between two looks at which old ones are dropped.
CROWD_VERSIONS = 4
CROWD_BYTES = 8 * 2**20
FIRST_PAUSE_SECONDS = 2.0
LAST_PAUSE_SECONDS = 60.0

log = structlog.get_logger()


class Publisher:
    """Writes a version's bytes at once and moves the pointer with the next commit.

    Versions go to the server for blobs, if there is one. While that is away they go to the broker: it costs time, and
    nothing else. A version that the server for blobs has forgotten (it was restarted) is published again.

    Args:
        client: the broker's.
        keys, layout, timing: the campaign's.
        place: the server for blobs (``fl_core/broker/bulk/places.py``); empty for none.
        codec_name: how versions are written.
        clock: this machine's.
        name: of the two digests the one that names versions and constants.

    Attributes:
        published: the newest version that can be fetched; -1 before the first.
    """

    def __init__(
        self,
        client: Client,
        keys: CampaignKeys,
        layout: Layout,
        timing: Timing,
        place: str = "",
        *,
        codec_name: str = "fp32",
        clock: Clock = MACHINE,
        name: Namer = digest,
    ) -> None:
        self._clock = clock
        self._client = client
        self._places = Places(client, [place])
        self._keys = keys
        self._layout = layout
        self._timing = timing
        self._place = place
        # Patches go to devices that hold an earlier version; what is published whole beside them is fp32.
        self._view = DeviceView(layout) if codec_name == "int8" else None
        self._codec = codec("fp32" if self._view is not None else codec_name)
        self._updates = place
        self._head: Head | None = None
        self._constants: constants.Constants | None = None
        self._doubted: tuple[Head | None, bytes | None] | None = None
        self._name = name
        self._since_drop = 0
        self._retry_at = 0.0
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        self.published = -1

    @property
    def head(self) -> Head | None:
        """Where the newest version that was published lies; None before the first."""
        return self._head

    def publish(self, strategy: Strategy, transaction: Transaction, *, exact: bool = False) -> None:
        """Publish the version that the strategy stands at.

        Args:
            exact: to the last bit, also where devices get patches.

        Raises:
            BrokerUnavailable: publish again.
        """
        started = self._clock.monotonic()
        values, version = strategy.parameters.values[self._layout.moving], strategy.version
        held, patch = self._head, None
        self._publish_constants(strategy.parameters.values[self._layout.constants], transaction)
        if self._view is not None and values.nbytes > INLINE_MODEL_BYTES:
            values, patch = self._seen_by_devices(self._view, values, version, exact)
        payload = encode_version(self._codec, self._layout, values, version)
        if self._view is not None and held is None:  # an earlier coordinator's chain ends here
            transaction.add(drop_old_patches(self._client, self._places, self._keys, max_bytes=0))
        try:
            self._head = self._write(version, payload)
            # A model that has not changed is the version that devices have.
            if patch is not None and held is not None and held.digest != self._head.digest:
                self._lead_on(held, self._head, patch, transaction)
        except BaseException:
            if self._view is not None:
                self._view.forget()
            raise
        transaction.add(versions.publish_commands(self._keys, self._head))
        self.published = version
        self._since_drop += 1
        self._timing.add_publish(self._clock.monotonic() - started)

    def _seen_by_devices(
        self, view: DeviceView, values: FloatArray, version: int, exact: bool
    ) -> tuple[FloatArray, memoryview | None]:
        """What is published for a version: the view, and the patch that leads to it if there is one."""
        if exact:
            return view.begin(values), None
        if view.values is not None and self._head is not None and self._head.version == version:
            return view.values, None  # the same once more
        patch = view.follow(values, version)
        return (values if view.values is None else view.values), patch

    def _publish_constants(self, values: FloatArray, transaction: Transaction) -> None:
        """Write once what no version carries, and again where it was lost."""
        if self._constants is not None or not values.size:
            return
        payload = values.astype("<f4", copy=False).data.cast("B")
        if self._place and len(payload) > INLINE_MODEL_BYTES and self._clock.monotonic() >= self._retry_at:
            try:
                written = constants.write_constants(self._places, self._keys, payload, self._place, self._name)
            except BrokerError as error:
                self._give_up_for_now(error)
                written = constants.write_constants(self._places, self._keys, payload, "", self._name)
        else:
            written = constants.write_constants(self._places, self._keys, payload, "", self._name)
        transaction.add([written.command(self._keys)])
        self._constants = written

    def _lead_on(self, held: Head, head: Head, payload: memoryview, transaction: Transaction) -> None:
        patch = Patch(head.digest, head.version, len(payload), digest(payload), DeviceView.codec, head.place)
        try:
            write_patch(self._places, self._keys, patch, payload)
        except BrokerError as error:
            log.debug("a patch is not written; devices fetch the version", version=head.version, reason=str(error))
        else:
            transaction.add(chain_commands(self._keys, held.digest, patch))

    def _write(self, version: int, payload: memoryview) -> Head:
        # A small model comes with the answer to a claim, which only the broker can give.
        if self._place and len(payload) > INLINE_MODEL_BYTES and self._clock.monotonic() >= self._retry_at:
            try:
                head = self._write_to(version, payload, place=self._place, updates=self._updates)
            except BrokerError as error:
                self._give_up_for_now(error)
            else:
                self._pauses.reset()
                return head
        return self._write_to(version, payload)

    def _write_to(self, version: int, payload: memoryview, *, place: str = "", updates: str = "") -> Head:
        return versions.write_version(
            self._places, self._keys, version, payload,
            place=place, updates=updates, codec=self._codec.name, name=self._name,
        )  # fmt: skip

    def _give_up_for_now(self, error: BrokerError) -> None:
        pause = self._pauses.next()
        log.warning(
            "the server for blobs does not serve; versions go to the broker meanwhile",
            blobs=self._place, reason=str(error), next_try_seconds=pause,
        )  # fmt: skip
        self._retry_at = self._clock.monotonic() + pause

    def is_led_astray(self, order: bytes | None, sealed: bytes = b"") -> bool:
        """Whether the pointer or the order at the broker was changed by somebody else; the version is then published
        again. Both are seen at two looks, since a change of ours may be on its way at one of them.

        Args:
            order: what should be written there, as it travels; None where that is not known.
            sealed: the pointer as it was signed; empty where it was not.
        """
        try:
            fine = self._head is None or versions.is_shown(
                self._client, self._keys, self._head, order, self._constants, sealed
            )
        except BrokerError:
            return False
        seen, self._doubted = self._doubted, None if fine else (self._head, order)
        if fine or seen is None or seen[0] is not self._head or seen[1] != order:
            return False
        log.warning("publishing again: the pointer or the order was changed by somebody else", version=self.published)
        self.published, self._doubted, self._constants = -1, None, None
        return True

    def look(self) -> None:
        """Have the newest version published again if workers cannot fetch it any more."""
        if self._head is None:
            return
        try:
            whole = versions.is_whole(self._places, self._keys, self._head)
            if self._constants is not None and not constants.are_whole(self._places, self._keys, self._constants):
                log.warning("publishing again: a server has lost the model's constants")
                self._constants, self.published = None, -1
        except BrokerError as error:
            if not self._head.place and not (self._constants is not None and self._constants.place):
                raise
            self._give_up_for_now(error)
            self._constants, whole = None, False
        if not whole:
            server = "the server for blobs" if self._head.place else "the broker"
            log.warning(f"publishing again: {server} has lost the version", version=self.published)
            self.published = -1

    def sweep(self) -> None:
        """Drop the bytes of versions that an earlier coordinator wrote and never pointed to.

        Raises:
            BrokerUnavailable: some may be left.
        """
        known = versions.known(self._client, self._keys) | {self.published}
        for place in {"", self._place}:
            try:
                count = leftovers.sweep(self._places.at(place), self._keys, known)
            except BrokerError as error:
                if not place:
                    raise
                log.debug("a server for blobs is not swept", place=place, reason=str(error))
                continue
            if count:
                log.info("dropped what an earlier coordinator had written and not published", chunks=count)

    def drop_all(self) -> None:
        """The campaign is over: drop everything bulky, also what a worker fetches and what nobody knows of.

        Raises:
            BrokerUnavailable: some may be left.
        """
        for place in {"", self._place}:
            try:
                leftovers.drop_bulk(self._places.at(place), self._keys)
            except BrokerError as error:
                if not place:
                    raise
                log.warning("a server for blobs keeps what the campaign left there", place=place, reason=str(error))

    @property
    def is_crowded(self) -> bool:
        """So much was published since old versions were dropped that it should be done now."""
        num_bytes = 0 if self._head is None else self._head.num_bytes
        return self._since_drop >= CROWD_VERSIONS and self._since_drop * num_bytes >= CROWD_BYTES

    def drop_old(self, transaction: Transaction, kept: int = KEPT_VERSIONS) -> None:
        """Drop all but the newest versions, and those that a worker is fetching.

        Raises:
            BrokerUnavailable: nothing is dropped.
        """
        self._since_drop = 0
        for old in versions.droppable(self._client, self._keys, kept):
            try:
                versions.drop_elsewhere(self._places, self._keys, old)
            except BrokerError:
                continue  # tried again at the next look
            transaction.add(versions.drop_commands(self._keys, old))
        if self._view is not None and self._head is not None:
            max_bytes = self._head.num_bytes if kept else 0
            transaction.add(drop_old_patches(self._client, self._places, self._keys, max_bytes))
