"""The device's side: an update becomes whole numbers under masks, and the seeds of the masks go to the keepers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fl_core.errors import SpecError, UntrustedError
from fl_core.identity.certificates import Role, read_certificate
from fl_core.privacy.grid import to_grid
from fl_core.secure_aggregation.masks import Residues, add_mask, residues
from fl_core.secure_aggregation.sealing import KEY_BYTES, seal
from fl_core.secure_aggregation.seeds import SEED_BYTES
from fl_core.secure_aggregation.terms import Terms, are_sensible
from fl_core.vectors import FloatArray
from fl_core.wire.checks import is_finite

_KEYS = {"clip", "keepers", "colluders", "min_devices", "noise"}


@dataclass(frozen=True, slots=True)
class Masking:
    """How a campaign's devices mask their updates.

    Attributes:
        terms: what is agreed on.
        clip: C: the norm that an update is clipped to.
        keys: of the keepers, X25519, 32 bytes each, in their order.
    """

    terms: Terms
    clip: float
    keys: tuple[bytes, ...]

    @classmethod
    def from_args(cls, args: Mapping[str, Any], num_elements: int, authority: bytes) -> Self:
        """As an order says (``codec_args``).

        Args:
            args: ``clip``, ``keepers`` (their certificates, DER), ``colluders``, ``min_devices``, ``noise``.
            num_elements: of an update.
            authority: whose word on keepers counts, DER; empty where this device knows none.

        Raises:
            SpecError: the words are not what they should be, or a keeper is none of this authority's.
        """
        if not authority:
            raise SpecError(
                "this campaign's updates are masked for keepers, and this device does not know who is one; enrol it, "
                "and start the worker with --identity."
            )
        certificates = args.get("keepers")
        if set(args) != _KEYS or not isinstance(certificates, Sequence) or not _are_good(args):
            raise SpecError("the order's words on secure aggregation are not what this release of fedtide reads.")
        names, keys = [], []
        for der in certificates:
            try:
                keeper = read_certificate(bytes(der), authority)
            except UntrustedError as error:
                raise SpecError(f"a keeper that the campaign names is not to be trusted: {error}") from None
            if keeper.role is not Role.KEEPER or len(keeper.sealing_key) != KEY_BYTES:
                raise SpecError(f"{keeper.name}, whom the campaign names as a keeper, is a {keeper.role.value}.")
            names.append(keeper.name)
            keys.append(keeper.sealing_key)
        if len(set(names)) != len(names) or not are_sensible(len(names), args["colluders"]):
            raise SpecError(f"the campaign's keepers {names} cannot guard against {args['colluders']} of them.")
        terms = Terms(
            keepers=tuple(names),
            colluders=args["colluders"],
            min_devices=args["min_devices"],
            noise=float(args["noise"]),
            num_elements=num_elements,
        )
        return cls(terms, float(args["clip"]), tuple(keys))

    def mask(
        self, values: FloatArray, *, campaign: str, task_id: str, attempt: int, worker: str
    ) -> tuple[Residues, tuple[bytes, ...]]:
        """An update as it may leave the device.

        Args:
            values: float32 ``(num_elements,)``; NaN or infinity in it makes all of it zero.
            campaign, task_id, attempt, worker: which update it is; its seeds can be opened as this one's alone.

        Returns:
            The masked numbers, and a box for each keeper with the seeds that it holds.
        """
        terms = self.terms
        masked = residues(to_grid(values, self.clip))
        seeds = [secrets.token_bytes(SEED_BYTES) for _ in range(terms.num_seeds)]
        for seed in seeds:
            add_mask(masked, seed)
        boxes = tuple(
            seal(
                b"".join(seeds[number] for number in terms.held_by(keeper)),
                key,
                terms.context(campaign, task_id, attempt, worker, keeper),
            )
            for keeper, key in zip(terms.keepers, self.keys, strict=True)
        )
        return masked, boxes


def _are_good(args: Mapping[str, Any]) -> bool:
    counts = [args["colluders"], args["min_devices"]]
    numbers = [args["clip"], args["noise"]]
    return (
        all(type(count) is int and 0 < count < 2**16 for count in counts)
        and all(is_finite(number) and 0 <= number < 2**31 for number in numbers)
        and args["clip"] > 0
    )
