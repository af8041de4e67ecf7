"""OpenTelemetry with its real SDK: in memory, and scraped from two gunicorn workers."""

from __future__ import annotations

import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from cProfile import Profile
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import flask_otp
from flask_otp import OTP, OTPError, RateLimited, otp_required
from flask_otp.events import FLOWS, LIMITS, REASONS, Event
from flask_otp.limits.gates import _LIMITS
from flask_otp.observability.otel import instrument
from flask_otp.observability.series import COUNTER, HISTOGRAM, INSTRUMENTS, Instrument
from flask_otp.stores.watched import VERBS
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import AppFactory, free_port
from tests.support.listening import SIGNALS
from tests.support.servers import wait_until
from tests.support.web_server import GUNICORN, WebServer, listens

ANN = "ann@example.com"


class Telemetry:
    """An SDK in memory."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.spans = InMemorySpanExporter()
        self.meters = MeterProvider([self.reader])
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def instrument(self, app: Flask) -> None:
        assert instrument(app, meter_provider=self.meters, tracer_provider=self.tracers)

    def receive(self, name: str, event: Event) -> None:
        """Give an event of a signal to an app's receivers."""
        app = Flask("x")
        self.instrument(app)
        (signal,) = (signal for signal in SIGNALS if signal.name == name)
        signal.send(app, event=event)

    def points(self, name: str) -> dict[tuple[str, ...], Any]:
        """The points of an instrument, by the values of their attributes."""
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return {
            tuple(map(str, dict(sorted(point.attributes.items())).values())): point
            for m in found
            for point in m.data.data_points
        }

    def counts(self, name: str) -> dict[tuple[str, ...], int]:
        return {key: getattr(point, "value", None) or point.count for key, point in self.points(name).items()}

    def everything(self) -> str:
        return repr([(span.name, dict(span.attributes or {})) for span in self.spans.get_finished_spans()]) + str(
            self.reader.get_metrics_data()
        )


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    yield Telemetry()
    for signal in SIGNALS:
        signal.receivers.clear()


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}}"


def test_a_visit_is_counted_measured_and_traced(make_app: AppFactory, clock: Clock, telemetry: Telemetry) -> None:
    otp, sent = OTP(clock=clock), []
    otp.channel("email")(lambda message: sent.append(message))
    app = make_app(otp)
    app.add_url_rule("/account", "account", otp_required(lambda: "in"))
    telemetry.instrument(app)
    client = app.test_client()
    client.get("/account")
    client.post("/otp/send", json={"email": ANN})
    client.post("/otp/verify", json={"code": wrong(sent[0].code)})
    clock.advance(12)
    client.post("/otp/verify", json={"code": sent[0].code})
    client.get("/account")
    app.test_client().post("/otp/send", json={"email": ANN})
    assert telemetry.counts("otp.messages") == {("email", "sent", "login", "first"): 1}
    assert telemetry.counts("otp.verifications") == {
        ("email", "rejected", "login", "wrong"): 1,
        ("email", "verified", "login"): 1,
    }
    assert telemetry.counts("otp.guard") == {("refused", "login", "no_proof"): 1, ("passed", "login"): 1}
    assert telemetry.counts("otp.limits") == {("send", "identifier"): 1}
    assert telemetry.counts("otp.delivery.duration") == {("email", "taken", "1"): 1}
    assert telemetry.counts("otp.store.duration")[("done", "redeem")] == 2
    assert telemetry.points("otp.time_to_verify")[("email", "login")].sum == 12
    spans = telemetry.spans.get_finished_spans()
    assert [span.name for span in spans] == ["otp.deliver", "otp.send", "otp.verify", "otp.verify", "otp.send"]
    assert [span.status.status_code is StatusCode.ERROR for span in spans] == [False, False, True, False, True]
    assert [dict(span.attributes or {}) for span in spans[:3]] == [
        {"otp.channel": "email", "otp.purpose": "login", "otp.provider": "1", "otp.outcome": "taken"},
        {"otp.purpose": "login", "otp.outcome": "done"},
        {"otp.outcome": "invalid_code"},
    ]
    assert {span.instrumentation_scope.name for span in spans if span.instrumentation_scope} == {"flask_otp"}
    for secret in (ANN, "ann@", sent[0].code, "127.0.0"):
        assert secret not in telemetry.everything()


