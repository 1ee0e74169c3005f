"""Tables for people, by rich, which only they need: JSON goes without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fl_core.trial.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
from coordinator.telemetry.goals import nearest_goal
from coordinator.telemetry.units import amount, duration, main_score, number, scores
from fl_core.wire.status import Status, Summary

Row = Mapping[str, Any]


PIPED_WIDTH = 160


STATE_STYLES = {
    "running": "green",
    "paused": "yellow",
    "interrupted": "yellow",
    "failed": "red",
    "finished": "cyan",
    "stopped": "cyan",
}
IDENTITY_STYLES = {"enrolled": "green", "expiring": "yellow", "invited": "yellow"} | dict.fromkeys(
    ("expired", "revoked", "unproven", "unknown"), "red"
)
WORKER_STYLES = {"training": "green", "delivering": "yellow", "silent": "red", "gone": "dim"}


def console() -> Console:
    """Standard output; wide where no terminal sets the width, so that a pipe cuts nothing.

    Text is shown as it is: what looks like markup may be a worker's or a codec's name.
    """
    from rich.console import Console

    found = Console(markup=False, emoji=False)
    return found if found.is_terminal else Console(width=PIPED_WIDTH, markup=False, emoji=False)


def new_table(*columns: str, title: str | None = None) -> Table:
    """A plain table: numbers to the right, the first column to the left."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _pairs() -> Table:
    """A table of names and what they are."""
    from rich.table import Table

    return Table(box=None, show_header=False, pad_edge=False)


def _styled(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style)


def _state(state: str) -> Text:
    return _styled(state, STATE_STYLES.get(state, "white"))


def print_campaigns(campaigns: Iterable[tuple[str, Status]]) -> None:
    """`fedtide campaigns`."""
    table = new_table("campaign", "state", "version", "merged", "out", "score", "seconds", "per second")
    campaigns = list(campaigns)
    for name, status in campaigns:
        if not status.state:
            table.add_row(name, _state("unknown"), *"––––––")
            continue
        score = main_score(status)
        table.add_row(
            name,
            _state(status.state),
            str(status.versions),
            str(status.merged),
            str(status.out),
            score.label + " " + number(score.final) if score.final is not None else number(None),
            str(status.wall_seconds),
            str(status.updates_per_second),
        )
    console().print(table if campaigns else "No campaign yet: launch one with `fedtide run SPEC.toml --broker URL`.")


def print_status(campaign: str, status: Status) -> None:
    """`fedtide status ID`."""
    if not status.state:
        console().print(f"{campaign}: launched, no word from its coordinator yet.")
        return
    table = _pairs()
    table.add_column(style="dim")
    table.add_column()
    staleness = status.staleness
    reason = f" ({status.stop_reason})" if status.stop_reason else ""
    table.add_row("campaign", campaign)
    table.add_row("state", _state(status.state).append(reason, style="none"))
    table.add_row("coordinator", status.writer or "none runs now")
    table.add_row("strategy", f"{status.strategy}, {status.num_parameters:,} parameters")
    table.add_row("version", f"{status.versions}, {status.buffered} of {status.buffer_size} buffered")
    table.add_row("ledger", ledger_sentence(status))
    for score in scores(status):
        table.add_row(score.label, f"{number(score.final)}, best {number(score.best)}")
    if (goal := nearest_goal(status)) is not None:
        table.add_row("goal", goal.sentence)
    table.add_row("staleness", f"mean {staleness.mean}, p95 {staleness.p95}, max {staleness.max}")
    table.add_row(
        "speed",
        f"{status.recent_updates_per_second} merged per second now, {status.updates_per_second} over all",
    )
    table.add_row("workers", f"{status.live_workers} alive, {status.claimed} tasks in hand")
    if status.privacy is not None:
        table.add_row("privacy", status.privacy.sentence)
    if status.fruitless is not None:
        table.add_row("nothing comes of it", _styled(status.fruitless.sentence, "none"))
    if status.waits_for:
        table.add_row("nothing is merged before there are", _styled(status.waits_for, "none"))
    table.add_row("bytes", f"{amount(status.bytes_up)} up, {amount(status.bytes_down)} down")
    table.add_row("checkpoint", f"{status.checkpoint_age_seconds} s old")
    console().print(table)


