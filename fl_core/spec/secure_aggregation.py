"""The section ``[secure_aggregation]``, and what does not go with it: rows of the table in ``combinations.py``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from fl_core.secure_aggregation.bounds import MAX_KEEPERS, MAX_SEEDS, MAX_UPDATES
from fl_core.spec.section import Section, as_tuple

if TYPE_CHECKING:
    from fl_core.spec.combinations import Choice

MASKABLE = ("fedbuff", "fadas")
"""The strategies whose step is a function of one buffer's sum, with weights that are known when an update comes in."""

_NAME = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class SecureAggregationSection(Section):
    """Keepers (``fedtide-keeper``) that open sums of masked updates; without any, updates are not masked.

    ``colluders`` of the keepers may work together with the coordinator and still learn nothing but sums. No sum of
    fewer than ``min_devices`` different devices is opened. ``clip`` bounds the 2-norm of an update, 1 by default; with
    ``[privacy]`` the bound is ``privacy.clip``.
    """

    keepers: tuple[_NAME, ...] = Field(default=(), max_length=MAX_KEEPERS)
    colluders: int = Field(default=1, ge=1)
    min_devices: int = Field(default=10, ge=2)
    clip: float | None = Field(default=None, gt=0)

    _lists_are_fine = field_validator("keepers", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _keepers_are_enough(self) -> Self:
        if not self.keepers:
            given = sorted(self.model_fields_set)
            if given and "keepers" not in given:
                raise ValueError(f"{given[0]} is given and no keepers; name them, or remove {given[0]}")
            return self
        names, count = self.keepers, len(self.keepers)
        if len(set(names)) != count:
            raise ValueError("a keeper is named twice; name each once")
        if count <= self.colluders:
            raise ValueError(
                f"{count} keepers cannot guard against {self.colluders} of them; name {self.colluders + 1} at least, "
                f"and {self.colluders + 2} if one of them may be away"
            )
        if math.comb(count, self.colluders) > MAX_SEEDS:
            raise ValueError(
                f"{count} keepers of whom {self.colluders} may collude take {math.comb(count, self.colluders)} masks "
                f"for each update, more than {MAX_SEEDS}; name fewer"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether updates are masked."""
        return bool(self.keepers)

    @property
    def num_seeds(self) -> int:
        """How many masks each update has."""
        return math.comb(len(self.keepers), self.colluders)

    @property
    def may_be_away(self) -> int:
        """So many keepers can be away, and sums are opened all the same."""
        return len(self.keepers) - self.colluders - 1


def _strategy(it: Choice) -> str | None:
    if it.strategy in MASKABLE:
        return None
    return (
        f"secure_aggregation shows the coordinator nothing but sums of updates, and aggregation.strategy = "
        f"{it.strategy!r} needs more, or other sums; set it to {' or '.join(MASKABLE)}"
    )


def _codec(it: Choice) -> str | None:
    if it.codec == "fp32":
        return None
    return (
        f"codec.name = {it.codec!r} is for updates that the coordinator reads; masked ones have four bytes for each "
        "element, remove it"
    )


def _looked_at(it: Choice) -> str | None:
    keys = ("aggregation.max_update_norm", "aggregation.example_weighting", "privacy.adaptive_clip", "privacy.metrics")
    for key in keys:
        if (value := it.changed(key)) is not None:
            shown = "true" if value is True else value
            return f"{key} = {shown} looks at single updates, and with secure_aggregation nobody can; remove it"
    if it.spec.aggregation.args.get("fairness"):
        return "aggregation.args.fairness weighs in parts of no 16th; remove it with secure_aggregation"
    return None


def _privacy(it: Choice) -> str | None:
    section, privacy = it.spec.secure_aggregation, it.spec.privacy
    if privacy.mode == "local":
        return (
            "privacy.mode = 'local' adds noise that secure_aggregation would clip; set it to 'central', and keepers "
            "add the noise"
        )
    if privacy.mode == "central" and section.clip is not None:
        return "secure_aggregation.clip and privacy.clip are one bound; remove secure_aggregation.clip"
    return None


def _sizes(it: Choice) -> str | None:
    size, fewest = it.spec.aggregation.buffer_size, it.spec.secure_aggregation.min_devices
    if size < fewest:
        return (
            f"aggregation.buffer_size = {size} is below secure_aggregation.min_devices = {fewest}, so that no sum "
            "would be opened; raise the one or lower the other"
        )
    if size > MAX_UPDATES:
        return (
            f"aggregation.buffer_size = {size} masked updates could overflow 32 bits; at most {MAX_UPDATES} go into "
            "one sum"
        )
    return None


MASKED = (
    ("`[secure_aggregation]` with another strategy than `fedbuff` and `fadas`",
     "the coordinator sees nothing but sums of whole buffers", _strategy),
    ("`[secure_aggregation]` with another codec than `fp32`", "a masked update cannot be made smaller", _codec),
    ("`[secure_aggregation]` with `aggregation.max_update_norm`, `example_weighting`, `fairness` in "
     "`aggregation.args`, `privacy.adaptive_clip` or `privacy.metrics`", "they look at single updates", _looked_at),
    ("`[secure_aggregation]` with `privacy.mode = \"local\"`, or with a `clip` of its own beside `[privacy]`",
     "noise would be clipped; there is one bound", _privacy),
    ("`[secure_aggregation]` with an `aggregation.buffer_size` below `min_devices` or above 2047",
     "no sum would be opened, or it would overflow", _sizes),
)  # fmt: skip
"""Each row: the combination and the reason as the page of the methods says them, and the sentence."""


def only_masked(refuse: Any) -> Any:
    """The same rule, for specs with keepers alone."""
    return lambda it: refuse(it) if it.spec.secure_aggregation.is_on else None
