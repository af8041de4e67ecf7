"""A year of guesses at somebody's authenticator apps, against a real store, on a clock that the attacker moves.

Nothing of what the package decides is decided here: the store says which guess is compared. There are ``codes`` codes
in place of a million, and so ``codes`` squared of two in a row, so that a few years show a rate.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from flask_otp.config.settings import Settings
from flask_otp.limits.risk import DAY, YEAR
from flask_otp.stores import Claim, RedeemOutcome, RedeemResult, Store

START = 1_790_000_000
STEP = 30
#: A first failure so long before the year has a window open when it begins.
BEFORE = 30 * DAY - 1


@dataclass
class Owner:
    """A person with apps, at whom somebody guesses who tries no code twice while it could be the same.

    :param seed: makes the codes, and the person another one.
    """

    store: Store
    settings: Settings
    apps: int = 1
    codes: int = 1000
    seed: int = 0
    now: int = START
    #: Guesses that were compared and wrong, from the beginning of the year on.
    compared: int = 0
    tried: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.policy = self.settings.purposes["login"].policy()
        self.subject = b"%016d" % self.seed

    def code(self, app: int, step: int) -> int:
        return random.Random(f"{self.seed} {app} {step}").randrange(self.codes)

    def accepted(self) -> set[int]:
        """The codes that are right now."""
        step = self.now // STEP
        steps = range(step - self.settings.totp_steps, step + 1)
        return {self.code(app, one) for app in range(self.apps) for one in steps}

    def accepted_pairs(self) -> set[int]:
        """As one number, those of two codes in a row that are right now."""
        step = self.now // STEP
        steps = range(step - self.settings.totp_steps, step + 1)
        return {self.code(app, one - 1) * self.codes + self.code(app, one) for app in range(self.apps) for one in steps}

    def guess(self, *, strong: bool = False, wrong: bool = False) -> RedeemResult:
        """Try a code, from a network of one's own.

        :param wrong: one that is known to be wrong.
        """
        space = self.codes**2 if strong else self.codes
        # What was tried in this step or the last may still be tried in vain.
        recent = [guess for step in (-1, 0) for guess in self.tried.get(self.now // STEP + step, [])]
        typed = self.random.randrange(space)
        while typed in recent:
            typed = self.random.randrange(space)
        right = not wrong and typed in (self.accepted_pairs() if strong else self.accepted())
        claim = Claim(right, bucket=self.random.randbytes(8), strong=strong, rationed=strong)
        answer = self.store.check(self.subject, claim, self.policy, self.now)
        if answer.outcome is RedeemOutcome.WRONG:
            self.tried = {self.now // STEP: [*self.tried.get(self.now // STEP, []), typed]}
            self.compared += self.now >= START
        return answer


def guess_for_a_year(owner: Owner, *, strong: bool = False) -> bool:
    """Guess as early as there are any guesses. Whether a code was right."""
    if not strong:
        owner.now = START - BEFORE
        owner.guess(wrong=True)
        owner.now = START
    while owner.now < START + YEAR:
        answer = owner.guess(strong=strong)
        if answer.outcome is RedeemOutcome.MATCH:
            return True
        owner.now += answer.retry_after
    return False
