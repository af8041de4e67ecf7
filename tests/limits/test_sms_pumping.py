"""SMS pumping: how many unverified messages go out before the attack is stopped, and who still gets a message."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from flask_otp import OTP, Challenge, Message, signals
from flask_otp.crypto.payloads import Client
from flask_otp.errors import DeliveryFailed, InvalidCode, RateLimited, StoreUnavailable
from flask_otp.events import Event
from flask_otp.limits.sms_pumping import Tally
from flask_otp.testing import Clock, Outbox
from tests.support.answers import like_any
from tests.support.apps import START, AppFactory, ValkeyServer
from tests.support.examples import at_night
from tests.support.proxy import Proxy
from tests.support.pumping import (
    BLOCK,
    CONFIG,
    COUNTRY_MINIMUM,
    HOUR,
    MINIMUM,
    Crowd,
    Town,
    arrivals,
    german,
    start_of_window,
)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def otp(clock: Clock, outbox: Outbox) -> OTP:
    otp = OTP(clock=clock)
    otp.channel("sms")(outbox.append)
    return otp


TownFactory = Callable[..., Town]


@pytest.fixture
def town_of(make_app: AppFactory, otp: OTP, outbox: Outbox, clock: Clock) -> Iterator[TownFactory]:
    """``town_of(**config)``, in an app context."""
    made = []

    def make(**config: Any) -> Town:
        app = make_app(otp, **CONFIG | config)
        made.append(app.app_context())
        made[-1].push()
        return Town(app, outbox, clock)

    yield make
    for context in reversed(made):
        context.pop()


@pytest.fixture
def town(town_of: TownFactory) -> Town:
    return town_of()


# Simulations


def in_one_range(number: int) -> str:
    return german(number)


def in_fifty_ranges(number: int) -> str:
    return german(number // 50, block=number % 50)


@pytest.mark.parametrize(
    "count", [150, pytest.param(5000, marks=pytest.mark.long)], ids=["150 numbers", "5,000 numbers"]
)
@pytest.mark.parametrize(
    ("phone", "tripped", "sent"), [(in_one_range, BLOCK, MINIMUM), (in_fifty_ranges, "DE", COUNTRY_MINIMUM)]
)
def test_r16_so_many_messages_go_out_before_it_trips(
    town_of: TownFactory, phone: Callable[[int], str], tripped: str, sent: int, count: int
) -> None:
    """Each number is asked for from a network of its own, all in one second."""
    town = town_of()
    town.clock.now = start_of_window(tripped)
    for number in range(count):
        town.ask(phone(number))
    assert len(town.outbox) == sent


#: Messages asked for in a second, and how many of the codes are typed; then how many are withheld within the first five
#: minutes, and the second of the last.
LAUNCHES = [
    (1, 0.5, 0, 0),
    (2, 0.5, 13, 58),
    (20, 0.8, 333, 28),
    *at_night((0.1, 0.5, 0, 0), (2, 0.8, 0, 0), (5, 0.8, 15, 23)),
]


@pytest.mark.parametrize(("rate", "chance", "withheld", "last"), LAUNCHES)
def test_a_launch_in_a_new_country_is_held_up_for_seconds_at_most(
    town: Town, rate: float, chance: float, withheld: int, last: int
) -> None:
    """When the first hundreds of people ask, no code has been verified yet."""
    luck, crowd = random.Random(4), Crowd(town, start_of_window("DE"))
    for now in arrivals(rate, 300, luck):
        crowd.ask_honestly(german(luck.randrange(10_000), block=luck.randrange(1000)), now, chance, luck)
    print(f"launch: {rate} a second, {chance:.0%} typed: {crowd.withheld} of {crowd.asked}, until second {crowd.last}")
    assert (crowd.withheld, int(crowd.last)) == (withheld, last)


def test_a_company_whose_numbers_are_neighbours_is_held_up_for_half_a_minute(town: Town) -> None:
    """Two hundred people of one range are told to sign in, and do within two minutes."""
    luck, crowd = random.Random(4), Crowd(town, start_of_window(BLOCK))
    for now in arrivals(200 / 120, 120, luck):
        crowd.ask_honestly(german(luck.randrange(10_000)), now, 0.9, luck)
    print(f"company: {crowd.withheld} of {crowd.asked}, until second {crowd.last}")
    assert (crowd.withheld, int(crowd.last)) == (8, 19)


#: How many ranges are pumped, and in how many the honest people are; then the messages that the 5,000 numbers get, how
#: many are withheld from the honest, and the second of the last.
ATTACKS = [
    (1, 20, 39, 0, 0),
    (50, 1000, 316, 113, 1349),
    *at_night((1, 1000, 39, 0, 0), (50, 20, 531, 8, 1227)),
]


@pytest.mark.parametrize(("pumped", "homes", "sent", "withheld", "last"), ATTACKS)
def test_r16_in_the_middle_of_honest_people_5000_numbers_are_pumped(
    town: Town, pumped: int, homes: int, sent: int, withheld: int, last: int
) -> None:
    """For half an hour a person asks every five seconds, and 7 of 10 type the code. The attack is in the middle."""
    luck, crowd = random.Random(4), Crowd(town, start_of_window("DE"))
    honest = [(now, luck.randrange(10_000), luck.randrange(homes)) for now in arrivals(0.2, 1800, luck)]
    attack = [(600 + number * 0.12, number // pumped, 5000 + number % pumped) for number in range(5000)]
    got = 0
    for now, number, block in sorted(honest + attack):
        if block >= 5000:
            got += crowd.ask(german(number, block), now)
        else:
            crowd.ask_honestly(german(number, block), now, 0.7, luck)
    print(f"{pumped} pumped, {homes} homes: {got} got; withheld {crowd.withheld} of {crowd.asked}, until {crowd.last}")
    assert (got, crowd.withheld, int(crowd.last)) == (sent, withheld, last)


def test_r16_who_pumps_all_hour_gets_twice_as_much(town: Town) -> None:
    """A few messages still go out, because they can show that the range works again. They are one minimum more."""
    crowd = Crowd(town, start_of_window(BLOCK))
    got = [crowd.ask(german(second), second) for second in range(HOUR)]
    assert (sum(got[:31]), sum(got)) == (MINIMUM, 2 * MINIMUM - 1)


def test_a_country_whose_messages_were_lost_shows_that_it_is_well_again(town: Town) -> None:
    """One message a second is asked for, and for ten minutes none arrives. What trickles shows that they do again."""
    luck, crowd = random.Random(4), Crowd(town, start_of_window("DE"))
    for now in arrivals(1, 1800, luck):
        chance = 0.0 if now < 600 else 0.8
        crowd.ask_honestly(german(luck.randrange(10_000), block=luck.randrange(1000)), now, chance, luck)
    print(f"outage: {crowd.withheld} of {crowd.asked}, until {crowd.last}")
    assert (crowd.withheld, crowd.asked, int(crowd.last)) == (1572, 1815, 1707)


# In parallel


PROGRAM = """
import sys, threading, redis
from flask import Flask
from flask_otp import OTP
uri, start, who = sys.argv[1:]
app = Flask("site")
app.config.update(TESTING=True, SECRET_KEY="a secret that is only for tests", OTP_STORAGE_URI=uri,
                  OTP_SMS_COUNTRIES=["DE"], OTP_STORAGE_OPTIONS={"socket_timeout": 10, "socket_connect_timeout": 10})
