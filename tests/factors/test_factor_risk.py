"""The odds where authenticator apps are taken too, what the doctor says of them, and a year of guesses."""

from __future__ import annotations

import json
import random
import re
from math import isclose
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, doctor, otp_required
from flask_otp.config.settings import Settings
from flask_otp.limits import factor_risk, risk
from flask_otp.stores import Claim, RedeemOutcome
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock
from tests.support.app_simulation import KINDS, Owner, UnpackedStore, guess_for_a_year
from tests.support.apps import START
from tests.support.confidence import interval
from tests.support.factor_site import Table, make_otp

KEY = "7f3b1c9a04e85d26b1f7c0e9a3d45286cc19e07b5a42f8d3"
DAY = 86400


@pytest.mark.parametrize(
    ("steps", "apps", "chance"),
    [(0, 1, 2.79e-4), (1, 1, 5.58e-4), (2, 1, 8.37e-4), (1, 2, 1.12e-3), (1, 5, 2.79e-3), (2, 5, 4.18e-3)],
)
def test_each_accepted_step_of_each_app_makes_a_guess_as_much_more_likely(steps: int, apps: int, chance: float) -> None:
    settings = Settings.from_config({"OTP_TOTP_STEPS": steps})
    found = factor_risk.account_chance(settings, settings.purposes["login"], apps=apps)
    assert isclose(found, chance, rel_tol=0.01)


def test_the_strong_form_and_recovery_codes_add_next_to_nothing() -> None:
    settings = Settings.from_config({"OTP_FAILURE_BUDGET": "1/365 days"})
    purpose = settings.purposes["login"]
    assert factor_risk.pair_guesses(purpose) == 18_299
    assert factor_risk.account_chance(settings, purpose) < 4 * 10**-6 + 4 * 10**-8
    assert isclose(factor_risk.recovery_chance(1000), 8.55e-9, rel_tol=0.001)
    assert isclose(factor_risk.pair_chance(purpose, 2, factor_risk.PAIRS), 3.66e-8, rel_tol=0.001)


def test_longer_sent_codes_do_not_make_an_apps_codes_longer() -> None:
    settings = Settings.from_config({"OTP_CODE_LENGTH": 12})
    purpose = settings.purposes["login"]
    assert risk.account_chance(purpose) < 1e-8
    assert factor_risk.account_chance(settings, purpose) > 5e-4
    assert factor_risk.one_account(settings, {"login": False}) < 1e-8


@pytest.mark.parametrize(
    "strong", [False, pytest.param(True, marks=pytest.mark.long)], ids=["one code", "two in a row"]
)
def test_no_more_guesses_are_compared_in_a_year_than_the_sums_say(strong: bool) -> None:
    """An attacker on countless networks who guesses whenever the store lets them."""
    settings = Settings.from_config({})
    purpose = settings.purposes["login"]
    store, policy, now, compared = MemoryStore(), purpose.policy(), START, 0
    pick = random.Random(1)
    while now < START + risk.YEAR:
        claim = Claim(False, bucket=pick.randbytes(8), strong=strong, rationed=strong)
        answer = store.check(b"subject", claim, policy, now)
        compared += answer.outcome is RedeemOutcome.WRONG
        now += answer.retry_after
    bound = factor_risk.pair_guesses(purpose) if strong else risk.guesses(purpose)
    assert 0.9 * bound < compared <= bound


def test_purposes_and_processes_that_count_separately_add_up() -> None:
    settings = Settings.from_config({"OTP_PURPOSES": {"login": {}, "pay": {}}})
    one = factor_risk.account_chance(settings, settings.purposes["login"])
    sent = risk.account_chance(settings.purposes["login"])
    for counters in (1, 4):
        both = factor_risk.one_account(settings, {"login": True, "pay": False}, counters=counters)
        assert isclose(both, counters * (one + sent), rel_tol=0.002)
    assert (
        factor_risk.one_account(settings, {"login": True})
        == one
        == factor_risk.one_account(settings, {"login": True}, apps=1, counters=1)
    )
    assert factor_risk.right_codes(settings) == 2


def short(chance: float) -> str:
    return re.sub("e-0", "e-", f"{chance:.1e}")


