"""The report as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING

from ..config.parsers import Breaker, Rate
from ..config.settings import Settings
from ..documentation import see
from ..limits.risk import DAY, Odds, buckets, most_events, one_in
from .finding import Finding, Level

if TYPE_CHECKING:
    from limits import RateLimitItem

_WIDTH = 100
_LABEL = 10


def as_text(findings: Sequence[Finding], odds: Odds, apps: Mapping[int, float], settings: Settings, series: int) -> str:
    """The findings, then the odds as sentences.

    :param apps: the chance to guess into one account, by its number of authenticator apps.
    :param series: how many time series the metrics have at most.
    """
    lines: list[str] = []
    for finding in findings:
        lines += _row(finding.level.value, finding.what)
        lines += [*_row("", f"Why: {finding.why}"), *_row("", f"Fix: {finding.mend}")]
        lines += [*_row("", f"See: {'; '.join(filter(None, (see(finding.page), finding.reference)))}"), ""]
    counts = ", ".join(_plural(_count(findings, level), level.value) for level in Level)
    lines += [
        f"{counts}.",
        "",
        f"The odds with these settings, in any 365 days (formulas: {see('odds')}):",
        "",
    ]
    for label, sentence in in_words(odds, apps, settings):
        lines += _row(label, sentence)
    lines += ["", *_row("metrics", f"With OpenTelemetry, at most {series:,} time series ({see('metrics')}).")]
    return "\n".join(lines)


def as_json(
    findings: Sequence[Finding], odds: Odds, apps: Mapping[int, float], settings: Settings, passed: bool, series: int
) -> str:
    """The same report as JSON."""
    return json.dumps(
        {
            "passed": passed,
            "counts": {level.value: _count(findings, level) for level in Level},
            "findings": [
                {**asdict(finding), "level": finding.level.value, "see": see(finding.page)} for finding in findings
            ],
            "odds": {**asdict(odds), "with_apps": dict(apps), "max_annual_risk": settings.max_annual_risk},
            "metric_series": series,
        },
        indent=2,
    )


def in_words(odds: Odds, apps: Mapping[int, float], settings: Settings) -> list[tuple[str, str]]:
    """Each of the odds as a label and a sentence."""
    most_buckets = max(buckets(purpose) for purpose in settings.purposes.values())
    rows = [
        (
            "account",
            f"An attacker guesses into one account with a chance of at most {one_in(odds.one_account)} a year. This "
            f"takes all {odds.guesses:,} guesses that its budgets allow, and {odds.messages:,} messages to its owner.",
        ),
        *[
            (
                "apps",
                f"If the account has {_plural(number, 'authenticator app')}: {one_in(chance)}, without any message.",
            )
            for number, chance in apps.items()
        ],
        (
            "cookies",
            f"With the stolen cookie of one known browser: {one_in(odds.one_cookie_stolen)}; "
            f"with {most_buckets} stolen cookies: {one_in(odds.all_cookies_stolen)}.",
        ),
        (
            "spraying",
            f"Guesses at all {odds.accounts:,} accounts win at most {_number(odds.spraying)} of them a year, plus "
            f"{_number(odds.spraying_step)} for each request that your servers handle in parallel. This takes "
            f"{odds.spraying_messages:,} messages.",
        ),
    ]
    return rows + [("messages", sentence) for sentence in _messages(settings)]


def _messages(settings: Settings) -> Iterable[str]:
    """Sentences on how many messages an attacker can make the site send."""
    for name, purpose in settings.purposes.items():
        yield (
            f"For {name!r}, unknown browsers can have {_a_day(purpose.recipient_limit)} sent to one identifier, and "
            f"each known browser {_a_day(purpose.send_limit)}."
        )
    if settings.ip_send_limit:
        yield f"One network can request {_a_day(settings.ip_send_limit)}."
    else:
        yield "One network can request any number."
    if settings.sms_countries and settings.pumping_breaker is not None:
        yield _pumping(settings.pumping_breaker)
    for prefix, budget in settings.prefix_budget.items():
        yield f"To numbers that begin with {prefix}, at most {_a_day(budget)} go out."
    for channel, budget in settings.channel_budget.items():
        yield f"By channel {channel!r}, at most {_a_day(budget)} go out."
    if not settings.channel_budget:
        yield "All networks together have no limit, because OTP_CHANNEL_BUDGET is empty."


def _pumping(rule: Breaker) -> str:
    return (
        f"If no codes are verified, at most {2 * rule.minimum:,} messages go out within {rule.window:,} seconds to "
        f"phone numbers that differ in their last four digits only, and {2 * rule.country_minimum:,} to one country; "
        f"or {1 / rule.ratio:g} for each code that is verified there."
    )


def _a_day(rates: Sequence[Rate | RateLimitItem]) -> str:
    """The long-run rate per day, and the maximum within any 24 hours, which can span two windows."""
    pairs = [rate if isinstance(rate, Rate) else (rate.amount, rate.get_expiry()) for rate in rates]
    steady = min(ceil(amount * DAY / period) for amount, period in pairs)
    return f"{steady:,} a day (at times {most_events(rates, DAY):,} in 24 hours)"


def _number(value: float) -> str:
    """Two significant digits, without an exponent."""
    return format(Decimal(f"{value:.2g}"), "f")


def _count(findings: Sequence[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _row(label: str, text: str) -> list[str]:
    lines = wrap(text, _WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False)
    return [f"{label if place == 0 else '':{_LABEL}}{line}" for place, line in enumerate(lines)]
