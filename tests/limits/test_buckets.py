"""Strangers ask for codes to an owner's address all day long, and guess at them. Does the owner still get in?

Each test is a day of virtual time. With ``-m long`` it runs on every store. The figures are those of
docs/protection/threats.md.
"""

from __future__ import annotations

from collections import Counter

import pytest

from flask_otp.stores import RedeemOutcome, Store
from tests.support.simulation import HOUR, Site, settings_of

UNHITTABLE = 10**30
TURN = 15 * 60
#: How many of the thousand networks ask in one turn. It is enough for all of them to ask within the day.
AT_ONCE = 11
NEW, KNOWN = b"", b"cookie"


def besieged(store: Store, networks: int, cookie: bytes, every: int = 3 * HOUR) -> Counter[str]:
    """How the owner fares at regular hours of a day on which strangers take all that they can get, from its beginning.

    They guess at each code as often as they may. The owner asks once, and types the code once.
    """
    site, outcomes = Site(store, settings_of(), UNHITTABLE), Counter[str]()
    for turn, _ in enumerate(site.days(1, step=TURN)):
        for stranger in {(turn * AT_ONCE + place) % networks for place in range(AT_ONCE)}:
            site.exhaust(site.send(network=b"network%d" % stranger))
        if (turn + 1) * TURN % every == 0:
            challenge = site.send(network=b"home", cookie=cookie)
            if challenge is not None:
                assert site.enter(challenge) is RedeemOutcome.MATCH
            outcomes["refused" if challenge is None else "strong" if challenge.strong else "short"] += 1
    return outcomes


siege = pytest.mark.parametrize(
    ("networks", "cookie", "outcomes"),
    [
        # The guesses have spent the failure budget, so the codes are strong. The owner gets in at the first try.
        pytest.param(1, NEW, {"strong": 8}, id="new-browser-against-one-network"),
        pytest.param(1, KNOWN, {"short": 8}, id="known-browser-against-one-network"),
        # Fifty messages a day are all that strangers can have sent, and a new browser is one.
        pytest.param(1000, NEW, {"refused": 8}, id="new-browser-against-a-thousand"),
        pytest.param(1000, KNOWN, {"short": 8}, id="known-browser-against-a-thousand"),
    ],
)


@siege
def test_r11_strangers_keep_no_known_browser_out(
    store: Store, networks: int, cookie: bytes, outcomes: dict[str, int]
) -> None:
    assert besieged(store, networks, cookie) == outcomes


@pytest.mark.long
@siege
def test_long_run_r11_on_every_store(any_store: Store, networks: int, cookie: bytes, outcomes: dict[str, int]) -> None:
    assert besieged(any_store, networks, cookie) == outcomes


def test_r11_a_new_browser_that_asks_all_day_long_gets_a_few_of_the_fifty(store: Store) -> None:
    assert besieged(store, 1000, NEW, every=TURN) == {"refused": 94, "strong": 2}
