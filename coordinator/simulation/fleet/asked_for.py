"""The fleet that a simulation is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coordinator.simulation.fleet.drawn import DrawnFleet
from coordinator.simulation.fleet.profile import DataSection, Profile, parse_profile, read_profile
from coordinator.simulation.fleet.trace import read_trace
from fl_core.errors import SpecError
from fl_core.factory import add_working_directory, resolve
from fl_core.spec import CampaignSpec


def drawn_fleet(
    spec: CampaignSpec, count: int | None, profile: str | Path | Mapping[str, Any] | None, trace: Path | None = None
) -> DrawnFleet:
    """So many devices for a campaign.

    Args:
        count: how many; None for all of the trace.
        profile: what they are like, as a file or its content. Where it says nothing of data, devices have what the spec
            evaluates on, but for what it holds out.
        trace: the file that says when they were there.

    Raises:
        SpecError: the trace or the profile is wrong, or nothing says what data devices have.
    """
    if isinstance(profile, str | Path):
        add_working_directory(Path(profile).parent)
        read = read_profile(Path(profile))
    else:
        read = parse_profile(dict(profile or {}), "the profile")
    if not read.data.factory:
        read = _with_data_of(spec, read)
    recorded = None if trace is None else read_trace(trace)
    if count is None:
        if recorded is None:
            raise SpecError("nothing says how many devices there are; give a number, or a trace.")
        count = len(recorded.names)
    return DrawnFleet(read, count, spec.campaign.seed, recorded)


def _with_data_of(spec: CampaignSpec, profile: Profile) -> Profile:
    data = spec.evaluation.data
    if data is None:
        raise SpecError(
            "nothing says what data devices have; give a profile with [data] factory = 'package.module:data'."
        )
    if "split" not in inspect.signature(resolve(data, "evaluation.data")).parameters:
        raise SpecError(
            f"evaluation.data = {data!r} takes no split, so devices would train on what is held out; give a profile "
            "with [data] factory = 'package.module:data'."
        )
    args = {**spec.evaluation.data_args, "split": "train"}
    given = profile.data.model_dump(exclude={"factory", "args"})
    section = DataSection.model_validate({**given, "factory": data, "args": args})
    return profile.model_copy(update={"data": section})
