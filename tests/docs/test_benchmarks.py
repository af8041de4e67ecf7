"""The benchmarks still run, and what they count is right. Nothing here depends on how fast anything is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import __main__ as command
from benchmarks import pages
from benchmarks.bench import TINY
from benchmarks.groups import GROUPS
from benchmarks.measure import Case, Rounds, spread
from benchmarks.report import Row, as_markdown, as_text, at_most

pytestmark = pytest.mark.server


@contextmanager
def run_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    monkeypatch.setattr(command, "QUICK", TINY)
    yield


#: The others take longer.
EVERY_TIME = ("sizes", "ceiling")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.long) for name in GROUPS]
)
def test_each_group_measures_something(name: str) -> None:
    rows = GROUPS[name].measure(TINY)
    measured = [row for row in rows if row.spread is not None]
    assert measured
    assert all(row.note for row in rows if row.spread is None)
    # What is counted reaches its goal wherever it runs.
    assert [row for row in measured if row.what.startswith("round trips") and row.verdict == "missed"] == []


def test_a_ratio_is_of_the_same_round() -> None:
    """The machine gets ten times slower half-way through: the ratio does not see it."""
    now, calls = 0.0, 0

    def work(weight: int) -> None:
        nonlocal now, calls
        calls += 1
        now += weight * (1 if calls < 21 else 10)

    def case(weight: int) -> Case:
        return Case(lambda count: [weight] * count, work, lambda answer: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.measure.time.perf_counter", lambda: now)
        rounds = Rounds({"ours": case(3), "reference": case(1)}, rounds=20, block=1)
    ratio = rounds.rate("ours", "reference")
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert ratio.count == 20
    assert rounds.cost("ours", "reference").median == pytest.approx(20e6)


def test_a_case_that_answers_wrongly_stops_the_measurement() -> None:
    def refuse(answer: object) -> None:
        raise RuntimeError("not what was asked for")

    with pytest.raises(RuntimeError, match="not what was asked for"):
        Rounds({"one": Case(lambda count: [0] * count, abs, refuse)}, rounds=1, block=1)


def test_a_row_says_whether_its_goal_is_reached() -> None:
    row = Row("this", "here", spread([1.0, 2.0, 3.0, 4.0]), "us", at_most(2))
    assert row.cells() == ("this", "here", "2.50 [1.75 .. 3.25] us", "4", "<= 2", "missed")
    assert Row("this", "here", None, note="not installed").cells()[2] == "not installed"
    assert " ".join(as_text([row]).splitlines()[1].split()) == "this here 2.50 [1.75 .. 3.25] us 4 <= 2 missed"
    assert as_markdown([row]).splitlines()[2] == "| this | here | 2.50 [1.75 .. 3.25] us | 4 | <= 2 | missed |"


def test_the_pages_show_known_groups_only() -> None:
    shown = {name for page in pages.PAGES for name in pages.places(page)}
    assert shown == {*GROUPS, "machine"}


@pytest.mark.long
def test_the_command_prints_tables_and_fills_in_the_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    page = pages.Path(str(tmp_path)) / "page.md"
    page.write_text(
        "before\n<!-- measured: sizes -->\nold\n<!-- end -->\n<!-- measured: table -->\nkept\n<!-- end -->\n"
    )
    monkeypatch.setattr(pages, "PAGES", (page,))
    with run_with(monkeypatch, "--quick", "--only", "sizes", "--write"):
        command.main()
    assert "Bytes of a subject" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("before\n<!-- measured: sizes -->\n\n| what |")
    assert "old" not in text
    assert text.endswith("<!-- measured: table -->\nkept\n<!-- end -->\n")
