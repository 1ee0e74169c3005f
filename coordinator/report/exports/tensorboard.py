"""A run's history as TensorBoard shows it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coordinator.report.exports.points import Point
from fl_core.errors import SpecError
from fl_core.program.extras import need


class TensorBoard:
    """Scalars in an event file, by TensorBoard's own writer.

    Args:
        folder: of this run alone; an earlier export into it is replaced.
        started: when the campaign began, seconds since 1970.

    Raises:
        SpecError: the extra ``tensorboard`` is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path, started: float) -> None:
        need("--tensorboard", "tensorboard")
        from tensorboard.summary import Writer

        try:
            for before in folder.glob("events.out.tfevents.*"):
                before.unlink()
            self._writer = Writer(str(folder))
        except OSError as error:
            raise SpecError(f"--tensorboard: {folder} cannot be written ({error.strerror}); name another.") from None
        self._started = started

    def write(self, points: Iterable[Point]) -> int:
        """Take points in; how many of them are new to it."""
        count = 0
        for point in points:
            count += 1
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, wall_time=self._started + point.seconds)
        self._writer.flush()
        return count

    def close(self, state: str) -> None:
        """No more points for now."""
        self._writer.close()
