"""`fedtide top`: queues, workers and one campaign in the terminal, looked at once a second. Read-only."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coordinator.monitor import views
from coordinator.monitor.observer import POLL_SECONDS, Observer, Snapshot
from coordinator.telemetry.goals import nearest_goal
from coordinator.telemetry.staleness_histogram import staleness_labels
from coordinator.telemetry.units import amount, duration, main_score, number
from coordinator.terminal.sparkline import sparkline
from coordinator.terminal.tables import STATE_STYLES, WORKER_STYLES, identity_of, ledger_sentence, new_table
from fl_core.errors import UNTRUSTED, BrokerError
from fl_core.wire.feed_lines import FeedLine
from fl_core.wire.histogram import Histogram
from fl_core.wire.status import Status

MAX_WORKERS_SHOWN = 15
MAX_EVENTS_SHOWN = 8

Row = dict[str, Any]


def choose(seen: Snapshot) -> str | None:
    """The newest campaign that is not over, else the newest; None if there is none."""
    active = [name for name, status in seen.campaigns.items() if not status.is_over]
    return next(iter([*active, *seen.campaigns]), None)


@dataclass(frozen=True, slots=True)
class Glance:
    """What one screen shows.

    Attributes:
        overview: queues, workers in numbers, and more; as the page gets it (``coordinator/monitor/views.py``).
        campaign: its id; empty for none.
        status: how it is.
        scores: the main score's numbers so far.
        events: the newest last.
        worker_table: one page of it.
    """

    overview: Row
    campaign: str
    status: Status
    campaign_row: Row | None
    scores: list[float]
    events: list[FeedLine]
    worker_table: Row

    def to_map(self) -> Row:
        """Plain JSON types."""
        row: Row = {**self.overview, "campaign": self.campaign_row, "worker_table": self.worker_table}
        if self.campaign:
            row |= {"scores": self.scores, "events": [line.to_map() for line in self.events]}
        return row


def gather(observer: Observer, campaign: str | None) -> Glance:
    """One snapshot.

    Args:
        campaign: its id; None shows queues and workers alone.
    """
    seen = observer.snapshot
    overview, status = views.overview(observer, seen), seen.campaigns.get(campaign or "", Status())
    track, scores, events = None, list[float](), list[FeedLine]()
    if campaign is not None:
        observer.follow(campaign)
        track = observer.track(campaign)
    with observer.lock:
        if track is not None:
            name = main_score(status).name
            scores = [score for line in track.evaluations if (score := line.scores.get(name)) is not None]
            events = [line for _, line in track.events][-MAX_EVENTS_SHOWN:]
        workers = views.worker_page(
            seen, track, queues=status.queues, page=0, size=MAX_WORKERS_SHOWN, sort="worker", search=""
        )
    row = None if campaign is None else views.campaign_now(seen, campaign)
    return Glance(overview, campaign or "", status, row, scores, events, workers)


def watch(observer: Observer, campaign: str | None) -> None:
    """Show until q, Ctrl-C, or the end of the input that keys come from.

    Args:
        campaign: None follows the newest active one.
    """
    console = Console(markup=False, emoji=False)
    try:
        with _keys() as pressed, Live(Text("looking ..."), console=console, screen=console.is_terminal) as live:
            while True:
                try:
                    seen = observer.poll()
                    live.update(picture(gather(observer, campaign or choose(seen)), console.width))
                except BrokerError as error:
                    live.update(Text(f"waiting: {error}", style="red"))
                if pressed(POLL_SECONDS) in ("q", "Q"):
                    return
    except KeyboardInterrupt:
        return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits for a key for so many seconds; it only waits where there is no keyboard."""
    if not sys.stdin.isatty():
        yield _wait
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield lambda seconds: sys.stdin.read(1) if select.select([sys.stdin], [], [], seconds)[0] else ""
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _wait(seconds: float) -> str:
    time.sleep(seconds)
    return ""


# -- pictures ------------------------------------------------------------------------------------------------------


def picture(glance: Glance, width: int) -> Group:
    """Everything on one screen."""
    status = glance.status
    parts: list[Any] = []
    if not status.state:
        name = f"{glance.campaign}: no word from its coordinator yet" if glance.campaign else "no campaign yet"
        parts.append(Text(name, style="bold"))
    else:
        heading = Text(glance.campaign, style="bold")
        heading.append(f"  {status.state}", style=STATE_STYLES.get(status.state, "white"))
        heading.append(f"  {status.wall_seconds:.0f} s  led by {status.writer or 'nobody'}", style="dim")
        columns = [_facts(status, glance.scores, width), _histogram(status.staleness_histogram)]
        parts += [heading, Columns(columns, padding=(0, 4))]
    parts += [_queues(glance.overview["queues"]), _workers(glance.worker_table, glance.overview)]
    if glance.events:
        parts.append(_events(glance.events))
    parts.append(Text("q ends", style="dim"))
    return Group(*parts)


