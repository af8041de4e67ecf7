"""Whatever attackers and visitors do, nothing that observers get has a code, an address, a handle or a proof in it."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_otp import OTP, Message, events, otp_required
from flask_otp.events import Event
from flask_otp.observability import audit, otel, statistics
from flask_otp.observability.otel import instrument
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import SECRET, START, AppFactory
from tests.support.examples import examples
from tests.support.leaks import layers
from tests.support.listening import SIGNALS, listening
from tests.support.observers import Observers, observed

PEOPLE = ["ann.owner@example.com", "mallory.crook@evil.example", "+4915112345678", "unknown.person@example.net"]
NETWORKS = ["203.0.113.77", "198.51.100.201", "2001:db8:77:88:99::1"]


class Run:
    """One site with every observer on, and what its visitors have seen of secrets."""

    def __init__(self) -> None:
        self.clock = Clock(START)
        self.secrets: set[str] = {*PEOPLE, *NETWORKS}
        self.sent: list[Message] = []
        otp = OTP(clock=self.clock)
        otp.channel("email")(self._take)
        otp.channel("sms")(self._take)
        otp.recipient_loader(lambda who, channel: None if who.startswith("unknown") else who)
        self.app = app = Flask("site")
        app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")
        app.config.update(OTP_AUDIT=True, OTP_STATS=True)
        app.config.update(OTP_SMS_COUNTRIES=["DE"], OTP_DELIVERY="inline", OTP_LINKS=True)
        app.config.update(OTP_BASE_URL="https://shop.example", OTP_PURPOSES={"login": {}, "pay": {}})
        app.config.update(OTP_FAILURE_BUDGET="4/30 days", OTP_SURGE_LIMIT="20/hour", OTP_COOLDOWN="10s")
        otp.init_app(app)
        guard = otp_required(purpose="pay", context=lambda: {"to": "mallory.crook@evil.example"})
        app.add_url_rule("/pay", "pay", guard(lambda: "paid"), methods=["GET", "POST"])
        self.client = app.test_client()
        self.handle = "made.up"
        self.proof = "made.up"

    def _take(self, message: Message) -> None:
        self.sent.append(message)
        self.secrets |= {message.code, message.recipient, *([message.link] if message.link else [])}
        if message.code.endswith("7"):
            raise OSError(f"no line for {message.recipient}: {message.code}")

    def ask(self, path: str, network: str, **body: str) -> None:
        answer = self.client.post(f"/otp/{path}", json=body, environ_base={"REMOTE_ADDR": network}).get_json() or {}
        self.handle, self.proof = answer.get("challenge", self.handle), answer.get("proof", self.proof)
        self.secrets |= {self.handle, self.proof} - {"made.up"}

    def names_of_statistics(self) -> str:
        """All that is written of them: names, and counts."""
        written: list[str] = []
        statistics = self.app.extensions["otp"].statistics
        statistics._tally = lambda name, count, life: written.append(name)
        statistics.flush()
        assert written
        # The hour is a number that a code may be by chance.
        return json.dumps([name.split("/")[2:] for name in written])

    def act(self, name: str, who: str, network: str) -> None:
        code = self.sent[-1].code if self.sent else "123456"
        acts: dict[str, Callable[[], object]] = {
            "send": lambda: self.ask("send", network, identifier=who),
            "resend": lambda: self.ask("resend", network, challenge=self.handle),
            "right": lambda: self.ask("verify", network, code=code, challenge=self.handle),
            "wrong": lambda: self.ask("verify", network, code=code[::-1], challenge=self.handle),
            "forged": lambda: self.ask("verify", network, code=who, challenge=who),
            "purpose": lambda: self.ask("send", network, identifier=who, purpose=who),
            "channel": lambda: self.ask("send", network, identifier=who, channel=code),
            "guard": lambda: self.client.get("/pay", headers={"Authorization": f"Bearer {self.proof}"}),
            "stranger": lambda: setattr(self, "client", self.app.test_client()),
            "wait": lambda: self.clock.advance(11),
            "logout": lambda: self.ask("logout", network),
        }
        acts[name]()


ACTS = [
    "send",
    "resend",
    "right",
    "wrong",
    "wrong",
    "forged",
    "purpose",
    "channel",
    "guard",
    "stranger",
    "wait",
    "logout",
]


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@examples(12, 200)
@given(
    st.lists(
        st.tuples(st.sampled_from(ACTS), st.sampled_from(PEOPLE), st.sampled_from(NETWORKS)), min_size=10, max_size=40
    )
)
def test_no_event_attribute_span_or_audit_line_has_a_secret(acts: list[tuple[str, str, str]]) -> None:
    run, keep, reader, spans = Run(), _Keep(), InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    instrument(run.app, meter_provider=MeterProvider([reader]), tracer_provider=tracers)
    log = logging.getLogger("flask_otp.audit")
    log.addHandler(keep)
    log.setLevel(logging.INFO)
    try:
        with listening(run.app) as events:
            for act in [("send", PEOPLE[0], NETWORKS[0]), *acts]:
                run.act(*act)
    finally:
        log.removeHandler(keep)
        log.setLevel(logging.NOTSET)
        for signal in SIGNALS:
            signal.receivers.clear()
    assert events
    assert keep.lines
    told = [json.dumps([asdict(event) for event in events]), *keep.lines]
    # Times and counts are numbers that a code may be a part of by chance.
    shown = json.dumps(
        [[span.name, dict(span.attributes or {}), str(span.status.description)] for span in spans.get_finished_spans()]
    )
    assert_hidden(run.secrets, told, [shown, attributes(reader), run.names_of_statistics()])


def attributes(reader: InMemoryMetricReader) -> str:
    data: Any = reader.get_metrics_data()
    return json.dumps(
        [
            dict(point.attributes)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]
    )


def assert_hidden(secrets: set[str], lines: list[str], shown: list[str]) -> None:
    read = b"\0".join(layer for text in (*lines, *shown) for layer in layers(text, 2))
    bare = b"\0".join(text.encode() for text in shown)
    for secret in secrets:
        # A short code may be a part of a pseudonym or a time; as a value of its own it may not be there.
        short = secret.isdecimal()
        assert (f'"{secret}"'.encode() if short else secret.encode()) not in read, secret
        assert secret.encode() not in bare, secret


# The observers of the attack suite: see tests/security/conftest.py


def attack(observers: Observers, clock: Clock, make_app: AppFactory) -> None:
    """What any attack does: send, guess, verify, come to a guard."""
    app = make_app(OTP_CHANNELS={"email": lambda message: None}, OTP_DELIVERY="inline")
    app.add_url_rule("/account", "account", otp_required(lambda: "in"))
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = NETWORKS[0]
    client.get("/account")
    with capture_codes(app) as sent:
        client.post("/otp/send", json={"email": PEOPLE[0]})
        client.post("/otp/verify", json={"code": "no code"})
        client.post("/otp/verify", json={"code": sent.code})
        client.get("/account")
    assert {PEOPLE[0], NETWORKS[0], sent.code, "no code"} < observers.secrets


def test_the_observers_of_the_attack_suite_see_all_of_an_attack(make_app: AppFactory, clock: Clock) -> None:
    gc.collect()  # earlier tests' apps, which still listen
    before = [len(signal.receivers) for signal in SIGNALS]
    with observed() as observers:
        attack(observers, clock, make_app)
    kinds = {event[0] for event in observers.events}
    assert kinds >= {"code_sent", "code_verified", "code_rejected", "guard_decided", "store_called", "flow_ended"}
    assert {json.loads(line)["unmapped"]["kind"] for line in observers.lines.found} < kinds
    assert {span.name for span in observers.spans.get_finished_spans()} == {"otp.send", "otp.verify"}
    assert {name for name, _ in observers.attributes()} > {"otp.messages", "otp.verifications", "otp.guard"}
    assert any(name.endswith("/email/-/login/first") for name in observers.counters)
    assert [len(signal.receivers) for signal in SIGNALS] == before


def leak(*, into: str, what: Callable[[Event], str]) -> Callable[[Any, pytest.MonkeyPatch], None]:
    """One member of each event has something that no observer may have."""

    def plant(events: type[Any], patch: pytest.MonkeyPatch) -> None:
        patch.setattr(events, "Event", lambda **members: Event(**{**members, into: what(Event(**members))}))

    return plant


LEAKS = {
    "an address as the reason": leak(into="reason", what=lambda event: PEOPLE[0]),
    "an address as the purpose": leak(into="purpose", what=lambda event: PEOPLE[0]),
    "an address as the channel": leak(into="channel", what=lambda event: PEOPLE[0]),
    "an address as the subject": leak(into="subject", what=lambda event: PEOPLE[0]),
    "a network in full": leak(into="network", what=lambda event: NETWORKS[0]),
    "a network as the step": leak(into="step", what=lambda event: NETWORKS[0]),
    "free text as the outcome": leak(into="outcome", what=lambda event: "it went wrong"),
    "a challenge in full": leak(into="challenge", what=lambda event: (event.challenge or "") * 3),
    "what was typed as the country": leak(into="country", what=lambda event: "no code"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_into_an_event_is_seen(
    make_app: AppFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    LEAKS[name](events, monkeypatch)
    with pytest.raises(AssertionError), observed() as observers:
        attack(observers, clock, make_app)


@pytest.mark.parametrize(
    ("module", "name", "leaking"),
    [
        (otel, "_attributes", lambda event, *names: {"otp.subject": event.subject or ""}),
        (otel, "_attributes", lambda event, *names: {f"otp.{name}": PEOPLE[0] for name in names}),
        (audit, "_members", lambda event, *_: {"user": {"uid": event.subject, "email_addr": PEOPLE[0]}}),
        (statistics.Series, "key", lambda series, kind="": f"stats/{series.hour}/{PEOPLE[0]}/{kind}"),
    ],
    ids=["a pseudonym in an attribute", "an address in an attribute", "a member in a line", "a name of a counter"],
)
def test_a_leak_of_one_observer_is_seen(
    make_app: AppFactory, clock: Clock, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, leaking: Any
) -> None:
    monkeypatch.setattr(module, name, leaking)
    with pytest.raises(AssertionError), observed() as observers:
        attack(observers, clock, make_app)
