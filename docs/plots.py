"""Draw the plots of the pages from the figures that are kept: ``python docs/plots.py``.

The figures are in ``benchmarks/results.json`` and ``docs/plots/simulations.json``. The SVGs follow the light or dark
setting of the reader's system, have a ground of their own, and keep text as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "plots"
#: Dollars for a text message, which is what many countries cost.
PRICE = 0.10

_WIDTH, _MARGIN, _BAR = 760, 24, 24
_STYLE = """
text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #1f2937 }
.title { font-size: 18px; font-weight: 600 } .small { font-size: 12px } .end { font-weight: 600 }
.muted { fill: #5b6472 } .ground { fill: #ffffff; stroke: #d8dee6 } .grid { stroke: #e3e8ee } .axis { stroke: #8a94a3 }
.ours { fill: #2f8f80 } .other { fill: #94a3b8 } .bad { fill: #b3541e } .range { stroke: #1f2937; stroke-width: 1.5 }
.line { stroke-width: 3 } .line.ours, .line.other, .line.bad { fill: none }
.line.ours { stroke: #2f8f80 } .line.other { stroke: #64748b } .line.bad { stroke: #b3541e }
.text-ours { fill: #14594f } .text-other { fill: #475569 } .text-bad { fill: #9a4514 }
@media (prefers-color-scheme: dark) {
text { fill: #e5e7eb } .muted { fill: #a3adba }
.ground { fill: #14181f; stroke: #2c333d } .grid { stroke: #262d37 } .axis { stroke: #75808f }
.ours { fill: #7fcdbd } .other { fill: #66748a } .bad { fill: #f0a060 } .range { stroke: #e5e7eb }
.line.ours { stroke: #7fcdbd } .line.other { stroke: #94a3b8 } .line.bad { stroke: #f0a060 }
.text-ours { fill: #7fcdbd } .text-other { fill: #b6c2d1 } .text-bad { fill: #f5b583 }
}
""".strip()


class Bar(NamedTuple):
    """A bar from zero.

    :param low: where the line of its range begins; no line if it ends at the same place.
    :param text: what stands behind it.
    """

    name: str
    figure: float
    low: float
    high: float
    text: str
    kind: str


class Line(NamedTuple):
    """:param end: what its last point is."""

    end: str
    name: str
    points: Sequence[tuple[float, float]]
    kind: str


class Axis(NamedTuple):
    """From zero to the last tick."""

    ticks: Sequence[float]
    form: str
    name: str

    def at(self, figure: float, size: float) -> float:
        return size * figure / self.ticks[-1]


def bars(title: str, about: str, groups: dict[str, list[Bar]], axis: Axis, source: str) -> str:
    """Bars below each other, in groups that have a heading if there are several."""
    left, top, parts = 244, 84, list[str]()
    width = _WIDTH - left - 120
    for heading, group in groups.items():
        if len(groups) > 1:
            parts.append(_text(_MARGIN, top + 14, heading, "muted"))
            top += 24
        for bar in group:
            end = left + axis.at(bar.figure, width)
            parts.append(_text(left - 10, top + 17, bar.name, anchor="end"))
            parts.append(
                f'<rect class="{bar.kind}" x="{left}" y="{top}" width="{max(1.5, end - left):.1f}" height="{_BAR}"/>'
            )
            low, high = (left + axis.at(figure, width) for figure in (bar.low, bar.high))
            if high > low:
                middle = top + _BAR / 2
                ends = "".join(f"M{x:.1f} {middle - 5}v10" for x in (low, high))
                parts.append(f'<path class="range" d="M{low:.1f} {middle}H{high:.1f}{ends}"/>')
            parts.append(_text(max(end, high) + 8, top + 17, bar.text))
            top += _BAR + 8
        top += 6
    grid = []
    for tick in axis.ticks:
        x = left + axis.at(tick, width)
        grid.append(f'<path class="{"grid" if tick else "axis"}" d="M{x:.1f} 78V{top}"/>')
        grid.append(_text(x, top + 18, axis.form.format(tick), "small muted", "middle"))
    grid.append(_text(left + width / 2, top + 38, axis.name, "small muted", "middle"))
    return _picture(title, about, [*grid, *parts], top + 76, source)


def lines(title: str, about: str, series: Iterable[Line], x_axis: Axis, y_axis: Axis, source: str) -> str:
    """Lines over time, each with its name at its end."""
    left, top, width, height = 74, 92, _WIDTH - 74 - 216, 240
    bottom, parts = top + height, list[str]()
    for tick in y_axis.ticks:
        y = bottom - y_axis.at(tick, height)
        parts.append(f'<path class="{"grid" if tick else "axis"}" d="M{left} {y:.1f}h{width}"/>')
        parts.append(_text(left - 10, y + 4, y_axis.form.format(tick), "small muted", "end"))
    for tick in x_axis.ticks:
        x = left + x_axis.at(tick, width)
        parts.append(_text(x, bottom + 20, x_axis.form.format(tick), "small muted", "middle"))
    parts.append(_text(left + width / 2, bottom + 40, x_axis.name, "small muted", "middle"))
    free = bottom + 20.0
    # The lowest first: a name goes up where it would cover the one below it.
    for line in sorted(series, key=lambda line: line.points[-1][1]):
        path = [(left + x_axis.at(x, width), bottom - y_axis.at(y, height)) for x, y in line.points]
        parts.append(f'<path class="line {line.kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in path)}"/>')
        free = min(free - 36, path[-1][1] + 4)
        parts.append(_text(left + width + 12, free, line.end, f"text-{line.kind} end"))
        parts.append(_text(left + width + 12, free + 16, line.name, f"text-{line.kind} small"))
    return _picture(title, about, parts, bottom + 76, source)


def _picture(title: str, about: str, parts: Iterable[str], height: float, source: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-labelledby="t d">'
    )
    first = [
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(about)}</desc>',
        f"<style>{_STYLE}</style>",
    ]
    first.append(f'<rect class="ground" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1:.0f}" rx="8"/>')
    first += [_text(_MARGIN, 34, title, "title"), _text(_MARGIN, 57, about, "muted")]
    return "\n".join([head, *first, *parts, _text(_MARGIN, height - 16, source, "small muted"), "</svg>", ""])


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "") -> str:
    more = (f' class="{style}"' if style else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(words)}</text>'


# The plots


def race(results: dict[str, Any]) -> str:
    found = []
    for row in results["race"]["rows"]:
        low, high = map(int, re.findall(r"\d+", row["note"]))
        text = f"{low}" if low == high else f"{low} to {high}"
        found.append(Bar(row["where"], row["spread"]["median"], low, high, text, _kind(row["where"], "bad")))
    axis = Axis(range(0, 201, 50), "{:g}", "requests that were signed in (median and range)")
    about = "200 requests submit the same right code at the same moment. Only one of them should pass."
    return bars("One code, 200 requests at once: how many get in?", about, {"": found}, axis, _source(results["race"]))


def speed(results: dict[str, Any]) -> str:
    names = {
        "flask_otp, all limits": '{}, "session": false',
        "by hand, no limit": "by hand, no limit: {}",
        "by hand, 3 limits": "by hand, 3 limits of Flask-Limiter: {}",
    }
    groups = {}
    for heading, step in (("Verify a right code", "verify, right"), ("Send a code", "send")):
        rows = [(name, _row(results["table"], form.format(step))) for name, form in names.items()]
        groups[heading] = [_bar(name, row["spread"], "{:.2f}", "") for name, row in rows]
    axis = Axis(
        [0, 0.25, 0.5, 0.75, 1],
        "{:g}",
        "requests answered in the time of one request of that view (median and quartiles)",
    )
    about = "1 is a view that reads JSON, asks Redis once and answers JSON. More is faster."
    return bars(
        "How fast a request is, beside a view that asks Redis once", about, groups, axis, _source(results["table"])
    )


def logins(results: dict[str, Any]) -> str:
    rows = [row for row in results["peers"]["rows"] if row["what"] == "whole logins"]
    found = [_bar(row["where"], row["spread"], "{:,.0f}", "") for row in rows]
    axis = Axis(range(0, 1001, 250), "{:,.0f}", "logins a second on one core (median and quartiles)")
    about = "Send and verify by e-mail code. flask_otp has all its limits on, the others have theirs off."
    return bars("Whole logins a second", about, {"": found}, axis, _source(results["peers"]))


def workers(results: dict[str, Any]) -> str:
    rows = [row for row in results["growth"]["rows"] if row["what"].startswith("login")]
    found = [_bar(row["where"], row["spread"], "{:,.0f} us", "ours") for row in rows]
    axis = Axis(range(0, 2501, 500), "{:,.0f}", "microseconds of processor time")
    about = "Processor time of the app for a send and a verify together, by kind of gunicorn worker."
    return bars("What a login costs the app", about, {"": found}, axis, _source(results["growth"]))


def odds(simulations: dict[str, Any]) -> str:
    named = {
        "attempts": ("5 tries a code, a code a minute", "bad"),
        "send limits": ("send limits, no failure budget", "other"),
        "budget": ("flask_otp's defaults", "ours"),
    }
    series = []
    for key, (name, kind) in named.items():
        curve = simulations["guessing"][key]
        last = curve["chance"][-1]
        end = f"{last:.0%}" if last > 0.01 else f"1 in {1 / last:,.0f}"
        series.append(Line(end, name, [*zip(curve["day"], curve["chance"], strict=True)], kind))
    x_axis = Axis([0, 90, 180, 270, 365], "{:g}", "days of guessing at six digits")
    y_axis = Axis([0, 0.25, 0.5, 0.75, 1], "{:.0%}", "")
    about = "The chance that an attacker who guesses all year gets into one account."
    source = (
        "Lower lines: simulated with the real store (docs/simulations.py). Upper line: 5 guesses a minute, computed."
    )
    return lines("A year of guessing, with and without the failure budget", about, series, x_axis, y_axis, source)


def pumping(simulations: dict[str, Any]) -> str:
    found, series = simulations["pumping"], []
    for key, name, kind in (("without", "no breaker", "bad"), ("breaker", "with breaker", "ours")):
        cost = [count * PRICE for count in found[key]]
        words = f"{name}: {found[key][-1]:,} messages"
        series.append(Line(f"${cost[-1]:,.0f}", words, [*zip(found["hour"], cost, strict=True)], kind))
    x_axis = Axis([0, 6, 12, 18, 24], "{:g}", "hours of attack")
    y_axis = Axis([0, 2500, 5000, 7500, 10_000], "${:,.0f}", "")
    about = "One message asked for each second, each from a new network, to 50 number ranges of one country."
    source = f"Simulated with the real counters. Assumed: ${PRICE:.2f} a message, no channel budget, no code is typed."
    return lines("What a day of SMS pumping costs", about, series, x_axis, y_axis, source)


def _bar(name: str, spread: dict[str, float], form: str, kind: str) -> Bar:
    figure = spread["median"]
    return Bar(name, figure, spread["low"], spread["high"], form.format(figure), kind or _kind(name, "other"))


def _kind(name: str, other: str) -> str:
    return "ours" if name.startswith("flask_otp") else other


def _row(group: dict[str, Any], what: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in group["rows"] if row["what"] == what)
    return found


def _source(group: dict[str, Any]) -> str:
    cores = group["machine"].partition(",")[0]
    python = re.findall(r"Python [\d.]+", group["machine"])[0]
    return f"{group['command'].replace(' --write', '')}, {group['date']}, {cores}, {python}."


def plots() -> dict[str, str]:
    """Name of the file, and the SVG."""
    results, simulations = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in (ROOT / "benchmarks" / "results.json", FOLDER / "simulations.json")
    )
    drawn = {f"{draw.__name__}.svg": draw(results) for draw in (race, speed, logins, workers)}
    return drawn | {f"{draw.__name__}.svg": draw(simulations) for draw in (odds, pumping)}


if __name__ == "__main__":
    for name, svg in plots().items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
