"""The memory that a campaign takes at most, and how it splits between the broker and the server for blobs."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.outgoing.publisher import CROWD_BYTES, CROWD_VERSIONS, KEPT_VERSIONS
from coordinator.storage.saver import max_log_bytes
from fl_core.broker.bulk.blobs import WINDOW
from fl_core.broker.bulk.chunks import CHUNK_BYTES
from fl_core.broker.claiming import INLINE_MODEL_BYTES
from fl_core.broker.inbox import INLINE_BYTES
from fl_core.broker.overview.feed import MAX_BYTES as MAX_FEED_BYTES
from fl_core.codecs import codec
from fl_core.codecs.model_payload import max_version_bytes
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bounds in bytes.

    Attributes:
        broker: at the broker, while the server for blobs serves.
        blobs: at the server for blobs; 0 when nothing goes there.
        broker_alone: at the broker, which then holds everything, while there is no server for blobs or it is away.
    """

    broker: int
    blobs: int
    broker_alone: int


def memory_need(spec: CampaignSpec, layout: Layout, *, blobs: bool) -> MemoryNeed:
    """What ``concurrency`` updates under way take, those that wait for the next checkpoint, versions, and the feed.

    A version per fetching worker is kept, plus three, and those that come between two looks; constants are kept once.
    What a worker has asked for and not taken yet lies in its connection's buffer. An update is reckoned as large as all
    that can change; what stays at the broker beside a server for blobs is at most ``INLINE_BYTES`` long each.

    Args:
        spec, layout: the campaign's.
        blobs: there is a server for blobs.
    """
    concurrency, model = spec.dispatch.concurrency, 4 * layout.num_moving
    log_bytes = max_log_bytes(spec.checkpoint, layout)

    def updates(num_bytes: int) -> int:
        return concurrency * num_bytes + max(log_bytes, concurrency * num_bytes)

    between_looks = max(CROWD_VERSIONS, -(-CROWD_BYTES // max(1, model)))
    versions = (concurrency + KEPT_VERSIONS + between_looks) * model
    if spec.codec.down == "int8" and model > INLINE_MODEL_BYTES:
        # Patches are kept up to a version's size, and those that come between two looks.
        versions += model + between_looks * codec("int8").max_payload_bytes(layout.num_moving)
    versions += concurrency * min(model, WINDOW * CHUNK_BYTES)
    constants = layout.num_bytes - model
    versions += constants + min(constants, concurrency * WINDOW * CHUNK_BYTES)
    everything = updates(model) + versions + MAX_FEED_BYTES
    whole = max_version_bytes(codec("fp32" if spec.codec.down == "int8" else spec.codec.down), layout)
    if not blobs or whole <= INLINE_MODEL_BYTES:
        return MemoryNeed(everything, 0, everything)
    return MemoryNeed(updates(min(model, INLINE_BYTES)) + MAX_FEED_BYTES, updates(model) + versions, everything)