def ledger_sentence(summary: Summary) -> str:
    """The ledger's identity with its numbers in."""
    return (
        f"issued {summary.issued} = merged {summary.merged} + rejected {summary.num_rejected} + expired "
        f"{summary.expired} + cancelled {summary.cancelled} + out {summary.out}"
    )


def print_queues(rows: Iterable[Row]) -> None:
    """`fedtide queues`."""
    table = new_table("queue", "depth", "oldest s", "in flight", "workers", "in /s", "out /s", "wait p50", "wait p95")
    for row in rows:
        table.add_row(
            row["queue"],
            str(row["depth"]),
            f"{row['oldest_seconds']:.1f}",
            str(row["in_flight"]),
            str(row["workers"]),
            f"{row['arrivals_per_second']:.1f}",
            f"{row['departures_per_second']:.1f}",
            duration(row["wait_p50_seconds"]),
            duration(row["wait_p95_seconds"]),
        )
    console().print(table)


def print_workers(rows: Iterable[Row]) -> None:
    """`fedtide workers`."""
    rows = list(rows)
    identity = ["identity"] if any("identity" in row for row in rows) else []
    table = new_table("worker", "state", *identity, "task", "seen s ago", "queues", "done", "failed", "sent", "fetched")
    for row in rows:
        style = WORKER_STYLES.get(row["state"], "white")
        table.add_row(
            row["worker"],
            _styled(row["state"], style),
            *([identity_of(row)] if identity else []),
            _task_number(row["holding"]),
            f"{row['silent_seconds']:.1f}",
            ",".join(row["queues"]),
            str(row["done"]),
            str(row["failed"]),
            amount(row["bytes_up"]),
            amount(row["bytes_down"]),
        )
    console().print(table)
    for row in rows:
        if row["trouble"]:
            console().print(_styled(f"{row['worker']}: {row['trouble']}", "yellow"))


def identity_of(row: Row) -> Text:
    """How a worker stands with the authority."""
    return _styled(row.get("identity_text", "–"), IDENTITY_STYLES.get(row.get("identity", ""), ""))


def print_parked_list(rows: Iterable[Row]) -> None:
    """`fedtide rejected ID`."""
    table = new_table("n", "when", "reason", "worker", "task", "bytes", "detail")
    rows = list(rows)
    for row in rows:
        task = "–" if row["task"] is None else str(row["task"])
        size = amount(row["payload_bytes"])
        table.add_row(str(row["number"]), row["when"], row["reason"], row["worker"] or "–", task, size, row["detail"])
    for column in table.columns[2:4] + table.columns[6:]:
        column.justify = "left"
    table.columns[6].no_wrap = False
    console().print(table if rows else "Nothing was refused.")


def print_parked(row: Row) -> None:
    """`fedtide rejected ID --show N`."""
    table = _pairs()
    table.add_column(style="dim")
    table.add_column()
    for name, value in row.items():
        table.add_row(name, "–" if value is None else str(value))
    console().print(table)


def _task_number(holding: str) -> str:
    """The task in hand, short.

    >>> _task_number("digits-1a2b3c/17-dff3cbe6f292#2")
    'digits-1a2b3c 17#2'
    """
    campaign, _, task = holding.partition("/")
    return f"{campaign} {task.partition('-')[0]}#{task.rpartition('#')[2]}" if task else "–"


def print_findings(findings: Iterable[Finding]) -> None:
    """`fedtide check`."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("check", "verdict", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        style = {"ok": "green", "warning": "yellow", "fail": "red"}[finding.verdict]
        table.add_row(finding.name, _styled(finding.verdict, style), finding.detail, finding.remedy)
    console().print(table)
