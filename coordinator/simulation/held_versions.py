"""The versions that simulated devices hold: each is decoded once, however many devices hold it."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from fl_core.broker.bulk.head import Head
from fl_core.broker.tasks import TaskBroker
from fl_core.codecs import down_codec
from fl_core.codecs.model_payload import decode_version
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.agreement import constants_digest
from fl_core.vectors.layout import Layout
from fl_core.wire.messages import TrainTask

# What all held versions together may take. A device whose version was given up fetches the next one whole.
MAX_BYTES = 512 * 2**20


class HeldVersions:
    """Which device holds which version, and what that is.

    Args:
        broker: the devices' side of it.
        layout: the model's.
        constants: what no version carries, as the devices have built it, float32.
        max_bytes: what the versions may take.
    """

    def __init__(self, broker: TaskBroker, layout: Layout, constants: FloatArray, max_bytes: int = MAX_BYTES) -> None:
        self._broker = broker
        self._layout = layout
        self._constants, self._constants_digest = constants, constants_digest(constants)
        self._most = max(2, max_bytes // max(1, layout.num_bytes))
        self._held: dict[str, str] = {}
        self._versions: OrderedDict[str, Parameters] = OrderedDict()

    def digest_of(self, device: str) -> str:
        """The digest of the version that a device holds; empty for none."""
        held = self._held.get(device, "")
        return held if held in self._versions else ""

    def hold(self, device: str, task: TrainTask, head: Head) -> tuple[Parameters, int]:
        """Let a device hold the version that its claim named.

        Returns:
            The parameters as the device has decoded them, and the bytes that it fetched: of the version, or of the
            patches to it. Those lead to the same bits (their digests say so), so the version itself is read here.
        """
        bytes_down = self._hold_constants(task)
        if head.digest != self.digest_of(device):
            bytes_down += sum(patch.num_bytes for patch in head.patches) or head.num_bytes
        base = self._versions.get(head.digest)
        if base is None:
            payload = self._broker.fetch(task, head)
            moving = decode_version(down_codec(head.codec), self._layout, payload)
            base = Parameters(np.concatenate((moving, self._constants)))
            self._versions[head.digest] = base
            while len(self._versions) > self._most:
                self._versions.popitem(last=False)
        self._versions.move_to_end(head.digest)
        self._held[device] = head.digest
        return base, bytes_down

    def _hold_constants(self, task: TrainTask) -> int:
        """Fetch what no version carries, where the model that was built here has other values; once for all devices."""
        if task.constants_digest == self._constants_digest:
            return 0
        payload = self._broker.fetch_constants(task, self._constants.nbytes)
        self._constants, self._constants_digest = np.frombuffer(payload, "<f4"), task.constants_digest
        self._versions.clear()
        return len(payload)
