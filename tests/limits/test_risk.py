"""The odds: the sums by hand, and the sums against attackers of the real stores.

The long runs give the figures of ``docs/protection/odds.md``: ``pytest -n0 tests/limits/test_risk.py -m long -s``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import pytest

from flask_otp.config.parsers import Rate
from flask_otp.limits import risk
from flask_otp.limits.counters import Limits
from flask_otp.limits.risk import DAY, YEAR, Odds, compute, most_events
from flask_otp.stores import Store
from flask_otp.stores.base import KNOWN_BROWSERS
from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer
from tests.support.confidence import interval
from tests.support.simulation import (
    START,
    UNHITTABLE,
    VICTIM,
    Site,
    distributed,
    greedy,
    hammering,
    patient,
    settings_of,
    spray,
    sprayer,
    thief,
    waiting,
)

HOUR = 3600
MONTH = 30 * DAY
#: Wrong guesses within any 365 days, by the defaults: 13 windows of 20 begin, and 19 are left of one that was open.
BY_DEFAULT = 13 * 20 + 19


def odds_of(**config: Any) -> Odds:
    return compute(settings_of(config))


# The sums


@pytest.mark.parametrize(
    ("rates", "span", "most"),
    [
        ([(20, MONTH)], YEAR, BY_DEFAULT),
        ([(1, YEAR)], YEAR, 1),
        ([(2, YEAR)], YEAR, 3),
        ([(10, HOUR)], HOUR, 19),
        ([(10, HOUR)], HOUR + 1, 29),
        ([(10, HOUR)], 1, 19),
        ([(20, HOUR), (50, DAY)], DAY, 99),
        ([(1, HOUR), (50, DAY)], DAY, 24),
    ],
)
def test_events_are_counted_with_both_edges(rates: list[tuple[int, int]], span: int, most: int) -> None:
    assert most_events([Rate(*rate) for rate in rates], span) == most


def test_the_sum_by_hand() -> None:
    by_hand = 1 - (1 - 5 / 10**6) ** 55 * (1 - 4 / 10**6)
    found = odds_of()
    assert found.one_account == pytest.approx(by_hand, rel=1e-9)
    assert found.by_purpose == {"login": found.one_account}
    assert (found.guesses, found.messages) == (BY_DEFAULT, 56)
    assert risk.one_in(found.one_account) == "1 in 3,585"


@pytest.mark.parametrize(
    ("config", "about"),
    [
        # The table of the published cases: SECURITY.md section 3, exact form.
        ({"OTP_FAILURE_BUDGET": "15/hour"}, 0.123),
        ({"OTP_FAILURE_BUDGET": "25/hour"}, 0.197),
        ({"OTP_FAILURE_BUDGET": "10/hour"}, 0.084),
        ({"OTP_FAILURE_BUDGET": "10/hour", "OTP_CODE_LENGTH": 8}, 8.8e-4),
        ({"OTP_FAILURE_BUDGET": "50/day"}, 0.018),
        ({"OTP_FAILURE_BUDGET": "75/30 days"}, 1.05e-3),
        ({"OTP_CODE_LENGTH": 8}, 2.79e-6),
        ({"OTP_MAX_ATTEMPTS": 1}, 2.79e-4),
    ],
)
def test_known_figures_come_out(config: dict[str, Any], about: float) -> None:
    assert odds_of(**config).one_account == pytest.approx(about, rel=0.01)


def test_purposes_add_up() -> None:
    both = odds_of(OTP_PURPOSES={"login": {}, "transfer": {"code_length": 8}})
    assert both.by_purpose["transfer"] == pytest.approx(both.by_purpose["login"] / 100, rel=1e-3)
    assert both.one_account == pytest.approx(sum(both.by_purpose.values()), rel=1e-3)
    assert both.guesses == 2 * BY_DEFAULT


def test_stolen_cookies_and_workers_multiply_budgets() -> None:
    found = odds_of()
    assert found.one_cookie_stolen == pytest.approx(2 * found.one_account, rel=1e-3)
    assert found.all_cookies_stolen == pytest.approx((1 + KNOWN_BROWSERS) * found.one_account, rel=2e-3)
    workers = compute(settings_of(), counters=4)
    assert workers.one_account == pytest.approx(4 * found.one_account, rel=1e-3)
    assert workers.spraying == pytest.approx(4 * found.spraying, rel=1e-9)


def test_buckets_that_are_forgotten_before_their_challenges_make_room_for_more() -> None:
    assert risk.buckets(settings_of().purposes["login"]) == KNOWN_BROWSERS
    brief = settings_of({"OTP_SEND_LIMIT": "5/minute", "OTP_EXPIRES_IN": "10m"})
    assert risk.buckets(brief.purposes["login"]) == 10 * KNOWN_BROWSERS


def test_spraying_is_bounded_by_the_surge_limit_whatever_the_number_of_accounts() -> None:
    found = [compute(settings_of(), accounts=accounts) for accounts in (1, 1000, 100_000, 10**9)]
    assert [round(each.spraying, 4) for each in found] == [0.0003, 0.279, 0.8849, 0.8849]
    assert found[-1].spraying_step == pytest.approx((8760 + 1) / 10**6, rel=1e-4)
    assert odds_of(OTP_CODE_LENGTH=8).spraying == pytest.approx(0.00885, rel=1e-3)


def test_guesses_in_flight_add_nothing_more_until_one_network_has_more_of_them_than_count() -> None:
    at_once = {c: risk.spraying_guesses(settings_of(), 10**9, in_flight=c) for c in (1, 41, 42, 60)}
    windows = 8760 + 1
    assert at_once[1] == windows * 101 - 1
    assert at_once[41] == windows * 141 - 1
    # From 42 on, a network that has its share of 10 gets more than the 50 compared that count for the site.
    assert at_once[42] == (windows * 142 - 1) + (windows * 142 - 1) // 50
    assert at_once[60] == (windows * 160 - 1) + (windows * 160 - 1) // 50 * 19


@pytest.mark.parametrize("budget", ["1000/second", "1000000000/second", "999999/day"])
def test_hopeless_settings_are_summed_at_once_and_end_at_certainty(budget: str) -> None:
    found = odds_of(OTP_FAILURE_BUDGET=budget, OTP_SURGE_LIMIT=budget, OTP_MAX_ATTEMPTS=10)
    assert 0.99 < found.one_account <= found.all_cookies_stolen <= 1
    assert found.spraying <= found.accounts


def test_strong_codes_add_nothing_that_could_be_seen() -> None:
    purpose = settings_of().purposes["login"]
    assert risk.strong_guesses(purpose) == (50 * 365 + 49) * 5
    assert risk.strong_guesses(purpose) / risk.STRONG_CODES < 1e-14
    # Even without any limit: a thousand guesses a second, all the year.
    assert 1000 * YEAR / risk.STRONG_CODES < 1e-9


def test_the_docs_have_these_figures() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protection" / "odds.md").read_text(encoding="utf-8")
    found = odds_of()
    for chance in (found.one_account, found.one_cookie_stolen, found.all_cookies_stolen):
        assert f"{chance:.2e}".replace("e-0", "e-") + f", {risk.one_in(chance)} |" in text
    assert f"| {found.spraying:.3f} |" in text
    assert f"| {found.spraying_step:.4f} |" in text
    assert f"{risk.spraying_guesses(settings_of(), 10**9):,}" in text
    messages = f"{found.messages} messages a year to its owner, and spraying {found.spraying_messages:,}"
    assert messages in " ".join(text.split())
    four = odds_of(OTP_PURPOSES={name: {} for name in "abcd"})
    assert f"{four.one_account:.2e}".replace("e-0", "e-") in text


# The sums against the stores: how many guesses are compared


Attack = Callable[..., bool]


def check_counts(store: Store, attack: Attack, days: int, compared: int) -> None:
    site = Site(store, settings_of(), UNHITTABLE)
    assert not attack(site, days)
    assert site.most_within_a_year() == compared <= odds_of().guesses
    assert site.strong_wrong[VICTIM] <= risk.strong_guesses(site.purpose)
    # A budget is spent by its 20th failure, and by none after it; by the patient attacker, never.
    assert site.budgets_spent == (0 if attack is patient else ceil(compared / 20))


@pytest.mark.parametrize(
    ("attack", "days", "compared"),
    [
        # Its first failure is 30 days before the year. The bound is not only safe: it is reached.
        pytest.param(greedy, 365, BY_DEFAULT, id="greedy"),
        pytest.param(patient, 365, 232, id="patient"),
        pytest.param(waiting, 365, 13 * 20, id="waiting"),
        pytest.param(hammering, 31, 2 * 20, id="hammering"),
        pytest.param(distributed, 31, 2 * 20, id="distributed"),
    ],
)
def test_r08_nobody_has_more_guesses_than_the_sum_says(store: Store, attack: Attack, days: int, compared: int) -> None:
    check_counts(store, attack, days, compared)


@pytest.mark.long
@pytest.mark.parametrize("attack", [hammering, distributed])
def test_long_run_a_year_has_no_more_guesses_than_the_sum_says(store: Store, attack: Attack) -> None:
    check_counts(store, attack, 365, 13 * 20)


@pytest.mark.parametrize(("cookies", "compared"), [(1, 2), (8, 9), (12, 9)])
def test_r11_stolen_cookies_give_a_budget_each_and_no_more_than_eight(cookies: int, compared: int) -> None:
    site = Site(MemoryStore(), settings_of(), UNHITTABLE)
    assert not thief(site, cookies, days=65)
    assert site.most_within_a_year() == compared * 3 * 20


def test_the_messages_of_a_year_stay_within_the_recipients_limit(store: Store) -> None:
    site = Site(store, settings_of(), UNHITTABLE)
    site.now = START
    for _ in site.days(10, step=HOUR):
        while site.send():
            pass
    assert site.messages[VICTIM] == 500 <= most_events(site.purpose.recipient_limit, 10 * DAY)


def test_days_of_spraying_have_no_more_guesses_than_the_sum_says(monkeypatch: pytest.MonkeyPatch) -> None:
    days, accounts = 2, 10_000
    site = spray(monkeypatch, lambda site, days: sprayer(site, accounts, days), days)
    assert sum(map(len, site.wrong.values())) == days * 24 * 101
    assert risk.spraying_guesses(site.settings, accounts) == 365 * 24 * 101 + 100


def test_the_surge_limit_is_passed_by_no_more_than_what_is_in_flight(valkey: ValkeyServer) -> None:
    threads, amount = 16, 20
    settings = settings_of({"OTP_SURGE_LIMIT": f"{amount}/hour", "OTP_STORAGE_URI": valkey.uri})
    workers = [Limits(settings, {}) for _ in range(2)]  # two processes, as far as what each remembers goes
    start, compared = threading.Barrier(threads), Counter[int]()

    def guess(number: int) -> None:
        limits = workers[number % 2]
        start.wait()
        while not limits.is_surge():
            compared[number] += 1
            limits.surge.count(None)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(guess, range(threads)))
    for limits in workers:
        limits.storage.storage.close()
    assert amount < compared.total() <= amount + threads


# The sums against the stores: how often an attacker gets in


def rate_of_success(attack: Attack, accounts: int, codes: int) -> tuple[int, float]:
    """How many of so many accounts the attack wins, each in a year of its own; and at what rate it should, at most."""
    settings = settings_of()
    won = 0
    store = MemoryStore(max_subjects=accounts)
    for account in range(accounts):
        site = Site(store, settings, codes, seed=account)
        won += attack(_against(site, account))
    purpose = settings.purposes["login"]
    return won, risk.chance(risk.guesses(purpose), purpose.max_attempts, codes)


def _against(site: Site, account: int) -> Site:
    site.now = START + account * 3 * YEAR  # the years before it are forgotten by then
    return site


def test_the_rate_of_success_is_the_one_of_the_sum() -> None:
    won, expected = rate_of_success(greedy, 60, 1000)
    low, high = interval(won, 60)
    assert low <= expected <= high


@pytest.mark.long
@pytest.mark.parametrize(
    ("attack", "compared", "attempts", "accounts"),
    [
        pytest.param(greedy, BY_DEFAULT, 5, 3000, id="greedy"),
        pytest.param(patient, 232, 1, 3000, id="patient"),
        pytest.param(waiting, 13 * 20, 5, 1000, id="waiting"),
    ],
)
def test_long_run_the_rate_of_success_is_the_one_of_the_sum(
    attack: Attack, compared: int, attempts: int, accounts: int
) -> None:
    codes = 1000
    won, bound = rate_of_success(attack, accounts, codes)
    low, high = interval(won, accounts)
    expected = risk.chance(compared, attempts, codes)
    print(
        f"\n| {attack.__name__} | {accounts:,} | {compared} | {won:,} | {won / accounts:.4f} "
        f"| {low:.4f} to {high:.4f} | {expected:.4f} | {bound:.4f} |"
    )
    assert low <= expected <= high
    assert low <= bound


@pytest.mark.long
@pytest.mark.parametrize("accounts", [1000, 100_000])
def test_long_run_a_year_of_spraying_wins_as_many_accounts_as_the_sum_says(
    monkeypatch: pytest.MonkeyPatch, accounts: int
) -> None:
    codes = 1000
    site = spray(monkeypatch, lambda site, days: sprayer(site, accounts, days), 365, codes)
    wrong, won = sum(map(len, site.wrong.values())), site.lost.total()
    bound = risk.spraying_guesses(site.settings, accounts)
    expected = wrong / (codes - 5)
    print(f"\n| sprayer, {accounts:,} accounts | {wrong:,} of at most {bound:,} | {won} | {expected:.1f} |")
    assert wrong <= bound
    assert abs(won - expected) < 2.576 * sqrt(expected)