otp = OTP(clock=lambda: float(start))
sent = []
otp.channel("sms")(sent.append)
otp.init_app(app)
def ask(number):
    barrier.wait()
    with app.app_context():
        for i in range(8):
            otp.send(f"+491511234{who}{number}{i}0")
barrier = threading.Barrier(8)
threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
with redis.Redis.from_url(uri) as client:
    client.incr("ready")
    while int(client.get("ready")) < 2:
        pass
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(sent))
"""


def test_r16_two_processes_of_eight_threads_send_no_message_more(valkey: ValkeyServer) -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, valkey.uri, str(start_of_window(BLOCK))]
    started = [
        subprocess.Popen([*command, str(who)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for who in (1, 2)
    ]
    answers = [process.communicate(timeout=60) for process in started]
    assert [errors for _, errors in answers if "Traceback" in errors] == []
    assert sum(int(sent) for sent, _ in answers) == MINIMUM


def test_r16_threads_send_no_message_more(town_of: TownFactory) -> None:
    town = town_of()
    town.clock.now = start_of_window(BLOCK)
    barrier = threading.Barrier(16)

    def ask(thread: int) -> None:
        with town.app.app_context():
            barrier.wait(30)
            for number in range(5):
                town.ask(german(thread * 100 + number))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    assert len(town.outbox) == MINIMUM


def test_memory_loses_no_count_while_threads_begin_a_window(town: Town) -> None:
    barrier, storage = threading.Barrier(8), town.state.limits.storage

    def count(thread: int) -> None:
        for number in range(400):
            barrier.wait(30)
            storage.incr(f"key{number}", HOUR)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(count, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert {storage.get(f"key{number}") for number in range(400)} == {8}


# What a range is counted by


def test_r16_a_range_opens_again_as_soon_as_its_codes_come_back(town: Town) -> None:
    """However often it was asked for meanwhile: what is withheld does not count as sent."""
    town.clock.now = start_of_window(BLOCK)
    challenges = town.fill(MINIMUM)
    assert [town.is_sent(german(100 + number)) for number in range(50)] == [False] * 50
    for challenge in challenges[:5]:
        town.type(challenge)
    assert not town.is_sent(german(200))
    town.type(challenges[5])  # one in five of thirty
    assert town.is_sent(german(201))
    assert not town.is_sent(german(202))
    for challenge in challenges[6:8]:
        town.type(challenge)
    assert [town.is_sent(german(300 + number)) for number in range(12)] == [True] * 10 + [False] * 2


def test_r16_a_range_opens_again_when_its_window_ends(town: Town) -> None:
    town.clock.now = start_of_window(BLOCK)
    town.fill(MINIMUM)
    town.clock.now += HOUR - 1
    assert [town.is_sent(german(100 + number)) for number in range(31)] == [True] * 29 + [False] * 2
    town.clock.now += 1
    assert [town.is_sent(german(200 + number)) for number in range(31)] == [True] * 30 + [False]


def test_r16_each_channel_has_counts_of_its_own(town_of: TownFactory, otp: OTP, outbox: Outbox) -> None:
    otp.channel("voice")(outbox.append)
    town = town_of()
    town.clock.now = start_of_window(BLOCK)
    town.fill(MINIMUM)
    assert not town.is_sent(german(100))
    assert town.is_sent(german(100), channel="voice")


def test_r16_so_has_each_country_of_a_shared_code(town_of: TownFactory) -> None:
    town = town_of(OTP_SMS_COUNTRIES=["US", "CA"])
    for block in range(200, 200 + 2 * COUNTRY_MINIMUM):
        town.ask(f"+1416{block}1234")
    assert not town.is_sent("+14165551234")
    assert town.is_sent("+12025550142")


def test_r16_a_known_browser_gets_its_message_all_the_same(town: Town) -> None:
    town.clock.now = start_of_window(BLOCK)
    known = town.type(town.ask(german(0)))
    town.fill(200)
    assert not town.is_sent(german(0))
    assert town.is_sent(german(0), known=(known,))
    assert not town.is_sent(german(1), known=(known,))


def test_r16_numbers_near_to_some_that_verify_are_not_held_up_by_their_country(town: Town) -> None:
    town.clock.now = start_of_window("+491510001")
    town.type(town.ask(german(0, block=1)))
    for block in range(2, 2 + 2 * COUNTRY_MINIMUM):
        town.ask(german(0, block))
    assert not town.is_sent(german(1, block=2))
    assert [town.is_sent(german(number, block=1)) for number in range(1, 7)] == [True] * 5 + [False]


@pytest.mark.parametrize("failed", ["channel", "veto", "channel budget"])
@pytest.mark.parametrize("delivery", ["inline", "background, unknown accounts"])
def test_r16_a_message_that_did_not_go_out_is_none_that_nobody_verified(
    make_app: AppFactory, clock: Clock, failed: str, delivery: str
) -> None:
    """An outage of the provider would trip all ranges."""
    otp, outbox, fails = OTP(clock=clock), Outbox(), [True]

    @otp.channel("sms")
    def send(message: Message) -> None:
        if fails[0] and failed == "channel":
            raise ConnectionError
        outbox.append(message)

    otp.before_send(lambda message: not (fails[0] and failed == "veto"))
    if delivery != "inline":
        otp.recipient_loader(lambda identifier, channel: identifier)
    budget = {"sms": "1/day"} if failed == "channel budget" else {}
    app = make_app(otp, **CONFIG, OTP_CHANNEL_BUDGET=budget)
    clock.now = start_of_window(BLOCK)
    with app.app_context():
        town = Town(app, outbox, clock)
        for number in range(3 * MINIMUM):
            with contextlib.suppress(DeliveryFailed, RateLimited):
                town.ask(german(number))
        app.extensions["otp"].delivery._background.wait(10)
        sent, verified = counted(town)
        assert (sent, verified) == (1 if budget else 0, 0)


def test_what_is_vetoed_and_then_cannot_be_queued_is_taken_back_once(town_of: TownFactory, otp: OTP) -> None:
    otp.before_send(lambda message: False)
    otp.dispatcher(lambda payload: 1 / 0)
    town = town_of()
    for number in range(3):
        with pytest.raises(DeliveryFailed):
            town.ask(german(number))
    assert counted(town) == (0, 0)


def test_r21_a_failure_that_nobody_may_see_takes_nothing_of_the_subject_back(town_of: TownFactory, otp: OTP) -> None:
    otp.channel("sms")(lambda message: 1 / 0)
    otp.recipient_loader(lambda identifier, channel: identifier)
    town = town_of()
    challenge = town.ask(german(0))
    town.state.delivery._background.wait(10)
    assert counted(town) == (0, 0)
    handle = town.handle(challenge)
    assert town.state.store.is_live(handle.subject, handle.challenge_id, int(town.clock()))


def counted(town: Town) -> Tally:
    """What the range's counter says now."""
    pumping = town.state.sms_pumping
    block, _ = pumping._ranges("sms", f"{BLOCK}DE", int(town.clock()))
    return Tally.of(town.state.limits.tally(block.key, 0, HOUR))


