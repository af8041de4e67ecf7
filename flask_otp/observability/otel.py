"""Metrics and traces with OpenTelemetry (extra ``otel``). This module only receives signals.

No attribute contains an identifier, a network, a code or free text. Purposes and channels come from the settings and
all other attributes from the fixed lists of :mod:`.series`, so the number of time series is bounded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from blinker import NamedSignal
from flask import Flask
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import signals
from ..events import Event
from .series import COUNTER, HISTOGRAM, INSTRUMENTS

logger = logging.getLogger("flask_otp")

_SCOPE = "flask_otp"
_PROPAGATOR = TraceContextTextMapPropagator()
#: Names for an event's step where it says more than the event.
_STEPS = {"verb": "step", "flow": "step", "provider": "step"}
#: The challenge whose delivery this thread has started, and the trace that requested it.
_asked_by: ContextVar[tuple[str | None, Context] | None] = ContextVar("flask_otp_asked_by", default=None)


def instrument(
    app: Flask,
    *,
    meter_provider: metrics.MeterProvider | None = None,
    tracer_provider: trace.TracerProvider | None = None,
) -> bool:
    """Measure and trace what the app's ``OTP`` does. Call it once per app, after the SDK is set up.

    If there is no provider, neither passed here nor set up for the process, nothing is connected and there is no
    overhead.

    :returns: whether anything is connected.
    """
    meters = meter_provider or _real(metrics.get_meter_provider())
    tracers = tracer_provider or _real(trace.get_tracer_provider())
    if meters is None and tracers is None:
        logger.info("OpenTelemetry has no SDK set up in this process, so nothing is measured or traced")
        return False
    if meters is not None:
        for signal, receiver in _Metrics(meters).receivers().items():
            _connect(signal, receiver, app)
    if tracers is not None:
        for signal, receive in _Traces(tracers).receivers().items():
            _connect(signal, receive, app)
    return True


def _real(provider: Any) -> Any:
    """The provider, or ``None`` for the API's no-op provider, which drops everything."""
    home = type(provider).__module__
    return None if home.startswith(("opentelemetry.metrics", "opentelemetry.trace")) else provider


def _connect(signal: NamedSignal, receiver: Callable[..., None], app: Flask) -> None:
    def receive(sender: Flask, event: Event, **arguments: Any) -> None:
        try:
            receiver(event, **arguments)
        except Exception as error:
            # A failing observer must not break what it observes.
            logger.error("OpenTelemetry failed at %s: %s", event.kind, type(error).__name__)

    signal.connect(receive, app, weak=False)


class _Metrics:
    """The instruments of :data:`.series.INSTRUMENTS`."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        self._meter = provider.get_meter(_SCOPE)
        self._counters = {name: self._made(name) for name, each in INSTRUMENTS.items() if each.kind == COUNTER}
        self._histograms = {name: self._timed(name) for name, each in INSTRUMENTS.items() if each.kind == HISTOGRAM}

    def _made(self, name: str) -> metrics.Counter:
        return self._meter.create_counter(name, INSTRUMENTS[name].unit, INSTRUMENTS[name].description)

    def _timed(self, name: str) -> metrics.Histogram:
        return self._meter.create_histogram(name, INSTRUMENTS[name].unit, INSTRUMENTS[name].description)

    def receivers(self) -> dict[NamedSignal, Callable[..., None]]:
        return {
            signals.code_sent: self._count("otp.messages"),
            signals.delivery_failed: self._count("otp.messages"),
            signals.code_rejected: self._count("otp.verifications"),
            signals.code_verified: self._verified,
            signals.guard_decided: self._count("otp.guard"),
            signals.limit_reached: self._count("otp.limits"),
            signals.message_withheld: self._count("otp.withheld"),
            signals.budget_spent: self._count("otp.budget_spent"),
            signals.surge: self._count("otp.surge"),
            signals.sms_pumping: self._count("otp.sms_pumping"),
            signals.delivery_tried: self._time("otp.delivery.duration"),
            signals.delivery_started: self._time("otp.delivery.wait"),
            signals.store_called: self._time("otp.store.duration"),
            signals.flow_ended: self._time("otp.flow.duration"),
        }

    def _verified(self, event: Event, **_: Any) -> None:
        self._count("otp.verifications")(event)
        self._time("otp.time_to_verify")(event)

    def _count(self, name: str) -> Callable[..., None]:
        counter, names = self._counters[name], INSTRUMENTS[name].attributes
        return lambda event, **_: counter.add(1, _attributes(event, *names))

    def _time(self, name: str) -> Callable[..., None]:
        histogram, names = self._histograms[name], INSTRUMENTS[name].attributes
        return lambda event, **_: histogram.record(event.seconds or 0, _attributes(event, *names))


class _Traces:
    """Creates spans when the traced work has ended, because the signal tells how long it took."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer(_SCOPE)

    def receivers(self) -> dict[NamedSignal, Callable[..., None]]:
        return {
            signals.flow_ended: self._flow_ended,
            signals.delivery_queued: self._queued,
            signals.delivery_started: self._started,
            signals.delivery_tried: self._tried,
        }

    def _flow_ended(self, event: Event, **_: Any) -> None:
        self._span(f"otp.{event.step}", event, None, event.outcome == "done", "purpose", "outcome")

    def _queued(self, event: Event, carrier: dict[str, str], **_: Any) -> None:
        _PROPAGATOR.inject(carrier)

    def _started(self, event: Event, carrier: dict[str, str], **_: Any) -> None:
        _asked_by.set((event.challenge, _PROPAGATOR.extract(carrier, Context())))

    def _tried(self, event: Event, **_: Any) -> None:
        asked_by = _asked_by.get()
        # This thread may have started another delivery before.
        parent = asked_by[1] if asked_by and asked_by[0] == event.challenge else None
        names = ("channel", "purpose", "provider", "outcome")
        self._span("otp.deliver", event, parent, event.outcome == "taken", *names)

    def _span(self, name: str, event: Event, parent: Context | None, is_well: bool, *names: str) -> None:
        now = time.time_ns()
        began = now - int((event.seconds or 0) * 1e9)
        span = self._tracer.start_span(name, parent, attributes=_attributes(event, *names), start_time=began)
        if not is_well:
            span.set_status(Status(StatusCode.ERROR))
        span.end(now)


def _attributes(event: Event, *names: str) -> dict[str, str]:
    found = {f"otp.{name}": getattr(event, _STEPS.get(name, name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}