def test_the_page_and_the_doctor_say_the_figures_of_the_sums(clock: Clock) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guides" / "factors.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d)(?: \(default\))? \| (\d) \| (\S+) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [0, 1, 2]
    for steps, accepted, *chances in rows:
        settings = Settings.from_config({"OTP_TOTP_STEPS": int(steps)})
        assert int(accepted) == factor_risk.right_codes(settings)
        purpose = settings.purposes["login"]
        assert chances == [short(factor_risk.account_chance(settings, purpose, apps=apps)) for apps in (1, 2, 5)]
    settings = Settings.from_config({})
    purpose = settings.purposes["login"]
    for figure in (
        f"{risk.guesses(purpose)} in any 365 days",
        f"chance of {short(factor_risk.pair_chance(purpose, 2, factor_risk.PAIRS))} a year",
        f"{factor_risk.pair_guesses(purpose):,} tries",
        f"chance of {short(factor_risk.recovery_chance(1000))}.",
    ):
        assert figure in " ".join(page.split()), figure
    odds = (Path(__file__).parents[2] / "docs" / "protection" / "odds.md").read_text("utf-8")
    chance = factor_risk.account_chance(settings, purpose)
    assert f"factors.md#the-odds)) | {chance:.2e}, {risk.one_in(chance)} |".replace("e-0", "e-") in odds
    [finding] = [found for found in examined(make_otp(clock, Table())) if found.check == "app_risk"]
    chance = factor_risk.account_chance(settings, purpose, apps=5)
    assert finding.what == (
        f"With 5 authenticator apps, the chance to guess into an account is {risk.one_in(chance)} a year."
    )


# The sums against the store: how often an attacker gets in


def rate_of_success(
    owners: int, apps: int, steps: int, kinds: tuple[str, ...] = ("code",), **options: int
) -> tuple[int, dict[str, int]]:
    """Of so many people, each in a year of their own, how many lose; and the most guesses compared at one of them."""
    settings = Settings.from_config({"OTP_TOTP_STEPS": steps})
    people = [Owner(UnpackedStore(), settings, apps, seed=seed, **options) for seed in range(owners)]
    lost = [guess_for_a_year(owner, kinds) for owner in people]
    return sum(lost), {kind: max(owner.compared[kind] for owner in people) for kind in KINDS}


def report(kinds: str, steps: int, apps: int, owners: int, compared: int, lost: int, expected: float) -> None:
    """A row of the table in docs/guides/factors.md."""
    low, high = interval(lost, owners)
    print(
        f"\n| {kinds} | {steps} | {apps} | {owners:,} | {compared:,} | {lost:,} | {lost / owners:.4f} "
        f"| {low:.4f} to {high:.4f} | {expected:.4f} |"
    )
    assert low <= expected <= high


def test_an_app_is_guessed_at_the_rate_of_the_sum() -> None:
    lost, compared = rate_of_success(60, apps=2, steps=1)
    purpose = Settings.from_config({}).purposes["login"]
    low, high = interval(lost, 60)
    assert low <= factor_risk.short_chance(purpose, 4, 1000) <= high
    assert compared["code"] <= risk.guesses(purpose)


@pytest.mark.long
@pytest.mark.parametrize(("apps", "steps"), [(1, 0), (1, 1), (1, 2), (2, 1), (5, 1)])
def test_long_run_an_app_is_guessed_at_the_rate_of_the_sum(apps: int, steps: int) -> None:
    owners, codes = 2000, 10_000
    lost, compared = rate_of_success(owners, apps, steps, codes=codes)
    purpose = Settings.from_config({}).purposes["login"]
    expected = factor_risk.short_chance(purpose, apps * (steps + 1), codes)
    report("one code", steps, apps, owners, compared["code"], lost, expected)
    assert compared["code"] == risk.guesses(purpose)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("apps", "steps", "codes"), [(1, 0, 200), (1, 1, 200), (2, 1, 300)])
def test_long_run_two_codes_in_a_row_are_guessed_at_the_rate_of_the_sum(apps: int, steps: int, codes: int) -> None:
    owners = 300
    lost, compared = rate_of_success(owners, apps, steps, ("pair",), codes=codes)
    purpose = Settings.from_config({}).purposes["login"]
    expected = factor_risk.pair_chance(purpose, apps * (steps + 1), codes**2)
    report("two in a row", steps, apps, owners, compared["pair"], lost, expected)
    assert 0.99 * factor_risk.pair_guesses(purpose) < compared["pair"] <= factor_risk.pair_guesses(purpose)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_long_run_apps_and_recovery_codes_together_are_guessed_at_the_rate_of_the_sum() -> None:
    """The attacker spends the budget on one code, then tries two in a row, and a recovery code each hour."""
    owners, apps, steps, codes, recovery_codes = 100, 2, 1, 1500, 400_000
    lost, compared = rate_of_success(owners, apps, steps, KINDS, codes=codes, recovery_codes=recovery_codes)
    purpose, right = Settings.from_config({}).purposes["login"], apps * (steps + 1)
    parts = [
        factor_risk.short_chance(purpose, right, codes),
        factor_risk.pair_chance(purpose, right, codes**2),
        factor_risk.recovery_chance(1 / 3600, recovery_codes),
    ]
    report("all", steps, apps, owners, sum(compared.values()), lost, risk.any_of(parts))
    assert compared["code"] <= risk.guesses(purpose)
    assert compared["pair"] <= factor_risk.pair_guesses(purpose)


