"""Checks of authenticator apps, recovery codes and trusted browsers: missing hooks, and their effect on the odds."""

from __future__ import annotations

from collections.abc import Iterator

from ..channels.kept import KEPT_FACTORS, TOTP
from ..factors.record import MAX_APPS
from ..limits import factor_risk
from ..limits.risk import one_in
from ..startup_checks import trust_offered
from ..stores.memory import MemoryStore
from .finding import Finding, Level, Site

_DAY = 86400
_LONG = 30


def hooks(site: Site) -> Iterator[Finding]:
    wanted = site.state.hooks
    if wanted.factors_loader is None:
        return
    for name, is_missing in (
        ("factors_saver", wanted.factors_saver is None),
        ("identifier_loader", wanted.identifier_loader is None),
    ):
        if is_missing:
            yield Finding(
                "factors-hooks",
                Level.ERROR if name == "factors_saver" else Level.WARNING,
                f"There is a factors_loader but no {name}.",
                "Users cannot add an authenticator app on the built-in pages.",
                f"Register a function with @otp.{name}.",
            )


def chances(site: Site) -> dict[int, float]:
    """The chance in a year to guess into an account that has one app, or the most that it can have.

    Empty if no purpose accepts an app's codes.
    """
    takes_apps = {name: TOTP in _channels(site, name) for name in site.settings.purposes}
    if not any(takes_apps.values()):
        return {}
    counters = (site.workers or 1) if isinstance(site.store, MemoryStore) else 1
    return {
        apps: factor_risk.one_account(site.settings, takes_apps, apps=apps, counters=counters) for apps in (1, MAX_APPS)
    }


def app_risk(site: Site) -> Iterator[Finding]:
    """An app's codes share the failure budget, but each guess at one is more likely to be right."""
    bound = site.settings.max_annual_risk
    for apps, chance in chances(site).items():
        if chance > bound:
            level = Level.ERROR if apps == 1 else Level.NOTE
            steps = factor_risk.right_codes(site.settings, apps)
            yield Finding(
                "app-risk",
                level,
                f"With {apps} authenticator app{'s' if apps > 1 else ''}, the chance to guess into an account is "
                f"{one_in(chance)} a year.",
                f"That is more than OTP_MAX_ANNUAL_RISK ({one_in(bound)}). Of a million codes, {steps} are valid at a "
                "time.",
                "Lower OTP_FAILURE_BUDGET or OTP_TOTP_STEPS.",
                "R52",
            )
            return


def only_factor(site: Site) -> Iterator[Finding]:
    for name in site.settings.purposes:
        channels = _channels(site, name)
        if channels and set(channels) <= set(KEPT_FACTORS) and site.state.hooks.identifier_loader is None:
            yield Finding(
                "only-factor",
                Level.WARNING,
                f"The purpose {name!r} takes only an authenticator app's codes, without a sign-in before.",
                "Wrong codes of an app send no message, so the owner gets no warning of guesses.",
                "Ask for a password first and register an identifier_loader, or let the purpose take a sent code too.",
            )


def long_trust(site: Site) -> Iterator[Finding]:
    for purpose, seconds in trust_offered(site.app).items():
        if seconds > _LONG * _DAY:
            yield Finding(
                "long-trust",
                Level.WARNING,
                f"Browsers are trusted for {seconds // _DAY} days for the purpose {purpose!r}.",
                f"Until then a stolen browser profile and the password are enough. Other sites allow {_LONG} days.",
                'Use trust="30d" or less.',
            )


def _channels(site: Site, purpose: str) -> list[str]:
    return list(site.state.routing.channels_of(site.settings.purposes[purpose]))
