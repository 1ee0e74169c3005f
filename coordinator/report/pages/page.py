"""``report.html``: what a campaign was and what it came to, on one page without network or scripts.

Everything is read from the run's folder: ``summary.json``, ``history.jsonl`` and ``spec.toml``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from coordinator.report.finished_run import FinishedRun, jain, read_run
from coordinator.report.pages import svg
from coordinator.report.pages.charts import score_charts, speed_chart, staleness_charts
from coordinator.report.pages.document import document, table
from coordinator.report.pages.facts import facts
from coordinator.report.series import Fault, Series
from fl_core.program.redaction import redact
from fl_core.program.whole_file import whole_file
from fl_core.wire.history import PhaseLine, ReissueLine, RejectionLine, RequestLine, RollbackLine
from fl_core.wire.status import Summary

MAX_WORKER_ROWS = 200


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder, whole or not at all.

    Raises:
        SpecError: the folder holds no finished run.
        CampaignError: its history is damaged.
    """
    run = read_run(folder)
    path = folder / "report.html"
    with whole_file(path) as file:
        file.write(document(f"fedtide report: {run.name}", _sections(run)).encode())
    return path


def _sections(run: FinishedRun) -> Iterable[str]:
    summary = run.summary
    reason = f" ({summary.stop_reason})" if summary.stop_reason else ""
    yield f"<h1>{escape(run.name)}</h1>"
    yield f"<p class=quiet>{escape(summary.state + reason)}, {escape(summary.strategy)}</p>"
    yield facts([run])
    if run.series.evaluations:
        yield "<h2>Scores over time</h2>" + score_charts([run], "seconds")
        yield "<h2>Scores over merged updates</h2>" + score_charts([run], "merged")
    else:
        yield "<h2>Scores</h2><p>It was not evaluated.</p>"
    yield "<h2>Staleness</h2>" + staleness_charts(run)
    yield "<h2>Updates merged per second</h2>" + speed_chart([run])
    yield "<h2>Workers</h2>" + _workers(run)
    if summary.device_scores and summary.device_means:
        yield "<h2>What the devices score</h2>" + _device_scores(summary.device_scores, summary.device_means)
    yield "<h2>Ledger</h2>" + _ledger(summary)
    yield "<h2>Faults seen</h2>" + _faults(run.series)
    yield f"<h2>Spec</h2><pre>{escape(redact(run.spec))}</pre>"


def _workers(run: FinishedRun) -> str:
    series, merged = run.series, run.summary.merged_by_worker
    total = sum(merged.values()) or 1
    staleness: Counter[str] = Counter()
    weight: defaultdict[str, float] = defaultdict(float)
    for worker, behind, share in zip(
        series.update_workers, series.update_staleness, series.update_weights, strict=False
    ):
        staleness[worker] += behind
        weight[worker] += share
    whole = sum(weight.values()) or 1.0
    ranked = sorted(merged.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        [
            name,
            str(count),
            f"{count / total:.1%}",
            f"{weight[name] / whole:.1%}",
            f"{staleness[name] / count if count else 0:.2f}",
            str(series.rejected_by[name]),
        ]
        for name, count in ranked[:MAX_WORKER_ROWS]
    ]
    more = f"<p class=quiet>{len(ranked) - MAX_WORKER_ROWS} more.</p>" if len(ranked) > MAX_WORKER_ROWS else ""
    return (
        svg.bar_chart(ranked[:20], label="updates merged by worker")
        + table(["worker", "merged", "share", "share of the weight", "mean staleness", "refused"], rows)
        + f"{more}<p class=quiet>Jain's fairness index of the counts: {jain(run.contributions):.3f} "
        "(1 when all workers gave the same number of updates).</p>"
    )


def _device_scores(scores: Mapping[str, Mapping[str, float]], means: Mapping[str, float]) -> str:
    """Each device's newest scores on its own held-out data: of the global model, and of its personal one."""

    def row(name: str, found: Mapping[str, float]) -> list[str]:
        return [name, *(f"{found[score]:.4f}" if score in found else "" for score in means)]

    rows = [row(worker, found) for worker, found in list(scores.items())[:MAX_WORKER_ROWS]]
    return table(["worker", *(name.replace("_", " ") for name in means)], [row("mean of all", means), *rows])


def _ledger(summary: Summary) -> str:
    ended = {"merged": summary.merged, "rejected": summary.num_rejected, "expired": summary.expired}
    parts = [*ended.items(), ("cancelled", summary.cancelled), ("out", summary.out)]
    hole = summary.missing
    verdict = f"<p class=bad>{hole} tasks are missing.</p>" if hole else "<p>It adds up.</p>"
    words = " + ".join(f"{name} {count}" for name, count in parts)
    reasons = "".join(f"<li>{escape(reason)}: {count}</li>" for reason, count in summary.rejected.items())
    extra = "".join(f"<li>{escape(reason)}: {count}</li>" for reason, count in summary.surplus.items())
    return (
        svg.stacked_bar(parts, label="ledger")
        + f"<p>issued {summary.issued} {'≠' if hole else '='} {words}</p>{verdict}"
        + (f"<p>Rejected:</p><ul>{reasons}</ul>" if reasons else "")
        + (f"<p>Updates that answered no open task:</p><ul>{extra}</ul>" if extra else "")
    )


def _faults(series: Series) -> str:
    if not series.faults:
        return "<p>None.</p>"
    counts = ", ".join(f"{escape(what)} {count}" for what, count in series.num_faults.most_common())
    rows = [[f"{line.seconds:.1f} s", line.kind, *_told(line)] for line in series.faults]
    return f"<p>{counts}</p>{table(['when', 'what', 'why', 'worker', 'task'], rows)}"


def _told(line: Fault) -> tuple[str, str, str]:
    """Why, and which worker and task it concerns."""
    match line:
        case RejectionLine():
            return line.reason, line.worker or "", line.task or ""
        case ReissueLine():
            return line.reason, line.worker or "", str(line.task)
        case RollbackLine():
            return f"diverged; version {line.version} goes on from version {line.good_version}", "", ""
        case PhaseLine():
            return line.state, "", ""
        case RequestLine():
            return f"{line.request}: {line.reason}: {line.detail}", "", ""
