"""An attacker's chances in a year if authenticator apps and recovery codes are accepted too.

They share the failure budget with sent codes, so an attacker gets no extra guesses. But a guess at an app's code is
more likely to be right: for each app of the user, the codes of ``OTP_TOTP_STEPS + 1`` time steps are accepted.
"""

from __future__ import annotations

from ..config.settings import Purpose, Settings
from . import risk

#: All codes of an app, and all pairs of consecutive codes (the strong form).
CODES = 10**6
PAIRS = 10**12
#: Recovery codes of one user, and the number of possible codes (65 bits).
RECOVERY_CODES = 10
_ALL_RECOVERY_CODES = 2**65


def right_codes(settings: Settings, apps: int = 1) -> int:
    """How many of the million codes are valid at a time."""
    return (settings.totp_steps + 1) * apps


def account_chance(settings: Settings, purpose: Purpose, *, apps: int = 1, counters: int = 1) -> float:
    """The highest chance in a year to guess a code of one user for one purpose, with any strategy.

    The best strategy spends every guess of the budget on the app, and all guesses of one window in the same time step:
    guesses in one step exclude each other.

    :param apps: number of the user's apps.
    :param counters: number of separate counts: the workers, if each has its own memory store.
    """
    right = right_codes(settings, apps)
    short = short_chance(purpose, right, CODES)
    pairs = pair_chance(purpose, right, PAIRS)
    strong = risk.chance(risk.strong_guesses(purpose), purpose.max_attempts, risk.STRONG_CODES)
    return risk.any_of([max(short, _sent(purpose)), pairs, strong] * counters)


def short_chance(purpose: Purpose, right: int, codes: int) -> float:
    """The highest chance in a year to guess one code of an app.

    :param right: number of codes that are valid at a time, out of ``codes``.
    """
    at_one_moment = max(rate.amount for rate in purpose.failure_budget)
    return risk.chance(risk.guesses(purpose) * right, at_one_moment * right, codes)


def _sent(purpose: Purpose) -> float:
    """The chance if the whole budget is spent on sent codes, which are never shorter than an app's."""
    return risk.chance(risk.guesses(purpose), purpose.max_attempts, risk.codes(purpose))


def pair_chance(purpose: Purpose, right: int, pairs: int) -> float:
    """The highest chance in a year to guess two consecutive codes of an app.

    :param right: number of pairs that are valid at a time, out of ``pairs``.
    """
    return risk.chance(pair_guesses(purpose) * right, 1, pairs)


def pair_guesses(purpose: Purpose) -> int:
    """Wrong guesses of two consecutive codes for one user in a year by unknown browsers. Limited like messages."""
    return risk.most_events(purpose.recipient_limit, risk.YEAR)


def recovery_chance(guesses_a_second: float, codes: int = _ALL_RECOVERY_CODES) -> float:
    """The chance in a year to guess a recovery code of one user. Only the networks' limits slow guesses down.

    :param codes: the number of possible codes, ten of which are valid.
    """
    return risk.chance(round(guesses_a_second * risk.YEAR) * RECOVERY_CODES, 1, codes)


def one_account(settings: Settings, purposes: dict[str, bool], *, apps: int = 1, counters: int = 1) -> float:
    """The chance over all purposes together.

    :param purposes: for each purpose, whether it accepts an app's codes.
    """
    return risk.any_of(
        account_chance(settings, settings.purposes[name], apps=apps, counters=counters)
        if takes_apps
        else risk.account_chance(settings.purposes[name], counters)
        for name, takes_apps in purposes.items()
    )