# flask otp doctor


def site(otp: OTP, **config: Any) -> Flask:
    app = Flask("site")
    app.config.update(SECRET_KEY=KEY, OTP_STORAGE_URI="memory://", TESTING=True)
    app.config.update(config)
    otp.init_app(app)
    options = {"trust": app.config["TRUST"]} if "TRUST" in config else {}
    app.add_url_rule("/", "home", otp_required(**options)(lambda: "ok"))
    return app


def examined(otp: OTP, **config: Any) -> list[doctor.Finding]:
    app = site(otp, **config)
    with app.app_context():
        return list(doctor.examine(doctor.Site(app, app.extensions["otp"], {}, 1000)))


def checks(otp: OTP, **config: Any) -> dict[str, list[str]]:
    """The levels of the findings, by the names of the checks."""
    found: dict[str, list[str]] = {}
    for finding in examined(otp, **config):
        found.setdefault(finding.check, []).append(finding.level.value)
    return found


NEW = ("hooks", "app_risk", "only_factor", "long_trust")


def test_a_site_with_apps_as_it_should_be_has_no_finding_but_the_note_of_five_apps(clock: Clock) -> None:
    found = checks(make_otp(clock, Table()), TRUST="30d")
    assert {name: found.get(name) for name in NEW} == dict.fromkeys(NEW) | {"app_risk": ["note"]}
    assert not any(name in checks(OTP()) for name in NEW)


def test_no_channel_of_apps_is_said_to_need_a_message(clock: Clock) -> None:
    assert not [found for found in examined(make_otp(clock, Table())) if found.check == "channels_reachable"]


def test_the_command_tells_the_odds_of_accounts_with_apps(clock: Clock) -> None:
    settings = Settings.from_config({})
    chances = {apps: factor_risk.account_chance(settings, settings.purposes["login"], apps=apps) for apps in (1, 5)}
    runner = site(make_otp(clock, Table())).test_cli_runner()
    told = " ".join(runner.invoke(args=["otp", "doctor"]).output.split())
    assert f"If the account has 1 authenticator app: {risk.one_in(chances[1])}, without any message." in told
    assert f"If the account has 5 authenticator apps: {risk.one_in(chances[5])}, without any message." in told
    odds = json.loads(runner.invoke(args=["otp", "doctor", "--json"]).output)["odds"]
    assert odds["with_apps"] == {str(apps): chance for apps, chance in chances.items()}
    without = site(OTP(clock=clock)).test_cli_runner()
    assert "authenticator" not in without.invoke(args=["otp", "doctor"]).output
    assert json.loads(without.invoke(args=["otp", "doctor", "--json"]).output)["odds"]["with_apps"] == {}


def test_hooks_that_are_missing_are_told(clock: Clock) -> None:
    otp = OTP(clock=clock)
    otp.factors_loader(lambda identifier: None)
    assert checks(otp)["hooks"] == ["error", "warning"]


def test_a_risk_above_the_bound_is_an_error(clock: Clock) -> None:
    found = checks(make_otp(clock, Table()), OTP_TOTP_STEPS=2, OTP_FAILURE_BUDGET="30/30 days")
    assert (found["app_risk"], "risk" in found) == (["error"], False)
    found = checks(make_otp(clock, Table()), OTP_PURPOSES={"login": {"channels": ["console"]}}, OTP_TOTP_STEPS=2)
    assert "app_risk" not in found


def test_an_app_as_the_only_factor_is_a_warning(clock: Clock) -> None:
    otp = OTP(clock=clock)
    Table().register(otp)
    purposes = {"login": {"channels": ["totp", "recovery"]}}
    assert checks(otp, OTP_PURPOSES=purposes)["only_factor"] == ["warning"]
    assert "only_factor" not in checks(make_otp(clock, Table()), OTP_PURPOSES=purposes)


def test_a_browser_that_is_trusted_for_long_is_a_warning(clock: Clock) -> None:
    assert checks(make_otp(clock, Table()), TRUST="31d")["long_trust"] == ["warning"]
