"""Codes without a challenge, raced for long on every store. The suite of stores has a shorter form of each race."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flask_otp.stores import Store
from flask_otp.testing import Clock
from flask_otp.testing.stores import MATCH, NO_LIMITS, REFUSED, WRONG, SubjectDriver
from flask_otp.testing.stores.races import claims
from flask_otp.testing.stores.racing import Track, outcomes

pytestmark = [pytest.mark.long]
ROUNDS = 30


@pytest.fixture
def track(any_store: Store) -> Track:
    return Track(any_store, lambda: any_store, two_processes=False)


def test_of_two_hundred_right_codes_at_once_one_passes_and_nothing_is_charged(track: Track, clock: Clock) -> None:
    """The same for one code of an app and for one recovery code: the store sees a mark in both."""
    for number in range(ROUNDS):
        ann = SubjectDriver(
            track.store, clock, replace(NO_LIMITS, failure_budget=((1, 86400),)), subject=b"%016d" % number
        )
        answers = track.run(claims(ann, [True] * 200, uses=((b"step",),)), threads=200)
        assert outcomes(answers) == {MATCH: 1, REFUSED: 199}
        # A budget of one failure is still whole.
        assert ann.check(b"another").outcome is MATCH


def test_of_a_thousand_wrong_codes_at_once_as_many_as_the_budget_are_compared(track: Track, clock: Clock) -> None:
    for number in range(ROUNDS):
        ann = SubjectDriver(track.store, clock, subject=b"%016d" % number)
        answers = track.run(claims(ann, [False] * 1000), threads=100)
        assert outcomes(answers) == {WRONG: 20, REFUSED: 980}
        assert ann.check(b"step").outcome is REFUSED
        assert ann.check(b"recovery code", strong=True).outcome is MATCH
