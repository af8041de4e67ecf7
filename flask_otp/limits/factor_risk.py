"""What an attacker can hope for in a year where authenticator apps and recovery codes are taken too.

They share the failure budget with codes that are sent, so there are no more guesses. But a guess at an app's code is
right more often: the codes of ``OTP_TOTP_STEPS + 1`` time steps are accepted, of each app that the person has.
"""

from __future__ import annotations

from ..config.settings import Purpose, Settings
from . import risk

#: All codes of an app, and of the strong form, two in a row.
CODES = 10**6
PAIRS = 10**12
#: Recovery codes of one person, and all that there could be (65 bits).
RECOVERY_CODES = 10
_ALL_RECOVERY_CODES = 2**65


def right_codes(settings: Settings, apps: int = 1) -> int:
    """How many of the million codes are right at one moment."""
    return (settings.totp_steps + 1) * apps


def account_chance(settings: Settings, purpose: Purpose, *, apps: int = 1, counters: int = 1) -> float:
    """The greatest chance in a year to guess a code of one person for one purpose, whatever the attacker guesses at.

    Every guess of the budget goes to what is right most often, the app. Within one time step two different guesses
    exclude each other, which only lowers it, and so it is left out.

    :param apps: how many the person has.
    :param counters: separate counts of everything, where each worker has a memory store of its own.
    """
    short = risk.chance(risk.guesses(purpose) * right_codes(settings, apps), 1, CODES)
    pairs = risk.chance(pair_guesses(purpose) * right_codes(settings, apps), 1, PAIRS)
    strong = risk.chance(risk.strong_guesses(purpose), purpose.max_attempts, risk.STRONG_CODES)
    return risk.any_of([max(short, _sent(purpose)), pairs, strong] * counters)


def _sent(purpose: Purpose) -> float:
    """The chance where the whole budget goes to codes that are sent: shorter ones than an app has do not exist."""
    return risk.chance(risk.guesses(purpose), purpose.max_attempts, risk.codes(purpose))


def pair_guesses(purpose: Purpose) -> int:
    """Wrong guesses of two codes in a row at one person in a year, by strangers: they count as messages do."""
    return risk.most_events(purpose.recipient_limit, risk.YEAR)


def recovery_chance(guesses_a_second: float) -> float:
    """The chance in a year to guess a recovery code of one person. Nothing but the networks' limits slows guesses."""
    return risk.chance(round(guesses_a_second * risk.YEAR) * RECOVERY_CODES, 1, _ALL_RECOVERY_CODES)


def one_account(settings: Settings, purposes: dict[str, bool], *, apps: int = 1, counters: int = 1) -> float:
    """All purposes together.

    :param purposes: by name, whether it takes codes of an app.
    """
    return risk.any_of(
        account_chance(settings, settings.purposes[name], apps=apps, counters=counters)
        if takes_apps
        else risk.account_chance(settings.purposes[name], counters)
        for name, takes_apps in purposes.items()
    )
