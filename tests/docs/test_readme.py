"""What the README says. Its app is that of five-minutes.md, which test_newcomer.py runs."""

from __future__ import annotations

import re

import pytest

from flask_otp.limits.risk import compute, one_in
from tests.support.apps import AppFactory
from tests.support.pages import DOCS, ROOT, programs

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert 80 <= len(README.splitlines()) <= 100


@pytest.mark.parametrize(
    ("figure", "source"),
    [
        ("If 200 requests submit", "Two hundred in two processes, on each store | R06"),
        ("748 logins a second", "| whole logins | flask_otp, Redis | 748."),
        ("one round trip to Redis for each request", "| round trips: verify, right | redis, all limits | 1 [1 .. 1]"),
        ("one round trip to Redis for each request", "| round trips: send | redis, all limits | 1 [1 .. 1]"),
    ],
)
def test_its_figures_are_measured(figure: str, source: str) -> None:
    assert figure in README
    pages = (DOCS / "protection" / "attacks.md", ROOT / "benchmarks" / "README.md")
    assert any(source in page.read_text(encoding="utf-8") for page in pages)


def test_its_odds_are_those_of_the_default_settings(make_app: AppFactory) -> None:
    odds = compute(make_app().extensions["otp"].settings, accounts=1)
    assert f"**{one_in(odds.one_account)}.**" in README


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_it_says_what_codes_are_not_good_for() -> None:
    text = " ".join(README.split())
    for words in ("not phishing-resistant", "no second factor at any assurance level", "restricted"):
        assert words in text


def test_r42_r43_r44_the_page_for_production_says_what_codes_are_not_good_for() -> None:
    text = " ".join((DOCS / "operate" / "before-live.md").read_text("utf-8").split())
    for words in ("not phishing-resistant", "no second factor at any assurance level", "restricted", "SECRET_KEY"):
        assert words in text


def test_it_never_tells_to_install_the_other_package() -> None:
    assert not re.search(r"install[^\n`]*\bflask[-_]otp\b(?!-codes)", README)


def test_five_minutes_begins_with_the_same_app() -> None:
    [app] = programs(DOCS / "start" / "five-minutes.md")
    assert app == "# app.py\n" + programs(ROOT / "README.md")[0]
