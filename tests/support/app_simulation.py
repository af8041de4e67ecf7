"""A year of guesses at a person's authenticator apps and recovery codes, against a real store, on the attacker's clock.

The package decides everything, not this module: the store says which guess is compared. There are ``codes`` codes in
place of a million, and ``codes`` squared pairs of codes in a row. With so few codes, a few years show a rate.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

from flask_otp.config.settings import Settings
from flask_otp.factors.recovery import CODES
from flask_otp.limits.risk import DAY, YEAR
from flask_otp.stores import Claim, RedeemOutcome, RedeemResult
from flask_otp.stores.record import Record
from flask_otp.stores.record_store import RecordStore

T = TypeVar("T")

START = 1_790_000_000
STEP = 30
#: A first failure so long before the year has a window open when it begins.
BEFORE = 30 * DAY - 1
#: Networks that the attacker takes by turns: enough that no limit of a network delays anything.
NETWORKS = 20
#: Codes of all kinds.
KINDS = ("code", "pair", "recovery")


class UnpackedStore(RecordStore):
    """The verbs of all our stores but Redis. It keeps records as they are, which is many times faster."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}

    def load(self, subject: bytes) -> Record:
        return self.records.get(subject) or Record()

    def change(self, subject: bytes, now: int, verb: Callable[[Record], T]) -> T:
        return verb(self.records.setdefault(subject, Record()))


@dataclass
class Owner:
    """A person with apps, at whose codes an attacker guesses. A code is not tried again while it must still be wrong.

    :param recovery_codes: how many recovery codes there could be, ten of which are right, in place of 2^65.
    :param seed: makes the codes, and the person another one.
    """

    store: RecordStore
    settings: Settings
    apps: int = 1
    codes: int = 1000
    recovery_codes: int = 10**9
    seed: int = 0
    now: int = START
    #: Guesses that were compared and wrong, by kind, from the beginning of the year on.
    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    tried: dict[str, dict[int, list[int]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    turn: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.policy = self.settings.purposes["login"].policy()
        self.subject = b"%016d" % self.seed
        self._known: tuple[int, dict[str, frozenset[int]]] = (-1, {})

    @cached_property
    def right_recovery_codes(self) -> frozenset[int]:
        return frozenset(random.Random(f"{self.seed} recovery").sample(range(self.recovery_codes), CODES))

    def code(self, app: int, step: int) -> int:
        return random.Random(f"{self.seed} {app} {step}").randrange(self.codes)

    def right(self, kind: str) -> frozenset[int]:
        """What is right now. Two codes in a row are one number."""
        step = self.now // STEP
        if self._known[0] != step:
            last = [
                [self.code(app, one) for one in range(step - self.settings.totp_steps - 1, step + 1)]
                for app in range(self.apps)
            ]
            single = frozenset(code for codes in last for code in codes[1:])
            pairs = frozenset(a * self.codes + b for codes in last for a, b in pairwise(codes))
            self._known = step, {"code": single, "pair": pairs, "recovery": self.right_recovery_codes}
        return self._known[1][kind]

    def guess(self, kind: str = "code", *, wrong: bool = False) -> RedeemResult:
        """Try a code.

        :param wrong: one that is known to be wrong.
        """
        space = {"code": self.codes, "pair": self.codes**2, "recovery": self.recovery_codes}[kind]
        step = self.now // STEP
        # What was tried in this step or the last may still be tried in vain.
        recent = [typed for one in (step - 1, step) for typed in self.tried[kind].get(one, [])]
        typed = self.random.randrange(space)
        while typed in recent:
            typed = self.random.randrange(space)
        self.turn += 1
        claim = Claim(
            not wrong and typed in self.right(kind),
            bucket=b"%08d" % (self.turn % NETWORKS),
            strong=kind != "code",
            rationed=kind == "pair",
        )
        answer = self.store.check(self.subject, claim, self.policy, self.now)
        if answer.outcome is RedeemOutcome.WRONG:
            self.tried[kind] = {step: [*self.tried[kind].get(step, []), typed]}
            self.compared[kind] += self.now >= START
        return answer


def guess_for_a_year(owner: Owner, kinds: Sequence[str] = ("code",), *, every: int = 3600) -> bool:
    """Guess as early as there are any guesses, in the order of the kinds. Returns whether a code was right.

    The store refuses no recovery code, so the attacker tries one each time that it refuses all the other kinds.

    :param every: seconds from one recovery code to the next.
    """
    if "code" in kinds:
        owner.now = START - BEFORE
        owner.guess(wrong=True)
        owner.now = START
    while owner.now < START + YEAR:
        waits = []
        for kind in kinds:
            answer = owner.guess(kind)
            if answer.outcome is RedeemOutcome.MATCH:
                return True
            if answer.outcome is RedeemOutcome.WRONG and kind != "recovery":
                break
            waits.append(answer.retry_after if kind != "recovery" else every)
        else:
            owner.now += min(waits)
    return False