@pytest.mark.parametrize("count", [-1, -2, 0, 1, 29, (1 << 26) - 1, 1 << 26, (1 << 26) + 30, (5 << 26) - 1])
def test_what_is_taken_back_after_a_server_forgot_it_trips_nothing(count: int) -> None:
    sent, verified = Tally.of(count)
    assert sent + (verified << 26) == count
    assert sent >= -2 or verified < 0
    assert Tally.of(30 + (7 << 26)) == (30, 7)
    assert Tally.of((7 << 26) - 1) == (-1, 7)


# What people are told


def test_r21_who_gets_no_message_is_answered_as_any_other(town: Town) -> None:
    town.clock.now = start_of_window(BLOCK)
    town.fill(MINIMUM - 1)
    before = len(town.outbox)
    answers = [town.app.test_client().post("/otp/send", json={"phone": german(100 + number)}) for number in range(2)]
    assert len(town.outbox) == before + 1
    assert like_any(answers[0]) == like_any(answers[1])


def test_r16_no_code_verifies_that_was_withheld(town: Town) -> None:
    town.clock.now = start_of_window(BLOCK)
    town.fill(MINIMUM)
    challenge = town.ask(german(100))
    with pytest.raises(InvalidCode):
        town.service.verify(town.handle(challenge).code, challenge.handle, purpose=None, network=None)


