"""Residuals of a campaign's error feedback, kept on disk while its model is not in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import structlog

from fl_core.codecs import ErrorFeedback
from fl_core.errors import DataError
from fl_core.vectors.layout import Layout
from workers.store.memory import DeviceMemory

log = structlog.get_logger()


class ResidualStore:
    """Residuals by campaign and layout, each of which comes back once: a residual that was used has been sent.

    It lies beside what methods remember (``workers/store/memory.py``), so that neither can displace the other, and
    follows the same rules. A disk that takes nothing costs the residuals, never the task: that is logged once.

    Args:
        state_dir: the worker's.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._told = False

    def put(self, campaign: str, layout: Layout, feedback: Mapping[int, ErrorFeedback]) -> None:
        """Keep what each part's updates have left out; what is not finite is dropped."""
        memory = self._memory(campaign)
        try:
            for part, each in feedback.items():
                if each.residual is not None and bool(np.isfinite(each.residual).all()):
                    memory[f"{layout.digest}.{part}"] = each.residual
        except DataError as error:
            self._tell(str(error))

    def take(self, campaign: str, layout: Layout) -> dict[int, ErrorFeedback]:
        """What was kept of a campaign, by part. It is gone from the disk then, and so is what is of another layout."""
        memory = self._memory(campaign)
        found: dict[int, ErrorFeedback] = {}
        try:
            for name in list(memory):
                digest, _, part = name.partition(".")
                fits = digest == layout.digest and part.isascii() and part.isdecimal()
                residual = memory.get(name) if fits else None
                (memory.folder / f"{name}.npy").unlink()  # first: one that stays there would be used again
                if residual is not None and residual.size <= layout.num_parameters:
                    found[int(part)] = ErrorFeedback()
                    found[int(part)].residual = residual
        except OSError as error:
            self._tell(f"{memory.folder} cannot be emptied ({error.strerror}); let the worker write to its state_dir.")
        return found

    def forget(self, campaign: str) -> None:
        """The campaign has ended."""
        self._memory(campaign).forget()

    def _memory(self, campaign: str) -> DeviceMemory:
        return DeviceMemory(self._state_dir, campaign, "residuals")

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            log.error("what updates have left out cannot be kept; later ones go on without it", reason=reason)
