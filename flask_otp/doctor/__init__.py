"""``flask otp doctor``: checks the configuration, the store and the channels, and says how to fix what it finds."""

from __future__ import annotations

import os
from dataclasses import replace

from flask import Flask

from ..outages import cause_of
from ..state import AppState
from . import factors, risk, secret_key, sending, storage, web
from .finding import Check, Finding, Level, Site

#: All checks, in the order of the report. To add one, write a function that takes a :class:`Site` and yields findings.
CHECKS: list[Check] = [
    web.debug_mode,
    secret_key.secret_key,
    storage.store_answers,
    storage.limits_answer,
    storage.memory_store,
    storage.limits_in_memory,
    storage.statistics,
    storage.eviction,
    storage.persistence,
    storage.clock,
    storage.store_tls,
    sending.channels,
    sending.mail_settings,
    sending.passwords,
    sending.channels_reachable,
    sending.background,
    sending.sms_countries,
    sending.phone_extra,
    sending.channel_budgets,
    sending.prefix_budgets,
    sending.pumping_breaker,
    sending.test_recipients,
    sending.deliver_only_to,
    sending.outbox,
    web.cookies,
    web.proxies,
    web.base_url,
    web.guards,
    risk.limits_off,
    risk.risk,
    risk.spraying,
    factors.hooks,
    factors.app_risk,
    factors.only_factor,
    factors.long_trust,
]


def site_of(app: Flask, state: AppState, accounts: int) -> Site:
    return Site(app, state, os.environ, accounts)


def examine(site: Site) -> list[Finding]:
    """Run every check. The most serious findings come first."""
    order = list(Level)
    found = [replace(finding, check=check.__name__) for check in CHECKS for finding in _run(check, site)]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _run(check: Check, site: Site) -> list[Finding]:
    try:
        return list(check(site))
    except Exception as error:
        if cause_of(error).kind == "rights":
            return [_forbidden(check)]
        # The error's text may quote a secret, so only its type is reported. A check that failed does not count as
        # passed.
        failed = Finding(
            "check-failed",
            Level.ERROR,
            f"The check {check.__name__!r} failed with a {type(error).__name__}.",
            "The problem that it looks for may exist.",
            "Make sure that the store and the mail server answer. If they do, please report this as a bug.",
        )
        return [failed]


def _forbidden(check: Check) -> Finding:
    """Sending codes needs few rights in the store (``docs/operate/deployment.md``); the doctor needs a few more."""
    return Finding(
        "check-forbidden",
        Level.NOTE,
        f"The check {check.__name__!r} did not run: the store's user has no right to run its commands.",
        "The problem that it looks for may exist. Sending and checking codes does not need this right.",
        "Check it by hand, or run flask otp doctor as a user with more rights.",
    )


__all__ = ["CHECKS", "Check", "Finding", "Level", "Site", "examine", "site_of"]
