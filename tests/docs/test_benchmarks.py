"""The benchmarks still run, and what they count is right. Nothing here depends on how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.measure import Case, Rounds, Scale, spread
from benchmarks.report import Row

pytestmark = pytest.mark.server

TINY = Scale(rounds=2, block=1, calls=40, codes=20, many=20)
#: The others take longer.
EVERY_TIME = ("ceiling",)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:Passing SelectField choices:DeprecationWarning")  # by Flask-Security
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.long) for name in command.GROUPS]
)
def test_each_group_measures_something(name: str) -> None:
    rows = command.measure(name, TINY)
    assert rows
    # What is counted reaches its goal wherever it runs.
    assert [row for row in rows if row.what.startswith("round trips") and row.verdict == "missed"] == []
    accepted = {row.where: row.spread.median for row in rows if row.what.startswith("accepted")}
    assert accepted.get("flask_otp, Redis", 1) == 1
    assert accepted.get("by hand, code in the session", 200) == 200


def test_a_ratio_is_of_the_same_round() -> None:
    """The machine gets ten times slower half-way through: the ratio does not see it."""
    now, calls = 0.0, 0

    def work(weight: int) -> None:
        nonlocal now, calls
        calls += 1
        now += weight * (1 if calls < 21 else 10)

    def case(weight: int) -> Case:
        return Case(lambda count: [weight] * count, work, lambda answer: None, clock=lambda: now)

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
    row = Row("this", "here", spread(1, 2, 3, 4), "us", "<= 2")
    assert row.cells() == ("this", "here", "2.50 [1.75 .. 3.25] us", "4", "<= 2", "missed")
    assert report.table([row]).splitlines()[2] == "| this | here | 2.50 [1.75 .. 3.25] us | 4 | <= 2 | missed |"


def test_the_pages_show_each_group_as_it_is_kept() -> None:
    kept = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    texts = [page.read_text(encoding="utf-8") for page in report.PAGES]
    shown = {match[2].partition("/")[0] for text in texts for match in report.PLACE.finditer(text)}
    assert shown == {*command.GROUPS, "machine"}
    for text in texts:
        assert report.filled(text, kept) == text


def test_the_command_keeps_its_rows_and_fills_in_the_pages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(
        "before\n<!-- measured: sizes/a live -->\nold\n<!-- end -->\n<!-- measured: table -->\nkept\n<!-- end -->\n"
    )
    monkeypatch.setattr(report, "PAGES", (page,))
    monkeypatch.setattr(report, "RESULTS", results)
    monkeypatch.setattr(command, "QUICK", TINY)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "sizes", "--write"])
    command.main()
    assert "Bytes of a subject" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("before\n<!-- measured: sizes/a live -->\n\n| what |")
    assert "old" not in text
    assert "the limits of a network" not in text
    assert text.endswith("<!-- measured: table -->\nkept\n<!-- end -->\n")
    assert json.loads(results.read_text())["sizes"]["command"].endswith("--quick --only sizes --write")