def test_a_message_that_was_withheld_is_sent_again_when_the_range_is_open(town: Town) -> None:
    town.clock.now = start_of_window(BLOCK)
    challenges = town.fill(MINIMUM)
    withheld = town.ask(german(100))
    again = town.service.resend(withheld.handle, Client(network="10.9.9.9"))
    assert town.handle(again).is_decoy
    for challenge in challenges[:6]:
        town.type(challenge)
    again = town.service.resend(again.handle, Client(network="10.9.9.9"))
    assert town.outbox[-1].recipient == german(100)
    town.type(again)


def test_r21_who_has_an_account_since_they_asked_gets_nothing_by_asking_again(town_of: TownFactory, otp: OTP) -> None:
    accounts: dict[str, str] = {}
    otp.recipient_loader(lambda identifier, channel: accounts.get(identifier))
    town = town_of(OTP_DELIVERY="inline")
    challenge = town.ask(german(0))
    accounts[german(0)] = german(0)
    again = town.service.resend(challenge.handle, Client(network="10.9.9.9"))
    assert (town.handle(again).is_decoy, town.outbox) == (True, [])


def test_a_code_that_arrived_is_good_although_it_cannot_be_sent_again(town: Town) -> None:
    town.clock.now = start_of_window(BLOCK)
    first = town.ask(german(100), session_secret=b"browser")
    town.fill(MINIMUM)
    assert len(town.outbox) == MINIMUM
    second = town.ask(german(100), session_secret=b"browser")
    third = town.service.resend(second.handle, Client(network="10.9.9.9"))
    assert len(town.outbox) == MINIMUM
    assert {town.handle(challenge).challenge_id for challenge in (first, second, third)} == {
        town.handle(first).challenge_id
    }
    town.type(third)


