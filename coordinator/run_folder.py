"""The folder of one campaign: what a run leaves behind, under names that do not change.

``spec.toml``, ``history.jsonl``, ``summary.json``, ``model.safetensors``, ``curves.png``, ``checkpoint/``, and, for a
trial on one machine, ``broker/`` (the embedded server's data) and ``workers/`` (the fleet's logs and state).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.errors import SpecError
from fl_core.layout import Layout
from fl_core.vectors import Parameters


class RunFolder:
    """Paths and writers of one campaign's folder.

    Raises:
        SpecError: the folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
    def broker(self) -> Path:
        return self.path / "broker"

    @property
    def workers(self) -> Path:
        return self.path / "workers"

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, whole or not at all."""
        self._replace(self.summary, (json.dumps(summary, indent=2) + "\n").encode())

    def write_spec(self, toml: str) -> None:
        """Write the resolved spec."""
        self._replace(self.spec, toml.encode())

    def write_model(self, parameters: Parameters, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Write the model's tensors under their names, in float32."""
        import safetensors.numpy

        named = {name: np.ascontiguousarray(array) for name, array in layout.to_named(parameters).items()}
        self._replace(self.model, safetensors.numpy.save(named, metadata=dict(metadata)))

    def _replace(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(data)
        partial.replace(path)
