"""Draws results.svg by hand: disk use over time, and total time. No library, no script in the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from report import GIB, Row, Summary, size_text

WIDTH = 960
LEFT, RIGHT = 64, 28
PLOT_TOP, PLOT_HEIGHT = 92, 300
BAR_HEIGHT, BAR_GAP, BAR_LEFT = 22, 12, 268

# Told apart by colour-blind eyes, and readable on both backgrounds.
COLOURS = {
    "floor": "#8a8f98",
    "crossdock": "#0f8f5f",
    "crossdock-again": "#4cc38a",
    "crossdock-proxy": "#8a77b8",
    "crossdock-tls": "#5f4b94",
    "buildah-vfs": "#d1495b",
    "buildah-overlay": "#3b6fb6",
}

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #24292f; }
.title { font-size: 17px; font-weight: 600; }
.small { font-size: 12px; fill: #57606a; }
.page { fill: #ffffff; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.axis { stroke: #57606a; stroke-width: 1; }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b1; }
  .page { fill: #0d1117; }
  .grid { stroke: #30363d; }
  .axis { stroke: #9da7b1; }
}
"""


def draw(summary: Summary) -> str:
    """The whole picture."""
    rows = summary.rows()
    parts = [*disk_chart(rows, summary.size)]
    top = PLOT_TOP + PLOT_HEIGHT + 100
    parts += time_chart(rows, top)
    height = top + 34 + len(rows) * (BAR_HEIGHT + BAR_GAP) + 50
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Extra disk use over time and total time, crossdock beside buildah">\n'
        f'<style>{STYLE}</style>\n<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>\n{body}\n</svg>\n'
    )


def disk_chart(rows: list[Row], size: int) -> Iterable[str]:
    """Lines of the tool's own disk use, one a contestant that has any to show."""
    # The floor and the other runs of crossdock keep nothing either: their lines would lie on crossdock's.
    drawn = [row for row in rows if row.contestant.startswith("buildah") or row.contestant == "crossdock"]
    if not drawn:
        return
    longest = nice_ceiling(max(row.total for row in drawn))
    highest = nice_ceiling(max([row.disk for row in drawn] + [size / 4]) / GIB) * GIB
    plot = Plot(longest, highest)
    yield text(LEFT, 34, "Extra disk while building and pushing", "title")
    yield text(LEFT, 54, f"What the tool's storage and temporary files occupy, in GiB; the image has {size / GIB:g} GiB")
    yield from plot.axes()
    for row in sorted(drawn, key=lambda row: row.contestant == "crossdock"):
        colour = COLOURS[row.contestant]
        points = " ".join(f"{plot.x(s.seconds):.1f},{plot.y(s.tool):.1f}" for s in row.timeline)
        yield f'<polyline class="line" stroke="{colour}" points="{points}"/>'
        if row.timeline:
            end = row.timeline[-1]
            yield f'<circle cx="{plot.x(end.seconds):.1f}" cy="{plot.y(end.tool):.1f}" r="4" fill="{colour}"/>'
    yield from legend(drawn)


class Plot:
    """Seconds and bytes to places in the picture."""

    def __init__(self, seconds: float, count: float) -> None:
        self._seconds = seconds
        self._bytes = count

    def x(self, seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self._seconds

    def y(self, count: float) -> float:
        return PLOT_TOP + PLOT_HEIGHT * (1 - count / self._bytes)

    def axes(self) -> Iterable[str]:
        bottom, right = PLOT_TOP + PLOT_HEIGHT, WIDTH - RIGHT
        for count in ticks(self._bytes / GIB):
            y = self.y(count * GIB)
            yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield text(LEFT - 8, y + 4, f"{count:g}", "small", "end")
        for seconds in ticks(self._seconds):
            x = self.x(seconds)
            yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
            yield text(x, bottom + 20, f"{seconds:g}", "small", "middle")
        yield f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        yield text(LEFT - 8, PLOT_TOP - 14, "GiB", "small", "end")
        yield text(right, bottom + 36, "seconds since the build began", "small", "end")


def legend(rows: list[Row]) -> Iterable[str]:
    """One line below the plot, with the peak of each: the numbers that the lines show."""
    column = (WIDTH - LEFT - RIGHT) / 3
    top = PLOT_TOP + PLOT_HEIGHT + 54
    for i, row in enumerate(rows):
        x, y = LEFT + column * (i % 3), top + 20 * (i // 3)
        yield f'<rect x="{x:.1f}" y="{y - 10}" width="14" height="10" rx="2" fill="{COLOURS[row.contestant]}"/>'
        yield text(x + 20, y, f"{row.label}: at most {size_text(row.disk)}", "small")


def time_chart(rows: list[Row], top: float) -> Iterable[str]:
    """One bar a contestant: the build in a lighter tone, then the push."""
    yield text(LEFT, top, "Time until the image is in the registry", "title")
    longest = max(row.total for row in rows)
    scale = (WIDTH - BAR_LEFT - RIGHT - 150) / longest
    fastest = next((row for row in rows if row.contestant == "crossdock"), None)
    for i, row in enumerate(rows):
        y = top + 20 + i * (BAR_HEIGHT + BAR_GAP)
        build, push, colour = (row.build or 0) * scale, row.push * scale, COLOURS[row.contestant]
        yield text(BAR_LEFT - 10, y + 15, row.label, anchor="end")
        if build:
            yield bar(BAR_LEFT, y, build, colour, 0.55)
        yield bar(BAR_LEFT + build, y, push, colour)
        shown = f"{row.total:.1f} s"
        if fastest and row.contestant.startswith("buildah"):
            shown += f" ({row.total / fastest.total:.1f} x crossdock)"
        yield text(BAR_LEFT + build + push + 8, y + 15, shown, "small")
    end = top + 20 + len(rows) * (BAR_HEIGHT + BAR_GAP) + 16
    yield text(BAR_LEFT, end, "seconds; lighter: build, darker: push (crossdock does both at once)", "small")


def bar(x: float, y: float, width: float, colour: str, opacity: float = 1) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1.5):.1f}" height="{BAR_HEIGHT}" fill="{colour}" '
        f'fill-opacity="{opacity}"/>'
    )


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind} text-anchor="{anchor}">{escape(words)}</text>'


def step_for(top: float) -> float:
    """A round distance between ticks: four to eight of them up to `top`."""
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)


def nice_ceiling(value: float) -> float:
    """The first tick at or above a value."""
    step = step_for(value)
    return math.ceil(value / step) * step


def ticks(top: float) -> list[float]:
    step = step_for(top)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]
