"""The display of `fedtide run`: a live line per fact on a terminal, a log line now and then when piped."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast
from urllib.parse import urlsplit

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coordinator.telemetry.goals import nearest_goal
from coordinator.telemetry.units import amount, main_score, number
from coordinator.terminal import tables
from coordinator.terminal.sparkline import sparkline
from coordinator.terminal.tables import ledger_sentence, new_table
from fl_core.broker.url import public_url
from fl_core.program.host import is_loopback
from fl_core.spec import CampaignSpec
from fl_core.wire.states import INTERRUPTED
from fl_core.wire.status import Status, Summary

log = structlog.get_logger()

CURVE_POINTS = 40
LOG_SECONDS = 10.0
NO_WORKER_SECONDS = 3.0


class Display:
    """Progress of one campaign on standard error; standard output stays free for results.

    Args:
        spec: the campaign's.
        folder: the run's, named at the end.
        label: replaces the campaign's name in the heading.
    """

    def __init__(self, spec: CampaignSpec, folder: Path, label: str | None = None) -> None:
        self._spec = spec
        self._folder = folder
        self._label = label
        self._console = Console(stderr=True, markup=False, emoji=False)
        self._live: Live | None = None
        self._campaign = spec.campaign.name
        self._started = time.monotonic()
        self._next_log = 0.0
        self._without_workers_since: float | None = None
        self._told_no_worker = False
        self._curve: deque[float] = deque(maxlen=CURVE_POINTS)
        self._last_version: int | None = None
        self._scored = ""

    @property
    def log_stream(self) -> TextIO:
        """Where log lines go so that they appear above the live display."""
        return cast(TextIO, _Above(self._console)) if self._console.is_terminal else sys.stderr

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(Text("starting ..."), console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    # -- callbacks -------------------------------------------------------------------------------------------------

    def show_broker(self, url: str) -> None:
        """The first line: where other terminals can join."""
        shown = public_url(url)
        hint = f"   (other terminals: export FEDTIDE_BROKER={url})" if shown == url else ""
        self._console.print(Text.assemble("broker  ", (shown, "bold"), hint), soft_wrap=True)
        if hint and is_loopback(urlsplit(url).hostname or ""):
            self._console.print(
                Text("        open to every program on this machine; docs/security.md closes doors", "dim"),
                soft_wrap=True,
            )

    def show_launch(self, campaign: str, num_parameters: int, resumed: bool) -> None:
        """The second line: which campaign."""
        self._campaign = campaign
        self._started = time.monotonic()
        doing = "resuming" if resumed else "campaign"
        self._console.print(
            Text.assemble(
                f"{doing}  ",
                (campaign, "bold"),
                f"   {self._spec.aggregation.strategy}, {num_parameters:,} parameters, "
                f"concurrency {self._spec.dispatch.concurrency}, files in {self._folder}",
            ),
            soft_wrap=True,
        )

    def show_progress(self, status: Status) -> None:
        """Called a few times a second."""
        self._watch_for_workers(status.live_workers)
        score = main_score(status)
        if score.name != self._scored:  # the first metric is there, after the loss alone
            self._curve.clear()
            self._scored = score.name
        if score.final is not None and status.versions != self._last_version:
            self._curve.append(score.final)
            self._last_version = status.versions
        if self._live is not None:
            self._live.update(self._render(status))
        elif time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + LOG_SECONDS
            log.info(
                "progress",
                campaign=self._campaign,
                version=status.versions,
                merged=status.merged,
                out=status.out,
                **({} if score.final is None else {"metric": score.name, "score": round(score.final, 6)}),
                workers=status.live_workers,
                updates_per_second=round(status.recent_updates_per_second, 1),
            )

    def _watch_for_workers(self, live_workers: int) -> None:
        now = time.monotonic()
        if live_workers:
            self._without_workers_since, self._told_no_worker = None, False
            return
        if self._without_workers_since is None:
            self._without_workers_since = now
        if not self._told_no_worker and now - self._without_workers_since > NO_WORKER_SECONDS:
            self._told_no_worker = True
            log.warning(
                "no worker serves these queues yet; the campaign waits",
                queues=list(self._spec.dispatch.queues),
                start_one="fedtide-worker --broker URL --data MODULE:CALLABLE",
            )

    # -- pictures --------------------------------------------------------------------------------------------------

    def _render(self, status: Status) -> Group:
        staleness = status.staleness
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        table.add_row("state", Text.assemble((status.state, "bold"), f"  {status.wall_seconds:.0f} s"))
        table.add_row("workers", f"{status.live_workers} alive, {status.claimed} training")
        table.add_row(
            "merged",
            f"{status.merged}  version {status.versions}  {status.recent_updates_per_second:.1f} per second  "
            f"buffer {status.buffered}/{status.buffer_size}",
        )
        table.add_row("staleness", f"mean {staleness.mean:.1f}  p95 {staleness.p95}  max {staleness.max}")
        table.add_row(
            "faults",
            f"{status.reissued} re-issued  {status.num_rejected} rejected  {status.expired} expired",
        )
        score = main_score(status)
        curve = sparkline(self._curve, CURVE_POINTS)
        table.add_row(score.label, f"{number(score.final)}, best {number(score.best)}  {curve}")
        if status.fruitless is not None:
            table.add_row("failing", Text(status.fruitless.sentence))
        heading = Text(f"{self._label or self._campaign}", style="bold")
        if (goal := nearest_goal(status)) is None:
            return Group(heading, table)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(ProgressBar(total=1.0, completed=goal.share, width=40), goal.sentence)
        return Group(heading, table, grid)

    def show_summary(self, found: Mapping[str, Any]) -> None:
        """The table at the end, on standard output.

        Args:
            found: the content of ``summary.json``.
        """
        console, summary = tables.console(), Summary.from_map(found)
        console.print(summary_table(summary))
        console.print(ledger_sentence(summary), highlight=False)
        if summary.surplus:
            console.print("not counted (no open task): " + _reasons(summary.surplus), highlight=False)
        if summary.rejected:
            console.print("rejected: " + _reasons(summary.rejected), highlight=False)
        for sentence in summary.left_out or ():
            console.print(f"left out: {sentence}", highlight=False, markup=False)
        console.print(
            f"files: {self._folder}/summary.json, history.jsonl, model.safetensors, curves.png", highlight=False
        )
        if summary.state == INTERRUPTED:
            console.print(f"go on with: fedtide run SPEC.toml --out {self._folder} --resume", highlight=False)


def summary_table(summary: Summary) -> Table:
    """The end of a campaign at a glance."""
    staleness = summary.staleness
    reason = f" ({summary.stop_reason})" if summary.stop_reason else ""
    table = new_table(summary.campaign, summary.state + reason)
    table.add_row("seconds", f"{summary.wall_seconds:.1f}")
    table.add_row("versions", str(summary.versions))
    table.add_row("updates merged", str(summary.merged))
    table.add_row("merged per second", f"{summary.updates_per_second:.1f}")
    table.add_row("staleness p50 / p95 / max", f"{staleness.p50} / {staleness.p95} / {staleness.max}")
    for name, scored in (summary.metrics or {}).items():
        table.add_row(f"{name.replace('_', ' ')}, final / best", f"{number(scored.final)} / {number(scored.best)}")
    if (met := summary.target_met) is not None:
        table.add_row("version delivered", f"{summary.delivered_version}, {met.metric} {number(met.value)}")
    table.add_row("loss, final", number(summary.final_loss))
    for name, mean in (summary.device_means or {}).items():
        table.add_row(f"on the devices, mean {name.replace('_', ' ')}", number(mean))
    if summary.privacy is not None:
        table.add_row("privacy", summary.privacy.sentence)
    if summary.rollbacks:
        table.add_row("went back after diverging", f"{summary.rollbacks} times")
    table.add_row("bytes up / down", f"{amount(summary.bytes_up)} / {amount(summary.bytes_down)}")
    merged = summary.merged_by_worker
    table.add_row("updates per worker", ", ".join(f"{name} {count}" for name, count in list(merged.items())[:16]))
    table.columns[1].no_wrap = False
    return table


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())


class _Above:
    """A text stream that prints above the live display."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        if text.strip():
            self._console.print(Text.from_ansi(text.rstrip("\n")), highlight=False, soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""
