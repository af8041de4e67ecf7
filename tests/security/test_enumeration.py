"""No visitor learns who has an account (R21, R22, R23): whole visits to two sites are compared, answer by answer."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from flask_otp.delivery.background import Background
from flask_otp.delivery.routing import Router
from flask_otp.errors import DeliveryFailed
from flask_otp.testing import Clock
from tests.support.attack_site import WIDE, Stage
from tests.support.listening import listening
from tests.support.twin_sites import PHONES, Side

Story = Callable[[Side], None]
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {"code_length": 8, "max_attempts": 2}}


def the_usual_way(side: Side) -> None:
    """Every page and verb, in every order that a person may come to."""
    side.look("/otp/")
    side.send(next="/account")
    side.send()
    side.ask("resend")
    side.look("/otp/verify")
    side.guess(2)
    side.clock.advance(31)
    side.ask("resend")
    side.send()
    side.guess(4)
    side.ask("resend")
    side.look("/otp/verify")
    side.clock.advance(31)
    side.send()
    side.clock.advance(301)
    side.guess()
    side.ask("resend")
    side.ask("logout")
    side.ask("verify", code="123456")
    side.look("/otp/verify")


def up_to_the_send_limit(side: Side) -> None:
    for _ in range(8):
        side.send()
        side.ask("resend")
        side.clock.advance(31)


def until_the_budget_is_spent(side: Side) -> None:
    """And the strong codes after it."""
    for _ in range(3):
        side.send()
        side.guess(5)
        side.clock.advance(61)
    side.look("/otp/verify")
    side.send()
    side.look("/otp/verify")
    side.guess(3)
    side.ask("resend")
    side.clock.advance(31 * 86400)
    side.send()


def through_a_surge(side: Side) -> None:
    """What others have failed at makes everybody's codes strong."""
    side.send()
    side.guess(4)
    side.guess()
    side.clock.advance(31)
    side.ask("resend")
    side.send()
    side.look("/otp/verify")
    side.guess()


def after_a_revocation(side: Side) -> None:
    side.send()
    with side.app.app_context():
        side.otp.revoke(side.who)
    side.guess()
    side.clock.advance(31)
    side.ask("resend")
    side.send()
    side.guess()


def with_links(side: Side) -> None:
    side.send()
    side.look("/otp/link/" + "A" * 24)
    side.ask("verify", link="A" * 24)
    side.guess(4)
    side.clock.advance(31)
    side.send()
    side.look("/otp/link/" + "A" * 24)
    side.ask("verify", link="A" * 24)


def up_to_a_limit_that_others_share(side: Side) -> None:
    """The network's, the channel's."""
    for _ in range(3):
        side.send()
        side.guess(2)
        side.clock.advance(31)


def from_a_browser_that_was_known(side: Side) -> None:
    """One of the two accounts has been closed since."""
    accounts, side.accounts = side.accounts, {side.who: side.who}
    side.send()
    assert "otp_known" in str(side.ask("verify", code=side.code).headers)
    side.ask("logout")
    side.accounts = accounts
    side.clock.advance(61)
    for past in (side.seen, side.work, side.sent):
        past.clear()
    for _ in range(4):
        side.send()
        side.guess(5)
        side.clock.advance(61)
    side.look("/otp/verify")


def for_a_step_up(side: Side) -> None:
    asked = side.look("/transfer")
    side.look("/otp/?purpose=transfer")
    requirement = {} if side.as_form else {"requirement": asked.get_json()["requirement"]}
    side.send(purpose="transfer", **requirement)
    side.look("/otp/verify?purpose=transfer")
    side.ask("verify", code="12345678", purpose="transfer")
    side.ask("verify", code="12345678", purpose="login")
    side.ask("verify", code="12345678")
    side.ask("resend", purpose="transfer")


def in_short(side: Side) -> None:
    side.send()
    side.send()
    side.guess(2)
    side.clock.advance(31)
    side.ask("resend")


def by_phone(side: Side) -> None:
    side.who = PHONES[side.is_known]
    in_short(side)


def by_phone_where_an_address_was_typed(side: Side) -> None:
    """The account has a number on file: the message is another, and so is the way that it takes."""
    side.accounts = dict.fromkeys(side.accounts, PHONES[True])
    side.send(channel="sms")
    side.guess(2)
    side.clock.advance(31)
    side.ask("resend")


def by_address_where_a_number_was_typed(side: Side) -> None:
    side.who = PHONES[side.is_known]
    side.accounts = {PHONES[True]: "ann@example.com"}
    side.send(channel="email")
    side.guess(2)
    side.clock.advance(31)
    side.ask("resend")


