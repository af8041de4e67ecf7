"""Guessing, racing, replaying, over HTTP and on every store: each ends with what was wanted and not got."""

from __future__ import annotations

import pytest

from flask_otp import OTP, Message
from flask_otp.signals import code_verified
from tests.support.at_once import at_once
from tests.support.attack_site import OWNER, Caller, Stage, refused

MALLORY = "mallory@example.com"


# Guessing


def test_r07_the_right_code_after_five_wrong_ones_is_refused(stage: Stage) -> None:
    app = stage.app()
    mallory = Caller(app)
    mallory.send()
    mallory.guess(stage.sent.code, 5)
    assert refused(mallory.verify(stage.sent.code))
    elsewhere = Caller(stage.another(app))
    elsewhere.handle = mallory.handle
    assert refused(elsewhere.verify(stage.sent.code))


def test_r08_no_other_session_network_channel_or_process_gives_guesses_back(stage: Stage) -> None:
    otp = OTP(clock=stage.clock)
    for name in ("email", "backup"):
        otp.channel(name)(lambda message: None)
    app = stage.app(otp)
    apps = [app, app if stage.uri == "memory://" else stage.app(otp)]
    early = Caller(app)
    early.send()
    right = stage.sent.code
    for number in range(4):
        mallory = Caller(apps[number % 2], browser=number > 1)
        assert mallory.send(channel=("email", "backup")[number % 2]).get_json()["code_length"] == 6
        mallory.guess(stage.sent.code, 2)
        assert mallory.post("resend", challenge=mallory.handle).status_code == 200
        mallory.guess(stage.sent.code, 3)
    assert refused(early.verify(right))
    late = Caller(apps[1])
    assert late.send().get_json()["code_length"] == 13
    assert late.verify(stage.sent.code).status_code == 200


def test_r10_neither_the_owners_log_ins_nor_ones_own_give_guesses_back(stage: Stage) -> None:
    app = stage.app(OTP_FAILURE_BUDGET="8/30 days")
    for _ in range(2):
        mallory, owner, own = (Caller(app, browser=True) for _ in range(3))
        mallory.send()
        mallory.guess(stage.sent.code, 4)
        for caller, who in ((owner, OWNER), (own, MALLORY)):
            caller.send(who)
            assert caller.verify(stage.sent.code).status_code == 200
    assert Caller(app).send().get_json()["code_length"] == 13


def test_r09_a_hundred_failures_in_a_row_end_it_however_patient_one_is(stage: Stage) -> None:
    """For sites that follow NIST SP 800-63B-4 3.2.2 to the letter: a window as long as needed, and no strong codes."""
    app = stage.app(OTP_FAILURE_BUDGET="20/30 days;100/3650 days", OTP_ON_BUDGET="refuse", OTP_MAX_ATTEMPTS=10)
    compared = 0
    for _ in range(8):
        for _ in range(3):
            mallory = Caller(app)
            if mallory.send().status_code == 200:
                mallory.guess(stage.sent.code, 10)
                compared += 10
        stage.clock.advance("31d")
    assert compared == 100
    assert Caller(app).send().status_code == 429


def test_r03_a_code_is_dead_when_its_time_ends_however_often_it_was_sent(stage: Stage) -> None:
    app = stage.app(OTP_EXPIRES_IN="5m")
    in_time, late = Caller(app), Caller(app)
    in_time.send()
    assert late.send(MALLORY).status_code == 200
    stage.clock.advance(299)
    assert late.post("resend", challenge=late.handle).status_code == 200
    assert in_time.verify(stage.sent.code_for(OWNER)).status_code == 200
    stage.clock.advance(1)
    assert refused(late.verify(stage.sent.code))


def test_r13_a_code_that_was_read_over_the_shoulder_is_worth_nothing_without_its_challenge(stage: Stage) -> None:
    app = stage.app()
    owner, mallory = Caller(app, browser=True), Caller(app, browser=True)
    owner.send()
    seen = stage.sent.code
    assert refused(mallory.post("verify", code=seen))
    mallory.send()
    assert stage.sent.code != seen
    assert refused(mallory.post("verify", code=seen))
    assert owner.post("verify", code=seen).status_code == 200


# Racing


def test_r06_of_thirty_right_codes_at_once_on_two_processes_one_passes(stage: Stage) -> None:
    app = stage.app()
    apps = [app, stage.another(app)]
    caller = Caller(app)
    caller.send()
    verified: list[object] = []

    def hear(sender: object, **arguments: object) -> None:
        verified.append(arguments)

    def use(number: int) -> int:
        other = Caller(apps[number % 2])
        other.handle = caller.handle
        return other.verify(stage.sent.code).status_code

    with code_verified.connected_to(hear):
        answers = at_once(*(lambda number=number: use(number) for number in range(30)))
    assert sorted(answers) == [200] + [400] * 29
    assert len(verified) == 1