def test_r34_a_trip_is_told_once_in_a_window_and_names_nobody(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    told: list[dict[str, Any]] = []
    town.clock.now = start_of_window(BLOCK)

    @signals.sms_pumping.connect_via(town.app)
    def tell(app: Flask, event: Event, **context_values: Any) -> None:
        told.append(context_values)
        assert event.subject is None

    town.fill(3 * MINIMUM)
    assert told == [{"prefix": BLOCK, "channel": "sms", "sent": MINIMUM, "verified": 0}]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert BLOCK in warnings[0]
    assert "+4915112340" not in warnings[0]
    town.clock.now += HOUR
    town.fill(3 * MINIMUM)
    assert len(told) == 2


def test_r16_a_country_that_trips_is_told_by_its_letters(town: Town) -> None:
    told: list[dict[str, Any]] = []
    town.clock.now = start_of_window("DE")
    signals.sms_pumping.connect(lambda app, event, **context_values: told.append(context_values), town.app, weak=False)
    for block in range(2 * COUNTRY_MINIMUM):
        town.ask(german(0, block))
    assert told == [{"prefix": "DE", "channel": "sms", "sent": COUNTRY_MINIMUM, "verified": 0}]


@pytest.mark.parametrize("phone", ["+15550100", "+999123456"])
def test_test_recipients_are_in_no_range(town_of: TownFactory, phone: str) -> None:
    town = town_of(OTP_TEST_RECIPIENTS={phone: ("000000", "2030-01-31")}, OTP_RECIPIENT_LIMIT="1000/hour")
    for _ in range(2 * COUNTRY_MINIMUM):
        challenge = town.ask(phone)
    town.service.verify("000000", challenge.handle, purpose=None, network=None)
    assert town.handle(challenge).numbers == ""
    assert town.outbox == []


# Budgets of prefixes


def test_r15_a_prefix_has_a_budget_and_who_comes_later_is_answered_as_any_other(
    town_of: TownFactory, caplog: pytest.LogCaptureFixture
) -> None:
    town = town_of(
        OTP_PUMPING_BREAKER=None,
        OTP_PREFIX_BUDGET={"+49": "12/day", "+491511": "5/day;3/hour", "+33": "1/day"},
    )
    assert [town.is_sent(german(number, block=1000)) for number in range(9)] == [True] * 3 + [False] * 6
    assert "+491511" in caplog.text
    # What the narrow one withheld was no charge to the wide one.
    assert [town.is_sent(german(number, block=2000)) for number in range(11)] == [True] * 9 + [False] * 2
    answer = town.app.test_client().post("/otp/send", json={"phone": german(100)})
    assert answer.status_code == 200


def test_r15_a_prefix_budget_holds_for_known_browsers_too(town_of: TownFactory) -> None:
    town = town_of(OTP_PREFIX_BUDGET={"+49": "1/day"})
    known = town.type(town.ask(german(0)))
    assert not town.is_sent(german(0), known=(known,))
    assert counted(town) == (1, 1)


def test_r15_who_does_not_exist_is_no_charge_to_a_prefix(town_of: TownFactory, otp: OTP) -> None:
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == german(0) else None)
    town = town_of(OTP_PREFIX_BUDGET={"+49": "1/day"}, OTP_DELIVERY="inline")
    assert [town.is_sent(german(number)) for number in (1, 2, 3, 0, 0)] == [False, False, False, True, False]


def test_r15_what_is_withheld_is_no_charge_to_the_channels_budget(town_of: TownFactory) -> None:
    town = town_of(OTP_CHANNEL_BUDGET={"sms": "40/day"})
    town.clock.now = start_of_window(BLOCK)
    town.fill(100)
    assert [town.is_sent(german(number, block=77)) for number in range(10)] == [True] * 10
    with pytest.raises(RateLimited):
        town.ask(german(10, block=77))


