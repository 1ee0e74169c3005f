"""A log by hand of a campaign whose updates are masked, with the devices that mask them and the keepers that answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.campaign.effects import Effects
from coordinator.campaign.identity import version_mac
from coordinator.campaign.ledger import task_id
from coordinator.campaign.masked.sums import MaskedSums
from fedtide.testing import LogByHand
from fedtide.testing.log import CAMPAIGN, NUM_ELEMENTS, SECRET
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.signer import Signer
from fl_core.privacy.grid import IntArray, to_grid
from fl_core.secure_aggregation.masked_sum import MaskedSum, weight_steps
from fl_core.secure_aggregation.of_spec import clip_of, noise_of
from fl_core.vectors import FloatArray
from fl_core.wire.digest import strong_digest
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate
from tests.unit.keepers.federation import Federation


class MaskedLog:
    """One campaign, in which many tasks are out.

    Args:
        folder: the keepers' notes.
        sections: the spec's; K is 3 by default, and two devices are enough.

    Attributes:
        log: as it is written.
        federation: whose devices and keepers take part.
        plain: what each sum ought to be, by the numbers of its tasks.
    """

    def __init__(self, folder: Path, **sections: Any) -> None:
        masked = {
            "keepers": [f"keeper-{n}" for n in range(3)],
            "min_devices": 2,
            **sections.pop("secure_aggregation", {}),
        }
        sections.setdefault("aggregation", {"buffer_size": 3})
        self.log = LogByHand(secure_aggregation=masked, **sections)
        self.log.milliseconds = int(time.time() * 1000)
        self.federation = Federation(
            folder, num_elements=NUM_ELEMENTS, min_devices=masked["min_devices"],
            clip=clip_of(self.log.spec), noise=noise_of(self.log.spec),
        )  # fmt: skip
        self.plain: dict[int, IntArray] = {}
        self.open()

    def open(self, tasks: int = 40) -> None:
        keepers = [one.certificate.der for one in self.federation.identities.values()]
        authority = self.federation.authority.certificate
        body = {"spec": "x", "layout": self.log.layout.digest, "authority": authority, "keepers": keepers}
        self.log.apply(self.log.event("opened", body), self.log.issued(tasks))

    @property
    def masked(self) -> MaskedSums:
        found = self.log.state.masked
        assert found is not None
        return found

    def update(
        self,
        number: int,
        values: FloatArray | None = None,
        device: str = "",
        payload: bytes | None = None,
        **changes: Any,
    ) -> LogEntry:
        """A device's update for a task; by default each task has a device of its own."""
        device = device or f"dev-{number}"
        if values is None:
            values = np.random.default_rng(number).standard_normal(NUM_ELEMENTS).astype(np.float32) * np.float32(0.01)
        name = task_id(SECRET, number)
        masked, boxes = self.federation.masking.mask(values, campaign=CAMPAIGN, task_id=name, attempt=1, worker=device)
        version = changes.get("base_version", self.log.state.strategy.version)
        tau = self.log.state.strategy.version - version
        self.plain[number] = weight_steps((1 + tau) ** -0.5) * to_grid(values, self.federation.clip)
        data = masked.tobytes() if payload is None else payload
        digest = strong_digest(b"version %d" % version)
        header = ModelUpdate(
            campaign=CAMPAIGN, task_id=name, attempt=1, worker=device, base_version=version, num_examples=1,
            sends="delta", codec="masked", layout_digest=self.log.layout.digest, payload_bytes=len(data),
            payload_digest=strong_digest(data), blob="", num_chunks=0, bytes_down=0, metrics={}, seconds={},
            boxes=boxes, incarnation="a-life", base_digest=digest,
            base_mac=version_mac(SECRET, "a-life", version, digest),
        )  # fmt: skip
        return self.log.entry("u", self.federation.signed(device, replace(header, **changes)), data)

    def fill(self, *numbers: int) -> MaskedSum:
        """Admit updates for these tasks; the sum that they have filled."""
        for number in numbers:
            assert self.log.apply(self.update(number)).refusals == []
        return self.masked.waiting[-1]

    def answer(
        self, one: MaskedSum, keeper: str, asked: Sequence[int], *, signer: Identity | None = None,
        payload: bytes | None = None, **changes: Any,
    ) -> LogEntry:  # fmt: skip
        """What a keeper says to an order, or something else that is changed before it signs."""
        reply = self.federation.reply(keeper, one.order, asked)
        assert reply is not None
        data = bytes(reply.payload) if payload is None else payload
        answer = replace(reply.answer, payload_bytes=len(data), payload_digest=strong_digest(data), **changes)
        header = Signer(signer or self.federation.identities[keeper]).seal(Domain.UNMASKED, answer.to_bytes())
        return self.log.entry("k", header, data)

    def open_sum(self, one: MaskedSum, present: Sequence[str] = ("keeper-0", "keeper-1", "keeper-2")) -> Effects:
        """Have keepers open it."""
        for keeper, seeds in one.asked(present).items():
            effects = self.log.apply(self.answer(one, keeper, seeds))
        return effects
