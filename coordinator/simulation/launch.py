"""A simulation from a spec to the folder that a campaign leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.launch.leavings import finish, leave_pictures
from coordinator.launch.resume import occupied
from coordinator.simulation.devices import SimulatedDevice
from coordinator.simulation.fleet.asked_for import drawn_fleet
from coordinator.simulation.recorded import read_recording
from coordinator.simulation.run import run_simulation
from coordinator.simulation.training import Way
from coordinator.storage.run_folder import RunFolder
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec
from fl_core.wire.status import Status


def simulate_campaign(
    spec: CampaignSpec,
    devices: Sequence[SimulatedDevice] | int | None,
    profile: str | Path | Mapping[str, Any] | None,
    folder: RunFolder,
    *,
    trace: Path | None = None,
    recorded: Path | None = None,
    way: Way,
    num_processes: int = 1,
    pictures: bool = True,
    on_progress: Callable[[Status], None] = lambda now: None,
) -> tuple[dict[str, Any], str]:
    """Run a campaign to its end in virtual time, and leave what a campaign leaves.

    Args:
        spec: the campaign's.
        devices: the fleet, or how many devices are drawn from ``profile`` by the campaign's seed; None for all of the
            trace.
        profile: what they are like, as a file or its content.
        folder: the run's.
        trace: the file that says when devices are there (``fleet/trace.py``); None where the profile does.
        recorded: the folder of a run whose updates arrive again; None lets the devices' speeds decide.
        way, num_processes: how devices' training is computed.
        pictures: whether ``curves.png`` and ``report.html`` are made.
        on_progress: called now and then with the campaign's progress.

    Returns:
        The summary, and what the spec's ``evaluation.show`` says of it.

    Raises:
        SpecError: spec, profile, devices or recording do not fit.
        CampaignError: the campaign cannot go on, or its files cannot be written.
    """
    fleet: Sequence[SimulatedDevice]
    if devices is None or isinstance(devices, int):
        fleet = drawn_fleet(spec, devices, profile, trace)
    elif profile is not None or trace is not None:
        raise SpecError("devices are given, and a profile or a trace; give the number of devices with these.")
    else:
        fleet = devices
    recording = None if recorded is None else read_recording(recorded)
    with occupied(spec, folder, None, resume=False, auto_resume=False):
        summary = run_simulation(
            spec, fleet, folder, recording=recording, way=way, num_processes=num_processes, on_progress=on_progress
        )
        if pictures:
            leave_pictures(folder, summary, title=summary["campaign"])
        shown = finish(spec, folder, summary)
    return summary, shown