# Its cost


def test_the_round_trips_of_a_message_and_none_for_an_email(
    town_of: TownFactory, otp: OTP, valkey: ValkeyServer
) -> None:
    otp.channel("email")(lambda message: None)
    with Proxy(valkey.port) as proxy:
        town = town_of(OTP_STORAGE_URI="memory://")
        Limiter(get_remote_address, app=town.app, storage_uri=f"redis://127.0.0.1:{proxy.port}")
        town.clock.now = start_of_window(BLOCK)

        def trips(step: Callable[[], Any]) -> int:
            town.state.limits._surge_checked = (time.monotonic() + 60, False)
            proxy.reset()
            step()
            return proxy.round_trips

        def verify(challenge: Challenge, code: str) -> None:
            town.service.verify(code, challenge.handle, purpose=None, network=None)

        town.ask(german(9, block=9999), network=None)
        assert trips(lambda: town.ask("ann@example.com", network=None)) == 0
        assert trips(lambda: town.ask(german(0), network=None)) == 2
        challenge = town.ask(german(1), network=None)
        assert trips(lambda: verify(challenge, town.handle(challenge).code)) == 2
        town.fill(40)
        # The message is counted, taken back, and reported.
        assert trips(lambda: town.ask(german(50), network=None)) == 3
        town.clock.now = start_of_window("DE")
        for block in range(200):
            town.ask(german(0, block), network=None)
        assert trips(lambda: town.ask(german(0, block=300), network=None)) == 5


def test_r22_who_does_not_exist_costs_as_many(town_of: TownFactory, otp: OTP, valkey: ValkeyServer) -> None:
    """Or the time that it takes would tell."""
    otp.channel("email")(lambda message: None)
    accounts = {german(0): german(0), "ann@example.com": german(0), "bob@example.com": "bob@example.com"}
    otp.recipient_loader(lambda identifier, channel: accounts.get(identifier))
    with Proxy(valkey.port) as proxy:
        town = town_of(OTP_PREFIX_BUDGET={"+49": "1000/hour;5000/day", "+33": "9/day"}, OTP_DELIVERY="inline")
        Limiter(get_remote_address, app=town.app, storage_uri=f"redis://127.0.0.1:{proxy.port}")

        def trips(identifier: str, channel: str) -> int:
            town.state.limits._surge_checked = (time.monotonic() + 60, False)
            proxy.reset()
            town.ask(identifier, channel, network=None)
            return proxy.round_trips

        town.ask(german(0), network=None)
        assert [trips(phone, "sms") for phone in (german(0), german(1))] == [4, 4]
        assert trips("+33612345678", "sms") == 3
        assert [trips(email, "email") for email in ("bob@example.com", "eve@example.com")] == [0, 0]
        assert trips("eve@example.com", "sms") == 2
    assert {message.recipient for message in town.outbox} == {german(0)}


# Without the storage


@pytest.mark.server
def test_r37_what_cannot_be_counted_is_not_sent(town_of: TownFactory, tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        town = town_of()
        Limiter(get_remote_address, app=town.app, storage_uri=server.uri)
        challenge = town.ask(german(0), network=None)
        server.stop()
        with pytest.raises(StoreUnavailable):
            town.ask(german(1), network=None)
        assert len(town.outbox) == 1
        server.start()
        # The challenge that was opened for it is gone, and its count with it.
        assert town.is_sent(german(1), network=None)
        server.stop()
        town.state.limits._surge_checked = (time.monotonic() + 60, False)
        town.type(challenge)
    finally:
        server.stop()


# Settings


def test_the_breaker_can_be_switched_off(town_of: TownFactory) -> None:
    town = town_of(OTP_PUMPING_BREAKER=None)
    town.fill(3 * COUNTRY_MINIMUM)
    assert len(town.outbox) == 3 * COUNTRY_MINIMUM


def test_what_is_not_set_has_its_default(town_of: TownFactory) -> None:
    town = town_of(OTP_PUMPING_BREAKER={"minimum": 3, "window": "10m"})
    assert town.state.settings.pumping_breaker == (3, 100, 0.2, 600)
    town.clock.now = START - (START + crc32(f"sms/{BLOCK}".encode())) % 600
    town.fill(10)
    assert len(town.outbox) == 3
    town.clock.now += 600
    assert town.is_sent(german(0))
