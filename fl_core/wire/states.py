"""The states of campaigns and workers as everybody calls them, and what operators may ask of a campaign in each.

===========  ============================================  ==================================
state        what it means                                 requests that it takes
===========  ============================================  ==================================
running      tasks are issued, updates are merged          pause, stop, readmit
paused       no new tasks; late updates are still merged   resume, stop, readmit
interrupted  its coordinator was ended; resume it there    none
failed       its coordinator could not go on               none
finished     a condition under ``[stop]`` was met          none, ever
stopped      an operator ended it, or nothing came of it   none, ever
===========  ============================================  ==================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

RUNNING, PAUSED, INTERRUPTED, FINISHED, STOPPED = "running", "paused", "interrupted", "finished", "stopped"
FAILED = "failed"
"""Its coordinator could not go on, for the ``stop_reason`` that it gives: the campaign waits for somebody to mend that
and resume it. No phase of the log: the log says where it was before."""
STATES = (RUNNING, PAUSED, INTERRUPTED, FAILED, FINISHED, STOPPED)
ACCEPTING = (RUNNING, PAUSED)
"""States in which updates are still merged."""
OVER = (FINISHED, STOPPED)
"""States after which there is no other."""

WORKER_STATES = ("idle", "loading", "training", "delivering", "leaving")
"""The states that a worker reports in a beat."""
SILENT = "silent"
"""The state that watchers show for a worker whose beat is overdue, whatever the last one said."""

Request = Literal["pause", "resume", "stop", "readmit"]
TAKEN_IN: Mapping[Request, tuple[str, ...]] = {
    "pause": (RUNNING,),
    "resume": (PAUSED,),
    "stop": ACCEPTING,
    "readmit": ACCEPTING,
}
"""The states in which each request has an effect."""
STEERING: tuple[Request, ...] = ("pause", "resume", "stop")
"""Requests that need nothing but the campaign's name."""


def steering(state: str) -> list[Request]:
    """What may be asked of a campaign in this state, by its name alone.

    >>> steering("running"), steering("paused"), steering("finished")
    (['pause', 'stop'], ['resume', 'stop'], [])
    """
    return [request for request in STEERING if state in TAKEN_IN[request]]
