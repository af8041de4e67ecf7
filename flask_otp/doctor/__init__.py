"""``flask otp doctor``: looks at the configuration, the store and the channels as they are, and says what to mend."""

from __future__ import annotations

import os
from dataclasses import replace

from flask import Flask

from ..outages import cause_of
from ..state import AppState
from . import factors, risk, secret_key, sending, storage, web
from .finding import Check, Finding, Level, Site

#: Every check, in the order of the report. A further one is a function of a :class:`Site` that yields findings.
CHECKS: list[Check] = [
    web.debug_mode,
    secret_key.secret_key,
    storage.store_answers,
    storage.limits_answer,
    storage.memory_store,
    storage.limits_in_memory,
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
    sending.channel_budgets,
    sending.prefix_budgets,
    sending.pumping_breaker,
    sending.test_recipients,
    sending.deliver_only_to,
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
    """Run every check. The gravest findings come first."""
    order = list(Level)
    found = [replace(finding, check=check.__name__) for check in CHECKS for finding in _run(check, site)]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _run(check: Check, site: Site) -> list[Finding]:
    try:
        return list(check(site))
    except Exception as error:
        if cause_of(error).kind == "rights":
            return [_forbidden(check)]
        # Its text may quote anything, so only the kind is told. What nobody could check is not taken for good.
        failed = Finding(
            Level.ERROR,
            f"The check {check.__name__!r} failed with a {type(error).__name__}.",
            "What it looks for was not looked for.",
            "See that the store and the mail server answer. If they do, please report it.",
            "README, flask otp doctor",
        )
        return [failed]


def _forbidden(check: Check) -> Finding:
    """Codes need few rights (``docs/deployment.md``), and the doctor's questions a few more."""
    return Finding(
        Level.NOTE,
        f"The check {check.__name__!r} could not be made: our user of the store may not ask.",
        "What it looks for was not looked for. Codes do not need that right.",
        "Look yourself, or let another user run flask otp doctor.",
        "docs/deployment.md, Rights in Redis",
    )


__all__ = ["CHECKS", "Check", "Finding", "Level", "Site", "examine", "site_of"]
