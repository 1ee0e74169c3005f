"""``report.html``: what a campaign was and what it came to, on one page without network or scripts; and comparisons.

Everything is read from the run's folder: ``summary.json``, ``history.jsonl`` and ``spec.toml``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from coordinator.report import svg
from coordinator.report.series import speed
from coordinator.storage.history import read_history, scores_of
from coordinator.telemetry.staleness_histogram import staleness_histogram, staleness_labels
from coordinator.telemetry.units import amount, number
from fl_core.errors import SpecError
from fl_core.metrics import names as metric_names
from fl_core.program.redaction import redact
from fl_core.program.whole_file import whole_file

MAX_WORKER_ROWS = 200


MAX_FAULTS = 100


STYLE = """
:root{color-scheme:light dark;--ink:#17212b;--quiet:#5b6873;--line:#dfe4e8;--grid:#e9edf0;--ground:#fff;--red:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4eaef;--quiet:#9aa8b4;--line:#2b3640;--grid:#25303a;--ground:#151b21;
--red:#ff8078}}
body{font:14px/1.5 system-ui,"DejaVu Sans",sans-serif;color:var(--ink);background:var(--ground);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p.quiet,small{color:var(--quiet)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.25rem .5rem;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left;padding-left:0}
th{color:var(--quiet);font-weight:500}.scroll{overflow-x:auto}
svg{width:100%;height:auto;display:block}svg text{fill:var(--quiet);font-size:11px}
.grid{stroke:var(--grid)}.axis{stroke:var(--line)}
.legend span{margin-right:1rem;white-space:nowrap}.legend i{display:inline-block;width:.75rem;height:.75rem;
border-radius:3px;margin-right:.35rem;vertical-align:-1px}
pre{background:var(--grid);padding:.7rem;border-radius:6px;overflow-x:auto}.bad{color:var(--red);font-weight:600}
"""


@dataclass(slots=True)
class Run:
    """One run's folder, read.

    Attributes:
        evaluations: history lines.
        updates: (seconds, staleness, worker, weight) of each merged update.
        faults: history lines of re-issues, rejections and phases, at most ``MAX_FAULTS`` of them.
        num_faults: all of them, by kind and reason.
    """

    folder: Path
    summary: dict[str, Any]
    spec: str
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    updates: list[tuple[float, int, str, float]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    num_faults: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """The campaign's id."""
        return str(self.summary["campaign"])


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        SpecError: it is none, or its campaign has not ended.
    """
    summary_path, history = folder / "summary.json", folder / "history.jsonl"
    if not summary_path.is_file() or not history.is_file():
        raise SpecError(f"{folder} holds no finished run (no summary.json and history.jsonl); name a run's folder.")
    try:
        summary = json.loads(summary_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(f"{summary_path} is not JSON ({error}); the run has to be repeated.") from None
    spec = folder / "spec.toml"
    run = Run(folder, summary, spec.read_text(encoding="utf-8") if spec.is_file() else "")
    for line in read_history(history):
        match line["kind"]:
            case "evaluation":
                run.evaluations.append(line)
            case "merge":
                rows = zip(line["staleness"], line["workers"], line["weights"], strict=False)
                run.updates += [(line["seconds"], staleness, worker, weight) for staleness, worker, weight in rows]
            case "end":
                pass
            case kind:
                run.num_faults[f"{kind}: {line.get('reason') or line.get('state', '')}"] += 1
                if len(run.faults) < MAX_FAULTS:
                    run.faults.append(line)
    return run


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder, whole or not at all.

    Raises:
        SpecError: the folder holds no finished run.
    """
    run = read_run(folder)
    path = folder / "report.html"
    with whole_file(path) as file:
        file.write(page(f"fedtide report: {run.name}", _report(run)).encode())
    return path


def _report(run: Run) -> Iterable[str]:
    summary = run.summary
    reason = f" ({summary['stop_reason']})" if summary.get("stop_reason") else ""
    yield f"<h1>{escape(run.name)}</h1>"
    yield f"<p class=quiet>{escape(summary['state'] + reason)}, {escape(summary['strategy'])}</p>"
    yield facts([run])
    yield "<h2>Scores</h2>"
    if run.evaluations:
        yield score_charts([run], "seconds")
        yield score_charts([run], "merged")
    else:
        yield "<p>It was not evaluated.</p>"
    yield "<h2>Staleness</h2>"
    staleness = svg.Line("update", [(seconds, float(value)) for seconds, value, _, _ in run.updates])
    yield svg.line_chart([staleness], x_label="seconds", y_label="versions behind", dots=True)
    counts = staleness_histogram(Counter(value for _, value, _, _ in run.updates).items()).counts
    rows = [(label, float(count)) for label, count in zip(staleness_labels(), counts, strict=True) if count]
    yield svg.bar_chart(rows, label="updates by staleness")
    yield "<h2>Updates merged per second</h2>" + speed_chart([run])
    yield "<h2>Workers</h2>" + _workers(run)
    if scores := summary.get("device_scores"):
        yield "<h2>What the devices score</h2>" + _device_scores(scores, summary["device_means"])
    yield "<h2>Ledger</h2>" + _ledger(summary)
    yield "<h2>Faults seen</h2>" + _faults(run)
    yield f"<h2>Spec</h2><pre>{escape(redact(run.spec))}</pre>"


Row = tuple[str, list[str]]
"""A table's row: its head, and a cell for each run."""


def facts(runs: Sequence[Run], more: Iterable[Row] = ()) -> str:
    """The table of numbers.

    Args:
        runs: a column each.
        more: further rows, behind the scores.
    """
    rows: list[Row] = [
        ("state", [f"{r.summary['state']} {r.summary.get('stop_reason', '')}" for r in runs]),
        ("seconds", [f"{r.summary['wall_seconds']:.1f}" for r in runs]),
        ("versions", [str(r.summary["versions"]) for r in runs]),
        ("version delivered", [str(r.summary.get("delivered_version", r.summary["versions"])) for r in runs]),
        ("updates merged", [str(r.summary["merged"]) for r in runs]),
        ("merged per second", [f"{r.summary['updates_per_second']:.2f}" for r in runs]),
        ("staleness mean / p95 / max", [_three(r.summary["staleness"]) for r in runs]),
        *_metric_rows(runs),
        ("loss, final", [number(r.summary["final_loss"]) for r in runs]),
        *_accuracy_rows(runs),
        *more,
        ("rejected / expired / re-issued", [_lost(r.summary) for r in runs]),
        ("fairness of contribution (Jain)", [f"{jain(contribution_rows(r)):.3f}" for r in runs]),
        ("bytes up / down", [f"{amount(r.summary['bytes_up'])} / {amount(r.summary['bytes_down'])}" for r in runs]),
        ("parameters", [f"{r.summary['num_parameters']:,}" for r in runs]),
    ]
    head = "" if len(runs) == 1 else f"<tr><th></th>{''.join(f'<th>{escape(r.name)}</th>' for r in runs)}</tr>"
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>" for name, cells in rows
    )
    return f"<div class=scroll><table>{head}{body}</table></div>"


def _three(staleness: Mapping[str, float]) -> str:
    return f"{staleness['mean']:.2f} / {staleness['p95']} / {staleness['max']}"


def _lost(summary: Mapping[str, Any]) -> str:
    return f"{sum(summary['rejected'].values())} / {summary['expired']} / {summary['reissued']}"


def _accuracy_rows(runs: Sequence[Run]) -> Iterable[Row]:
    if any(run.summary.get("seconds_to") for run in runs):
        yield "seconds to an accuracy of 50 / 80 / 90 %", [_reached(r.summary.get("seconds_to", {})) for r in runs]


def _reached(seconds_to: Mapping[str, float]) -> str:
    return " / ".join(f"{seconds_to[key]:.1f}" if key in seconds_to else "–" for key in ("0.50", "0.80", "0.90"))


def jain(counts: Sequence[float]) -> float:
    """Jain's fairness index, (sum x)^2 / (n sum x^2): 1 when all gave the same, 1/n at worst.

    R. Jain, D. Chiu and W. Hawe, "A quantitative measure of fairness and discrimination", DEC-TR-301, 1984.

    >>> jain([3, 3, 3]), jain([1, 0])
    (1.0, 0.5)
    """
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def contribution_rows(run: Run) -> list[int]:
    return list(run.summary["merged_by_worker"].values())


def score_charts(runs: Sequence[Run], over: str, chosen: str | None = None) -> str:
    """Each metric, and the loss; over merged updates the first alone, and where one was chosen, that one alone."""
    scores = [[(e, scores_of(e)) for e in run.evaluations] for run in runs]
    names = dict.fromkeys(
        name for rows in scores for _, row in rows for name, value in row.items() if value is not None
    )
    main = next(iter(names), "loss")
    shown = dict.fromkeys([main, *names, "loss"]) if chosen is None and over == "seconds" else [chosen or main]
    label = {"seconds": "seconds", "merged": "updates merged"}[over]
    chart = ""
    for name in shown:
        lines = [
            svg.Line(run.name, [(float(e[over]), row.get(name)) for e, row in rows])
            for run, rows in zip(runs, scores, strict=True)
        ]
        limits = (0.0, 1.0) if name in metric_names.SHARES else None
        chart += svg.line_chart(lines, x_label=label, y_label=name.replace("_", " "), y_range=limits)
    return chart


def _metric_rows(runs: Sequence[Run]) -> Iterable[Row]:
    """Final and best of each metric that one of the runs has; an earlier release's summary has accuracy alone."""
    found = [r.summary.get("metrics") or _accuracy_of(r.summary) for r in runs]
    for name in dict.fromkeys(name for metrics in found for name in metrics):
        for kind in ("final", "best"):
            yield f"{name.replace('_', ' ')}, {kind}", [number(metrics.get(name, {}).get(kind)) for metrics in found]


def _accuracy_of(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"accuracy": {"final": summary["final_accuracy"], "best": summary["best_accuracy"]}}


def speed_chart(runs: Sequence[Run]) -> str:
    lines = []
    for run in runs:
        if run.updates:
            moments, rates = speed([update[0] for update in run.updates], run.updates[-1][0])
            lines.append(svg.Line(run.name, list(zip(moments.tolist(), rates.tolist(), strict=True))))
    return svg.line_chart(lines, x_label="seconds", y_label="per second")


def _workers(run: Run) -> str:
    total = sum(contribution_rows(run)) or 1
    staleness: Counter[str] = Counter()
    weight: Counter[str] = Counter()
    for _, value, worker, share in run.updates:
        staleness[worker] += value
        weight[worker] += share  # type: ignore[assignment]  # a Counter adds floats as well
    refused = Counter(str(line["worker"]) for line in run.faults if line["kind"] == "rejection" and line["worker"])
    all_weight = sum(weight.values()) or 1.0
    ranked = sorted(run.summary["merged_by_worker"].items(), key=lambda item: (-item[1], item[0]))
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{count}</td><td>{count / total:.1%}</td>"
        f"<td>{weight[name] / all_weight:.1%}</td><td>{staleness[name] / count if count else 0:.2f}</td>"
        f"<td>{refused[name]}</td></tr>"
        for name, count in ranked[:MAX_WORKER_ROWS]
    )
    more = f"<p class=quiet>{len(ranked) - MAX_WORKER_ROWS} more.</p>" if len(ranked) > MAX_WORKER_ROWS else ""
    return (
        svg.bar_chart(ranked[:20], label="updates merged by worker")
        + "<div class=scroll><table><tr><th>worker</th><th>merged</th><th>share</th><th>share of the weight</th>"
        f"<th>mean staleness</th><th>refused</th></tr>{rows}</table></div>{more}"
        f"<p class=quiet>Jain's fairness index of the counts: {jain([count for _, count in ranked]):.3f} "
        "(1 when all workers gave the same number of updates).</p>"
    )


