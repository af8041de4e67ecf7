"""A code that is not verified in time goes out by the next channel, and an ended one does not."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_otp import OTP, ConfigError, Message, OTPError, StoreUnavailable, otp_required
from flask_otp.delivery.later import Later
from flask_otp.delivery.worker import NOT_OURS
from flask_otp.events import Event
from flask_otp.limits.counters import Limits
from flask_otp.networks import network_of
from flask_otp.signals import code_sent
from flask_otp.stores import Store, store_from_uri
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock, Outbox, capture_codes, send_due
from tests.support.apps import AppFactory
from tests.support.examples import IS_NIGHT
from tests.support.servers import wait_until

ANN, PHONE = "ann@example.com", "+4915112345678"
WIDE = {"OTP_IP_SEND_LIMIT": None, "OTP_IP_VERIFY_LIMIT": None}
SETTINGS = WIDE | {
    "OTP_DELIVERY": "inline",
    "OTP_SMS_COUNTRIES": ("DE",),
    "OTP_NEXT_CHANNEL_AFTER": "45s",
    "OTP_CHANNELS": {name: lambda message: None for name in ("sms", "voice", "email", "chat")},
}


@pytest.fixture
def otp(clock: Clock) -> OTP:
    """Ann has an address and a phone, Eve has only an address. A ``user...`` has only a phone."""
    otp = OTP(clock=clock)

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str | None:
        if channel == "email":
            return identifier if identifier in (ANN, "eve@example.com") else None
        return PHONE if identifier == ANN or identifier.startswith("user") else None

    return otp


@pytest.fixture
def site(make_app: AppFactory, otp: OTP, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flask]:
    # Only the test says when something is done.
    monkeypatch.setattr(Later, "_start", lambda self, waiting: None)

    def make(**config: Any) -> Flask:
        app = make_app(otp, **(SETTINGS | config))
        app.add_url_rule("/sms", "sms", otp_required(channels=("sms",))(lambda: "in"))
        return app

    return make


@pytest.fixture
def app(site: Callable[..., Flask]) -> Flask:
    return site()


@pytest.fixture
def sent(app: Flask) -> Iterator[Outbox]:
    with capture_codes(app) as sent:
        yield sent


def send(client: FlaskClient, email: str = ANN, channel: str = "sms") -> str:
    answer = client.post("/otp/send", json={"email": email, "channel": channel})
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["challenge"])


def verify(client: FlaskClient, handle: str, code: str) -> Any:
    return client.post("/otp/verify", json={"challenge": handle, "code": code})


def wait(app: Flask, clock: Clock, by: float) -> None:
    clock.now += by
    send_due(app)


def use(app: Flask, store: Store) -> None:
    app.extensions["otp"].store = store


# What goes out, and when


def test_the_code_goes_out_by_three_channels_one_after_the_other(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    handle = send(client)
    ways = []
    for by in (44.9, 0.1, 44.9, 0.1, 60):
        wait(app, clock, by)
        ways.append([message.channel for message in sent])
    sms, voice, email = ["sms"], ["sms", "voice"], ["sms", "voice", "email"]
    assert ways == [sms, voice, voice, email, email]
    assert len({message.code for message in sent}) == 1
    assert len({message.id for message in sent}) == 3
    proved = verify(client, handle, sent.code).get_json()
    assert proved["channels"] == ["sms", "voice", "email"]


def test_the_list_of_the_purpose_says_which_channel_is_next(site: Callable[..., Flask], clock: Clock) -> None:
    app = site(OTP_PURPOSES={"login": {"channels": ["email", "sms"]}, "calm": {"next_channel_after": None}})
    for purpose, channel, expected in (
        ("login", "email", ["email", "sms"]),
        ("login", "sms", ["sms"]),
        ("calm", "sms", ["sms"]),
    ):
        with capture_codes(app) as sent:
            body = {"email": ANN, "channel": channel, "purpose": purpose}
            assert app.test_client().post("/otp/send", json=body).status_code == 200
            wait(app, clock, 45)
            wait(app, clock, 45)
        assert [message.channel for message in sent] == expected
        clock.advance("1h")


def test_a_guard_that_wants_a_phone_gets_no_e_mail(app: Flask, sent: Outbox, clock: Clock) -> None:
    app.add_url_rule("/phone", "phone", otp_required(channels=("sms", "voice"))(lambda: "in"))
    client = app.test_client()
    requirement = client.get("/phone").get_json()["requirement"]
    body = {"email": ANN, "channel": "sms", "requirement": requirement}
    assert client.post("/otp/send", json=body).status_code == 200
    for _ in range(3):
        wait(app, clock, 45)
    assert [message.channel for message in sent] == ["sms", "voice"]


def test_a_resend_plans_nothing_and_prolongs_nothing(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    handle = send(client)
    wait(app, clock, 31)
    assert client.post("/otp/resend", json={"challenge": handle}).status_code == 200
    assert send(client)  # a double click: quiet
    wait(app, clock, 14)
    wait(app, clock, 31)
    assert [message.channel for message in sent] == ["sms", "sms", "voice"]
    wait(app, clock, 200)
    assert [message.channel for message in sent] == ["sms", "sms", "voice", "email"]


def test_what_the_person_has_had_sent_already_is_passed_over(app: Flask, sent: Outbox, clock: Clock) -> None:
    client = app.test_client()
    handle = send(client)
    assert client.post("/otp/resend", json={"challenge": handle, "channel": "voice"}).status_code == 200
    wait(app, clock, 45)
    assert [message.channel for message in sent] == ["sms", "voice"]
    wait(app, clock, 45)
    assert [message.channel for message in sent] == ["sms", "voice", "email"]


def test_it_speaks_the_language_of_the_request(app: Flask, sent: Outbox, clock: Clock) -> None:
    app.test_client().post("/otp/send", json={"email": ANN}, headers={"Accept-Language": "fr"})
    wait(app, clock, 45)
    assert [message.language for message in sent] == ["fr", "fr"]


def test_who_has_no_phone_gets_the_code_by_e_mail_and_the_first_handle_takes_it(
    app: Flask, sent: Outbox, clock: Clock
) -> None:
    handles = [send(app.test_client(), name) for name in ("eve@example.com", "bob@example.com")]
    assert sent == []
    for _ in range(3):
        wait(app, clock, 45)
    assert [message.recipient for message in sent] == ["eve@example.com"]
    assert verify(app.test_client(), handles[0], sent.code).status_code == 200
    # For an unknown identifier no code is right, not even the one that would have been sent.
    code = app.extensions["otp"].tokens.load_handle(handles[1]).code
    assert verify(app.test_client(), handles[1], code).status_code == 400


@pytest.mark.parametrize(
    ("who", "told"),
    [
        (ANN, [("sms", "first"), ("voice", "repeated"), ("email", "repeated")]),
        ("eve@example.com", [("email", "first")]),
        ("user1@example.com", [("sms", "first"), ("voice", "repeated")]),
    ],
)
def test_a_code_is_told_as_sent_for_the_first_time_once(
    app: Flask, sent: Outbox, clock: Clock, who: str, told: list[tuple[str, str]]
) -> None:
    """Statistics count the codes by it."""
    events: list[tuple[str | None, str | None]] = []

    def receive(sender: Flask, event: Event, **_: Any) -> None:
        events.append((event.channel, event.reason))

    with code_sent.connected_to(receive, app):
        send(app.test_client(), who)
        for _ in range(3):
            wait(app, clock, 45)
    assert events == told


def test_no_message_goes_out_whose_code_would_be_refused(app: Flask, otp: OTP, sent: Outbox, clock: Clock) -> None:
    """Bob gets an account after he has asked. Nothing was sent then, and the handle says that no code is right."""
    send(app.test_client(), "bob@example.com")
    otp.recipient_loader(lambda identifier, channel: identifier)
    for _ in range(2):
        wait(app, clock, 45)
    assert sent == []


def test_unknown_people_cost_the_same(app: Flask, sent: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    state, work = app.extensions["otp"], []
    for verb in ("open", "reopen", "discard"):
        verbs = getattr(state.store, verb)
        monkeypatch.setattr(state.store, verb, lambda *args, v=verb, do=verbs: (work.append(v), do(*args))[1])
    resolve = state.routing.resolve
    monkeypatch.setattr(state.routing, "resolve", lambda *args: (work.append(args[1]), resolve(*args))[1])
    done = []
    for email in (ANN, "bob@example.com"):
        work.clear()
        send(app.test_client(), email)
        wait(app, clock, 45)
        wait(app, clock, 45)
        done.append(list(work))
    assert done[0] == done[1]
    assert done[0].count("reopen") == 2


# What does not go out


@pytest.mark.parametrize("kind", ["memory", pytest.param("redis", marks=pytest.mark.server)])
def test_a_code_that_passed_in_the_last_moment_is_followed_by_no_message(
    app: Flask, otp: OTP, sent: Outbox, clock: Clock, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "redis":
        uri = request.getfixturevalue("valkey").uri
        use(app, store := store_from_uri(uri, "otp", {"socket_timeout": 30}))
        request.addfinalizer(store.close)
    with app.app_context():
        for number in range(200):
            challenge = otp.send(f"user{number}@example.com", channel="sms")
            wait(app, clock, 44.9)
            assert otp.verify(sent.code, challenge=challenge.handle).channels == ("sms",)
            for by in (0.1, 45, 45):
                wait(app, clock, by)
            assert len(sent) == number + 1
    assert app.extensions["otp"].delivery.later.take_due() == []


ROUNDS = 100 if IS_NIGHT else 15


def test_a_code_and_its_next_message_at_one_moment_are_one_after_the_other(
    app: Flask, sent: Outbox, clock: Clock, any_store: Store
) -> None:
    """Either the message was first, and the proof knows it, or the code was, and there is no message."""
    use(app, any_store)
    firsts = {"code": 0, "message": 0}
    barrier = threading.Barrier(2)

    def due(jobs: list[Callable[[], None]]) -> None:
        barrier.wait(30)
        with app.app_context():
            jobs[0]()

    def enter(client: FlaskClient, handle: str, code: str) -> Any:
        barrier.wait(30)
        return verify(client, handle, code).get_json()

    with ThreadPoolExecutor(2) as threads:
        for number in range(ROUNDS):
            sent.clear()
            client = app.test_client()
            handle = send(client, f"user{number}@example.com")
            clock.now += 45
            jobs = app.extensions["otp"].delivery.later.take_due()
            one = threads.submit(due, jobs[-1:])
            proved = threads.submit(enter, client, handle, sent.code).result(60)
            one.result(60)
            if proved["channels"] == ["sms"]:
                firsts["code"] += 1
                assert len(sent) == 1
            else:
                firsts["message"] += 1
                assert proved["channels"] == ["sms", "voice"]
                assert [message.channel for message in sent] == ["sms", "voice"]
            headers = {"Authorization": f"Bearer {proved['proof']}"}
            passes = app.test_client().get("/sms", headers=headers).status_code == 200
            assert passes is (proved["channels"] == ["sms"])
    assert sum(firsts.values()) == ROUNDS


def test_the_first_handle_proves_no_phone_once_the_code_went_out_by_e_mail_too(
    app: Flask, sent: Outbox, clock: Clock, any_store: Store
) -> None:
    """The attack: ask by SMS, wait, read the code in the mailbox, and present the first handle."""
    use(app, any_store)
    client = app.test_client()
    handle = send(client, "eve@example.com")
    wait(app, clock, 45)
    wait(app, clock, 45)
    assert [message.channel for message in sent] == ["email"]
    proved = verify(client, handle, sent.code).get_json()
    assert proved["channels"] == ["sms", "voice", "email"]
    assert client.get("/sms").status_code == 401


@pytest.mark.parametrize("end", ["revoked", "tried too often", "signed out", "expired"])
def test_an_ended_code_goes_out_by_no_other_channel(app: Flask, sent: Outbox, clock: Clock, otp: OTP, end: str) -> None:
    client = app.test_client()
    handle = send(client)
    if end == "revoked":
        with app.app_context():
            otp.revoke(ANN)
    elif end == "tried too often":
        wrong = f"{(int(sent.code) + 1) % 10**6:06}"
        for _ in range(5):
            assert verify(client, handle, wrong).status_code == 400
    elif end == "signed out":
        assert client.post("/otp/logout").status_code == 204
    else:
        clock.advance("5m")
    wait(app, clock, 45)
    wait(app, clock, 45)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("config", "reached"),
    [
        ({"OTP_CHANNEL_BUDGET": {"voice": "1/hour"}}, "channel_budget"),
        ({"OTP_SEND_LIMIT": "1/hour"}, "identifier"),
        ({"OTP_RECIPIENT_LIMIT": "1/hour"}, "identifier"),
        ({"OTP_IP_SEND_LIMIT": "2/hour"}, "network_send"),
    ],
    ids=["channel", "bucket", "recipient", "network"],
)
def test_a_limit_holds_the_next_message_back_and_nothing_is_lost(
    site: Callable[..., Flask], clock: Clock, caplog: pytest.LogCaptureFixture, config: dict[str, Any], reached: str
) -> None:
    app = site(**config)
    with capture_codes(app) as sent:
        if reached in ("channel_budget", "network_send"):
            send(app.test_client(), "user1@example.com", "voice")
        client = app.test_client()
        handle = send(client)
        before = len(sent)
        wait(app, clock, 45)
        assert len(sent) == before
        said = f"a code did not go out by 'voice', its next channel: a limit ({reached}) is reached"
        assert said in [record.getMessage() for record in caplog.records]
        assert verify(client, handle, sent.code).status_code == 200


def test_the_next_message_counts_for_the_bucket_that_asked(app: Flask, sent: Outbox, clock: Clock) -> None:
    """Five messages an hour: a network that has had them gets no sixth, and another network does."""
    client = app.test_client()
    handle = send(client)
    for _ in range(3):
        wait(app, clock, 45)
    assert len(sent) == 3
    for status in (200, 200, 429):
        assert client.post("/otp/resend", json={"challenge": handle}).status_code == status
        clock.advance("31s")
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    body = {"challenge": handle}
    assert client.post("/otp/resend", json=body, environ_base=elsewhere).status_code == 200


def test_the_next_message_of_a_known_browser_counts_for_it_alone(site: Callable[..., Flask], clock: Clock) -> None:
    app = site(OTP_RECIPIENT_LIMIT="1/day")
    with capture_codes(app) as sent:
        client = app.test_client()
        assert verify(client, send(client), sent.code).status_code == 200
        clock.advance("1h")
        send(client)
        wait(app, clock, 45)
    assert [message.channel for message in sent] == ["sms", "sms", "voice"]


def test_in_a_surge_a_stranger_gets_no_next_message_and_a_known_browser_does(
    site: Callable[..., Flask], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, asked = site(), []

    def is_surge(limits: Limits, network: str | None) -> bool:
        asked.append(network)
        return True

    with capture_codes(app) as sent:
        client = app.test_client()
        assert verify(client, send(client), sent.code).status_code == 200
        clock.advance("1h")
        send(client)
        send(app.test_client(), "user1@example.com")
        before = len(sent)
        monkeypatch.setattr(Limits, "is_surge", is_surge)
        wait(app, clock, 45)
    assert [(message.recipient, message.channel) for message in sent[before:]] == [(PHONE, "voice")]
    assert set(asked) == {network_of("127.0.0.1")}


def test_a_surge_is_no_matter_where_nothing_is_typed(
    make_app: AppFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    otp = OTP(clock=clock)
    for name in ("email", "post"):
        otp.channel(name, accepts="email")(lambda message: None)
    links = {"OTP_LINKS": True, "OTP_BASE_URL": "https://shop.example", "OTP_NEXT_CHANNEL_AFTER": "45s"}
    app = make_app(otp, OTP_PURPOSES={"deed": {"typed": False}}, OTP_DELIVERY="inline", **links)
    with capture_codes(app) as sent:
        assert app.test_client().post("/otp/send", json={"email": ANN, "purpose": "deed"}).status_code == 200
        monkeypatch.setattr(Limits, "is_surge", lambda limits, network: True)
        wait(app, clock, 45)
    assert [message.channel for message in sent] == ["email", "post"]


def test_the_next_message_to_a_phone_counts_for_its_prefix(site: Callable[..., Flask], clock: Clock) -> None:
    app = site(OTP_PREFIX_BUDGET={"+49": "1/hour"})
    with capture_codes(app) as sent:
        send(app.test_client())
        for _ in range(2):
            wait(app, clock, 45)
    assert [message.channel for message in sent] == ["sms", "email"]


def test_a_code_whose_first_message_was_withheld_passes_when_the_next_channel_has_brought_it(
    site: Callable[..., Flask], clock: Clock
) -> None:
    app = site(OTP_PREFIX_BUDGET={"+49": "1/hour"})
    with capture_codes(app) as sent:
        send(app.test_client(), "user1@example.com")
        client = app.test_client()
        handle = send(client)
        for _ in range(2):
            wait(app, clock, 45)
        assert [message.channel for message in sent] == ["sms", "email"]
        assert verify(client, handle, sent.code).status_code == 200


def test_a_loader_that_fails_costs_no_message(make_app: AppFactory, clock: Clock) -> None:
    otp, works = OTP(clock=clock), [True]

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str | None:
        if not works[0]:
            raise OSError("the table of users is out of reach")
        return PHONE

    app = make_app(otp, **(SETTINGS | {"OTP_SEND_LIMIT": "2/hour"}))
    with capture_codes(app) as sent:
        client = app.test_client()
        handle = send(client)
        works[0] = False
        with pytest.raises(OSError, match="out of reach"):
            wait(app, clock, 45)
        works[0] = True
        clock.advance("31s")
        again = client.post("/otp/resend", json={"challenge": handle})
        assert again.status_code == 200, again.text
        assert len(sent) == 2


def test_a_channel_that_fails_with_the_store_does_not_cost_the_next_one(
    site: Callable[..., Flask], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = site()
    with capture_codes(app) as sent:
        send(app.test_client(), ANN, channel="sms")
        with monkeypatch.context() as failing:
            failing.setattr(MemoryStore, "reopen", lambda *_: (_ for _ in ()).throw(StoreUnavailable()))
            with pytest.raises(StoreUnavailable):
                wait(app, clock, 45)
        wait(app, clock, 45)
    assert [message.channel for message in sent] == ["sms", "email"]


def test_a_provider_that_fails_costs_no_code(site: Callable[..., Flask], clock: Clock) -> None:
    taken: list[Message] = []

    def fail(message: Message) -> None:
        raise OSError("out of order")

    app = site(OTP_CHANNELS={"sms": taken.append, "voice": fail, "email": taken.append})
    client = app.test_client()
    handle = send(client)
    wait(app, clock, 45)
    wait(app, clock, 45)
    assert [message.channel for message in taken] == ["sms", "email"]
    assert verify(client, handle, taken[0].code).status_code == 200


# In this process


def test_a_thread_of_the_process_sends_it(make_app: AppFactory, otp: OTP) -> None:
    taken: list[Message] = []
    channels = {"sms": taken.append, "voice": taken.append}
    app = make_app(OTP(), **(SETTINGS | {"OTP_CHANNELS": channels, "OTP_NEXT_CHANNEL_AFTER": 1}))
    started = time.monotonic()
    assert app.test_client().post("/otp/send", json={"phone": PHONE}).status_code == 200
    wait_until(lambda: len(taken) == 2, 20)
    assert time.monotonic() - started >= 1
    assert [message.channel for message in taken] == ["sms", "voice"]


def test_too_many_that_wait_are_dropped_and_said(
    app: Flask, sent: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Later, "MAX_WAITING", 1)
    for number in range(2):
        send(app.test_client(), f"user{number}@example.com")
    assert "dropped: too many are waiting" in caplog.text
    wait(app, clock, 45)
    assert len(sent) == 3


_ENDING = """
import logging, flask, flask_otp
logging.basicConfig()
app = flask.Flask("site")
app.config.update(TESTING=True, SECRET_KEY="x" * 16, OTP_STORAGE_URI="memory://", OTP_NEXT_CHANNEL_AFTER="45s")
app.config.update(OTP_CHANNELS={"email": lambda message: None, "chat": lambda message: None})
flask_otp.OTP(app)
for number in range(%d):
    assert app.test_client().post("/otp/send", json={"email": f"ann{number}@example.com"}).status_code == 200
