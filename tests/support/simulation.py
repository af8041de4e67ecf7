"""A year of attack in seconds: attackers against the real stores and the real limits, on a clock that they move.

The package decides everything, not this module. The site below puts the store and the limits together as
``Service.send`` and ``Service.verify`` do. In place of codes there are numbers below ``site.codes``: this smaller code
space shows in a few years what six digits would show in a million.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from flask_otp.config.settings import Purpose, Settings
from flask_otp.limits.counters import Limits
from flask_otp.limits.risk import DAY, YEAR
from flask_otp.stores import Attempt, ChallengeRequest, OpenOutcome, Policy, RedeemOutcome, Store
from flask_otp.stores.memory import MemoryStore

HOUR = 3600
START = 1_790_000_000

VICTIM = b"v" * 16


@dataclass
class Challenge:
    """A live challenge, and what its holder knows of it: which codes were wrong."""

    subject: bytes
    challenge_id: bytes
    strong: bool
    code: int
    #: Where it was asked for, and where its codes are tried.
    network: str
    tried: int = 0


@dataclass
class Site:
    """One site on a virtual clock.

    :param codes: how many short codes there are.
    """

    store: Store
    settings: Settings
    codes: int = 1000
    limits: Limits | None = None
    seed: int = 0
    now: int = START
    #: When a wrong guess at a short code was compared, by subject; and the same for strong codes, as a count.
    wrong: dict[bytes, list[int]] = field(default_factory=dict)
    strong_wrong: Counter[bytes] = field(default_factory=Counter)
    lost: Counter[bytes] = field(default_factory=Counter)
    messages: Counter[bytes] = field(default_factory=Counter)
    budgets_spent: int = 0
    #: Strong codes that went to people on networks of their own, although no attacker guessed at their accounts.
    others_strong: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.purpose: Purpose = self.settings.purposes["login"]
        self.policy = Policy(
            self.purpose.expires_in,
            self.purpose.max_attempts,
            self.purpose.cooldown,
            self.purpose.send_limit,
            self.purpose.recipient_limit,
            self.purpose.failure_budget,
            self.purpose.on_budget == "refuse",
        )

    def send(
        self, subject: bytes = VICTIM, network: bytes = b"", *, session_tag: bytes = b"", cookie: bytes = b""
    ) -> Challenge | None:
        """Ask for a code, from a network of one's own unless one is named. ``None``: refused."""
        network = network or self.random.randbytes(8)
        request = ChallengeRequest(
            self.random.randbytes(16),
            network,
            session_tag,
            known_bucket=cookie,
            known_since=self.now * 1000,
            surge=self.limits is not None and self.limits.is_surge(network.hex()),
        )
        opened = self.store.open(subject, request, self.policy, self.now)
        if opened.outcome is OpenOutcome.WAIT:
            return None
        self.messages[subject] += opened.outcome is OpenOutcome.SEND
        return Challenge(subject, opened.challenge_id, opened.strong, self.random.randrange(self.codes), network.hex())

    def guess(self, challenge: Challenge) -> RedeemOutcome:
        """Try a code that was not tried before. A guess at a strong code is never right."""
        right = not challenge.strong and challenge.tried == challenge.code
        challenge.tried += 1
        outcome = self._redeem(challenge, right)
        if outcome is RedeemOutcome.MATCH:
            self.lost[challenge.subject] += 1
        elif outcome is RedeemOutcome.WRONG and challenge.strong:
            self.strong_wrong[challenge.subject] += 1
        elif outcome is RedeemOutcome.WRONG:
            self.wrong.setdefault(challenge.subject, []).append(self.now)
        return outcome

    def enter(self, challenge: Challenge) -> RedeemOutcome:
        """The owner types the code."""
        return self._redeem(challenge, True)

    def _redeem(self, challenge: Challenge, right: bool) -> RedeemOutcome:
        attempt = Attempt(
            challenge.challenge_id,
            right,
            self.random.randbytes(12),
            self.now + HOUR,
            self.limits is not None and self.limits.is_surge(challenge.network),
        )
        redeemed = self.store.redeem(challenge.subject, attempt, self.policy, self.now)
        self.budgets_spent += redeemed.budget_spent
        if redeemed.outcome is RedeemOutcome.WRONG and self.limits is not None and not challenge.strong:
            self.limits.surge.count(challenge.network)
        return redeemed.outcome

    def exhaust(self, challenge: Challenge | None) -> bool:
        """Guess until it is refused. Whether one guess was right."""
        while challenge is not None:
            outcome = self.guess(challenge)
            if outcome is not RedeemOutcome.WRONG:
                return outcome is RedeemOutcome.MATCH
        return False

    def most_within_a_year(self, subject: bytes = VICTIM) -> int:
        """The most wrong guesses at short codes within any 365 days."""
        times = self.wrong.get(subject, [])
        most = first = 0
        for last, time in enumerate(times):
            while times[first] <= time - YEAR:
                first += 1
            most = max(most, last - first + 1)
        return most

    def days(self, count: int = 365, step: int = DAY) -> Iterator[int]:
        """Let so many days pass, stopping at each step."""
        end = self.now + count * DAY
        while self.now < end:
            yield self.now
            self.now += step


def settings_of(config: Mapping[str, Any] | None = None) -> Settings:
    return Settings.from_config({"OTP_STORAGE_URI": "memory://", **(config or {})})