@pytest.mark.parametrize(("seconds", "nanoseconds"), [(1.5, 1_500_000_000), (None, 0)])
def test_a_span_is_as_long_as_the_work(telemetry: Telemetry, seconds: float | None, nanoseconds: int) -> None:
    event = Event("flow_ended", 0, "done", step="send", seconds=seconds)
    telemetry.receive("otp-flow-ended", event)
    (span,) = telemetry.spans.get_finished_spans()
    assert (span.end_time or 0) - (span.start_time or 0) == nanoseconds
    assert telemetry.points("otp.flow.duration").popitem()[1].sum == (seconds or 0)


def test_two_apps_are_measured_apart(make_app: AppFactory, telemetry: Telemetry) -> None:
    other = Telemetry()
    apps = [make_app(), make_app()]
    telemetry.instrument(apps[0])
    other.instrument(apps[1])
    with capture_codes(apps[0]):
        apps[0].test_client().post("/otp/send", json={"email": ANN})
    assert sum(telemetry.counts("otp.messages").values()) == 1
    assert other.counts("otp.messages") == {}


def test_the_providers_of_the_process_are_used(
    make_app: AppFactory, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: telemetry.meters)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: telemetry.tracers)
    app = make_app()
    assert instrument(app)
    with capture_codes(app):
        app.test_client().post("/otp/send", json={"email": ANN})
    assert sum(telemetry.counts("otp.messages").values()) == 1
    assert [span.name for span in telemetry.spans.get_finished_spans()] == ["otp.send"]


def test_metrics_need_no_traces_and_traces_no_metrics(make_app: AppFactory, telemetry: Telemetry) -> None:
    assert instrument(make_app(), meter_provider=telemetry.meters)
    assert instrument(make_app(), tracer_provider=telemetry.tracers)


def test_a_queued_delivery_belongs_to_the_trace_of_its_request(
    make_app: AppFactory, clock: Clock, telemetry: Telemetry
) -> None:
    otp, payloads = OTP(clock=clock), []
    otp.channel("email")(lambda message: None)
    otp.dispatcher(payloads.append)
    app = make_app(otp)
    telemetry.instrument(app)
    with telemetry.tracers.get_tracer("app").start_as_current_span("request") as request:
        app.test_client().post("/otp/send", json={"email": ANN})
    clock.advance(3)
    with app.app_context():
        otp.deliver(payloads[0])
    delivered = next(span for span in telemetry.spans.get_finished_spans() if span.name == "otp.deliver")
    assert delivered.parent is not None
    assert delivered.parent.span_id == request.get_span_context().span_id
    assert telemetry.points("otp.delivery.wait")[("email",)].sum == 3


