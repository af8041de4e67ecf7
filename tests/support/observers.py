"""Every observer there is, on every app that a test makes, and what none of them may get."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, request, request_started
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_otp import OTP
from flask_otp.crypto.tokens import Tokens
from flask_otp.delivery import composer
from flask_otp.events import FLOWS, REASONS, Event
from flask_otp.http import views
from flask_otp.observability import audit, statistics
from flask_otp.observability.otel import instrument
from flask_otp.observability.series import INSTRUMENTS
from tests.support.listening import SIGNALS, listening

TRUSTED = "trusted"
PSEUDONYM = re.compile(r"[0-9a-f]{16}")
#: As ``networks.shorten`` makes them. A socket has no address.
NETWORK = re.compile(r"(\d+\.){3}0/24|[0-9a-f:]+::/48|::/48|unknown")
WORD = re.compile(r"[a-z_]+")
#: Random, so it reveals nothing.
MESSAGE_ID = re.compile(r"([\w-]{22})?")
#: What an audit line consists of: all members, and those that it may lack.
MEMBERS: dict[str, Callable[[Any], object]] = {
    "class_uid": lambda value: value == 3002,
    "class_name": lambda value: value == "Authentication",
    "category_uid": lambda value: value == 3,
    "activity_id": lambda value: value in (1, 2, 99),
    "activity_name": lambda value: value in ("Logon", "Logoff", "Other"),
    "type_uid": lambda value: value in (300201, 300202, 300299),
    "time": lambda value: type(value) is int,
    "severity_id": lambda value: value in (1, 2, 3),
    "status_id": lambda value: value in (1, 2),
    "status": lambda value: value in ("Success", "Failure"),
    "status_detail": WORD.fullmatch,
    "user": lambda value: value.keys() == {"uid"} and PSEUDONYM.fullmatch(value["uid"]),
    "session": lambda value: value.keys() == {"uid"} and PSEUDONYM.fullmatch(value["uid"]),
    "src_endpoint": lambda value: value.keys() == {"subnet_uid"} and NETWORK.fullmatch(value["subnet_uid"]),
    "service": lambda value: value.keys() == {"name"},
    "metadata": lambda value: value.keys() == {"version", "product", "log_name", "sequence"},
    "unmapped": lambda value: (
        value.keys() <= {"kind", "outcome", "purpose", "channel", "step", "country", "message_id"}
        and MESSAGE_ID.fullmatch(value.get("message_id", ""))
    ),
    "mac": re.compile(r"[0-9a-f]{32}").fullmatch,
}
OPTIONAL = {"status_detail", "user", "session", "src_endpoint"}
SPANS = {*(f"otp.{flow}" for flow in FLOWS), "otp.deliver"}
SPAN_OUTCOMES = {"done", "error", *REASONS, "taken", "refused", "down", "failed"}
DUMPS = [name for name in vars(Tokens) if name.startswith("dump_")]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


class Observers:
    """What is secret in a test, and what was observed in it."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.apps: list[Flask] = []
        #: Without what differs each time: kind, outcome, reason, purpose, channel, step, country.
        self.events: set[tuple[str | None, ...]] = set()
        self.names: set[str | None] = set()
        self.counters: set[str] = set()
        self.lines = _Lines()
        self.reader, self.spans = InMemoryMetricReader(), InMemorySpanExporter()
        nothing = Resource.get_empty()
        self.meters = MeterProvider([self.reader], nothing, shutdown_on_exit=False)
        self.tracers = TracerProvider(resource=nothing, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def observe(self, app: Flask) -> None:
        """Connect metrics and traces. The audit log and the statistics are switched on by settings."""
        self.apps.append(app)
        state = app.extensions["otp"]
        if state.statistics is not None:
            state.statistics._tally = lambda name, count, life: self.counters.add(name)
        instrument(app, meter_provider=self.meters, tracer_provider=self.tracers)

    def hear(self, event: Event) -> None:
        assert MESSAGE_ID.fullmatch(event.message_id or "")
        self.events.add(
            (event.kind, event.outcome, event.reason, event.purpose, event.channel, event.step, event.country)
        )
        assert NETWORK.fullmatch(event.network or "unknown"), event.kind
        assert all(PSEUDONYM.fullmatch(name) for name in (event.subject, event.challenge) if name), event.kind

    # What none of them may have

    def attributes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Of every point, by instrument."""
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    yield from ((metric.name, point.attributes or {}) for point in metric.data.data_points)

    def check(self) -> None:
        """Nothing that was observed is a secret, and all of it is from closed lists."""
        for app in self.apps:
            if app.extensions["otp"].statistics is not None:
                app.extensions["otp"].statistics.flush()
        attributes, spans = list(self.attributes()), self.spans.get_finished_spans()
        shown = [str(sorted(values.items())) for _, values in attributes]
        shown += [f"{span.name} {dict(span.attributes or {})} {span.status.description}" for span in spans]
        shown += [json.dumps(values) for values in self.events]
        shown += self.lines.found
        # A shortened network may look like the address of one of its machines.
        text = re.sub(r'"src_endpoint":\{"subnet_uid":"[^"]+/\d+"\},', "", "\n".join(dict.fromkeys(shown)))
        read = set(re.findall(r"[^\s\"'{}(),\[\]]+", text)) | set(re.findall(r"[\w.@+-]+", text))
        read |= {part for name in self.counters for part in name.split("/")[2:]}
        assert not self.secrets & read
        assert not [secret for secret in self.secrets if "@" in secret and secret in text]
        self._check_points(attributes)
        for span in spans:
            self._check_span(span)
        for line in self.lines.found:
            check_line(line)

    def _configured(self) -> dict[str, set[str]]:
        states = [app.extensions["otp"] for app in self.apps]
        return {
            "channel": {TRUSTED, *(name for state in states for name in state.routing.channels())},
            "purpose": {name for state in states for name in state.settings.purposes},
            "provider": {str(place) for place in range(1, 10)},
            "country": {name for state in states for name in state.settings.sms_countries},
        }

    def _check_points(self, found: list[tuple[str, Mapping[str, Any]]]) -> None:
        configured = self._configured()
        for name, values in found:
            listed = INSTRUMENTS[name]
            left = {key.removeprefix("otp."): value for key, value in values.items()}
            for names, combinations in listed.words.items():
                assert tuple(left.pop(word, None) for word in names) in combinations, (name, values)
            for setting in listed.settings:
                value = left.pop(setting.rstrip("?"), None)
                assert value in configured[setting.rstrip("?")] or (value is None and setting[-1] == "?"), (
                    name,
                    values,
                )
            assert not left, (name, values)

    def _check_span(self, span: Any) -> None:
        configured = self._configured() | {"outcome": SPAN_OUTCOMES}
        assert span.name in SPANS
        assert (*span.events, *span.links, span.status.description) == (None,)
        for key, value in (span.attributes or {}).items():
            assert value in configured[key.removeprefix("otp.")], (span.name, key, value)


def check_line(line: str) -> None:
    """A line of the audit log has the members of the documentation and no others."""
    members = json.loads(line)
    assert MEMBERS.keys() - OPTIONAL <= members.keys() <= MEMBERS.keys(), line
    for name, value in members.items():
        assert MEMBERS[name](value), (name, value)
    assert all(WORD.fullmatch(members["unmapped"][name]) for name in ("kind", "outcome")), line


@contextmanager
def observed() -> Iterator[Observers]:
    """Observe every app that is made within, and check at the end."""
    observers = Observers()
    before = {signal: set(signal.receivers) for signal in SIGNALS}
    log, level, propagates = audit.audit_logger, audit.audit_logger.level, audit.audit_logger.propagate
    log.addHandler(observers.lines)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with pytest.MonkeyPatch.context() as patch, listening(None, observers.hear):
            _collect_secrets(observers.secrets, patch)
            _observe_each_app(observers, patch)
            # The name keeps the receiver alive: the signal itself holds only a weak reference.
            note = lambda sender, **_: observers.secrets.add(request.remote_addr or "no address")  # noqa: E731
            with request_started.connected_to(note):
                yield observers
        observers.check()
    finally:
        log.removeHandler(observers.lines)
        log.setLevel(level)
        log.propagate = propagates
        for signal, known in before.items():
            for key in set(signal.receivers) - known:
                del signal.receivers[key]


def _observe_each_app(observers: Observers, patch: pytest.MonkeyPatch) -> None:
    init_app = OTP.init_app

    def init_and_observe(otp: OTP, app: Flask, *args: Any, **kwargs: Any) -> None:
        app.config.setdefault("OTP_AUDIT", True)
        app.config.setdefault("OTP_STATS", True)
        init_app(otp, app, *args, **kwargs)
        observers.observe(app)

    patch.setattr(OTP, "init_app", init_and_observe)
    patch.setattr(statistics, "_run_later", lambda seconds, function: None)


def _collect_secrets(secrets: set[str], patch: pytest.MonkeyPatch) -> None:
    """Every token, address, code and link that the package makes, and what visitors type in place of them."""

    def keep(owner: Any, name: str, found_in: Callable[[Any], Any]) -> None:
        function = getattr(owner, name)

        def kept(*args: Any, **kwargs: Any) -> Any:
            answer = function(*args, **kwargs)
            secrets.update(text for text in found_in(answer) if text and len(text) >= 6)
            return answer

        patch.setattr(owner, name, kept)

    for name in DUMPS:
        keep(Tokens, name, lambda token: [token])
    keep(composer, "render_message", lambda message: [message.code, message.recipient, message.link])
    typed = ("identifier", "email", "phone", "code", "link", "challenge", "requirement")
    keep(views, "read_body", lambda body: [body.get(name) for name in typed])