def _device_scores(scores: Mapping[str, Mapping[str, float]], means: Mapping[str, float]) -> str:
    """Each device's newest scores on its own held-out data: of the global model, and of its personal one."""
    names = list(means)
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)

    def cells(row: Mapping[str, float]) -> str:
        return "".join(f"<td>{row[name]:.4f}</td>" if name in row else "<td></td>" for name in names)

    rows = "".join(
        f"<tr><td>{escape(worker)}</td>{cells(row)}</tr>" for worker, row in list(scores.items())[:MAX_WORKER_ROWS]
    )
    mean = f"<tr><th>mean of all</th>{cells(means)}</tr>"
    return f"<div class=scroll><table><tr><th>worker</th>{head}</tr>{mean}{rows}</table></div>"


def _ledger(summary: Mapping[str, Any]) -> str:
    parts = [(name, float(summary[name])) for name in ("merged", "expired", "cancelled", "out")]
    parts.insert(1, ("rejected", float(sum(summary["rejected"].values()))))
    hole = summary["issued"] - sum(count for _, count in parts)
    verdict = f"<p class=bad>{hole:g} tasks are missing.</p>" if hole else "<p>It adds up.</p>"
    words = " + ".join(f"{name} {count:.0f}" for name, count in parts)
    reasons = "".join(f"<li>{escape(reason)}: {count}</li>" for reason, count in summary["rejected"].items())
    extra = "".join(f"<li>{escape(reason)}: {count}</li>" for reason, count in summary["surplus"].items())
    return (
        svg.stacked_bar(parts, label="ledger")
        + f"<p>issued {summary['issued']} {'≠' if hole else '='} {words}</p>{verdict}"
        + (f"<p>Rejected:</p><ul>{reasons}</ul>" if reasons else "")
        + (f"<p>Updates that answered no open task:</p><ul>{extra}</ul>" if extra else "")
    )


def _faults(run: Run) -> str:
    if not run.faults:
        return "<p>None.</p>"
    counts = ", ".join(f"{escape(what)} {count}" for what, count in run.num_faults.most_common())
    rows = "".join(
        f"<tr><td>{line['seconds']:.1f} s</td><td>{escape(line['kind'])}</td>"
        f"<td>{escape(_why(line))}</td>"
        f"<td>{escape(str(line.get('worker') or ''))}</td><td>{escape(str(line.get('task') or ''))}</td></tr>"
        for line in run.faults
    )
    head = "<tr><th>when</th><th>what</th><th>why</th><th>worker</th><th>task</th></tr>"
    return f"<p>{counts}</p><div class=scroll><table>{head}{rows}</table></div>"


def _why(line: Mapping[str, Any]) -> str:
    if line["kind"] == "rollback":
        return f"diverged; version {line['version']} goes on from version {line['good_version']}"
    return str(line.get("reason") or line.get("state") or "")


def page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
