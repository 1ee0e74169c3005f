"""A run that has ended, as a value: what its folder holds, read when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fl_core.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

    from fl_core.spec import CampaignSpec


class Run:
    """One run of a campaign, read from its folder. ``run``, ``simulate`` and ``open_run`` make it.

    Attributes:
        folder: the run's.
        summary: the content of ``summary.json``: state, versions, counts, scores, bytes.
        shown: the output of the spec's ``evaluation.show`` at the end; empty without one.
    """

    def __init__(
        self,
        folder: Path,
        summary: Mapping[str, Any],
        shown: str = "",
        temporary: TemporaryDirectory[str] | None = None,
    ) -> None:
        self._temporary = temporary  # a folder that ends with this object
        self.folder = folder
        self.summary = summary
        self.shown = shown

    @property
    def id(self) -> str:
        """The campaign's id."""
        return str(self.summary["campaign"])

    @property
    def state(self) -> str:
        """finished, stopped or interrupted; an interrupted run goes on with ``run(..., resume=True)``."""
        return str(self.summary["state"])

    @property
    def spec(self) -> CampaignSpec:
        """The resolved spec that the run had."""
        from fl_core.spec import load_spec

        return load_spec(self.folder / "spec.toml")

    def model(self) -> nn.Module:
        """The trained model: the spec's factory with the parameters of the last version, on the CPU, for evaluation.

        Raises:
            SpecError: the run left no model (it was interrupted), or its factory does not fit it here.
        """
        from coordinator.report.show import load_model

        return load_model(self.folder)

    def history(self) -> list[dict[str, Any]]:
        """One row for each merge, evaluation, rejection and re-issue, in the order of the log.

        ``pandas.DataFrame(run.history())`` takes them as they are; fields that a kind of row has not are then absent.
        """
        from coordinator.storage.history import read_history

        return [line.to_map() for line in read_history(self.folder / "history.jsonl")]

    def report(self) -> Path:
        """The page ``report.html``, which needs no network; it is made if it is not there."""
        path = self.folder / "report.html"
        if not path.is_file():
            from coordinator.report.pages.page import write_report

            path = write_report(self.folder)
        return path

    def _repr_html_(self) -> str:
        """Its display in a notebook: the summary's figures, and the curves if they were drawn."""
        from base64 import b64encode

        plain = {key: value for key, value in self.summary.items() if isinstance(value, str | int | float)}
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(_short(value))}</td></tr>" for key, value in plain.items()
        )
        curves = self.folder / "curves.png"
        image = ""
        if curves.is_file():
            image = f'<img alt="curves" src="data:image/png;base64,{b64encode(curves.read_bytes()).decode()}">'
        return f"<table>{rows}</table>{image}"

    def __repr__(self) -> str:
        versions = self.summary.get("versions")
        return f"<Run {self.id}: {self.state} after {versions} versions, in {self.folder}>"


def _short(value: str | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def open_run(folder: str | Path) -> Run:
    """A run that was made before, by this or another program.

    Args:
        folder: the run's, as ``fedtide run`` names it.

    Raises:
        SpecError: it holds no run that has ended.
    """
    path = Path(folder)
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SpecError(f"{path} holds no run that has ended (no summary.json that can be read).") from None
    try:
        shown = (path / "show.txt").read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        shown = ""
    return Run(path, summary, shown)