def test_r07_of_forty_wrong_codes_at_once_five_are_compared(stage: Stage) -> None:
    app = stage.app(OTP_FAILURE_BUDGET="6/30 days")
    caller = Caller(app)
    caller.send()
    right = stage.sent.code
    guesses = [f"{(int(right) + 1 + number) % 10**6:06}" for number in range(40)]
    assert {answer.status_code for answer in at_once(*(lambda g=g: caller.verify(g) for g in guesses))} == {400}
    assert refused(caller.verify(right))
    # Five were counted, and not one more or less: the sixth spends the budget.
    last = Caller(app)
    assert last.send().get_json()["code_length"] == 6
    last.guess(stage.sent.code)
    assert Caller(app).send().get_json()["code_length"] == 13


def test_r15_of_twenty_sends_at_once_from_one_network_one_message_goes_out(stage: Stage) -> None:
    app = stage.app(OTP_COOLDOWN="30s")
    callers = [Caller(app, network="192.0.2.7") for _ in range(20)]
    answers = at_once(*(lambda caller=caller: caller.send().status_code for caller in callers))
    assert sorted(answers) == [200] + [429] * 19
    assert len(stage.sent) == 1


# Replaying


def test_r05_a_used_code_is_worth_nothing_anywhere(stage: Stage) -> None:
    app = stage.app()
    owner, later = Caller(app, browser=True), Caller(stage.another(app))
    owner.send()
    code = stage.sent.code
    assert owner.verify(code).status_code == 200
    assert refused(owner.verify(code))
    later.handle = owner.handle
    assert refused(later.verify(code))
    assert refused(later.post("resend", challenge=owner.handle))
    later.send()
    assert refused(later.verify(code))
    assert owner.post("logout").status_code == 204
    assert refused(owner.post("verify", code=code, challenge=owner.handle))


def test_r25_a_revocation_ends_the_stolen_proof_the_open_challenge_and_the_known_browser(stage: Stage) -> None:
    otp = OTP(clock=stage.clock)
    app = stage.app(otp, OTP_SEND_LIMIT="3/hour", OTP_RECIPIENT_LIMIT="3/hour")
    thief = Caller(app, browser=True)
    thief.send()
    proof = thief.verify(stage.sent.code).get_json()["proof"]
    thief.send()
    code = stage.sent.code
    with app.app_context():
        otp.revoke(OWNER)
        assert app.extensions["otp"].tokens.load_proof(proof) is not None  # it is signed still
    assert refused(thief.verify(code))
    with app.test_request_context(headers={"Authorization": f"Bearer {proof}"}):
        assert otp.verification() is None
    assert [Caller(app).send().status_code for _ in range(3)][-1] == 429
    # Before the revocation, the browser had a bucket of its own beside the subject's three.
    assert thief.send().status_code == 429


# Keeping the owner out


def test_r11_failures_at_an_own_challenge_leave_the_owners_alone(stage: Stage) -> None:
    app = stage.app()
    owner, mallory = Caller(app, browser=True), Caller(app)
    owner.send()
    code = stage.sent.code
    mallory.send()
    mallory.guess(stage.sent.code, 5)
    mallory.send()
    assert owner.verify(code).status_code == 200


def test_r15_a_hundred_networks_get_no_more_messages_than_the_recipient_may_have(stage: Stage) -> None:
    app = stage.app(OTP_RECIPIENT_LIMIT="6/hour;8/day")
    owner = Caller(app, browser=True)
    owner.send()
    assert owner.verify(stage.sent.code).status_code == 200
    for _ in range(3):
        for _ in range(10):
            Caller(app).send()
        stage.clock.advance(3600)
    assert len(stage.sent) <= 8 + 1
    before = len(stage.sent)
    assert owner.send().status_code == 200  # a known browser has a bucket of its own
    assert owner.verify(stage.sent.code).status_code == 200
    assert len(stage.sent) == before + 1


# What an address may be


@pytest.mark.parametrize(
    "who",
    [
        "'or'1'='1@example.com",
        "x'--@example.com",
        "{{7*7}}@example.com",
        "*@example.com",
        "a}{b@example.com",
        "%s@example.com",
    ],
)
def test_an_address_that_is_a_command_is_just_an_address(stage: Stage, who: str) -> None:
    app = stage.app()
    caller, other = Caller(app), Caller(app)
    other.send()
    others = stage.sent.code
    caller.send(who)
    message: Message = stage.sent[-1]
    assert message.recipient == who
    assert "49" not in message.text.replace(message.code, "")
    caller.guess(message.code, 4)
    assert caller.verify(message.code).get_json()["identifier"] == who
    assert other.verify(others).status_code == 200
