"""A campaign from a script, a notebook's cell or a test: launched, led to its end, and returned as a ``Run``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from coordinator.launch.fleet import FleetWorker
    from fedtide.runs import Run
    from fl_core.spec import CampaignSpec


def run(
    spec: str | Path | Mapping[str, Any] | CampaignSpec,
    *,
    fleet: str | Path | Iterable[Mapping[str, Any]] | None = None,
    broker: str | None = None,
    blobs: str = "",
    out: str | Path | None = None,
    resume: bool = False,
    allow_eviction: bool = False,
    on_launch: Callable[[str, int, bool], None] | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> Run:
    """Run a campaign to its end.

    It works in any thread, and logs warnings alone unless the caller has configured structlog. In the main thread
    Ctrl-C ends it in a way that can be resumed; the run is then ``interrupted``. Whatever happens, the workers and
    servers that were started here have ended when it returns.

    Args:
        spec: a TOML file, its content as a mapping, or a spec that was read before.
        fleet: workers to start on this machine: a TOML file, or its ``[[worker]]`` tables as mappings. None if others
            serve the broker's queues.
        broker: the URL of a Redis that the workers reach; None starts a server of its own.
        blobs: the place of a second server for versions and large updates (``HOST:PORT``); empty for none.
        out: the run's folder; None makes a new one in ``runs/``.
        resume: go on with the campaign in ``out``, if it holds one that has not ended.
        allow_eviction: take a broker that evicts keys when it is full.
        on_launch: called once with the campaign's id, its number of parameters, and whether it was resumed.
        on_progress: called a few times a second with the status, as ``fedtide status --json`` prints it.

    Returns:
        The run; its summary says how it ended.

    Raises:
        SpecError: spec, fleet, model, data or broker do not fit; nothing was started that still runs.
        CampaignError: the campaign cannot go on.
        UserCodeError: code that the spec names raised; ``resume=True`` goes on with mended code.
        BrokerError: the broker does not answer, or refuses.
    """
    from coordinator.launch.leavings import finish
    from coordinator.launch.options import Callbacks, LaunchOptions, RunOptions
    from coordinator.launch.resume import new_run, occupied
    from coordinator.launch.run import run_campaign
    from coordinator.storage.run_folder import RunFolder
    from fedtide.runs import Run, open_run
    from fl_core.factory import add_working_directory
    from fl_core.program.extras import need
    from fl_core.program.logs import configure_logs

    need("fedtide.run", "safetensors")
    if not structlog.is_configured():
        configure_logs("warning")
    add_working_directory(*(Path(given).parent for given in (spec, fleet) if isinstance(given, str | Path)))
    read = read_spec(spec)
    workers = _read_fleet(fleet)
    folder = RunFolder(new_run(read.campaign.name) if out is None else Path(out))
    with threads_kept(), occupied(read, folder, broker, resume=False, auto_resume=resume) as going_on:
        if going_on is None:
            return open_run(folder.path)
        summary = run_campaign(
            read,
            RunOptions(broker, workers, folder, LaunchOptions(going_on, blobs, allow_eviction=allow_eviction)),
            Callbacks(
                on_launch=on_launch or (lambda campaign, num_parameters, resumed: None),
                on_progress=lambda now: on_progress(now.to_map()) if on_progress is not None else None,
            ),
        )
        return Run(folder.path, summary, finish(read, folder, summary))


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """A coordinator computes on one thread; afterwards the caller's number of threads is restored."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_spec(spec: str | Path | Mapping[str, Any] | CampaignSpec) -> CampaignSpec:
    from fl_core.spec import CampaignSpec, load_spec, parse_spec

    if isinstance(spec, CampaignSpec):
        return spec
    return parse_spec(dict(spec)) if isinstance(spec, Mapping) else load_spec(Path(spec))


def _read_fleet(fleet: str | Path | Iterable[Mapping[str, Any]] | None) -> tuple[FleetWorker, ...]:
    from coordinator.launch.fleet import load_fleet, parse_fleet

    if fleet is None:
        return ()
    if isinstance(fleet, str | Path):
        return tuple(load_fleet(Path(fleet)))
    return tuple(parse_fleet({"worker": [dict(worker) for worker in fleet]}, "fleet"))