def _facts(status: Status, scores: list[float], width: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    score = main_score(status)
    curve = sparkline(scores, max(10, min(40, width // 3)))
    grid.add_row(score.label, f"{number(score.final)}, best {number(score.best)}  {curve}")
    rate = status.recent_updates_per_second
    grid.add_row("version", f"{status.versions}, {status.merged} merged, {rate:.1f} per second")
    buffered, size = status.buffered, status.buffer_size
    grid.add_row("buffer", f"{'■' * min(20, buffered)}{'□' * min(20, max(0, size - buffered))}  {buffered} of {size}")
    goal = nearest_goal(status)
    grid.add_row("goal", "none; it runs until it is stopped" if goal is None else goal.sentence)
    grid.add_row("ledger", Text(ledger_sentence(status), style="bold red" if status.missing else ""))
    untrusted = {reason: count for reason, count in status.surplus.items() if reason in UNTRUSTED}
    refused = ", ".join(f"{reason} {count}" for reason, count in [*status.rejected.items(), *untrusted.items()])
    grid.add_row("refused", Text(refused or "none", style="red" if refused else ""))
    if status.fruitless is not None:
        grid.add_row("nothing comes of it", Text(status.fruitless.sentence, style="bold red"))
    if (timing := status.timing) is not None:
        grid.add_row("time goes", "  ".join(f"{part} {duration(each.mean)}" for part, each in timing.parts.items()))
    return grid


def _histogram(histogram: Histogram | None) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(Text("staleness", style="dim"), "", "")
    if histogram is None or not histogram.total:
        return table
    total, most = histogram.total, max(histogram.counts)
    for label, count in zip(staleness_labels(), histogram.counts, strict=False):
        if count:
            table.add_row(Text(label, justify="right"), "█" * max(1, round(16 * count / most)), f"{count / total:.0%}")
    return table


def _queues(rows: list[Row]) -> Table:
    table = new_table("queue", "depth", "oldest", "wait p50", "wait p95", "in /s", "out /s", "busy", "workers")
    for row in rows:
        table.add_row(
            Text(row["queue"]),
            Text(str(row["depth"]), style="red" if row["depth"] and not row["workers"] else ""),
            Text(f"{row['oldest_seconds']:.1f} s", style="yellow" if row["oldest_seconds"] > 30 else ""),
            duration(row["wait_p50_seconds"]),
            duration(row["wait_p95_seconds"]),
            f"{row['arrivals_per_second']:.1f}",
            f"{row['departures_per_second']:.1f}",
            str(row["busy"]),
            str(row["workers"]),
        )
    return table


def _workers(page: Row, overview: Row) -> Table:
    title = ", ".join(f"{count} {state}" for state, count in overview["workers"].items()) or "no worker"
    title += f" – {overview['members']}" if overview["members"] else ""
    more = page["total"] - len(page["rows"])
    identity = ["identity"] if overview["members"] else []
    table = new_table(
        "worker", "state", *identity, "seen", "merged", "staleness", "trains", "refused", "sent", "over time",
        title=title + (f"; {more} more" if more > 0 else ""),
    )  # fmt: skip
    for row in page["rows"]:
        state = row["state"]
        table.add_row(
            Text(row["worker"]),
            Text(state, style=WORKER_STYLES.get(state, "")),
            *([identity_of(row)] if identity else []),
            "–" if row["seen"] is None else f"{row['seen']:.1f} s",
            str(row["updates"]),
            number(row["staleness"], 1),
            "–" if row["train"] is None else duration(row["train"]),
            Text(str(row["rejected"]), style="red" if row["rejected"] else ""),
            amount(row.get("bytes_up", 0)),
            sparkline([float(value) for value in row["sparks"]], 12),
        )
    return table


def _events(events: list[FeedLine]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for line in events:
        fields = line.to_map()
        told = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("kind", "seconds"))
        when = Text(f"{line.seconds:.0f} s", style="dim")
        grid.add_row(when, Text(line.kind or fields["kind"]), Text(told, overflow="ellipsis"))
    return grid
