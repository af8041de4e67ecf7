"""What signals tell with their :class:`~flask_otp.events.Event`: refusals, durations, waits, guards, limits."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, Message, RecipientRefused, otp_required
from flask_otp.events import Event, pseudonym
from flask_otp.networks import shorten
from flask_otp.stores import Store
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.watched import VERBS
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory
from tests.support.leaks import layers
from tests.support.listening import SIGNALS, listening
from tests.support.servers import wait_until

ANN, PHONE = "ann@example.com", "+4915112345678"


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def of(events: list[Event], kind: str, *members: str) -> list[Any]:
    """The members of the events of a kind; of one member, its values."""
    found = [tuple(getattr(event, member) for member in members) for event in events if event.kind == kind]
    return [values[0] if len(members) == 1 else values for values in found]


def test_each_refused_code_has_its_reason_and_the_client_learns_none(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP_COOLDOWN=0, OTP_PURPOSES={"login": {}, "pay": {}})
    client = app.test_client()
    with capture_codes(app) as sent, listening(app) as events:
        handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]

        def verify(**body: str) -> Any:
            return client.post("/otp/verify", json={"challenge": handle, **body}).get_json()

        answers = [
            verify(code=wrong(sent.code)),
            verify(code="no code"),
            verify(code=sent.code, purpose="pay"),
            verify(code=sent.code, challenge="made up"),
        ]
        clock.advance(301)
        answers.append(verify(code=sent.code))
    assert of(events, "code_rejected", "reason") == ["wrong", "unfit", "unfit", "handle", "closed"]
    # All but the one without a handle say which challenge it was.
    (challenge,) = of(events, "code_sent", "challenge")
    assert of(events, "code_rejected", "challenge") == [challenge, challenge, challenge, None, challenge]
    assert len({json.dumps(answer) for answer in answers}) == 1


def test_a_send_and_a_verification_tell_how_long_they_took_and_the_store_its_verbs(
    make_app: AppFactory, clock: Clock
) -> None:
    otp = OTP(clock=clock)
    sent: list[Message] = []

    @otp.channel("email")
    def deliver(message: Message) -> None:
        sent.append(message)

    app = make_app(otp)
    client = app.test_client()
    with listening(app) as events:
        client.post("/otp/send", json={"email": ANN})
        clock.advance(40)
        client.post("/otp/resend", json={})
        client.post("/otp/verify", json={"code": sent[0].code})
        with app.app_context():
            otp.revoke(ANN)
    assert of(events, "code_sent", "reason", "channel") == [("first", "email"), ("repeated", "email")]
    assert of(events, "code_verified", "seconds") == [40]
    assert of(events, "delivery_tried", "outcome", "step") == [("taken", "1")] * 2
    assert of(events, "flow_ended", "step", "outcome") == [("send", "done"), ("resend", "done"), ("verify", "done")]
    verbs = [("open", "done"), ("reopen", "done"), ("redeem", "done"), ("revoke", "done")]
    assert of(events, "store_called", "step", "outcome") == verbs
    assert of(events, "proof_revoked", "subject") == of(events, "code_sent", "subject")[:1]
    assert all(event.seconds >= 0 for event in events if event.seconds is not None)
    # One person, one challenge, all the way.
    assert len({event.subject for event in events if event.subject}) == 1
    assert len({event.challenge for event in events if event.challenge}) == 1


@pytest.mark.parametrize("way", ["inline", "background", "queue"])
def test_every_event_of_a_message_has_the_id_that_its_provider_got(make_app: AppFactory, way: str) -> None:
    otp, tried, queued = OTP(), list[Message](), list[dict[str, str]]()

    def refuse(message: Message) -> None:
        tried.append(message)
        raise RecipientRefused

    if way == "queue":
        otp.dispatcher(queued.append)
    app = make_app(
        otp,
        OTP_CHANNELS={"email": [refuse, tried.append]},
        OTP_DELIVERY="background" if way == "background" else "auto",
    )
    with listening(app) as events, app.app_context():
        otp.send(ANN)
        for payload in queued:
            otp.deliver(payload)
        wait_until(lambda: of(events, "code_sent", "kind"))
    about = of(events, "delivery_tried", "message_id") + of(events, "code_sent", "message_id")
    about += of(events, "delivery_queued", "message_id") + of(events, "delivery_started", "message_id")
    assert len(about) == (3 if way == "inline" else 5)
    assert {*about, *(message.id for message in tried)} == {tried[0].id}
    assert of(events, "flow_ended", "message_id") == [None]


@pytest.mark.parametrize("hook", ["before_send", "message_builder", "channel"])
def test_a_message_that_did_not_go_out_is_known_by_its_id(make_app: AppFactory, hook: str) -> None:
    otp, made = OTP(), list[Message]()

    def fail(message: Message) -> bool:
        made.append(message)
        if hook == "before_send":
            return False
        raise OSError

    otp.channel("email")(fail if hook == "channel" else made.append)  # type: ignore[arg-type]
    if hook != "channel":
        getattr(otp, hook)(fail)
    app = make_app(otp)
    with listening(app) as events:
        app.test_client().post("/otp/send", json={"email": ANN})
    (told,) = of(events, "message_withheld" if hook == "before_send" else "delivery_failed", "message_id")
    assert [message.id for message in made] == [told]


def test_people_and_challenges_are_told_apart_and_a_phone_has_a_country(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP_CHANNELS={"email": lambda message: None, "sms": lambda message: None}, OTP_SMS_COUNTRIES=["DE"])
    with listening(app) as events:
        for address in ({"email": ANN}, {"phone": PHONE}):
            assert app.test_client().post("/otp/send", json=address).status_code == 200
        assert app.test_client().post("/otp/send", json={"email": ANN}).status_code == 429
    assert of(events, "code_sent", "country") == [None, "DE"]
    for member in ("subject", "challenge"):
        assert len({*of(events, "code_sent", member)}) == 2
    assert of(events, "limit_reached", "outcome", "reason", "step", "purpose") == [
        ("refused", "identifier", "send", "login")
    ]
    assert of(events, "flow_ended", "outcome", "purpose") == [("done", "login")] * 2 + [("rate_limited", "login")]
    assert all(0 < seconds < 60 for seconds in of(events, "flow_ended", "seconds"))


@pytest.mark.parametrize("name", ["otp-limit-reached", "otp-flow-ended"])
def test_a_flow_is_told_to_the_only_receiver_that_there_is(make_app: AppFactory, name: str) -> None:
    app, told = make_app(), list[str]()
    (signal,) = (signal for signal in SIGNALS if signal.name == name)
    hear = lambda sender, event: told.append(event.kind)  # noqa: E731 - must stay alive
    with capture_codes(app), signal.connected_to(hear, app):
        for _ in range(2):
            app.test_client().post("/otp/send", json={"email": ANN})
    assert told == (["limit_reached"] if name == "otp-limit-reached" else ["flow_ended"] * 2)


def test_what_an_event_does_not_know_is_none() -> None:
    assert {*asdict(Event("code_sent", 0, "sent")).values()} == {"code_sent", 0, "sent", None}


def test_a_clock_that_was_set_back_gives_a_verification_of_no_seconds(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    sent: list[Message] = []
    otp.channel("email")(sent.append)
    app = make_app(otp)
    client = app.test_client()
    with listening(app) as events:
        client.post("/otp/send", json={"email": ANN})
        clock.now -= 3
        client.post("/otp/verify", json={"code": sent[0].code})
    assert of(events, "code_verified", "seconds") == [0]


def test_each_provider_that_was_asked_is_told_with_what_it_answered(make_app: AppFactory, clock: Clock) -> None:
    def refuse(message: Message) -> None:
        raise RecipientRefused("no")

    def take(message: Message) -> None:
        pass

    app = make_app(OTP_CHANNELS={"email": [refuse, take]})
    with listening(app) as events:
        assert app.test_client().post("/otp/send", json={"email": ANN}).status_code == 200
    assert of(events, "delivery_tried", "step", "outcome") == [("1", "refused"), ("2", "taken")]


def test_limits_are_told_by_name(make_app: AppFactory, clock: Clock) -> None:
    def reached(**config: Any) -> list[tuple[str, str]]:
        app = make_app(OTP_CHANNELS={"email": "console"}, **config)
        with listening(app) as events, capture_codes(app):
            for _ in range(2):
                app.test_client().post("/otp/send", json={"email": ANN})
                app.test_client().post("/otp/verify", json={"code": "123456", "challenge": "made up"})
        return of(events, "limit_reached", "step", "reason")

    assert reached() == [("send", "identifier")]
    assert reached(OTP_COOLDOWN=0, OTP_IP_SEND_LIMIT="1/day") == [("send", "network_send")]
    assert reached(OTP_COOLDOWN=0, OTP_IP_VERIFY_LIMIT="1/day") == [("verify", "network_verify")]
    assert reached(OTP_COOLDOWN=0, OTP_CHANNEL_BUDGET={"email": "1/day"}) == [("send", "channel_budget")]


def test_a_guard_tells_whom_it_let_in_and_why_not(make_app: AppFactory, clock: Clock) -> None:
    app = make_app()
    for name, guard in {
        "plain": otp_required,
        "fresh": otp_required(max_age="5m"),
        "sms": otp_required(channels=["sms"]),
        "amount": otp_required(context=lambda: {"amount": 5}),
        "bob": otp_required(identifier=lambda: "bob@example.com"),
    }.items():
        app.add_url_rule(f"/{name}", name, guard(lambda: "in"))
    client = app.test_client()
    with capture_codes(app) as sent, listening(app) as events:
        client.get("/plain")
        client.post("/otp/send", json={"email": ANN, "channel": "console"})
        client.post("/otp/verify", json={"code": sent.code})
        for name in ("plain", "amount", "bob"):
            client.get(f"/{name}")
        clock.advance(301)
        client.get("/fresh")
        with app.app_context():
            app.extensions["otp"].service.revoke(ANN)
        client.get("/plain")
    decided = of(events, "guard_decided", "outcome", "reason")
    assert decided == [
        ("refused", "no_proof"),
        ("passed", None),
        ("refused", "context"),
        ("refused", "identifier"),
        ("refused", "age"),
        ("refused", "ended"),
    ]


def test_a_message_that_does_not_go_out_is_told_with_the_reason(make_app: AppFactory, clock: Clock) -> None:
    def reason(prepare: Callable[[OTP], object], **config: Any) -> list[str]:
        otp, done = OTP(clock=clock), threading.Event()
        otp.channel("email")(lambda message: None)
        otp.channel("sms")(lambda message: None)
        prepare(otp)
        app, told = make_app(otp, OTP_SMS_COUNTRIES=["DE"], **config), []

        def hear(event: Event) -> None:
            if event.kind in ("message_withheld", "code_sent"):
                told.append(event)
                if len(told) == 2:
                    done.set()

        with listening(app, hear):
            for phone in ("+4915112345670", PHONE):
                app.test_client().post("/otp/send", json={"identifier": phone})
            assert done.wait(20)
        return of(told, "message_withheld", "reason")

    test_recipients = {PHONE: ("123456", "2030-01-01")}
    assert reason(lambda otp: otp.recipient_loader(lambda identifier, channel: None)) == ["unknown"] * 2
    assert reason(lambda otp: otp.before_send(lambda message: False)) == ["vetoed"] * 2
    assert reason(lambda otp: None, OTP_TEST_RECIPIENTS=test_recipients) == ["test_recipient"]
    assert reason(lambda otp: None, OTP_PREFIX_BUDGET={"+4915": "1/day"}) == ["numbers"]


def test_a_queue_is_given_a_traceparent_and_nothing_else_and_tells_how_long_it_took(
    make_app: AppFactory, clock: Clock
) -> None:
    otp, payloads = OTP(clock=clock), []
    otp.channel("email")(lambda message: None)
    otp.dispatcher(payloads.append)
    app = make_app(otp)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    from_signal: list[dict[str, str]] = []

    def fill(sender: Any, carrier: dict[str, str], **arguments: Any) -> None:
        carrier.update(traceparent=parent, baggage="user=ann")

    def note(sender: Any, carrier: dict[str, str], **arguments: Any) -> None:
        from_signal.append(carrier)

    queued, started = (s for s in SIGNALS if s.name in ("otp-delivery-queued", "otp-delivery-started"))
    with queued.connected_to(fill, app), started.connected_to(note, app), listening(app) as events:
        app.test_client().post("/otp/send", json={"email": ANN})
        clock.advance(7)
        with app.app_context():
            otp.deliver(payloads[0])
    assert {name: value for name, value in payloads[0].items() if name != "delivery"} == {"traceparent": parent}
    assert from_signal == [{"traceparent": parent}]
    assert of(events, "delivery_started", "seconds") == [7]


def test_an_event_cannot_be_changed_and_names_nobody(make_app: AppFactory, clock: Clock) -> None:
    app = make_app(OTP_COOLDOWN=0)
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = "203.0.113.77"
    with capture_codes(app) as sent, listening(app) as events:
        handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
        client.post("/otp/verify", json={"code": wrong(sent.code)})
        proof = client.post("/otp/verify", json={"code": sent.code}).get_json()["proof"]
        client.post("/otp/send", json={"email": ANN, "purpose": "ann is not a purpose"})
    text = json.dumps([asdict(event) for event in events])
    for secret in (ANN, "ann is", sent.code, handle, proof, "203.0.113.77"):
        assert not any(secret.encode() in layer for layer in layers(text)), secret
    assert {event.network for event in events} == {"203.0.113.0/24"}
    assert {event.subject for event in events} == {None, pseudonym(app.extensions["otp"].tokens.keys, ANN)}
    with pytest.raises(FrozenInstanceError):
        events[0].outcome = "other"  # type: ignore[misc]


def test_a_pseudonym_is_nothing_that_can_be_made_without_the_key(make_app: AppFactory, clock: Clock) -> None:
    """Otherwise a person who reads a log could look up every address that they know."""
    seen: list[set[str | None]] = []
    for key in ("one secret for tests", "one secret for tests", "another secret for tests"):
        app = make_app(SECRET_KEY=key)
        with capture_codes(app), listening(app) as events:
            app.test_client().post("/otp/send", json={"email": ANN})
        seen.append({event.subject for event in events} - {None})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    assert seen[0].isdisjoint(seen[2])


@pytest.mark.parametrize(
    ("network", "short"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::/64", "2001:db8:1::/48"), ("unknown", "unknown")],
)
def test_networks_are_shortened(network: str, short: str) -> None:
    assert shorten(network) == short


def test_a_watched_store_is_the_store_that_it_was(app: Flask) -> None:
    state = app.extensions["otp"]
    bare = state.store
    with listening(app):
        assert state.store is not bare
        assert isinstance(state.store, MemoryStore)
        assert state.store.gated is not None
    assert state.store is bare
    assert {"open", "redeem", "holds"} <= VERBS <= set(dir(Store))


def test_without_receivers_nothing_is_made(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()
    for signal in SIGNALS:  # an app of an earlier test may still be there
        monkeypatch.setattr(signal, "receivers", {})
    monkeypatch.setattr("flask_otp.events.Event", lambda **members: made.update([members["kind"]]))
    client = app.test_client()
    with capture_codes(app) as sent:
        client.post("/otp/send", json={"email": ANN})
        client.post("/otp/verify", json={"code": sent.code})
    assert made == {}
