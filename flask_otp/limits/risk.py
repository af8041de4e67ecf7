"""What an attacker can hope for in a year, from the settings alone. ``docs/security.md`` derives it and tries it out.

Each figure is the most that the stores and the limits let through, whatever the attacker does, and not a guess at what
an attacker would do. The model is SP 800-63B-4's (3.1.3.2, 3.2.2): only wrong guesses that were really compared count,
over all challenges, sessions and networks. RFC 4226 section 6 has the same quotient, s v / 10^Digit, for v attempts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, expm1, log1p
from typing import TYPE_CHECKING

from ..config.parsers import Rate
from ..config.settings import Purpose, Settings
from ..crypto.codes import STRONG_LENGTH
from ..stores.base import KNOWN_BROWSERS
from .surge import most_of_one_network, network_share

if TYPE_CHECKING:
    from limits import RateLimitItem

#: In seconds.
YEAR = 365 * 86400
DAY = 86400

STRONG_CODES = 32**STRONG_LENGTH


@dataclass(frozen=True)
class Odds:
    """What the settings let an attacker do. Chances are from 0 to 1, and for any 365 days."""

    #: Chance to guess into one account, by purpose, without anything stolen.
    by_purpose: dict[str, float]
    #: All purposes together.
    one_account: float
    #: The same with the cookie of one known browser stolen, and with as many stolen as count at one time.
    one_cookie_stolen: float
    all_cookies_stolen: float
    #: Wrong guesses at short codes of one identifier, over all purposes, and the messages that they take.
    guesses: int
    messages: int
    accounts: int
    #: Of so many accounts, how many are lost to guesses at all of them, as an expected number.
    spraying: float
    #: How many more for each further request that the servers handle at one moment.
    spraying_step: float
    #: Messages that spraying takes.
    spraying_messages: int


def compute(settings: Settings, *, accounts: int = 1_000_000, counters: int = 1) -> Odds:
    """The odds under these settings.

    :param accounts: how many there are to spray.
    :param counters: separate counts of everything: the workers, where each has a memory store of its own.
    """
    purposes = settings.purposes
    chances = {name: account_chance(purpose, counters) for name, purpose in purposes.items()}
    surge = spraying_guesses(settings, accounts, counters=counters)
    step = spraying_guesses(settings, accounts, counters=counters, in_flight=2)
    weakest = min(codes(purpose) - purpose.max_attempts for purpose in purposes.values())
    fewest = max(purpose.max_attempts for purpose in purposes.values())
    return Odds(
        by_purpose=chances,
        one_account=any_of(chances.values()),
        one_cookie_stolen=any_of(account_chance(purpose, counters, 1) for purpose in purposes.values()),
        all_cookies_stolen=any_of(account_chance(purpose, counters, buckets(purpose)) for purpose in purposes.values()),
        guesses=sum(guesses(purpose) for purpose in purposes.values()) * counters,
        messages=sum(ceil(guesses(purpose) / purpose.max_attempts) for purpose in purposes.values()) * counters,
        accounts=accounts,
        # A right guess is not counted as a failure, so that the wrong ones are N - 1 to 1, or a little less within one
        # challenge, where an attacker tries no code twice.
        spraying=min(accounts, surge / weakest),
        spraying_step=(step - surge) / weakest,
        spraying_messages=ceil(surge / fewest),
    )


def most_events(rates: Iterable[Rate | RateLimitItem], span: int) -> int:
    """The most events that these rates let through within any ``span`` seconds.

    A window begins with its first event and is as long as the period p, so that the beginnings of two are p apart or
    more: ``ceil(span / p)`` windows of n events can begin in the span. One more may have begun before it, with a single
    event, and its other n - 1 are still to come.
    """
    bounds = []
    for rate in rates:
        amount, period = rate if isinstance(rate, Rate) else (rate.amount, rate.get_expiry())
        bounds.append(amount - 1 + amount * ceil(span / period))
    return min(bounds)


def guesses(purpose: Purpose) -> int:
    """Wrong guesses at short codes of one identifier in a year, by strangers.

    Nothing but the failure budget bounds them. The limits of messages might be tighter, but they are no bound: a
    message that could not be delivered is given back.
    """
    return most_events(purpose.failure_budget, YEAR)


def strong_guesses(purpose: Purpose) -> int:
    """Guesses at strong codes of one identifier in a year: as many as the messages that strangers can have sent, times
    the attempts at each. At 65 bits, a thousand a second would still be a chance of 1 in a thousand million.
    """
    return most_events(purpose.recipient_limit, YEAR) * purpose.max_attempts


def codes(purpose: Purpose) -> int:
    return int(10**purpose.code_length)


def buckets(purpose: Purpose) -> int:
    """Buckets of known browsers that one subject can have at one time, each with a failure budget of its own.

    They are counted when a challenge is opened, and a bucket without failures is forgotten when its sends no longer
    matter. Were that sooner than the challenge is over, more buckets could be opened meanwhile.
    """
    remembered = max(purpose.cooldown, *(rate.period for rate in purpose.send_limit))
    return KNOWN_BROWSERS * ceil(purpose.expires_in / remembered)


def account_chance(purpose: Purpose, counters: int = 1, stolen: int = 0) -> float:
    """The greatest chance in a year to guess a code of one identifier for one purpose.

    :param stolen: cookies of known browsers that the attacker has; each pays for guesses from its own budget.
    """
    budgets = (1 + stolen) * counters
    short = chance(guesses(purpose), purpose.max_attempts, codes(purpose))
    strong = chance(strong_guesses(purpose), purpose.max_attempts, STRONG_CODES)
    return any_of([short, strong] * budgets)


def any_of(chances: Iterable[float]) -> float:
    """The chance that at least one of several independent things happens."""
    return -expm1(sum(log1p(-part) if part < 1 else float("-inf") for part in chances))


def chance(total: int, attempts: int, space: int) -> float:
    """The chance that one of ``total`` guesses is right, of which each challenge takes ``attempts``.

    1 - (1 - k/N)^m (1 - r/N) for m full challenges of k different guesses and a last one of r. To spread the guesses
    over more challenges would only lower it, since guesses at the same code exclude each other.
    """
    full, rest = divmod(total, attempts)
    return -expm1(full * log1p(-attempts / space) + log1p(-rest / space))


def spraying_guesses(settings: Settings, accounts: int, *, counters: int = 1, in_flight: int = 1) -> int:
    """Wrong guesses at short codes in a year, by strangers, over all accounts together.

    Two bounds: every account's own budgets, and the surge limit, which counts a window's failures over the whole site.
    The failure that passes the limit ends the window's short codes, and so do those that were compared at that very
    moment, so that n + c guesses are compared in each window.

    :param in_flight: c, the requests that the servers handle at one moment, all processes and threads together.
    """
    by_account = accounts * sum(guesses(purpose) for purpose in settings.purposes.values())
    return min(by_account, *(_surge_guesses(item, in_flight) for item in settings.surge_limit)) * counters


def _surge_guesses(item: RateLimitItem, in_flight: int) -> int:
    counted = most_events([Rate(item.amount + in_flight, item.get_expiry())], YEAR)
    # Of one network, no more than ``most_of_one_network`` are counted. A network whose guesses are in flight together
    # when it has its share may have more of them compared.
    most = most_of_one_network(item)
    uncounted = max(0, network_share(item) - 1 + in_flight - most)
    return counted + counted // most * uncounted


def one_in(chance: float) -> str:
    """A chance in words: ``1 in 3,585``, or ``93 in 100`` where it is a large one."""
    return f"1 in {round(1 / chance):,}" if chance < 0.5 else f"{round(chance * 100)} in 100"
