"""The folder of one campaign: what a run leaves behind, under names that do not change.

``spec.toml``, ``history.jsonl``, ``summary.json``, ``model.safetensors``, ``curves.png``, ``checkpoint/``, ``log/``
where it is kept, ``privacy.json`` where the coordinator added noise, and, for a trial on one machine, ``broker/`` (the
embedded server's data) and ``workers/`` (the fleet's logs and state). ``.lock`` says who runs there, ``.last-commit``
what the broker has to know of at a resume, and ``.complete`` that the campaign is over and everything that it leaves
behind is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from coordinator.storage.folder_lock import FolderLock
from coordinator.storage.strict_json import strict_json
from coordinator.storage.tensor_file import tensor_file_parts
from fl_core.errors import CampaignError, SpecError
from fl_core.program.crash_points import crash_point
from fl_core.program.whole_file import whole_file
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout

COMPLETE = ".complete"
Beside: TypeAlias = Mapping[str, str | npt.NDArray[Any]]
"""Tensors by name: another name of one of the layout's, or values."""


class RunFolder:
    """Paths and writers of one campaign's folder.

    Raises:
        SpecError: the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FolderLock(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(
                f"--out {path} cannot be made ({error.strerror}); name a folder that can be written."
            ) from error

    @property
    def spec(self) -> Path:
        return self.path / "spec.toml"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def kept_log(self) -> Path:
        return self.path / "log"

    @property
    def last_commit(self) -> Path:
        return self.path / ".last-commit"

    @property
    def broker(self) -> Path:
        return self.path / "broker"

    @property
    def workers(self) -> Path:
        return self.path / "workers"

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``.

        Raises:
            CampaignError: it cannot be written.
        """
        self._replace(self.summary, [(strict_json(summary, indent=2) + "\n").encode()])

    def write_privacy(self, promise: Mapping[str, Any]) -> None:
        """Write ``privacy.json``: what the model promises to whom.

        Raises:
            CampaignError: it cannot be written.
        """
        self._replace(self.path / "privacy.json", [(strict_json(promise, indent=2) + "\n").encode()])

    def write_spec(self, toml: str) -> None:
        """Write the resolved spec.

        Raises:
            CampaignError: it cannot be written.
        """
        self._replace(self.spec, [toml.encode()], again="start again")

    def write_model(
        self, parameters: Parameters, layout: Layout, metadata: Mapping[str, str], beside: Beside | None = None
    ) -> None:
        """Write the model's tensors under their names, in float32, from where they lie.

        Args:
            beside: what else the ``state_dict`` has (``tensors_beside``), so that torch loads the file strictly.

        Raises:
            CampaignError: they cannot be written.
        """
        named: dict[str, Any] = dict(layout.to_named(parameters))
        for name, other in (beside or {}).items():
            named[name] = named[other] if isinstance(other, str) else other
        self._replace(self.model, tensor_file_parts(named, metadata))

    def mark_complete(self, campaign: str) -> None:
        """The campaign is over, and everything that it leaves behind is there.

        Raises:
            CampaignError: it cannot be written.
        """
        self._replace(self.path / COMPLETE, [campaign.encode() + b"\n"])

    def is_complete(self, campaign: str) -> bool:
        """Whether this campaign is over, and nothing of what it leaves behind is missing."""
        try:
            told = (self.path / COMPLETE).read_text(errors="replace").strip()
        except OSError:
            return False
        return told == campaign and self.model.is_file() and self.summary.is_file()

    def _replace(self, path: Path, parts: Iterable[bytes | memoryview], again: str = "go on with --resume") -> None:
        """Write a file whole or not at all, and durably."""
        try:
            with whole_file(path, durable=True) as file:
                for part in parts:
                    file.write(part)
                crash_point(f"before_{path.name}_counts")
        except OSError as error:
            raise CampaignError(
                f"{path} cannot be written ({error.strerror}); free space or mend it, and {again}."
            ) from error
