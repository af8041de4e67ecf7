"""Checks of an attacker's odds, and of limits that are switched off."""

from __future__ import annotations

from collections.abc import Iterator

from ..limits.risk import Odds, compute, one_in
from ..stores.memory import MemoryStore
from .finding import Finding, Level, Site


def odds_of(site: Site) -> Odds:
    """The odds. With a memory store, each worker has its own counts."""
    counters = (site.workers or 1) if isinstance(site.store, MemoryStore) else 1
    return compute(site.settings, accounts=site.accounts, counters=counters)


def risk(site: Site) -> Iterator[Finding]:
    odds, bound = odds_of(site), site.settings.max_annual_risk
    if odds.one_account <= bound:
        return
    worst = max(odds.by_purpose, key=lambda name: odds.by_purpose[name])
    yield Finding(
        "annual-risk",
        Level.ERROR,
        f"An attacker's chance to guess into one account is {one_in(odds.one_account)} a year.",
        f"That is more than OTP_MAX_ANNUAL_RISK ({one_in(bound)}). The purpose {worst!r} contributes most.",
        "Lower OTP_FAILURE_BUDGET or raise OTP_CODE_LENGTH: each extra digit divides the risk by ten.",
        "OWASP ASVS 5.0 V6.6.3; NIST SP 800-63B-4 3.2.2; R52",
    )


def spraying(site: Site) -> Iterator[Finding]:
    odds = odds_of(site)
    if odds.spraying > 1:
        yield Finding(
            "spraying",
            Level.WARNING,
            f"Guesses at all {odds.accounts:,} accounts may win {odds.spraying:,.1f} of them a year.",
            "Limits per account do not prevent this. OTP_SURGE_LIMIT does, for the whole site.",
            "Set OTP_CODE_LENGTH = 8, or a lower OTP_SURGE_LIMIT.",
            "R52",
        )


def limits_off(site: Site) -> Iterator[Finding]:
    for key, limits in (
        ("OTP_IP_SEND_LIMIT", site.settings.ip_send_limit),
        ("OTP_IP_VERIFY_LIMIT", site.settings.ip_verify_limit),
    ):
        if not limits:
            yield Finding(
                "network-limits",
                Level.WARNING,
                f"{key} is off.",
                "It does not change the odds of an account, but without it one machine can overload the site.",
                f"Leave {key} out for its default, or set a generous one.",
                "OWASP ASVS 5.0 V2.4.1; R15",
            )
