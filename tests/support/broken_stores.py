"""Stores with one defect each, and the suite over each of them. ``test_suite.py`` runs it and wants failures."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from flask_otp.stores import Attempt, ChallengeRequest, Claim, OpenResult, Policy, RedeemResult, Store
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.record import Bucket, Record
from flask_otp.testing.stores import MATCH, REFUSE, REFUSED, WAIT, StoreSuite
from flask_otp.testing.stores.random_walk import TIGHT


class Spoilt(MemoryStore):
    """``spoil`` may change the record after each verb, and knows how it was before."""

    def change(self, subject: bytes, now: int, verb: Callable[[Record], Any]) -> Any:
        def spoilt(record: Record) -> Any:
            before = self.load(subject)
            answer = verb(record)
            self.spoil(before, record, answer)
            return answer

        return super().change(subject, now, spoilt)

    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        raise NotImplementedError


def matched(answer: Any) -> bool:
    return isinstance(answer, RedeemResult) and answer.outcome is MATCH


# Guessing


class ComparesBeforeCounting(MemoryStore):
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        if attempt.matches:
            policy = replace(policy, max_attempts=10**6, failure_budget=())
        return super().redeem(subject, attempt, policy, now)


class LoadsAndKeepsInTwoSteps(MemoryStore):
    def change(self, subject: bytes, now: int, verb: Callable[[Record], Any]) -> Any:
        self._lock: Any = nullcontext()

        def slow(record: Record) -> Any:
            time.sleep(0.001)
            return verb(record)

        return super().change(subject, now, slow)


class MatchesTwice(Spoilt):
    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        if matched(answer):
            record.challenges = before.challenges


class ClearsTheBudgetBySuccess(Spoilt):
    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        if matched(answer):
            record.failures = []


class ClearsTheBudgetByRevoking(MemoryStore):
    def revoke(self, subject: bytes, now_ms: int) -> None:
        super().revoke(subject, now_ms)
        self.change(subject, now_ms // 1000, lambda record: record.failures.clear())


class GivesAttemptsBackByResending(Spoilt):
    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        if isinstance(answer, OpenResult) and answer.challenge_id in record.challenges:
            record.challenges[answer.challenge_id].attempts = 0


class LeavesOpenCodesShortWhenTheBudgetIsSpent(MemoryStore):
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        budget = tuple((amount * 10, period) for amount, period in policy.failure_budget)
        return super().redeem(subject, attempt, replace(policy, failure_budget=budget), now)


class LetsKnownBrowsersGuessForNothing(Spoilt):
    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        for bucket in record.buckets.values():
            bucket.failures = []


class IgnoresSurges(MemoryStore):
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        return super().redeem(subject, replace(attempt, surge=False), policy, now)


# Codes without a challenge


class ChargesUsedCodes(MemoryStore):
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        answer = super().check(subject, claim, policy, now)
        if claim.matches and answer.outcome is REFUSED and not answer.retry_after:
            return super().check(subject, replace(claim, matches=False), policy, now)
        return answer


class ForgetsMarksWhenRevoked(MemoryStore):
    def revoke(self, subject: bytes, now_ms: int) -> None:
        super().revoke(subject, now_ms)
        self.change(subject, now_ms // 1000, lambda record: record.marks.clear())


class LooksAtTheFirstUseOnly(MemoryStore):
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        return super().check(subject, replace(claim, uses=claim.uses[:1]), policy, now)


class MarksTheFirstStepOnly(MemoryStore):
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        return super().check(subject, replace(claim, uses=tuple(use[:1] for use in claim.uses)), policy, now)


class ComparesClaimsWithoutABudget(MemoryStore):
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        return super().check(subject, replace(claim, strong=True), policy, now)


class RationsNothing(MemoryStore):
    def check(self, subject: bytes, claim: Claim, policy: Policy, now: int) -> RedeemResult:
        return super().check(subject, replace(claim, rationed=False), policy, now)


# Time


class LivesASecondTooLong(MemoryStore):
    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        return super().redeem(subject, attempt, policy, now - 1)


class ProlongsByResending(Spoilt):
    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        if isinstance(answer, OpenResult) and answer.ready_at and not answer.fresh:
            record.challenges[answer.challenge_id].expires_at = answer.ready_at + 270


class GoesByTheLatestTime(MemoryStore):
    """Its answers are those of the latest time that it was ever told."""

    latest = 0

    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        self.latest = max(self.latest, now)
        return super().open(subject, request, policy, self.latest)

    def redeem(self, subject: bytes, attempt: Attempt, policy: Policy, now: int) -> RedeemResult:
        return super().redeem(subject, attempt, policy, max(self.latest, now))


# Messages


class KeepsNoLanesApart(MemoryStore):
    def open(self, subject: bytes, request: ChallengeRequest, policy: Policy, now: int) -> OpenResult:
        return super().open(subject, replace(request, bucket=b"bucket"), policy, now)


class ProlongsTheWaitByAsking(Spoilt):
    def spoil(self, before: Record, record: Record, answer: Any) -> None:
        if isinstance(answer, OpenResult) and answer.outcome is WAIT:
            for bucket in record.buckets.values():
                bucket.ready_at += 1


class ForgetsTheCooldownByDiscarding(MemoryStore):
    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        super().discard(subject, opened, now)
        self.change(subject, now, lambda record: record.buckets.get(opened.bucket, Bucket()).__setattr__("ready_at", 0))


class GivesNoCountBackByDiscarding(MemoryStore):
    def discard(self, subject: bytes, opened: OpenResult, now: int) -> None:
        super().discard(subject, replace(opened, bucket_ends=(), subject_ends=()), now)


# Proofs and revoking


class KeepsChallengesWhenRevoked(MemoryStore):
    def revoke(self, subject: bytes, now_ms: int) -> None:
        challenges = self.load(subject).challenges
        super().revoke(subject, now_ms)
        self.change(subject, now_ms // 1000, lambda record: record.challenges.update(challenges))


class KeepsProofsWhenRevoked(MemoryStore):
    def revoke(self, subject: bytes, now_ms: int) -> None:
        proofs = self.load(subject).proofs
        super().revoke(subject, now_ms)
        self.change(subject, now_ms // 1000, lambda record: record.proofs.update(proofs))


class RevokesBrowsersByTheSecond(MemoryStore):
    def revoke(self, subject: bytes, now_ms: int) -> None:
        super().revoke(subject, now_ms // 1000 * 1000)


class KeepsUsedChallengesLive(MemoryStore):
    seen: frozenset[bytes] = frozenset()

    def is_live(self, subject: bytes, challenge_id: bytes, now: int) -> bool:
        if super().is_live(subject, challenge_id, now):
            self.seen |= {challenge_id}
        return challenge_id in self.seen


class ForgetsWhatIsNoted(MemoryStore):
    def note(self, subject: bytes, mark: bytes, expires_at: int, now: int) -> None:
        pass


class SpendsProofsTwice(MemoryStore):
    def spend(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        return self.holds(subject, proof_id, now)


class SharesProofsBetweenSubjects(MemoryStore):
    def holds(self, subject: bytes, proof_id: bytes, now: int) -> bool:
        everybody = [first + rest for first, table in self._tables.items() for rest in table]
        return any(super(SharesProofsBetweenSubjects, self).holds(one, proof_id, now) for one in everybody)


# Unlocking


class UnlocksNothing(MemoryStore):
    def unlock(self, subject: bytes, now: int) -> bool:
        return True


class ClearsTheBudgetByUnlocking(MemoryStore):
    def unlock(self, subject: bytes, now: int) -> bool:
        self.change(subject, now, lambda record: record.failures.clear())
        return super().unlock(subject, now)


class ClearsGuessesAtAppsByUnlocking(MemoryStore):
    def unlock(self, subject: bytes, now: int) -> bool:
        self.change(subject, now, lambda record: record.marks.clear())
        return super().unlock(subject, now)


class ForgetsBucketsByUnlocking(MemoryStore):
    def unlock(self, subject: bytes, now: int) -> bool:
        unlocked = super().unlock(subject, now)
        self.change(subject, now, lambda record: record.buckets.clear())
        return unlocked


class HasEachProcessForItself(MemoryStore):
    """Is told to be shared, and is not."""


def opens_in_one_process() -> MemoryStore:
    """Of two that were started one after the other, the one with the odd number is turned away."""
    if multiprocessing.current_process().name[-1] in "13579":
        raise PermissionError("not from here")
    return MemoryStore()


#: Each with the tests of the suite that must catch it.
BROKEN: dict[type[MemoryStore], tuple[str, ...]] = {
    ComparesBeforeCounting: ("test_r07_the_right_code_is_refused_once_the_attempts_are_used_up",),
    LoadsAndKeepsInTwoSteps: (
        "test_r06_of_two_hundred_right_codes_at_once_exactly_one_passes",
        "test_r06_of_two_hundred_right_codes_of_an_app_at_once_exactly_one_passes_and_nothing_is_charged",
        "test_r07_of_a_thousand_wrong_codes_at_once_exactly_max_attempts_are_compared",
        "test_r15_of_fifty_openings_at_once_one_message_goes_out_in_each_cooldown",
    ),
    MatchesTwice: ("test_r05_a_code_passes_once",),
    ClearsTheBudgetBySuccess: ("test_r10_success_does_not_clear_the_budget",),
    ClearsTheBudgetByRevoking: ("test_r10_revoking_leaves_every_count_as_it_was",),
    GivesAttemptsBackByResending: ("test_r14_a_resend_gives_no_attempt_back",),
    LeavesOpenCodesShortWhenTheBudgetIsSpent: (
        "test_r08_short_codes_that_are_open_when_the_budget_is_spent_are_refused",
    ),
    LetsKnownBrowsersGuessForNothing: ("test_r11_a_known_browser_spends_only_its_own_budget",),
    IgnoresSurges: ("test_in_a_surge_the_short_codes_of_strangers_that_are_open_are_refused",),
    ChargesUsedCodes: ("test_a_used_code_is_refused_and_costs_nothing",),
    ForgetsMarksWhenRevoked: ("test_a_mark_outlives_whatever_else_happens",),
    LooksAtTheFirstUseOnly: ("test_the_first_unused_of_several_uses_is_taken",),
    MarksTheFirstStepOnly: ("test_a_use_sets_all_its_marks_and_needs_all_of_them",),
    ComparesClaimsWithoutABudget: ("test_r08_wrong_codes_are_compared_as_often_as_the_budget_allows",),
    RationsNothing: ("test_wrong_rationed_codes_count_as_messages_do",),
    LivesASecondTooLong: ("test_r03_a_code_lives_until_its_expiry_exclusive",),
    GoesByTheLatestTime: (
        "test_a_clock_that_was_set_back_leaves_nobody_waiting_for_a_cooldown",
        "test_r03_a_code_lives_no_longer_when_the_clock_is_set_back",
    ),
    ProlongsByResending: ("test_r14_a_repeated_open_does_not_prolong_the_challenge",),
    KeepsNoLanesApart: ("test_r11_a_stranger_on_another_network_does_not_delay_the_owner",),
    ProlongsTheWaitByAsking: ("test_waiting_counts_nothing_and_does_not_prolong_the_wait",),
    ForgetsTheCooldownByDiscarding: ("test_discarding_does_not_give_the_cooldown_back",),
    GivesNoCountBackByDiscarding: ("test_discarding_gives_the_count_of_the_recipient_back",),
    KeepsChallengesWhenRevoked: ("test_r25_revoking_ends_proofs_and_challenges",),
    KeepsProofsWhenRevoked: ("test_r25_revoking_ends_proofs_and_challenges",),
    RevokesBrowsersByTheSecond: (
        "test_r25_a_revocation_makes_browsers_strangers_that_were_known_before_it_by_the_millisecond",
    ),
    KeepsUsedChallengesLive: ("test_a_challenge_that_is_used_discarded_dropped_or_revoked_is_not_live",),
    ForgetsWhatIsNoted: ("test_what_is_noted_holds_until_its_end_exclusive",),
    SpendsProofsTwice: ("test_r25_a_spent_proof_has_ended_and_is_spent_by_one_caller",),
    SharesProofsBetweenSubjects: ("test_r26_a_proof_of_one_subject_is_none_of_another",),
    UnlocksNothing: ("test_unlocking_clears_the_windows_of_every_bucket_and_of_the_subject",),
    ClearsTheBudgetByUnlocking: ("test_unlocked_before_each_guess_an_attacker_has_no_more_of_them",),
    ClearsGuessesAtAppsByUnlocking: ("test_unlocking_gives_no_guess_at_an_app_back",),
    ForgetsBucketsByUnlocking: ("test_unlocking_makes_no_place_for_a_ninth_known_browser",),
    HasEachProcessForItself: ("test_r25_of_fifty_that_spend_one_proof_at_once_exactly_one_does",),
}


WRONG_ABOUT_CLAIMS = {
    ChargesUsedCodes,
    ForgetsMarksWhenRevoked,
    LooksAtTheFirstUseOnly,
    MarksTheFirstStepOnly,
    ComparesClaimsWithoutABudget,
    RationsNothing,
    ClearsGuessesAtAppsByUnlocking,
}


#: Step by step, and by a clock that only goes on, these are as good as any.
UNSEEN = {LoadsAndKeepsInTwoSteps, HasEachProcessForItself, GoesByTheLatestTime}
WALK = "test_it_answers_as_the_memory_store_does_step_by_step"
CLAIMS = "test_it_answers_claims_as_the_memory_store_does_step_by_step"


def walk_of(broken: type[MemoryStore]) -> str:
    """The walk that must find its defect."""
    return CLAIMS if broken in WRONG_ABOUT_CLAIMS else WALK


def wanted_of(broken: type[MemoryStore]) -> set[str]:
    """The tests that must find its defect; for the sound store, all of them."""
    if broken is MemoryStore:
        return set().union(*map(wanted_of, BROKEN))
    return {*BROKEN[broken], *([] if broken in UNSEEN else [walk_of(broken)])}


class Suite(StoreSuite):
    """One walk of each kind is enough to find a defect."""

    @pytest.mark.parametrize("policies", [(TIGHT, replace(TIGHT, failure_budget=()), REFUSE)])
    def test_it_answers_as_the_memory_store_does_step_by_step(self, store: Store, policies: tuple[Policy, ...]) -> None:
        super().test_it_answers_as_the_memory_store_does_step_by_step(store, 1, policies)

    def test_it_answers_claims_as_the_memory_store_does_step_by_step(self, store: Store) -> None:
        super().test_it_answers_claims_as_the_memory_store_does_step_by_step(store, 1)


def suite_over(broken: type[MemoryStore]) -> type[StoreSuite]:
    """The suite without the tests that have nothing to do with its defect: to collect them all takes long."""
    others = {name for name in dir(Suite) if name.startswith("test_")} - wanted_of(broken)
    own = {"shared": broken is HasEachProcessForItself, "connect": pytest.fixture(lambda self: broken)}
    return type(f"Test{broken.__name__}", (Suite,), own | dict.fromkeys(others))


for store in (MemoryStore, *BROKEN):
    globals()[f"Test{store.__name__}"] = suite_over(store)
