"""A federation in a folder: an authority, a coordinator, keepers, and devices that mask updates for them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.identity.certificates import Role, issue, make_authority, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.keys import make_key, public_bytes
from fl_core.identity.signer import Signer
from fl_core.privacy.grid import IntArray, to_grid
from fl_core.secure_aggregation.masked_sum import MaskedSum
from fl_core.secure_aggregation.masking import Masking
from fl_core.secure_aggregation.orders import Ask, Request
from fl_core.secure_aggregation.sealing import sealing_key
from fl_core.vectors import FloatArray
from fl_core.wire.digest import strong_digest
from fl_core.wire.messages import ModelUpdate
from keepers.answered import Answered
from keepers.daemon import Keeper, Reply

CAMPAIGN = "trial-1"


class Authority:
    """One that signs in memory.

    Attributes:
        certificate: its own, DER.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._key, self._now = folder, make_key(), datetime.datetime.now(datetime.UTC)
        self.certificate = make_authority(self._key, "ours", self._now)

    def member(self, name: str, role: Role) -> Identity:
        """Somebody with a key of their own."""
        key = make_key()
        sealing = sealing_key(key).public_key().public_bytes_raw() if role is Role.KEEPER else b""
        der = issue(
            self._key, self.certificate, name=name, role=role, public_key=public_bytes(key), now=self._now, days=10,
            sealing_key=sealing,
        )  # fmt: skip
        return Identity(self._folder / name, key, read_certificate(der, self.certificate), self.certificate)


class Federation:
    """Everybody who takes part.

    Args:
        folder: where their identities and the keepers' notes are.
        num_keepers, colluders, min_devices, noise, num_elements: the campaign's terms.
    """

    def __init__(
        self,
        folder: Path,
        num_keepers: int = 3,
        colluders: int = 1,
        *,
        min_devices: int = 2,
        noise: float = 0.0,
        num_elements: int = 5,
        clip: float = 1.0,
    ) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.names = tuple(f"keeper-{number}" for number in range(num_keepers))
        self.identities = {name: self.member(name, Role.KEEPER) for name in self.names}
        self.boss = self.member("boss", Role.COORDINATOR)
        self.clip = clip
        self.args: dict[str, Any] = {
            "clip": clip, "colluders": colluders, "min_devices": min_devices, "noise": noise,
            "keepers": [one.certificate.der for one in self.identities.values()],
        }  # fmt: skip
        self.masking = Masking.from_args(self.args, num_elements, self.authority.certificate)
        self._devices: dict[str, Identity] = {}
        self._num_updates = 0

    def member(self, name: str, role: Role, authority: Authority | None = None) -> Identity:
        return (authority or self.authority).member(name, role)

    def device(self, name: str) -> Identity:
        if name not in self._devices:
            self._devices[name] = self.member(name, Role.DEVICE)
        return self._devices[name]

    @cached_property
    def keepers(self) -> dict[str, Keeper]:
        return {name: Keeper(one, Answered(self.folder / "notes" / name)) for name, one in self.identities.items()}

    def update(
        self, device: str, values: FloatArray, masking: Masking | None = None, **changes: Any
    ) -> tuple[bytes, npt.NDArray[np.uint32]]:
        """A device's header as it signs it, and the masked numbers."""
        self._num_updates += 1
        names = {"campaign": CAMPAIGN, "task_id": f"{self._num_updates}-a", "attempt": 1}
        names |= {name: changes.pop(name) for name in list(changes) if name in names}
        masked, boxes = (masking or self.masking).mask(values, worker=device, **names)
        update = ModelUpdate(
            **names, worker=device, base_version=0, num_examples=1, sends="delta", codec="masked",
            layout_digest="a" * 32, payload_bytes=masked.nbytes, payload_digest="b" * 64, blob="", num_chunks=0,
            bytes_down=0, metrics={}, seconds={}, boxes=boxes,
        )  # fmt: skip
        return self.signed(device, replace(update, **changes)), masked

    def signed(self, device: str, update: ModelUpdate) -> bytes:
        return Signer(self.device(device)).seal(Domain.UPDATE, update.to_bytes())

    def sum_of(self, vectors: Sequence[FloatArray], weights: Sequence[int] | None = None) -> tuple[MaskedSum, IntArray]:
        """A closed sum of these updates, one device each; and the sum that it holds, in plain integers."""
        one, plain = MaskedSum(self.masking.terms), np.zeros(self.masking.terms.num_elements, np.int64)
        for number, vector in enumerate(vectors):
            weight, device = 16 if weights is None else weights[number], f"dev-{number}"
            header, masked = self.update(device, vector)
            one.add(masked, weight, header=header, staleness=0, device=device)
            plain += weight * to_grid(vector, self.clip)
        return one, plain

    def ask(self, order: bytes, seeds: Sequence[int], asker: Identity | None = None) -> bytes:
        """As the coordinator asks."""
        asker = asker or self.boss
        ask = Ask(order=strong_digest(order), seeds=tuple(seeds)).to_bytes()
        return Request(ask=Signer(asker).seal(Domain.UNMASK, ask), order=order).to_bytes()

    def reply(self, keeper: str, order: bytes, seeds: Sequence[int], **more: Any) -> Reply | None:
        """What a keeper says to that."""
        return self.keepers[keeper].reply(self.ask(order, seeds, **more), frozenset(), time.time() * 1000)

    def open(self, one: MaskedSum, present: Sequence[str] | None = None) -> Mapping[str, tuple[int, ...]]:
        """Have these keepers (all, by default) open a sum; who was asked for what."""
        asked = one.asked(self.names if present is None else present)
        for keeper, seeds in asked.items():
            reply = self.reply(keeper, one.order, seeds)
            assert reply is not None and reply.answer.refused == ""
            assert one.take(reply.answer.seeds, np.frombuffer(reply.payload, "<u4"))
        return asked