@pytest.mark.parametrize("forged", ["x" * 200, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", 5, None])
def test_a_payload_with_a_forged_trace_is_delivered(
    make_app: AppFactory, clock: Clock, telemetry: Telemetry, forged: Any
) -> None:
    otp, payloads, sent = OTP(clock=clock), [], []
    otp.channel("email")(lambda message: sent.append(message))
    otp.dispatcher(payloads.append)
    app = make_app(otp)
    telemetry.instrument(app)
    app.test_client().post("/otp/send", json={"email": ANN})
    with app.app_context(), telemetry.tracers.get_tracer("worker").start_as_current_span("worker"):
        otp.deliver(payloads[0] | {"traceparent": forged})
    assert len(sent) == 1
    # It belongs to no trace then, also not to the worker's.
    (delivered,) = (span for span in telemetry.spans.get_finished_spans() if span.name == "otp.deliver")
    assert delivered.parent is None


def test_a_telemetry_that_breaks_breaks_nothing_else(
    make_app: AppFactory, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    telemetry.instrument(app)
    monkeypatch.setattr("flask_otp.observability.otel._attributes", lambda *_: 1 / 0)
    client = app.test_client()
    with capture_codes(app) as sent:
        assert client.post("/otp/send", json={"email": ANN}).status_code == 200
        assert client.post("/otp/verify", json={"code": sent.code}).status_code == 200
    assert "OpenTelemetry failed at code_verified: ZeroDivisionError" in caplog.messages


def test_without_an_sdk_nothing_is_connected(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    before = {signal: set(signal.receivers) for signal in SIGNALS}
    with caplog.at_level("INFO", "flask_otp"):
        assert instrument(app) is False
    told = "OpenTelemetry has no SDK set up in this process, so nothing is measured or traced"
    assert caplog.record_tuples == [("flask_otp", logging.INFO, told)]
    # Those of earlier tests' apps may be there until they are collected.
    assert [signal for signal in SIGNALS if set(signal.receivers) - before[signal]] == []


SITE = """
from flask import Flask
from flask_otp import OTP
from flask_otp.observability.otel import instrument
app = Flask("site")
app.config.update(SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://", OTP_COOLDOWN=0)
app.config.update(OTP_CHANNELS={"email": lambda message: None})
OTP(app)
assert instrument(app)
"""
GUNICORN_SETTINGS = """
def post_fork(server, worker):
    from opentelemetry import metrics
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import start_http_server

    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    start_http_server({1: %d, 2: %d}[worker.age], addr="127.0.0.1")
"""


def fetch(url: str, body: bytes | None = None) -> str:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.server
def test_two_workers_are_scraped_as_text(tmp_path: Path) -> None:
    metrics_ports = free_port(), free_port()
    (tmp_path / "site_app.py").write_text(SITE)
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN_SETTINGS % metrics_ports)
    with closing(WebServer([*GUNICORN, "-w", "2", "site_app:app"], tmp_path)) as server:
        wait_until(lambda: all(map(listens, metrics_ports)), 60)
        for number in range(20):
            fetch(f"http://127.0.0.1:{server.port}/otp/send", b'{"email": "ann%d@example.com"}' % number)
        texts = [fetch(f"http://127.0.0.1:{number}/metrics") for number in metrics_ports]
    found = [re.findall(r"^otp_messages_total\{(.*)\} (\S+)$", text, re.MULTILINE) for text in texts]
    assert sum(float(value) for lines in found for _, value in lines) == 20
    assert all('otp_channel="email"' in labels for lines in found for labels, _ in lines)
    assert "ann" not in "".join(texts).replace("channel", "").replace("Cannot", "")
    assert any("otp_store_duration_seconds_bucket" in text for text in texts)


# The instruments, and every value that their attributes can have


def listed(instrument: Instrument) -> str:
    """The row of an instrument in the documentation."""
    settings = ", ".join(f"`{name}`".replace("?`", "`?") for name in instrument.settings)
    words: dict[str, list[str]] = {}
    for names, combinations in instrument.words.items():
        for values in combinations:
            for name, value in zip(names, values, strict=True):
                known = words.setdefault(name, [])
                if value is not None and value not in known:
                    known.append(value)
    fixed = "; ".join(f"`{name}`: {', '.join(each)}" for name, each in words.items())
    return f"{instrument.kind} | {settings or '-'} | {fixed or '-'} |"


def test_the_documented_table_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operate" / "metrics.md").read_text("utf-8")
    table = [f"| `{name}` | {listed(instrument)}" for name, instrument in INSTRUMENTS.items()]
    assert re.findall(r"^\| `otp\..*$", text, re.MULTILINE) == table


def test_each_instrument_is_made_as_it_is_listed(telemetry: Telemetry, app: Flask) -> None:
    made: dict[str, tuple[str, str]] = {}
    meter = telemetry.meters.get_meter("flask_otp")
    meter.create_counter = lambda name, unit, text: made.update({name: (COUNTER, unit)})  # type: ignore[assignment]
    meter.create_histogram = lambda name, unit, text: made.update({name: (HISTOGRAM, unit)})  # type: ignore[assignment]
    telemetry.meters.get_meter = lambda name: meter  # type: ignore[assignment]
    telemetry.instrument(app)
    assert made == {name: (instrument.kind, instrument.unit) for name, instrument in INSTRUMENTS.items()}


def test_the_lists_of_words_are_those_of_the_code() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(flask_otp.__file__).parent.rglob("*.py"))
    assert set(re.findall(r'@flow\("(\w+)"\)', source)) == set(FLOWS)
    assert set(re.findall(r'RateLimited\([^)]*limit="(\w+)"', source)) | set(_LIMITS.values()) | {"other"} == set(
        LIMITS
    )
    assert {"invalid_code", "rate_limited", "store_unavailable"} <= set(REASONS)
    assert all(re.fullmatch(r"[a-z_]+", reason) for reason in REASONS)


def test_an_error_of_the_apps_own_code_adds_no_series(make_app: AppFactory, clock: Clock, telemetry: Telemetry) -> None:
    class Odd(OTPError):
        reason = "ann@example.com is not welcome"

    errors: list[Exception] = [Odd(), RateLimited(limit="for ann@example.com"), ValueError("ann@example.com")]
    otp = OTP(clock=clock)

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str:
        raise errors.pop()

    app = make_app(otp, PROPAGATE_EXCEPTIONS=False, OTP_COOLDOWN=0)
    telemetry.instrument(app)
    while errors:
        app.test_client().post("/otp/send", json={"email": ANN})
    assert telemetry.counts("otp.flow.duration") == {("send", "error"): 2, ("send", "rate_limited"): 1}
    assert telemetry.counts("otp.limits") == {("send", "other"): 1}
    assert ANN not in telemetry.everything()


def test_doctor_counts_the_time_series(make_app: AppFactory) -> None:
    def doctor(**config: Any) -> tuple[int, str]:
        runner = make_app(OTP_CHANNELS={"email": lambda message: None}, **config).test_cli_runner()
        found = json.loads(runner.invoke(args=["otp", "doctor", "--json"]).output)["metric_series"]
        return found, runner.invoke(args=["otp", "doctor"]).output

    # One channel, one purpose: 4 messages, 5 x 2 x 2 verifications, 8 guard, 20 limits, 6 withheld, ...
    flows = len(FLOWS) * (len(REASONS) + 2)
    verbs = len(VERBS) * 4
    count, output = doctor()
    assert count == 4 + 20 + 8 + 20 + 6 + 1 + 1 + 1 + 4 + 1 + verbs + flows + 1
    assert f"at most {count:,} time series" in " ".join(output.split())
    more, _ = doctor(OTP_PURPOSES={"login": {}, "pay": {}}, OTP_SMS_COUNTRIES=["DE", "FR"])
    # Each purpose: 4 messages, 5 x 2 verifications, 8 guard, 6 x 3 withheld, one budget, one time to verify.
    assert more - count == (4 + 10 + 8 + 18 + 1 + 1) + 6 * 2


# What it costs


def test_without_an_sdk_no_function_is_called_for_it(make_app: AppFactory) -> None:
    app = make_app(OTP_CHANNELS={"email": lambda message: None})
    assert instrument(app) is False
    client, profile = app.test_client(), Profile()
    with capture_codes(app) as sent:
        profile.enable()
        client.post("/otp/send", json={"email": ANN})
        client.post("/otp/verify", json={"code": sent.code})
        profile.disable()
    called = {str(getattr(entry.code, "co_filename", "")) for entry in profile.getstats()}
    assert any("flask_otp/service" in path for path in called)
    assert not [path for path in called if "opentelemetry" in path or "flask_otp/observability" in path]