"""


@pytest.mark.parametrize(("number", "what"), [(1, "1 code"), (2, "2 codes")])
def test_the_end_of_the_process_does_not_wait_and_says_what_is_lost(number: int, what: str) -> None:
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", _ENDING % number], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert f"the process ends: {what} will not go out by the next channel" in ended.stderr
    assert time.monotonic() - started < 30


# By a queue


class Queue:
    """A dispatcher that keeps what it is given, with its delay."""

    def __init__(self) -> None:
        self.payloads: list[tuple[dict[str, str], int]] = []

    def __call__(self, payload: dict[str, str], delay: int = 0) -> None:
        self.payloads.append((payload, delay))


def test_a_queue_gets_it_with_a_delay_and_may_run_it_twice(
    site: Callable[..., Flask], otp: OTP, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    queue, taken = otp.dispatcher(Queue()), []
    app = site(OTP_CHANNELS=dict.fromkeys(("sms", "voice", "email"), taken.append))

    def deliver(payload: dict[str, str]) -> None:
        with app.app_context():
            otp.deliver(payload)

    client = app.test_client()
    handle = send(client)
    (first, at_once), (second, later) = queue.payloads
    assert (list(first), at_once, list(second), later) == (["delivery"], 0, ["next"], 45)
    deliver(first)
    # A queue that does not mind the delay sends nothing too early.
    deliver(second)
    assert "too early" in caplog.text
    clock.advance("45s")
    deliver(second)
    deliver(second)
    assert [(list(payload), delay) for payload, delay in queue.payloads[2:]] == [
        (["delivery"], 0),
        (["next"], 45),
        (["next"], 45),
    ]
    for payload, _ in queue.payloads[2:3] * 2:
        deliver(payload)
    assert [message.channel for message in taken] == ["sms", "voice"]
    assert verify(client, handle, taken[0].code).status_code == 200
    clock.advance("45s")
    for payload, _ in queue.payloads[2:]:
        deliver(payload)
    assert len(taken) == 2
    # It tells a queue nothing of the person.
    assert not any(secret in str(queue.payloads) for secret in (ANN, PHONE, taken[0].code))


def test_a_worker_whose_clock_is_three_seconds_behind_sends_it(
    site: Callable[..., Flask], otp: OTP, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    queue, taken = otp.dispatcher(Queue()), []
    app = site(OTP_CHANNELS=dict.fromkeys(("sms", "voice", "email"), taken.append))
    send(app.test_client())
    for by, payloads in ((41.9, 2), (0.1, 4)):
        clock.now += by
        with app.app_context():
            otp.deliver(queue.payloads[1][0])
        assert len(queue.payloads) == payloads
    said = "a delivery by the next channel was dropped: it came 3 s too early; see its delay"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_nothing_is_planned_for_when_the_code_is_over(site: Callable[..., Flask], clock: Clock) -> None:
    app = site(OTP_NEXT_CHANNEL_AFTER="150s")
    with capture_codes(app) as sent:
        send(app.test_client())
        wait(app, clock, 150)
    assert [message.channel for message in sent] == ["sms", "voice"]
    assert not any(waiting.jobs for waiting in app.extensions["otp"].delivery.later._waiting._made.values())


def test_a_test_recipient_stays_one_for_a_worker_that_does_not_know_of_it(
    site: Callable[..., Flask], otp: OTP, clock: Clock
) -> None:
    queue, taken = otp.dispatcher(Queue()), []
    channels = dict.fromkeys(("sms", "voice", "email"), taken.append)
    web = site(OTP_TEST_RECIPIENTS={PHONE: ("402817", "2099-01-31")}, OTP_CHANNELS=channels)
    worker = site(OTP_CHANNELS=channels)
    use(worker, web.extensions["otp"].store)
    send(web.test_client())
    clock.advance("45s")
    with worker.app_context():
        for number in range(4):
            if number < len(queue.payloads):
                otp.deliver(queue.payloads[number][0])
    assert len(queue.payloads) > 2
    assert taken == []


@pytest.mark.parametrize("payload", [{"next": "x"}, {"next": ""}, {"next": 7}, {"next": None}, {}])
def test_what_this_app_has_not_planned_is_dropped(
    app: Flask, otp: OTP, sent: Outbox, caplog: pytest.LogCaptureFixture, payload: dict[str, Any]
) -> None:
    with app.app_context():
        otp.deliver(payload)
    said = [record.getMessage() for record in caplog.records if "signed" in record.getMessage()]
    assert said == [f"a delivery was dropped: {NOT_OURS}"]
    assert sent == []


def test_a_queue_that_is_down_costs_the_next_message_alone(
    site: Callable[..., Flask], otp: OTP, caplog: pytest.LogCaptureFixture
) -> None:
    @otp.dispatcher
    def dispatch(payload: dict[str, str], delay: int = 0) -> None:
        if delay:
            raise OSError(payload)

    client = site().test_client()
    send(client)
    assert "the dispatcher failed for the next channel: OSError" in caplog.text


def test_a_dispatcher_without_a_delay_stops_the_app(site: Callable[..., Flask], otp: OTP) -> None:
    def delay(*args: object, **more: object) -> None: ...

    for dispatcher in (list[Any]().append, delay, print):
        otp.dispatcher(dispatcher)
        with pytest.raises(ConfigError, match="a parameter delay"):
            site().test_client().get("/sms")


# The setting


@pytest.mark.parametrize("value", ["5m", "10m", 0, "soon", -1])
def test_a_wait_that_is_no_use_stops_the_app(make_app: AppFactory, value: object) -> None:
    with pytest.raises(ConfigError, match="OTP_NEXT_CHANNEL_AFTER"):
        make_app(OTP_NEXT_CHANNEL_AFTER=value)


def test_no_store_no_message_and_the_queue_may_try_again(
    app: Flask, sent: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    send(app.test_client())
    state = app.extensions["otp"]

    def refuse(*args: object) -> None:
        raise OTPError

    clock.now += 45
    (job,) = state.delivery.later.take_due()
    with monkeypatch.context() as patch, app.app_context():
        patch.setattr(state.store, "reopen", refuse)
        with pytest.raises(OTPError):
            job()
    assert len(sent) == 1
    with app.app_context():
        job()
    assert [message.channel for message in sent] == ["sms", "voice"]
