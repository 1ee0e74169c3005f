"""A profile: the file that says what a fleet is like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coordinator.simulation.fleet.distributions import Exponential, LogNormal, Quantity
from fl_core.errors import SpecError
from fl_core.factory import check_import_path
from fl_core.program.toml_file import read_toml
from fl_core.spec import explain

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataSection(_Section):
    """What data devices have.

    ``factory`` is called with ``args``. Where one of these is ``"{index}"`` it is called for each device, with the
    device's number in the place of that and the size of the fleet in that of ``"{count}"``. Otherwise it is called
    once, and each device draws its own examples from it, which other devices may have as well: ``iid``; ``dirichlet``,
    by a mixture of classes of its own, drawn with concentration ``alpha`` (Hsu, Qi and Brown 2019, arXiv 1909.06335);
    or ``by_label``, of ``classes`` classes.
    """

    factory: str = ""
    args: dict[str, Any] = Field(default_factory=dict)
    partition: Literal["iid", "dirichlet", "by_label"] = "iid"
    alpha: float = Field(default=0.5, gt=0, le=1e6)
    classes: int = Field(default=2, ge=1)
    examples: Quantity = LogNormal(kind="lognormal", median=40, sigma=0.6, least=1, most=100_000)


class Available(_Section):
    """When devices of a class are there: once a day, from a time that is drawn by ``hours``, for ``minutes``.

    Attributes:
        hours: 24 weights; of midnight to one o'clock first.
    """

    hours: list[Annotated[float, Field(ge=0)]] = Field(default_factory=lambda: [1.0] * 24, min_length=24, max_length=24)
    minutes: Quantity = Exponential(kind="exponential", mean=180, least=5, most=1440)

    @model_validator(mode="after")
    def _some_hour(self) -> Self:
        if not sum(self.hours):
            raise ValueError("hours are all 0; give an hour at which devices come a weight above 0")
        return self


class DeviceClass(_Section):
    """Devices of one kind: ``share`` of the fleet, with quantities that each draws for itself.

    ``speed_follows_data`` is the correlation between how many examples a device has and how long one takes it, on the
    scale of normal numbers. ``drop_out`` is the part of its tasks that a device never finishes.
    """

    name: _Name = "device"
    share: float = Field(default=1.0, gt=0, le=1e9)
    queue: _Name = "default"
    overhead_seconds: Quantity = 1.0
    seconds_per_example: Quantity = LogNormal(kind="lognormal", median=0.01, sigma=0.6)
    down_bytes_per_second: Quantity | None = None
    up_bytes_per_second: Quantity | None = None
    latency_seconds: Quantity = 0.0
    drop_out: float = Field(default=0.0, ge=0, lt=1)
    available: Available | None = None
    speed_follows_data: float = Field(default=0.0, ge=-1, le=1)


class Profile(_Section):
    """A fleet: ``[data]`` and one ``[[devices]]`` for each kind of device; ``start_hour`` is when campaigns begin."""

    data: DataSection = DataSection()
    devices: list[DeviceClass] = Field(default_factory=lambda: [DeviceClass()], min_length=1, max_length=1000)
    start_hour: float = Field(default=0.0, ge=0, lt=24)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.devices]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"devices.name = {twice!r} is there twice; give each class a name of its own")
        return self


def read_profile(path: Path) -> Profile:
    """Read and validate a profile.

    Raises:
        SpecError: the file or a key is wrong.
    """
    return parse_profile(read_toml(path), str(path))


def parse_profile(document: dict[str, Any], source: str) -> Profile:
    """Validate a profile's content.

    Args:
        source: what errors call it.

    Raises:
        SpecError: a key is wrong.
    """
    try:
        profile = Profile.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"{source}: {explain(error, Profile)}") from None
    if profile.data.factory:
        check_import_path(profile.data.factory, f"{source}: data.factory")
    return profile
