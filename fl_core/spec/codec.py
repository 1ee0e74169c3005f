"""The section ``[codec]``: how vectors become bytes, up and down."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    field_validator,
)

from fl_core.built_in import CODECS
from fl_core.spec.section import (
    Arguments,
    Section,
    name_or_import_path,
)


class CodecSection(Section):
    """How a device writes its update into bytes (``fl_core.codecs``).

    ``name`` is built-in, or the import path of a user's own codec, which gets ``own_args``. ``fraction`` is the share
    of elements that topk sends, and ``importance`` how the device ranks them; ``block_size`` is how many share a scale
    in int8. ``down`` is how versions are written for the devices; with ``"int8"`` who has an earlier one gets patches.
    """

    name: str = "fp32"
    down: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    own_args: Arguments = Field(default_factory=dict)
    fraction: float = Field(default=0.01, gt=0, le=1)
    importance: Literal["magnitude", "gradient", "fisher", "attention"] = "magnitude"
    block_size: int = Field(default=1024, ge=16, le=32_768)

    @field_validator("name")
    @classmethod
    def _known_codec(cls, value: str) -> str:
        if value == "ckks":
            raise ValueError(
                "encrypted updates cannot be sent yet: fl_core.encrypted_sum has their arithmetic, and no keeper opens "
                "such sums; name keepers in [secure_aggregation], whose masks need no encryption"
            )
        return name_or_import_path(value, CODECS)

    @field_validator("block_size")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"it must be a power of two; use {1 << value.bit_length()}")
        return value

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of the codec of that name."""
        match self.name:
            case "int8":
                return {"block_size": self.block_size}
            case "topk":
                return {"fraction": self.fraction, "importance": self.importance}
            case own if ":" in own:
                return dict(self.own_args)
            case _:
                return {}