def virtual_limits(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> tuple[Limits, SimpleNamespace]:
    """The real limits over the real counters of ``limits``, both on a clock: ``clock.site`` is whose."""
    clock = SimpleNamespace(site=None)

    def now() -> float:
        return float(clock.site.now) if clock.site else float(START)

    time = SimpleNamespace(time=now, monotonic=now)
    monkeypatch.setattr("flask_otp.limits.counters.time", time)
    monkeypatch.setattr("flask_otp.limits.surge.time", time)
    monkeypatch.setattr("limits.storage.memory.time", time)
    # A thread that cleans up in real time, for which a virtual hour is gone in between two of its lines: once in 8,760
    # windows it threw the next window's count away. What has expired is forgotten without it.
    monkeypatch.setattr("limits.storage.memory.MemoryStorage._MemoryStorage__schedule_expiry", lambda storage: None)
    return Limits(settings, {}), clock


# Attackers, each against one account unless it says otherwise. True: it got in.


def greedy(site: Site, days: int = 365) -> bool:
    """Make every guess as early as possible. One guess a month before opens a window that reaches into the year.

    The attacker knows when the windows end, since its own first failure began the first one.
    """
    period = max(rate.period for rate in site.purpose.failure_budget)
    first = site.send()
    assert first is not None
    first.code = -1  # this guess is before the year: it may not win
    assert site.guess(first) is RedeemOutcome.WRONG
    site.now += period - 1
    end = site.now + days * DAY
    step = 1  # to the first window's last second; from then on, from the beginning of one window to that of the next
    while site.now < end:
        while (challenge := site.send()) is not None and not challenge.strong:
            if site.exhaust(challenge):
                return True
        site.now, step = site.now + step, period
    return False


def hammering(site: Site, days: int = 365) -> bool:
    """Once a day, as many challenges as it can get and as many guesses as they take, strong codes included."""
    for _ in site.days(days):
        while (challenge := site.send()) is not None:
            if site.exhaust(challenge):
                return True
    return False


def patient(site: Site, days: int = 365) -> bool:
    """Spread one guess less than the budget over each window. No budget is ever spent, so nothing is reported."""
    amount, period = min(site.purpose.failure_budget)
    for _ in site.days(days, step=period // (amount - 1) + 1):
        challenge = site.send()
        assert challenge is not None
        assert not challenge.strong
        if site.guess(challenge) is RedeemOutcome.MATCH:
            return True
    return False


def waiting(site: Site, days: int = 365) -> bool:
    """Guess right after each of the owner's log-ins, as if a log-in cleared the count, and in the owner's own session.

    The attacker has planted its session in the owner's browser: both hold the same challenge. The owner signs in once
    a day, and always gets in.
    """
    for _ in site.days(days):
        shared = site.send(network=b"owner", session_tag=b"planted")
        assert shared is not None
        if site.guess(shared) is RedeemOutcome.MATCH:
            return True
        site.now += site.purpose.cooldown
        again = site.send(network=b"owner", session_tag=b"planted")
        assert again is not None
        assert site.enter(again) is RedeemOutcome.MATCH
        while (challenge := site.send()) is not None and not challenge.strong:
            if site.exhaust(challenge):
                return True
    return False


def distributed(site: Site, days: int = 365) -> bool:
    """A thousand networks: each day, as many challenges as all of them can open, and then guesses at all in turn."""
    for day in site.days(days):
        opened = (site.send(network=b"network%d" % number) for number in range(25))
        live = [challenge for challenge in opened if challenge is not None]
        while live:
            outcomes = {id(challenge): site.guess(challenge) for challenge in live}
            if RedeemOutcome.MATCH in outcomes.values():
                return True
            live = [challenge for challenge in live if outcomes[id(challenge)] is RedeemOutcome.WRONG]
        assert site.now == day
    return False


def thief(site: Site, cookies: int, days: int = 365) -> bool:
    """Has stolen so many cookies of known browsers, and guesses from their buckets and as a stranger."""
    buckets = [b"", *(b"cookie%02d" % number for number in range(cookies))]
    for _ in site.days(days):
        for bucket in buckets:
            for _ in range(4):
                challenge = site.send(cookie=bucket)
                if challenge is None or challenge.strong:
                    break
                if site.exhaust(challenge):
                    return True
                site.now += site.purpose.cooldown
    return False


def sprayer(site: Site, accounts: int, days: int) -> int:
    """Use up one challenge after the other, each of another account. Returns how many accounts the attacker won.

    The attacker knows to the second when a surge ends: an hour after its own first guess.
    """
    won = turn = 0
    for _ in site.days(days, step=HOUR):
        while True:
            turn += 1
            challenge = site.send(b"%016d" % (turn % accounts))
            if challenge is None or challenge.strong:
                break
            won += site.exhaust(challenge)
    return won


def few_networks(networks: int) -> Callable[[Site, int], None]:
    """Spray from so many networks only, each until it gets no more short codes. Then another person asks for one."""

    def attack(site: Site, days: int) -> None:
        turn = 0
        for hour in site.days(days, step=HOUR):
            for number in range(networks):
                while True:
                    turn += 1
                    challenge = site.send(b"%016d" % turn, network=b"evil%04d" % number)
                    if challenge is None or challenge.strong:
                        break
                    site.exhaust(challenge)
            other = site.send(b"other%011d" % hour)
            site.others_strong += other is None or other.strong

    return attack


#: So many codes that no guess is ever right, and every guess of the year is made.
UNHITTABLE = 10**30


def spray(
    monkeypatch: pytest.MonkeyPatch, attack: Callable[[Site, int], object], days: int, codes: int = UNHITTABLE
) -> Site:
    """The site after so many days of the attack, with the real limits."""
    settings = settings_of()
    limits, clock = virtual_limits(monkeypatch, settings)
    site = clock.site = Site(MemoryStore(), settings, codes, limits)
    attack(site, days)
    return site
