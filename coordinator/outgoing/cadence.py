"""The coordinator's intervals and waits: one value, so that a test or a simulation can set it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cadence:
    """Of the coordinator's loop. What a spec says for itself is not here: ``checkpoint``, ``dispatch``, ``evaluation``.

    Attributes:
        read_entries: so many entries of the log are read at once.
        read_wait_ms: an idle turn waits so long for one.
        status_seconds: between two writings of the status.
        survey_seconds: between two looks at workers, doorbells and the server.
        max_survey_share: of a very large campaign, surveys take at most this share of the time.
        return_seconds: after the broker was away, workers need so long to come back to it.
        last_evaluation_seconds: how long the end waits for the scores of the last version.
        nobody_left_seconds: so long no device may be able to contribute before a private campaign ends.
        full_disk_seconds: how long it waits for room for the last checkpoint.
        full_disk_pause_seconds: between two attempts to write that.
    """

    read_entries: int = 64
    read_wait_ms: int = 100
    status_seconds: float = 0.5
    survey_seconds: float = 1.0
    max_survey_share: float = 0.2
    return_seconds: float = 4.0
    last_evaluation_seconds: float = 120.0
    nobody_left_seconds: float = 10.0
    full_disk_seconds: float = 60.0
    full_disk_pause_seconds: float = 2.0
