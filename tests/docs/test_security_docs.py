"""Each attack and requirement of ``docs/protection/attacks.md`` has a test that exists."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protection" / "attacks.md"
REQUIREMENTS = [f"R{number:02}" for number in range(1, 53)]
Row = list[str]


@lru_cache(maxsize=1)
def rows() -> list[Row]:
    text = PAGE.read_text(encoding="utf-8")
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def attacks() -> dict[int, Row]:
    """By number: what is tried, requirements, tests."""
    found = [row for row in rows() if row[0].isdigit()]
    numbered = {int(row[0]): row[1:] for row in found}
    assert len(numbered) == len(found), "a number is given twice"
    return numbered


def requirements() -> dict[str, Row]:
    """By id: in short, attacks, further tests."""
    return {row[0]: row[1:] for row in rows() if re.fullmatch(r"R\d\d", row[0])}


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+\.py::\w+)`", cell)


@lru_cache(maxsize=1)
def existing() -> set[str]:
    folders = (ROOT / "tests", ROOT / "flask_otp" / "testing" / "stores")
    return {
        f"{path.name}::{name}"
        for folder in folders
        for path in folder.rglob("*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_there_are_at_least_seventy_and_none_is_left_out() -> None:
    numbers = sorted(attacks())
    assert len(numbers) >= 70
    assert numbers == list(range(1, len(numbers) + 1))
    assert f" the {len(numbers)} attacks " in PAGE.read_text(encoding="utf-8")


def test_no_attack_is_listed_twice() -> None:
    tried = [row[0] for row in attacks().values()]
    assert len(tried) == len(set(tried))


def test_each_attack_has_requirements_and_tests_that_are_there() -> None:
    for number, (tried, asked, tests) in attacks().items():
        assert tried, number
        assert set(asked.split(", ")) <= set(REQUIREMENTS), number
        assert names(tests), number
        assert set(names(tests)) <= existing(), number


def test_each_requirement_names_its_attacks_and_has_a_test_or_says_why_not() -> None:
    assert list(requirements()) == REQUIREMENTS
    for requirement, (_, listed, further) in requirements().items():
        own = [number for number, row in sorted(attacks().items()) if requirement in row[1].split(", ")]
        assert listed == (", ".join(map(str, own)) or "-"), requirement
        assert set(names(further)) <= existing(), requirement
        assert own or names(further) or further.startswith("no test: "), requirement
