"""Whether a run begins anew or goes on: decided from what its folder holds, never by overwriting a campaign."""

from __future__ import annotations

from pathlib import Path

from coordinator.checkpoint import CheckpointStore
from fl_core.errors import CampaignError, SpecError
from fl_core.spec import CampaignSpec


def newest_run(name: str, runs: Path = Path("runs")) -> Path:
    """The folder of the newest run of a campaign of this name.

    Raises:
        CampaignError: there is none.
    """
    found = [path for path in runs.glob(f"{name}-*") if (path / "checkpoint").is_dir()]
    if not found:
        raise CampaignError(f"there is no run of {name!r} in {runs}/ to resume; name its folder with --out.")
    return max(found, key=lambda path: (path / "checkpoint").stat().st_mtime)


def decide_resume(spec: CampaignSpec, folder: Path, *, resume: bool, auto_resume: bool) -> bool | None:
    """True to go on, False to begin, None when there is nothing left to do (``auto_resume`` of an ended campaign).

    Args:
        spec: of the campaign that was asked for.
        folder: the run's.
        resume: go on; there must be something to go on with.
        auto_resume: go on if there is something, begin otherwise (for services that are restarted).

    Raises:
        SpecError: the folder holds a campaign already, and neither was asked for.
    """
    store = CheckpointStore(spec.checkpoint.url or str(folder / "checkpoint"))
    if resume:
        return True  # what cannot be resumed is told at the launch
    if not store.highest_fence():
        return False
    if not auto_resume:
        raise SpecError(f"--out {folder} holds a campaign already; go on with --resume, or name another folder.")
    loaded = store.load()
    over = loaded is not None and loaded[1]["state"]["phase"] in ("finished", "stopped")
    return None if over else True
