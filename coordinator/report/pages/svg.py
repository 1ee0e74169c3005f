"""Static charts in SVG, as text: they open without a network, without scripts, and in print."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from coordinator.report.curve import Curve, pieces
from coordinator.report.palette import COLOURS

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 12, 32
# A range below this is none: steps within it are no numbers any more.
SMALLEST = 1e-200
MAX_POINTS = 400
MAX_DOTS = 3000

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: (x, y) in order of x; a y of None leaves a gap."""

    name: str
    points: Curve


def axis_number(value: float) -> str:
    """Short, for an axis.

    >>> axis_number(0.25), axis_number(12000.0), axis_number(3.0)
    ('0.25', '12k', '3')
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.4g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between two, about ``count``.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low if high - low > SMALLEST else 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= span / count * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thinned(points: Curve, most: int = MAX_POINTS) -> list[tuple[float, float | None]]:
    """At most about ``most`` points, the last one always among them."""
    step = max(1, -(-len(points) // most))
    return [*points[:-1:step], points[-1]] if points else []


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    dots: bool = False,
    y_format: Callable[[float], str] = axis_number,
    width: int = WIDTH,
) -> str:
    """Curves over one pair of axes, with a legend if there are several.

    Args:
        y_range: from the data, down to 0, if None.
        dots: points instead of curves.
        width: of the drawing's own units, which are pixels where it is shown as wide as that.
    """
    lines = [line for line in lines if pieces(line.points)]
    if not lines:
        return "<p>Nothing to draw.</p>"
    x_max = max(point[0] for line in lines for point in line.points) or 1.0
    values = [y for line in lines for _, y in line.points if y is not None]
    low, high = y_range or (min(0.0, min(values)), max(values) or 1.0)

    def place(point: Point) -> str:
        x = LEFT + point[0] / x_max * (width - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (point[1] - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [_axes(x_max, low, high, x_label, y_label, y_format, width)]
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        for piece in pieces(thinned(line.points, MAX_DOTS if dots else MAX_POINTS)):
            if dots or len(piece) == 1:
                centres = (place(point).split(",") for point in piece)
                opacity = 0.45 if dots else 1
                parts += [f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}" opacity="{opacity}"/>' for x, y in centres]
            else:
                path = " ".join(place(point) for point in piece)
                parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    drawn = _svg(parts, f"{y_label} over {x_label}", width=width)
    return drawn + (legend([line.name for line in lines]) if len(lines) > 1 else "")


def bar_chart(rows: Sequence[tuple[str, float]], *, label: str, colour: str = COLOURS[0]) -> str:
    """Horizontal bars with their values, in the order given."""
    if not rows:
        return "<p>Nothing to draw.</p>"
    most = max(value for _, value in rows) or 1.0
    height, parts = 22 * len(rows) + 6, []
    for index, (name, value) in enumerate(rows):
        y, width = 22 * index + 4, value / most * (WIDTH - 260)
        parts.append(f'<text x="170" y="{y + 12}" text-anchor="end">{escape(name[:26])}</text>')
        parts.append(f'<rect x="178" y="{y}" width="{width:.1f}" height="15" rx="3" fill="{colour}"/>')
        parts.append(f'<text x="{184 + width:.1f}" y="{y + 12}">{axis_number(value)}</text>')
    return _svg(parts, label, height)


def stacked_bar(rows: Sequence[tuple[str, float]], *, label: str) -> str:
    """One bar in parts, with a legend that has the values."""
    total = sum(value for _, value in rows) or 1.0
    parts, x = [], 0.0
    for index, (name, value) in enumerate(rows):
        width = value / total * WIDTH
        colour = COLOURS[index % len(COLOURS)]
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="26" fill="{colour}"><title>{escape(name)}: '
            f"{axis_number(value)}</title></rect>"
        )
        x += width
    return _svg(parts, label, 26) + legend([f"{name} {axis_number(value)}" for name, value in rows])


def legend(names: Sequence[str]) -> str:
    """Names with their colours, as HTML."""
    keys = (
        f'<span><i style="background:{COLOURS[index % len(COLOURS)]}"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _axes(
    x_max: float, low: float, high: float, x_label: str, y_label: str, y_format: Callable[[float], str], width: int
) -> str:
    right, bottom, parts = width - RIGHT, HEIGHT - BOTTOM, []
    for value in ticks(low, high):
        y = bottom - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{y_format(value)}</text>')
    for value in ticks(0.0, x_max, width // 100):
        x = LEFT + value / x_max * (right - LEFT)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{axis_number(value)}</text>')
    parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" class="axis"/>')
    parts.append(f'<text x="{right}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="12" y="{(TOP + bottom) / 2}" text-anchor="middle" '
                 f'transform="rotate(-90 12 {(TOP + bottom) / 2})">{escape(y_label)}</text>')  # fmt: skip
    return "".join(parts)


def _svg(parts: Sequence[str], label: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
