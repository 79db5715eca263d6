"""Small charts as SVG text, coloured by the page's style sheet: no library, no script, sharp at any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

POINTS = 600  # more than a chart has pixels across

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 30


@dataclass(frozen=True)
class Interval:
    """One rate with its interval, all in [0, 1]; ``rate`` None where nothing was counted.

    ``outer`` is a second interval, drawn thin.
    """

    rate: float | None
    low: float
    high: float
    label: str
    outer: tuple[float, float] | None = None


def intervals(items: Sequence[Interval], *, width: int = 300, row: int = 20) -> str:
    """Rates under each other on one axis from 0 to 1: a dot for the rate, a line for the interval."""
    height, pad = row * len(items), 7
    span = width - 2 * pad
    parts = [_open(width, height, "; ".join(item.label for item in items), "intervals")]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = pad + tick * span
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
    for place, item in enumerate(items):
        y = row * (place + 0.5)
        if item.rate is None:
            parts.append(f'<text class="none" x="{width / 2}" y="{y + 4}">nothing counted</text>')
            continue
        low, high, rate = (pad + value * span for value in (item.low, item.high, item.rate))
        thin = ""
        if item.outer is not None:
            start, end = (pad + value * span for value in item.outer)
            thin = f'<line class="outer" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>'
        parts.append(
            f'<g class="run-{place}"><title>{escape(item.label)}</title>{thin}'
            f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{rate:.1f}" cy="{y}" r="5"/></g>'
        )
    return "".join(parts) + "</svg>"


@dataclass(frozen=True)
class Difference:
    """A difference of two rates with its interval, all in [-1, 1]."""

    value: float
    low: float
    high: float
    label: str


def differences(items: Sequence[Difference], *, width: int = 520, row: int = 30) -> str:
    """Differences under each other around a line at 0, on an axis as wide as they need, in percentage points."""
    reach = max(abs(edge) for item in items for edge in (item.low, item.high, 0.01))
    step = nice_ticks(0, reach, 2)[1]
    reach = step * math.ceil(reach / step - 1e-9)
    pad, height = 24, row * len(items)
    scale = _Scale(-reach, reach, pad, width - pad)
    parts = [_open(width, height + 20, "; ".join(item.label for item in items), "differences")]
    for tick in nice_ticks(-reach, reach, 4):
        if abs(tick) <= reach * (1 + 1e-9):
            x, name = scale(tick), "zero" if tick == 0 else "grid"
            parts.append(f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
            parts.append(
                f'<text text-anchor="middle" x="{x:.1f}" y="{height + 15}">{f"{100 * tick:+g}" if tick else "0"}</text>'
            )
    for place, item in enumerate(items):
        y = row * (place + 0.5)
        parts.append(
            f'<g class="run-{place % 4}"><title>{escape(item.label)}</title><line class="whisker" '
            f'x1="{scale(item.low):.1f}" x2="{scale(item.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{scale(item.value):.1f}" cy="{y}" r="5"/></g>'
        )
    return "".join(parts) + "</svg>"


def axis(*, width: int = 300) -> str:
    """Labels for the axis that :func:`intervals` draws on."""
    pad, parts = 7, [_open(width, 16, "0 to 100 percent", "intervals")]
    for tick, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x = {"start": 0, "middle": width / 2, "end": width}[anchor]
        x = x if anchor == "middle" else pad + tick * (width - 2 * pad) + (-pad if anchor == "start" else pad)
        parts.append(f'<text class="tick" text-anchor="{anchor}" x="{x}" y="12">{100 * tick:.0f} %</text>')
    return "".join(parts) + "</svg>"


def curve(xs: Sequence[float], ys: Sequence[float], *, label: str, x_label: str) -> str:
    """A line over its noise: raw values pale, their running median strong; the y axis logarithmic if that shows more.

    Values that are not finite are left out.
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    if len(points) < 2:
        return f'<p class="none">{escape(label)}: fewer than two values</p>'
    smooth = _running_median(points, max(1, len(points) // 40))
    low, high = min(y for _, y in points), max(y for _, y in points)
    logarithmic = low > 0 and high / low > 30
    scale_x = _Scale(points[0][0], points[-1][0], _LEFT, _WIDTH - _RIGHT)
    if logarithmic:
        ticks = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
        scale_y = _Scale(math.log10(ticks[0]), math.log10(ticks[-1]), _HEIGHT - _BOTTOM, _TOP)
    else:
        ticks = nice_ticks(min(0.0, low) if low < 0.5 * high else low, high)
        scale_y = _Scale(min(ticks[0], low), max(ticks[-1], high), _HEIGHT - _BOTTOM, _TOP)

    def place(x: float, y: float) -> str:
        return f"{scale_x(x):.1f},{scale_y(math.log10(y) if logarithmic else y):.1f}"

    def line(values: Sequence[tuple[float, float]], name: str) -> str:
        return f'<polyline class="{name}" points="{" ".join(place(*value) for value in _thin(values))}"/>'

    parts = [_open(_WIDTH, _HEIGHT, f"{label} over {x_label}", "curve")]
    for tick in ticks:
        y = scale_y(math.log10(tick) if logarithmic else tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{_short(tick)}</text>')
    for tick in nice_ticks(points[0][0], points[-1][0]):
        x = scale_x(tick)
        if _LEFT - 1 <= x <= _WIDTH - _RIGHT + 1:
            anchor = "end" if x > _WIDTH - _RIGHT - 20 else "middle"
            y = _HEIGHT - _BOTTOM + 16
            parts.append(f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{y}">{_short(tick)}</text>')
    parts += [line(points, "raw"), line(smooth, "smooth")]
    return "".join(parts) + "</svg>"


def series(
    values: Sequence[float],
    *,
    label: str,
    limits: tuple[float, float] = (-math.inf, math.inf),
    marked: Sequence[tuple[int, int]] = (),
    first: int = 0,
    width: int = 360,
    height: int = 84,
) -> str:
    """One number over steps: where it should stay as dashed lines (if near), marked steps on a coloured ground.

    Args:
        values: one a step; those that are not finite leave a break.
        label: for those who cannot see it.
        limits: lowest and highest allowed.
        marked: first step and one past the last, each.
        first: number of the first step, for the axis.
        width: of the drawing.
        height: of the drawing.
    """
    seen = [value for value in values if math.isfinite(value)]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    near = [end for end in limits if math.isfinite(end) and low - 4 * pad <= end <= high + 4 * pad]
    low, high = min(low, *near, low) - pad, max(high, *near, high) + pad
    scale_x = _Scale(0, max(1, len(values) - 1), _LEFT, width - _RIGHT)
    scale_y = _Scale(low, high, height - 16, 4)
    parts = [_open(width, height, label, "series")]
    for first, end in marked:
        x, right = scale_x(max(0, first - 0.5)), scale_x(min(len(values) - 1, end - 0.5))
        parts.append(f'<rect class="mark" x="{x:.1f}" y="0" width="{max(2.0, right - x):.1f}" height="{height - 14}"/>')
    for end in near:
        y = scale_y(end)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for value in (low + pad, high - pad):
        y = scale_y(value) + 4
        text = _short(float(f"{value:.3g}"))
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 4}" y="{y:.1f}">{text}</text>')
    for step, anchor in ((0, "start"), (len(values) - 1, "end")):
        x = scale_x(max(0, step))
        parts.append(
            f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{height - 2}">{first + max(0, step)}</text>'
        )
    for run in _unbroken(values):
        points = " ".join(f"{scale_x(x):.1f},{scale_y(y):.1f}" for x, y in _extremes(run))
        parts.append(f'<polyline class="smooth" points="{points}"/>')
    return "".join(parts) + "</svg>"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers that span from ``low`` to ``high``, or lie just around them."""
    if not low < high:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return self.start + (self.end - self.start) * ((value - self.low) / span if span else 0.5)


def _open(width: int, height: int, label: str, name: str) -> str:
    return f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'


def _thin(values: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(values) <= POINTS:
        return values
    return [values[round(place * (len(values) - 1) / (POINTS - 1))] for place in range(POINTS)]


def _unbroken(values: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Runs of finite values with their places."""
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in enumerate(values):
        if math.isfinite(value):
            runs[-1].append((place, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _extremes(run: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Few enough points to draw, none of the peaks lost."""
    if len(run) <= POINTS:
        return run
    size = math.ceil(2 * len(run) / POINTS)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(run), size):
        part = run[start : start + size]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _running_median(points: Sequence[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    result = []
    for place, (x, _) in enumerate(points):
        near = min(reach, place, len(points) - 1 - place)  # symmetric, so that the ends do not lag
        window = sorted(y for _, y in points[place - near : place + near + 1])
        result.append((x, window[len(window) // 2]))
    return result


def _short(value: float) -> str:
    """At most four digits: 0.25, 1.5k, 2M, 1e-5."""
    if value and (abs(value) < 0.01 or abs(value) >= 1e9):
        digits, power = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"
