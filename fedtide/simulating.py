"""A campaign in virtual time: no broker, no workers, no waiting."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import structlog

from fedtide.running import read_spec, threads_kept

if TYPE_CHECKING:
    from coordinator.simulation.devices import SimulatedDevice
    from fedtide.runs import Run
    from fl_core.spec import CampaignSpec


def simulate(
    spec: str | Path | Mapping[str, Any] | CampaignSpec,
    devices: Sequence[SimulatedDevice] | int | None = None,
    *,
    profile: str | Path | Mapping[str, Any] | None = None,
    trace: str | Path | None = None,
    training: Literal["auto", "one_by_one", "together"] = "one_by_one",
    processes: int = 1,
    updates: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    seed: int | None = None,
    recorded: str | Path | None = None,
    out: str | Path | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> Run:
    """Run a campaign to its end under a virtual clock.

    The coordinator, its admission, guard and strategy, and each device's training are those of a deployment; what is
    played is the broker, the clock, and when devices are done. Staleness comes out as it would in the field, whatever
    this machine is doing, and the same seed gives the same model to the bit. What user code raises is raised here, also
    where a deployed worker would report a failed task.

    Args:
        spec: a TOML file, its content as a mapping, or a spec that was read before. Its held-out data is
            ``evaluation.data``, as ever.
        devices: the fleet; or how many devices, drawn from ``profile`` by the campaign's seed; None for all of the
            trace.
        profile: a TOML file, or its content as a mapping: what such a fleet is like. Without one, devices have examples
            of the spec's ``evaluation.data`` that are not held out, and differ in speed.
        trace: a table of when devices are there, as CSV or Parquet.
        training: ``one_by_one`` trains as a deployed device does, to the same bits. ``together`` trains many devices'
            tasks as one batch, which is faster where models are small and gives bits of its own, the same at every run.
            ``auto`` tries both on the first batch and goes on with the faster one; ``simulation.json`` in the run's
            folder says which it was.
        processes: how many train at a time what is trained one by one: the same bits, sooner.
        updates, seconds, target: in place of the spec's ``stop``: so many merged updates, so much virtual time, an
            accuracy. The first that is reached ends the campaign.
        seed: in place of ``campaign.seed``.
        recorded: the folder of a run that kept its log (``checkpoint.keep_log``): its updates arrive again, in their
            order and at their times, from devices of the same names. With the same data and spec it ends in the same
            model.
        out: the run's folder; None for a temporary one, which goes with the ``Run``.
        on_progress: called once a virtual minute with the status, as ``fedtide status --json`` prints it.

    Returns:
        The run, with the folder that a deployed campaign leaves.

    Raises:
        SpecError: spec, devices or recording do not fit.
        CampaignError: the campaign cannot go on.
    """
    from coordinator.simulation.launch import simulate_campaign
    from coordinator.storage.run_folder import RunFolder
    from fedtide.runs import Run
    from fl_core.factory import add_working_directory
    from fl_core.program.extras import need
    from fl_core.program.logs import configure_logs

    need("fedtide.simulate", "safetensors")
    if not structlog.is_configured():
        configure_logs("error")
    if isinstance(spec, str | Path):
        add_working_directory(Path(spec).parent)
    read = _read(spec, updates=updates, seconds=seconds, target=target, seed=seed)
    temporary = tempfile.TemporaryDirectory(prefix="fedtide-") if out is None else None
    folder = RunFolder(Path(temporary.name if temporary is not None else str(out)))
    with threads_kept():
        summary, shown = simulate_campaign(
            read, devices, profile, folder,
            trace=None if trace is None else Path(trace), recorded=None if recorded is None else Path(recorded),
            way=training, num_processes=processes, pictures=out is not None,
            on_progress=lambda now: on_progress(now.to_map()) if on_progress is not None else None,
        )  # fmt: skip
    return Run(folder.path, summary, shown, temporary)


def _read(spec: str | Path | Mapping[str, Any] | CampaignSpec, **given: float | None) -> CampaignSpec:
    """The spec with what was given in place of its own words.

    Raises:
        SpecError: they do not fit together.
    """
    from fl_core.spec import parse_spec

    document = read_spec(spec).model_dump(mode="json")
    stop = {name: given[key] for name, key in _STOPS.items() if given[key] is not None}
    if stop:
        document["stop"] = stop
    if given["seed"] is not None:
        document["campaign"]["seed"] = given["seed"]
    return parse_spec(document, source="the simulation's spec")


_STOPS = {"updates": "updates", "seconds": "seconds", "accuracy": "target"}
