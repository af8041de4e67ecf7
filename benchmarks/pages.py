"""Puts measured tables into the pages that show them, between two comments that name what is measured."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parent.parent
PAGES = (TOP / "benchmarks" / "README.md", TOP / "docs" / "operate" / "capacity.md")

_PLACE = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def places(page: Path) -> list[str]:
    """The names that the page asks for."""
    return [match[2] for match in _PLACE.finditer(page.read_text(encoding="utf-8"))]


def write(tables: dict[str, str]) -> None:
    """Put each table into its places; those of other names stay as they are."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(_PLACE.sub(lambda match: _filled(match, tables), text), encoding="utf-8")


def _filled(match: re.Match[str], tables: dict[str, str]) -> str:
    begin, name, end = match.groups()
    return f"{begin}\n{tables[name]}\n\n{end}" if name in tables else match[0]
