"""`fedtide top`: queues, workers and one campaign in the terminal, looked at once a second. Read-only."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from coordinator.terminal.tables import STATE_STYLES, WORKER_STYLES, ledger_sentence, new_table
from fl_core.errors import BrokerError
from fl_core.wire.states import OVER

MAX_WORKERS_SHOWN = 15

Row = dict[str, Any]


def choose(seen: Snapshot) -> str | None:
    """The newest campaign that is not over, else the newest; None if there is none."""
    active = [name for name, status in seen.campaigns.items() if status.get("state") not in OVER]
    return next(iter([*active, *seen.campaigns]), None)


def gather(observer: Observer, campaign: str | None) -> Row:
    """One snapshot, as plain JSON types.

    Args:
        campaign: its id; None shows queues and workers alone.
    """
    seen = observer.snapshot
    row: Row = {**views.overview(observer, seen), "campaign": None}
    track = None
    if campaign is not None:
        observer.follow(campaign)
        track = observer.track(campaign)
        row["campaign"] = views.campaign_now(seen, campaign)
    with observer.lock:
        if track is not None:
            name = main_score(row["campaign"] or {}).name
            scores = [line.scores.get(name) for line in track.evaluations]
            row["scores"] = [score for score in scores if score is not None]
            row["events"] = track.series()["events"][-8:]
        queues = None if row["campaign"] is None else row["campaign"].get("queues")
        row["worker_table"] = views.worker_page(
            seen, track, queues=queues, page=0, size=MAX_WORKERS_SHOWN, sort="worker", search=""
        )
    return row


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


def picture(row: Row, width: int) -> Group:
    """Everything on one screen."""
    campaign = row["campaign"]
    parts: list[Any] = []
    if campaign is None or "state" not in campaign:
        name = "no campaign yet" if campaign is None else f"{campaign['campaign']}: no word from its coordinator yet"
        parts.append(Text(name, style="bold"))
    else:
        state = campaign["state"]
        heading = Text(campaign["campaign"], style="bold")
        heading.append(f"  {state}", style=STATE_STYLES.get(state, "white"))
        heading.append(f"  {campaign['wall_seconds']:.0f} s  led by {campaign.get('writer') or 'nobody'}", style="dim")
        histogram = _histogram(campaign.get("staleness_histogram"))
        parts += [heading, Columns([_facts(row, campaign, width), histogram], padding=(0, 4))]
    parts += [_queues(row["queues"]), _workers(row["worker_table"], row["workers"])]
    if row.get("events"):
        parts.append(_events(row["events"]))
    parts.append(Text("q ends", style="dim"))
    return Group(*parts)


def _facts(row: Row, campaign: Row, width: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    score = main_score(campaign)
    curve = sparkline(row.get("scores", []), max(10, min(40, width // 3)))
    grid.add_row(score.label, f"{number(score.final)}, best {number(score.best)}  {curve}")
    rate = campaign.get("recent_updates_per_second", 0)
    grid.add_row("version", f"{campaign['versions']}, {campaign['merged']} merged, {rate:.1f} per second")
    buffered, size = campaign.get("buffered", 0), campaign.get("buffer_size", 0)
    grid.add_row("buffer", f"{'■' * min(20, buffered)}{'□' * min(20, max(0, size - buffered))}  {buffered} of {size}")
    goal = nearest_goal(campaign)
    grid.add_row("goal", "none; it runs until it is stopped" if goal is None else goal.sentence)
    holds = campaign["issued"] == sum(campaign[k] for k in ("merged", "expired", "cancelled", "out")) + sum(
        campaign["rejected"].values()
    )
    grid.add_row("ledger", Text(ledger_sentence(campaign), style="" if holds else "bold red"))
    refused = ", ".join(f"{reason} {count}" for reason, count in campaign["rejected"].items())
    grid.add_row("refused", Text(refused or "none", style="red" if refused else ""))
    if fruitless := campaign.get("fruitless"):
        grid.add_row("nothing comes of it", Text(str(fruitless["sentence"]), style="bold red"))
    if parts := campaign.get("part_quantiles"):
        shown = "  ".join(f"{part} {duration(value['mean'])}" for part, value in parts.items())
        grid.add_row("time goes", shown)
    return grid


def _histogram(histogram: Row | None) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(Text("staleness", style="dim"), "", "")
    if not histogram or not sum(histogram["counts"]):
        return table
    total, most = sum(histogram["counts"]), max(histogram["counts"])
    for label, count in zip(staleness_labels(), histogram["counts"], strict=False):
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


def _workers(page: Row, counts: dict[str, int]) -> Table:
    title = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no worker"
    more = page["total"] - len(page["rows"])
    table = new_table(
        "worker", "state", "seen", "merged", "staleness", "trains", "refused", "sent", "over time",
        title=title + (f"; {more} more" if more > 0 else ""),
    )  # fmt: skip
    for row in page["rows"]:
        state = row["state"]
        table.add_row(
            Text(row["worker"]),
            Text(state, style=WORKER_STYLES.get(state, "")),
            "–" if row["seen"] is None else f"{row['seen']:.1f} s",
            str(row["updates"]),
            number(row["staleness"], 1),
            "–" if row["train"] is None else duration(row["train"]),
            Text(str(row["rejected"]), style="red" if row["rejected"] else ""),
            amount(row.get("bytes_up", 0)),
            sparkline([float(value) for value in row["sparks"]], 12),
        )
    return table


def _events(events: list[Row]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for event in events:
        fields = {k: v for k, v in event.items() if k not in ("n", "kind", "seconds") and v is not None}
        told = Text(" ".join(f"{name}={value}" for name, value in fields.items()), overflow="ellipsis")
        grid.add_row(Text(f"{event['seconds']:.0f} s", style="dim"), Text(event["kind"]), told)
    return grid
