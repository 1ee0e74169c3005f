"""What a keeper checks before it tells a sum of masks; whatever does not pass is refused in one sentence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fl_core.errors import FedtideError, RejectedUpdate, UntrustedError
from fl_core.identity.certificates import Certificate, Role, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.keys import is_signed
from fl_core.secure_aggregation.bounds import MASKED
from fl_core.secure_aggregation.orders import Ask, Request, UnmaskOrder
from fl_core.secure_aggregation.sealing import sealing_key, unseal
from fl_core.secure_aggregation.seeds import SEED_BYTES
from fl_core.secure_aggregation.terms import Terms
from fl_core.wire.digest import strong_digest
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.signed import Signed


class Refusal(FedtideError):
    """An ask that this keeper does not answer with a sum.

    Attributes:
        campaign: whose it is; empty where that cannot be told, and nobody hears of it.
        order: its digest.
        seeds: what was asked for.
    """

    def __init__(self, sentence: str, campaign: str = "", order: str = "", seeds: tuple[int, ...] = ()) -> None:
        super().__init__(sentence)
        self.campaign = campaign
        self.order = order
        self.seeds = seeds


@dataclass(frozen=True, slots=True)
class Judged:
    """An ask that may be answered, once it is noted that its updates belong to this order.

    Attributes:
        campaign: whose it is.
        order: its digest.
        numbers: of the seeds that are asked for.
        seeds: for each of them, that of each update.
        updates: campaign, task id and attempt of each update.
        weights: of each.
        terms: under which they were sealed.
    """

    campaign: str
    order: str
    numbers: tuple[int, ...]
    seeds: tuple[tuple[bytes, ...], ...]
    updates: tuple[tuple[str, str, int], ...]
    weights: tuple[int, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Judge:
    """A keeper's rules.

    Attributes:
        identity: the keeper's own.
        min_devices: its own floor, beside that of the devices.
    """

    identity: Identity
    min_devices: int = 2

    def judge(self, packed: bytes, revoked: Collection[int], now_ms: float) -> Judged:
        """Check an ask; any bytes may have come.

        Args:
            packed: as they came.
            revoked: serials of the certificates that the authority has taken back.
            now_ms: by this machine's clock.

        Raises:
            Refusal: it is not answered.
        """
        try:
            request = Request.from_bytes(packed)
            signed = Signed.from_bytes(request.ask)
            asker = self._known(signed.certificate, Role.COORDINATOR, revoked, now_ms)
            if not is_signed(asker.public_key, Domain.UNMASK, signed.body, signed.signature):
                raise UntrustedError(f"it is not signed with the key of {asker.name}.")
            ask = Ask.from_bytes(signed.body)
            digest = strong_digest(request.order)
            if digest != ask.order:
                raise UntrustedError("the order is not the one that was signed.")
            order = UnmaskOrder.from_bytes(request.order)
            terms = Terms.from_bytes(order.terms)
        except (RejectedUpdate, UntrustedError) as error:
            raise Refusal(f"what was asked is not a coordinator's: {error}") from None
        campaign = ""
        try:
            opened = [Signed.from_bytes(header) for header in order.headers]
            updates = [ModelUpdate.from_bytes(one.body) for one in opened]
            campaign = updates[0].campaign
            self._verify_terms(terms, ask.seeds, order)
            devices = {
                self._sender(one, update, terms, campaign, revoked, now_ms)
                for one, update in zip(opened, updates, strict=True)
            } - {""}
            names = tuple((update.campaign, update.task_id, update.attempt) for update in updates)
            if len(set(names)) != len(names):
                raise UntrustedError("an update is in it twice.")
            fewest = max(self.min_devices, terms.min_devices)
            if len(devices) < fewest:
                raise UntrustedError(f"it sums up {len(devices)} devices, and {fewest} is the fewest.")
            seeds = self._unsealed(updates, terms, ask.seeds)
        except (RejectedUpdate, UntrustedError) as error:
            raise Refusal(str(error), campaign, digest, ask.seeds) from None
        return Judged(campaign, digest, ask.seeds, seeds, names, order.weights, terms)

    def _verify_terms(self, terms: Terms, seeds: tuple[int, ...], order: UnmaskOrder) -> None:
        if self.identity.name not in terms.keepers:
            raise UntrustedError(f"{self.identity.name} is none of its keepers.")
        if not set(seeds) <= set(terms.held_by(self.identity.name)):
            raise UntrustedError(f"{self.identity.name} does not hold all of the seeds {list(seeds)}.")
        if len(order.headers) != len(order.weights):
            raise UntrustedError("it does not have a weight for each update.")

    def _known(self, der: bytes, role: Role, revoked: Collection[int], now_ms: float) -> Certificate:
        """Somebody of this role whom the authority knows, at this time."""
        found = read_certificate(der, self.identity.authority)
        if found.role is not role:
            raise UntrustedError(f"{found.name} is no {role.value} but a {found.role.value}.")
        if found.serial in revoked or not found.is_current(now_ms):
            raise UntrustedError(f"the certificate of {found.name} was revoked, or is not good now.")
        return found

    def _sender(
        self, signed: Signed, update: ModelUpdate, terms: Terms, campaign: str, revoked: Collection[int], now_ms: float
    ) -> str:
        """The device of an update; empty where it is a member no more, so that its update is summed and not counted."""
        device = read_certificate(signed.certificate, self.identity.authority)
        if device.role is not Role.DEVICE or device.name != update.worker:
            raise UntrustedError(f"an update of {update.worker} was sent by {device.name}, a {device.role.value}.")
        if not is_signed(device.public_key, Domain.UPDATE, signed.body, signed.signature):
            raise UntrustedError(f"an update is not signed with the key of {device.name}.")
        if update.codec != MASKED or update.campaign != campaign or len(update.boxes) != len(terms.keepers):
            raise UntrustedError(f"the update of {device.name} is not one of masks, or of another campaign.")
        gone = device.serial in revoked or not device.is_current(now_ms)
        return "" if gone else device.name

    def _unsealed(
        self, updates: list[ModelUpdate], terms: Terms, numbers: tuple[int, ...]
    ) -> tuple[tuple[bytes, ...], ...]:
        """For each number the seed of each update."""
        name, held = self.identity.name, terms.held_by(self.identity.name)
        place, key = terms.keepers.index(name), sealing_key(self.identity.key)
        wanted = [held.index(number) for number in numbers]
        found: list[list[bytes]] = []
        for update in updates:
            context = terms.context(update.campaign, update.task_id, update.attempt, update.worker, name)
            secret = unseal(update.boxes[place], key, context)
            if len(secret) != SEED_BYTES * len(held):
                raise UntrustedError(f"the update of {update.worker} brings {len(secret)} bytes of seeds.")
            found.append([secret[SEED_BYTES * at : SEED_BYTES * (at + 1)] for at in wanted])
        return tuple(zip(*found, strict=True))
