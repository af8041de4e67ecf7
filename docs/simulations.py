"""Simulate the attacks that two plots show, into ``docs/plots/simulations.json``: ``python -m docs.simulations``.

The attackers act on the real stores and limits. They move the clock themselves, which makes the counts the same on
every machine. A run takes about a minute.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

from flask_otp import OTP
from flask_otp.limits.risk import DAY, YEAR, chance
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock, Outbox
from tests.support.pumping import CONFIG, Crowd, Town, german, start_of_window
from tests.support.simulation import HOUR, UNHITTABLE, VICTIM, Site, greedy, settings_of

FILE = Path(__file__).parent / "plots" / "simulations.json"
MINUTE = 60
_DAYS = range(0, 366, 5)
#: The pumped ranges of one country, and the seconds from one number to the next.
RANGES, EVERY = 50, 1


def guessing() -> dict[str, Any]:
    """The chance to have guessed into one account, by days since the first guess of a year."""
    attacks: dict[str, tuple[dict[str, Any], Callable[[Site], object]]]
    attacks = {"budget": ({}, greedy), "send limits": ({"OTP_FAILURE_BUDGET": "1000000000/day"}, hourly)}
    found = {}
    for name, (config, attack) in attacks.items():
        site = Site(MemoryStore(), settings_of(config), UNHITTABLE)
        attack(site)
        times = site.wrong[VICTIM]
        # The greedy attacker has one guess a month before the year.
        start = next(time for time in times if time > times[-1] - YEAR)
        found[name] = [bisect(times, start + day * DAY) - bisect(times, start - 1) for day in _DAYS]
    # Where only the attempts of each code are limited, nothing is left to simulate.
    found["attempts"] = [day * DAY // MINUTE * site.purpose.max_attempts for day in _DAYS]
    space = 10**site.purpose.code_length
    return {
        name: {
            "day": [*_DAYS],
            "guesses": guesses,
            "chance": [chance(count, site.purpose.max_attempts, space) for count in guesses],
        }
        for name, guesses in found.items()
    }


def hourly(site: Site) -> None:
    """Each hour as many codes as there are, and all attempts at them."""
    for _ in site.days(step=HOUR):
        while (challenge := site.send()) is not None:
            site.exhaust(challenge)


def pumping() -> dict[str, Any]:
    """Messages that an attack of a day gets, by hours: a number each second, from a new network, in 50 ranges."""
    return {"hour": [*range(25)], "without": messages({"OTP_PUMPING_BREAKER": None}), "breaker": messages({})}


def messages(config: dict[str, Any]) -> list[int]:
    app, outbox, clock = Flask("town"), Outbox(), Clock(start_of_window("DE"))
    app.config.update(SECRET_KEY="a secret that is only for plots", OTP_STORAGE_URI="memory://", TESTING=True)
    app.config.update(CONFIG, **config)
    otp = OTP(clock=clock)
    otp.channel("sms")(outbox.append)
    otp.init_app(app)
    with app.app_context():
        crowd = Crowd(Town(app, outbox, clock), start_of_window("DE"))
        got = [0] * 25
        for second in range(0, DAY, EVERY):
            got[second // HOUR + 1] += crowd.ask(german(second // RANGES, 5000 + second % RANGES), second)
    return [sum(got[: hour + 1]) for hour in range(25)]


def main() -> None:
    found = {"command": "python -m docs.simulations", "guessing": guessing(), "pumping": pumping()}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
