"""An attacker's chances in a year, from the settings alone. ``docs/protection/odds.md`` derives and tests them.

Each figure is the maximum that the stores and the limits allow for any strategy, not an estimate of what attackers do.
The model is that of SP 800-63B-4 (3.1.3.2, 3.2.2): only wrong guesses that were really compared count, over all
challenges, sessions and networks. RFC 4226 section 6 has the same quotient, s v / 10^Digit, for v attempts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, expm1, log1p
from typing import TYPE_CHECKING

from ..config.parsers import Rate
from ..config.settings import Purpose, Settings
from ..crypto.codes import LINK_LENGTH, STRONG_LENGTH
from ..stores.base import KNOWN_BROWSERS
from .surge import most_of_one_network, network_share

if TYPE_CHECKING:
    from limits import RateLimitItem

#: In seconds.
YEAR = 365 * 86400
DAY = 86400

STRONG_CODES = 32**STRONG_LENGTH
#: Of base64url characters.
LINKS = 64**LINK_LENGTH


@dataclass(frozen=True)
class Odds:
    """What the settings allow an attacker. Chances are from 0 to 1 and hold for any 365 days."""

    #: Chance to guess into one account, by purpose, if nothing is stolen.
    by_purpose: dict[str, float]
    #: The same for all purposes together.
    one_account: float
    #: The same with one known browser's cookie stolen, and with the maximum number of cookies that count at a time.
    one_cookie_stolen: float
    all_cookies_stolen: float
    #: Wrong guesses at short codes of one identifier over all purposes, and the messages needed for them.
    guesses: int
    messages: int
    accounts: int
    #: Expected number of accounts lost if an attacker guesses at all ``accounts``.
    spraying: float
    #: Additional lost accounts for each request that the servers handle in parallel.
    spraying_step: float
    #: Messages needed for spraying.
    spraying_messages: int


def compute(settings: Settings, *, accounts: int = 1_000_000, counters: int = 1) -> Odds:
    """The odds under these settings.

    :param accounts: number of accounts that can be sprayed.
    :param counters: number of separate counts: the workers, if each has its own memory store.
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
        # A right guess is not counted as a failure, so the ratio of wrong to right guesses is N - 1 to 1, or slightly
        # lower within one challenge, where an attacker tries no code twice.
        spraying=min(accounts, surge / weakest),
        spraying_step=(step - surge) / weakest,
        spraying_messages=ceil(surge / fewest),
    )


def most_events(rates: Iterable[Rate | RateLimitItem], span: int) -> int:
    """The maximum number of events that these rates allow within any ``span`` seconds.

    A window starts with its first event and lasts for the period p, so two windows start at least p apart: ``ceil(span
    / p)`` windows of n events can start in the span. One more may have started before the span with a single event,
    with its other n - 1 events still to come.
    """
    bounds = []
    for rate in rates:
        amount, period = rate if isinstance(rate, Rate) else (rate.amount, rate.get_expiry())
        bounds.append(amount - 1 + amount * ceil(span / period))
    return min(bounds)


def guesses(purpose: Purpose) -> int:
    """Wrong guesses at short codes of one identifier in a year by unknown browsers.

    Only the failure budget limits them. Send limits may be tighter, but they are no bound, because a message that could
    not be delivered is given back. A purpose without a code to type has no short codes.
    """
    return most_events(purpose.failure_budget, YEAR) if purpose.typed else 0


def strong_guesses(purpose: Purpose) -> int:
    """Guesses at strong codes of one identifier in a year: the messages that unknown browsers can request, times the
    attempts at each. At 65 bits, even a thousand a second has a chance of only 1 in a thousand million.
    """
    return most_events(purpose.recipient_limit, YEAR) * purpose.max_attempts


def codes(purpose: Purpose) -> int:
    return int(10**purpose.code_length) if purpose.typed else LINKS


def buckets(purpose: Purpose) -> int:
    """Buckets of known browsers that one subject can have at a time, each with its own failure budget.

    Buckets are counted when a challenge is opened. A bucket without failures is forgotten when its sends no longer
    matter. If this happened before the challenge ends, more buckets could be opened in the meantime.
    """
    remembered = max(purpose.cooldown, *(rate.period for rate in purpose.send_limit))
    return KNOWN_BROWSERS * ceil(purpose.expires_in / remembered)


def account_chance(purpose: Purpose, counters: int = 1, stolen: int = 0) -> float:
    """The highest chance in a year to guess a code of one identifier for one purpose.

    :param stolen: number of stolen known-browser cookies. Each one adds guesses from its own failure budget.
    """
    budgets = (1 + stolen) * counters
    short = chance(guesses(purpose), purpose.max_attempts, codes(purpose))
    strong = chance(strong_guesses(purpose), purpose.max_attempts, STRONG_CODES if purpose.typed else LINKS)
    return any_of([short, strong] * budgets)


def any_of(chances: Iterable[float]) -> float:
    """The chance that at least one of several independent events happens."""
    return -expm1(sum(log1p(-part) if part < 1 else float("-inf") for part in chances))


def chance(total: int, attempts: int, space: int) -> float:
    """The chance that one of ``total`` guesses is right, if each challenge takes ``attempts`` guesses.

    1 - (1 - k/N)^m (1 - r/N) for m full challenges of k different guesses and a last one of r. Spreading the guesses
    over more challenges only lowers the chance, because guesses at the same code exclude each other.
    """
    full, rest = divmod(total, attempts)
    return -expm1(full * log1p(-attempts / space) + log1p(-rest / space))


def spraying_guesses(settings: Settings, accounts: int, *, counters: int = 1, in_flight: int = 1) -> int:
    """Wrong guesses at short codes in a year by unknown browsers, over all accounts together.

    There are two bounds: each account's own budgets, and the surge limit, which counts failures over the whole site in
    a window. The failure that exceeds the limit ends short codes for the window. Guesses compared at the same moment
    still count, so n + c guesses are compared in each window.

    :param in_flight: c, the requests that the servers handle in parallel, over all processes and threads.
    """
    by_account = accounts * sum(guesses(purpose) for purpose in settings.purposes.values())
    return min(by_account, *(_surge_guesses(item, in_flight) for item in settings.surge_limit)) * counters


def _surge_guesses(item: RateLimitItem, in_flight: int) -> int:
    counted = most_events([Rate(item.amount + in_flight, item.get_expiry())], YEAR)
    # At most ``most_of_one_network`` guesses of one network are counted. If a network reaches its share while more of
    # its guesses are in flight, more of them may be compared.
    most = most_of_one_network(item)
    uncounted = max(0, network_share(item) - 1 + in_flight - most)
    return counted + counted // most * uncounted


def one_in(chance: float) -> str:
    """A chance in words: ``1 in 3,585``, or ``93 in 100`` if it is high."""
    return f"1 in {round(1 / chance):,}" if chance < 0.5 else f"{round(chance * 100)} in 100"