def with_mistakes(side: Side) -> None:
    side.send(channel="pigeon")
    side.send(purpose="nothing")
    side.send(requirement="made up")
    side.ask("send", identifier=side.who, email=side.who)
    side.ask("send", identifier=f"  {side.who.upper()} ")
    side.send(next="//evil.example")
    for code in ("", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "A" * 13, "9" * 65):
        side.ask("verify", code=code)
    side.ask("verify", code="123456", challenge="made up")
    side.ask("resend", challenge="made up")
    side.ask("verify", code="123456", link="x")


def by_a_broken_channel(side: Side) -> None:
    """The failure is known before the next request comes."""
    for _ in range(3):
        side.send()
        side.guess(2)
        side.ask("resend")
        side.clock.advance(31)


def fail(message: object) -> None:
    raise OSError("no line")


def when_nothing_goes_out_any_more(breaks: Callable[[Side], object], side: Side) -> None:
    side.send()
    side.clock.advance(31)
    breaks(side)
    side.send()
    side.ask("resend")
    side.guess(2)
    side.client = side.app.test_client()
    side.send()
    side.look("/otp/verify")


def fill_the_pool(side: Side) -> None:
    side.app.extensions["otp"].delivery._background = Background(side.app, workers=0, waiting=0)


def break_the_queue(side: Side) -> None:
    side.otp.dispatcher(fail)


def queue(side: Side) -> None:
    """A worker that delivers what is queued, before the next request comes."""

    def work(payload: dict[str, Any]) -> None:
        with side.app.app_context(), contextlib.suppress(DeliveryFailed):
            side.otp.deliver(payload)

    @side.otp.dispatcher
    def dispatch(payload: dict[str, Any]) -> None:
        thread = threading.Thread(target=work, args=[payload])
        thread.start()
        thread.join()


@dataclass(frozen=True)
class Visit:
    story: Story
    config: dict[str, Any] = field(default_factory=dict)
    deliver: Callable[[Any], None] | None = None
    prepare: Callable[[Side], object] = lambda side: None
    #: Statuses, and lengths of codes, without which it would not be what it is called.
    reaches: frozenset[int] = frozenset()

    def paid(self, is_known: bool, clock: Clock, **options: Any) -> Side:
        side = Side(clock, is_known=is_known, deliver=self.deliver, **options, **self.config)
        self.prepare(side)
        self.story(side)
        return side


SMALL_BUDGET = {"OTP_FAILURE_BUDGET": "7/30 days"}
LIMITED, FAILED, STRONG = frozenset({429}), frozenset({503}), frozenset({13})
NETWORK = {"OTP_IP_SEND_LIMIT": "2/day", "OTP_IP_VERIFY_LIMIT": "3/day"}
VISITS: dict[str, Visit] = {
    "usual": Visit(the_usual_way, reaches=LIMITED),
    "send limit": Visit(up_to_the_send_limit, {"OTP_SEND_LIMIT": "4/hour"}, reaches=LIMITED),
    "recipient limit": Visit(up_to_the_send_limit, {"OTP_RECIPIENT_LIMIT": "3/hour"}, reaches=LIMITED),
    "budget": Visit(until_the_budget_is_spent, SMALL_BUDGET, reaches=STRONG),
    "budget, refused": Visit(until_the_budget_is_spent, SMALL_BUDGET | {"OTP_ON_BUDGET": "refuse"}, reaches=LIMITED),
    "surge": Visit(through_a_surge, {"OTP_SURGE_LIMIT": "3/day"}, reaches=STRONG),
    "revocation": Visit(after_a_revocation),
    "links": Visit(with_links, {"OTP_LINKS": True, "OTP_BASE_URL": "https://shop.example"}),
    "network limit": Visit(up_to_a_limit_that_others_share, NETWORK, reaches=LIMITED),
    "channel budget": Visit(
        up_to_a_limit_that_others_share, {"OTP_CHANNEL_BUDGET": {"email": "2/day"}}, reaches=LIMITED
    ),
    "known browser": Visit(from_a_browser_that_was_known, SMALL_BUDGET, reaches=STRONG),
    "step-up": Visit(for_a_step_up, {"OTP_PURPOSES": PURPOSES}),
    "phone": Visit(by_phone),
    "phone on file": Visit(by_phone_where_an_address_was_typed),
    "address on file": Visit(by_address_where_a_number_was_typed),
    "mistakes": Visit(with_mistakes),
    "broken channel": Visit(by_a_broken_channel, deliver=fail),
    "full pool": Visit(partial(when_nothing_goes_out_any_more, fill_the_pool), reaches=FAILED),
    "dispatcher": Visit(in_short, prepare=queue),
    "broken dispatcher": Visit(partial(when_nothing_goes_out_any_more, break_the_queue), reaches=FAILED),
    "broken worker": Visit(by_a_broken_channel, deliver=fail, prepare=queue),
    "vetoed": Visit(by_a_broken_channel, prepare=lambda side: side.otp.before_send(lambda message: False)),
}
#: The visits in which no message arrives.
SILENT = {"broken channel", "broken worker", "vetoed"}


