"""Pictures of a campaign, drawn from ``history.jsonl`` alone. Without matplotlib, which is optional, there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from coordinator.report.curve import Curve, first_met, pieces, running_median, speed
from coordinator.report.palette import BLUE, GREEN, GREY, ORANGE
from coordinator.report.series import Series, read_series
from fl_core.metrics import names as metric_names
from fl_core.program.whole_file import whole_file
from fl_core.spec import StopMetric

log = structlog.get_logger()


STYLE: Any = {
    "font.size": 9,
    "axes.edgecolor": "#B0B4B8",
    "axes.labelcolor": "#202124",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8EAED",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.dpi": 110,
    "savefig.facecolor": "white",
}


MAX_DOTS = 20_000


STALENESS_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw_curves(history: Path, path: Path, title: str, lower: Collection[str] = metric_names.LOWER_IS_BETTER) -> bool:
    """Draw the first metric (loss, where there is none), staleness and speed of one campaign over time.

    Args:
        history: the campaign's ``history.jsonl``.
        path: the picture to write, PNG.
        title: stands above it.
        lower: the scores of which lower is better.

    Returns:
        False when matplotlib is not installed, or nothing has happened that could be drawn.
    """
    if not _can_draw():
        return False
    series = read_series(history)
    scores = series.main_score
    panels = [draw for draw, has_data in ((_draw_scores, scores), (_draw_staleness, series.update_seconds),
                                          (_draw_speed, series.update_seconds)) if has_data]  # fmt: skip
    if not panels:
        return False
    heights = [1.7 if draw is _draw_scores else 1.0 for draw in panels]
    with _figure(path, len(panels), heights, height=0.9 + 1.45 * sum(heights)) as axes:
        for axis, draw in zip(axes, panels, strict=True):
            draw(axis, series, lower)
        axes[0].set_title(title, loc="left", fontweight="bold", fontsize=10, pad=10)
        axes[-1].set_xlabel("seconds since launch")
        axes[-1].set_xlim(left=0)
    return True


def draw_comparison(histories: Mapping[str, Path], path: Path, title: str, target: StopMetric) -> bool:
    """Draw one score of several campaigns over time, and when each first reached the target.

    Time is on a logarithmic scale: on a linear one, a campaign that is twenty times sooner is a vertical line.

    Args:
        histories: ``history.jsonl`` of each campaign by its label, at most three; ratios are to the soonest.
        path: the picture to write, PNG.
        title: stands above it.
        target: the score, the number, and from which side it is reached.

    Returns:
        False when matplotlib is not installed, or no campaign has been evaluated.
    """
    if not _can_draw():
        return False
    whole = {label: read_series(history).curve(target.name) for label, history in histories.items()}
    curves = {label: [(s, v) for s, v in rows if s > 0] for label, rows in whole.items()}
    curves = {label: rows for label, rows in curves.items() if pieces(rows)}
    if not curves:
        return False
    reached = {label: first_met(rows, target) for label, rows in curves.items()}
    soonest = min((seconds for seconds in reached.values() if seconds is not None), default=None)
    with _figure(path, 1, [1], height=3.6) as (axis,):
        axis.set_xscale("log")
        axis.axhline(target.bound, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for (label, rows), colour in zip(curves.items(), (BLUE, ORANGE, GREEN), strict=False):
            _plot(axis, rows, color=colour, linewidth=1.8, zorder=3)
            when = reached[label]
            if when is None:
                _note(axis, label, *pieces(rows)[-1][-1], colour, (6, -12), "left")
                continue
            axis.plot([when], [target.bound], "o", color=colour, markersize=6, zorder=4)
            text = f"{label}\n{_seconds(when)}"
            if soonest is not None and when > soonest:
                text += f"\n{when / soonest:.1f} times as long"
            _note(axis, text, when, target.bound, colour, (0, 9), "center")
        _label_log_seconds(axis)
        axis.set_xlim(right=2.2 * axis.dataLim.x1)
        if target.name in metric_names.SHARES:
            axis.set_ylim(0, 1.3)
            axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        else:
            axis.margins(y=0.3)  # for the notes
        axis.set_xlabel("seconds since launch, logarithmic")
        axis.set_ylabel(f"held-out {target.name.replace('_', ' ')}")
        axis.annotate(
            f"target {target.bound:g}", (0.005, target.bound), xycoords=axis.get_yaxis_transform(), xytext=(0, 3),
            textcoords="offset points", color=GREY,
        )  # fmt: skip
        axis.set_title(title, loc="left", fontweight="bold", fontsize=10, pad=10)
    return True


def _draw_scores(axis: Axes, series: Series, lower: Collection[str]) -> None:
    score = series.main_score or "loss"
    points, best = series.points(score), min if score in lower else max
    seconds, values = zip(*points, strict=True)
    _plot(axis, series.curve(score), color=BLUE, linewidth=1.6)
    where = values.index(best(values))
    axis.plot([seconds[where]], [values[where]], "o", color=BLUE, markersize=5)
    # In the corner that such a curve leaves free.
    axis.text(
        0.99,
        0.06 if best is max else 0.94,
        f"best {values[where]:.4f} at {_seconds(seconds[where])}",
        transform=axis.transAxes,
        ha="right",
        va="bottom" if best is max else "top",
        color=BLUE,
    )
    axis.set_ylabel(f"held-out {score.replace('_', ' ')}")
    if score in metric_names.SHARES:
        axis.set_ylim(min(0.0, *values), 1.0)


def _plot(axis: Axes, rows: Curve, **style: Any) -> None:
    """A curve with gaps; a number that stands alone between two of them is a dot."""
    for piece in pieces(rows):
        seconds, values = zip(*piece, strict=True)
        axis.plot(seconds, values, ".-" if len(piece) == 1 else "-", **style)


def _draw_staleness(axis: Axes, series: Series, _: Collection[str]) -> None:
    seconds, staleness = series.update_seconds, series.update_staleness
    step = -(-len(seconds) // MAX_DOTS)
    axis.plot(
        seconds[::step],
        staleness[::step],
        "o",
        color=GREY,
        alpha=0.25,
        markersize=3.5,
        markeredgewidth=0,
        label="one update",
    )
    medians = running_median(staleness, window=max(9, min(401, len(staleness) // 20)))
    axis.plot(
        [seconds[i] for i, _ in medians], [m for _, m in medians], color=ORANGE, linewidth=1.6, label="running median"
    )
    axis.set_ylabel("staleness\n(versions)")
    highest = max(staleness)
    if highest > 8:
        # Most updates are a few versions behind and a slow device's are many: both must be seen.
        axis.set_yscale("symlog", linthresh=1, linscale=0.6)
    ticks = [tick for tick in STALENESS_TICKS if tick <= max(1, highest * 1.3)]
    axis.set_yticks(ticks, labels=[str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(-0.4, max(1.5, highest * 1.3))
    axis.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        frameon=False,
        fontsize=8,
        borderaxespad=0.1,
        handlelength=1.2,
    )


def _draw_speed(axis: Axes, series: Series, _: Collection[str]) -> None:
    ends = [series.update_seconds[-1], *(line.seconds for line in series.evaluations[-1:])]
    times, rates = speed(series.update_seconds, max(ends))
    axis.fill_between(times, rates, color=GREEN, alpha=0.3, linewidth=0)
    axis.plot(times, rates, color=GREEN, linewidth=1.4)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("updates merged\nper second")


def _note(axis: Axes, text: str, x: float, y: float, colour: str, offset: tuple[int, int], align: str) -> None:
    axis.annotate(
        text, (x, y), xytext=offset, textcoords="offset points", ha=align, va="bottom", color=colour, fontweight="bold"
    )


def _label_log_seconds(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


@contextlib.contextmanager
def _figure(path: Path, num_panels: int, heights: Sequence[float], height: float) -> Iterator[Sequence[Any]]:
    """A figure of stacked panels over one time axis, written to ``path`` whole or not at all."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # No pyplot: it would choose a backend for the whole process and keep every figure.
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(num_panels, 1, sharex=True, height_ratios=list(heights), squeeze=False)[:, 0]
        yield list(axes)
        figure.align_ylabels(axes)
        with whole_file(path) as file:
            figure.savefig(file, format="png", dpi=STYLE["figure.dpi"])


def _can_draw() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        log.info("no picture was drawn: matplotlib is not installed", remedy="pip install 'fedtide[plots]'")
        return False
    return True
