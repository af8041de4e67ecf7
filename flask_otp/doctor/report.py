"""The report, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from decimal import Decimal
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING

from ..config.parsers import Breaker, Rate
from ..config.settings import Settings
from ..limits.risk import DAY, Odds, buckets, most_events, one_in
from .finding import Finding, Level

if TYPE_CHECKING:
    from limits import RateLimitItem

_WIDTH = 100
_LABEL = 10


def as_text(findings: Sequence[Finding], odds: Odds, settings: Settings) -> str:
    """The findings, then the odds in words."""
    lines: list[str] = []
    for finding in findings:
        lines += _row(finding.level.value, finding.what)
        lines += [*_row("", f"Why: {finding.why}"), *_row("", f"Mend: {finding.mend}")]
        lines += [*_row("", f"See: {finding.reference}"), ""]
    counts = ", ".join(_plural(_count(findings, level), level.value) for level in Level)
    lines += [f"{counts}.", "", "The odds, by these settings and for any 365 days (docs/security.md has the sums):", ""]
    for label, sentence in in_words(odds, settings):
        lines += _row(label, sentence)
    return "\n".join(lines)


def as_json(findings: Sequence[Finding], odds: Odds, settings: Settings, passed: bool) -> str:
    """The same for programs."""
    return json.dumps(
        {
            "passed": passed,
            "counts": {level.value: _count(findings, level) for level in Level},
            "findings": [{**asdict(finding), "level": finding.level.value} for finding in findings],
            "odds": {**asdict(odds), "max_annual_risk": settings.max_annual_risk},
        },
        indent=2,
    )


def in_words(odds: Odds, settings: Settings) -> list[tuple[str, str]]:
    """Each of the odds as a label and a sentence."""
    most_buckets = max(buckets(purpose) for purpose in settings.purposes.values())
    rows = [
        (
            "account",
            f"One account is guessed into with a chance of at most {one_in(odds.one_account)} a year. That takes all "
            f"{odds.guesses:,} guesses that its budgets let through, and {odds.messages:,} messages to its owner.",
        ),
        (
            "cookies",
            f"With the stolen cookie of a browser that its owner uses: {one_in(odds.one_cookie_stolen)}; "
            f"with {most_buckets} of them: {one_in(odds.all_cookies_stolen)}.",
        ),
        (
            "spraying",
            f"Of {odds.accounts:,} accounts, guesses at all of them win {_number(odds.spraying)} a year at most, and "
            f"{_number(odds.spraying_step)} more for each further request that your servers handle at one moment. That "
            f"takes {odds.spraying_messages:,} messages.",
        ),
    ]
    return rows + [("messages", sentence) for sentence in _messages(settings)]


def _messages(settings: Settings) -> Iterable[str]:
    """How many messages an attacker can have you send."""
    for name, purpose in settings.purposes.items():
        yield (
            f"Strangers can have {_a_day(purpose.recipient_limit)} sent to one identifier for {name!r}, and each "
            f"browser that its owner uses {_a_day(purpose.send_limit)}."
        )
    if settings.ip_send_limit:
        yield f"One network can ask for {_a_day(settings.ip_send_limit)}."
    else:
        yield "One network can ask for as many as it likes."
    if settings.sms_countries and settings.pumping_breaker is not None:
        yield _pumping(settings.pumping_breaker)
    for prefix, budget in settings.prefix_budget.items():
        yield f"To numbers that begin with {prefix}, {_a_day(budget)} go out, whoever asks."
    for channel, budget in settings.channel_budget.items():
        yield f"By channel {channel!r}, {_a_day(budget)} go out, whoever asks."
    if not settings.channel_budget:
        yield "All networks together can ask for as many as each of them can: OTP_CHANNEL_BUDGET is empty."


def _pumping(rule: Breaker) -> str:
    return (
        f"Of messages to phones whose codes nobody types, at most {2 * rule.minimum:,} go out within {rule.window:,} "
        f"seconds to numbers that differ in their last four digits only, and {2 * rule.country_minimum:,} to one "
        f"country; or {1 / rule.ratio:g} for each code that somebody types there."
    )


def _a_day(rates: Sequence[Rate | RateLimitItem]) -> str:
    """By the day in the long run, and the most within any 24 hours, where two windows meet."""
    pairs = [rate if isinstance(rate, Rate) else (rate.amount, rate.get_expiry()) for rate in rates]
    steady = min(ceil(amount * DAY / period) for amount, period in pairs)
    return f"{steady:,} a day (at times {most_events(rates, DAY):,} in 24 hours)"


def _number(value: float) -> str:
    """Two digits that count, and no exponent."""
    return format(Decimal(f"{value:.2g}"), "f")


def _count(findings: Sequence[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _row(label: str, text: str) -> list[str]:
    lines = wrap(text, _WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False)
    return [f"{label if place == 0 else '':{_LABEL}}{line}" for place, line in enumerate(lines)]