@pytest.mark.parametrize("as_form", [False, True], ids=["json", "form"])
@pytest.mark.parametrize("name", VISITS)
def test_r21_a_visitor_without_an_account_sees_what_a_member_sees(
    name: str, as_form: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", clock)
    known, unknown = (VISITS[name].paid(is_known, clock, as_form=as_form) for is_known in (True, False))
    assert_alike(known, unknown)
    assert bool(known.sent) is (name not in SILENT)
    reached = {int(step[0][:3]) for step in known.seen} | {len(message.code) for message in known.sent}
    assert VISITS[name].reaches <= reached


def assert_alike(known: Side, unknown: Side) -> None:
    for here, there in zip(known.seen, unknown.seen, strict=True):
        assert here == there
    assert unknown.sent == []


def test_r21_nor_does_any_store_tell(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.app()  # makes the table, where there is one
    monkeypatch.setattr(time, "time", clock)
    storage = {"OTP_STORAGE_URI": stage.uri, "OTP_STORAGE_OPTIONS": stage.options}

    def to_all_limits(side: Side) -> None:
        until_the_budget_is_spent(side)
        up_to_the_send_limit(side)

    visit = Visit(to_all_limits, WIDE | SMALL_BUDGET | storage | {"OTP_COOLDOWN": "30s"})
    sides = [visit.paid(is_known, clock) for is_known in (True, False)]
    for side in sides:
        side.app.extensions["otp"].store.close()
    assert_alike(*sides)


#: The ways that a message takes.
WAYS = {
    "email": Visit(in_short),
    "links": Visit(in_short, VISITS["links"].config),
    "strong codes": Visit(in_short, {"OTP_FAILURE_BUDGET": "1/30 days"}),
    "dispatcher": Visit(in_short, prepare=queue),
    "phone": Visit(by_phone),
    "phone on file": VISITS["phone on file"],
    "address on file": VISITS["address on file"],
    "next channel": Visit(
        in_short,
        {"OTP_PURPOSES": PURPOSES | {"login": {"channels": ["email", "post"], "next_channel_after": "45s"}}},
        prepare=lambda side: side.otp.channel("post", accepts="email")(side.sent.append),
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_r22_a_visitor_without_an_account_takes_the_same_work(
    name: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Call by call, and in our own functions and templates line by line: time cannot tell what steps do not."""
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(time, "monotonic", clock)
    for is_known in (True, False):
        WAYS[name].paid(is_known, clock)  # what is kept from then on is kept for both
    assert differences(WAYS[name], clock) == {}


@pytest.mark.parametrize("name", ["email", "dispatcher", "phone"])
def test_r22_nor_does_it_take_other_work_while_everything_is_listened_to(
    name: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(time, "monotonic", clock)
    with listening():
        for is_known in (True, False):
            WAYS[name].paid(is_known, clock)
        assert differences(WAYS[name], clock) == {}


def differences(visit: Visit, clock: Clock) -> Counter[str]:
    """What one of the two took more often, request by request."""
    visits = []
    for is_known in (True, False):
        urllib.parse.clear_cache()  # it is emptied when it is full, which is in one of the two
        visits.append(visit.paid(is_known, clock, counting=True))
    known, unknown = visits
    found: Counter[str] = Counter()
    for here, there in zip(known.work, unknown.work, strict=True):
        assert sum(here.values()) > 100
        found += (here - there) + (there - here)
    return found


def test_what_is_done_for_members_only_is_found_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A former fault: the decoy's recipient was what the visitor typed, even where the channel sends to phones."""
    monkeypatch.setattr(Router, "_decoy_recipient", lambda self, address, channel: address)
    assert any("email.html" in step for step in differences(WAYS["phone on file"], clock))


def test_r22_a_delivery_leaves_its_request_the_time_to_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    side = Side(clock, is_known=True)
    side.app.extensions["otp"].delivery._background = Background(side.app, workers=1, pause=60)
    side.send()
    assert 30 < max(slept) <= 60  # beside what threads of earlier tests sleep
    assert Background.PAUSE >= 0.1
