"""Whether a run starts or goes on: decided from the content of its folder, never by overwriting a campaign."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.run_folder import RunFolder
from fl_core.broker.url import public_url, same_server
from fl_core.errors import CampaignError, SpecError
from fl_core.spec import CampaignSpec

EMBEDDED = "in its own folder"
RUNS = Path("runs")


def newest_run(name: str, runs: Path = RUNS) -> Path:
    """The folder of the newest run of a campaign of this name.

    Raises:
        CampaignError: there is none.
    """
    # Another campaign's name may begin with this one.
    ours = re.compile(rf"{re.escape(name)}-[0-9]{{8}}-[0-9]{{6}}(-[0-9]+)?")
    found = [path for path in runs.glob(f"{name}-*") if ours.fullmatch(path.name) and (path / "checkpoint").is_dir()]
    if not found:
        raise CampaignError(f"there is no run of {name!r} in {runs}/ to resume; name its folder with --out.")
    return max(found, key=lambda path: (path / "checkpoint").stat().st_mtime)


def new_run(name: str, runs: Path = RUNS) -> Path:
    """A new folder of a campaign of this name, made: another launch in the same second gets another one.

    Raises:
        SpecError: it cannot be made.
    """
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 10_000):
        path = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            runs.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise SpecError(f"{path} cannot be made ({error.strerror}); name a folder with --out.") from error
        return path
    raise SpecError(f"{runs}/{stem} and 9999 more are there already; name a folder with --out.")


def occupy(folder: RunFolder, broker: str | None, *, may_wait: bool) -> None:
    """Be the one program that runs in this folder, or the standby of the one that does.

    Args:
        folder: the run's.
        broker: of this run; None for an embedded one.
        may_wait: stand by where another one runs the campaign on the same broker.

    Raises:
        SpecError: another program runs there, and this one is not its standby.
    """
    occupant = folder.lock.take(EMBEDDED if broker is None else public_url(broker))
    if occupant is None:
        return
    if may_wait and broker is not None and occupant.broker != EMBEDDED and same_server(broker, occupant.broker):
        return
    raise SpecError(
        f"--out {folder.path} is in use by {occupant}; stop it first, name another folder, or stand by for it with "
        "--resume and the same --broker."
    )


@contextlib.contextmanager
def occupied(
    spec: CampaignSpec, folder: RunFolder, broker: str | None, *, resume: bool, auto_resume: bool
) -> Iterator[bool | None]:
    """Be the one program that runs in this folder while the block lasts.

    Yields:
        Whether to go on, to begin, or neither, as ``decide_resume`` says.

    Raises:
        SpecError, CampaignError: as ``occupy`` and ``decide_resume`` do.
    """
    try:
        occupy(folder, broker, may_wait=resume or auto_resume)
        yield decide_resume(spec, folder, resume=resume, auto_resume=auto_resume)
    finally:
        folder.lock.release()


def decide_resume(spec: CampaignSpec, folder: RunFolder, *, resume: bool, auto_resume: bool) -> bool | None:
    """True to go on, False to begin, None when there is nothing left to do (``auto_resume`` of an ended campaign).

    Args:
        spec: of the campaign that was asked for.
        folder: the run's.
        resume: go on; there must be something to go on with.
        auto_resume: go on if there is something, begin otherwise (for services that are restarted).

    Raises:
        SpecError: the folder holds a campaign already, and neither was asked for.
        CampaignError: it is over, and everything that it leaves behind is there; or no checkpoint is whole.
    """
    store = CheckpointStore(spec.checkpoint.url or str(folder.checkpoint))
    if not resume and not store.highest_fence():
        return False
    if not resume and not auto_resume:
        raise SpecError(f"--out {folder.path} holds a campaign already; go on with --resume, or name another folder.")
    seen = store.peek()
    if seen is None or not folder.is_complete(campaign := seen["identity"][0]):
        return True  # what cannot be resumed is reported at the launch
    if auto_resume:
        return None
    state = seen["state"]["phase"]
    raise CampaignError(
        f"campaign {campaign} is {state if state in ('finished', 'stopped') else 'over'}; launch a new one. Its model "
        f"is {folder.model}."
    )
