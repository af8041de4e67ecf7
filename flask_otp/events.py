"""The description of a signal: one frozen :class:`Event`, without identifier, code or address.

Observers (metrics, traces, audit, statistics) are receivers of the signals. The flows call no observer directly: they
send a signal, and an event is created only if the signal has receivers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from blinker import NamedSignal
from flask import Flask, has_request_context, request

from . import errors
from .crypto.keys import Keys
from .crypto.payloads import Handle, Proof
from .errors import OTPError, RateLimited
from .networks import network_of, shorten
from .signals import flow_ended, limit_reached

T = TypeVar("T")
P = ParamSpec("P")

_NONE: Mapping[str, Any] = {}

#: The flows, the limits and the reasons of errors that events name. An app's own error may have any text as its reason.
FLOWS = ("send", "resend", "verify", "next_channel")
LIMITS = ("identifier", "network_send", "network_verify", "channel_budget", "other")
REASONS = tuple(
    sorted({kind.reason for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OTPError)})
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event. Members that the signal does not know are ``None``."""

    #: The signal's name: ``"code_sent"``.
    kind: str
    #: Time in seconds since 1970, by the app's clock.
    time: float
    #: The outcome. Each signal lists its words.
    outcome: str
    #: The reason, if known. A word from a fixed list, never free text.
    reason: str | None = None
    #: One of ``OTP_PURPOSES``.
    purpose: str | None = None
    #: One of ``OTP_CHANNELS``.
    channel: str | None = None
    #: The part of the work: a provider's place, a verb of the store, or a flow.
    step: str | None = None
    #: Two-letter country of a message to a phone. ``ZZ`` if it has none.
    country: str | None = None
    #: A keyed pseudonym of the identifier: the same in all its events, as long as ``SECRET_KEY`` is the same.
    subject: str | None = None
    #: A keyed pseudonym of the challenge.
    challenge: str | None = None
    #: The id of the message, as in :attr:`Message.id <flask_otp.Message.id>`: the same for all its providers and tries.
    message_id: str | None = None
    #: The client's network, shortened to /24 or /48.
    network: str | None = None
    #: A duration. Each signal says of what.
    seconds: float | None = None


def pseudonym(keys: Keys, identifier: str) -> str:
    """The name of an identifier in events: 64 bits that reveal nothing about it without the key.

    :param identifier: in canonical form.
    """
    return keys.tag(b"event", b"person", identifier.encode()).hex()


class _HasEvents(Protocol):
    @property
    def events(self) -> Events: ...


class _HasParts(Protocol):
    @property
    def _parts(self) -> _HasEvents: ...


S = TypeVar("S", bound=_HasParts)


class Events:
    """Sends the signals of one app.

    :param clock: returns seconds since 1970.
    :param purposes: the purpose names that events may contain. Clients may send any name.
    """

    def __init__(self, app: Flask, clock: Callable[[], float], purposes: Iterable[str]) -> None:
        self._app = app
        self._clock = clock
        self._purposes = frozenset(purposes)

    def tell(
        self,
        signal: NamedSignal,
        outcome: str,
        about: Handle | Proof | None = None,
        *,
        reason: str | None = None,
        step: str | None = None,
        seconds: float | None = None,
        purpose_name: str | None = None,
        channel_name: str | None = None,
        subject: str | None = None,
        message_id: str | None = None,
        arguments: Mapping[str, Any] = _NONE,
    ) -> None:
        """Send a signal with its arguments and an :class:`Event`, if it has a receiver.

        :param about: the challenge or proof, which supplies purpose, channel and pseudonyms.
        :param arguments: the arguments that the signal passes besides the event.
        """
        if not signal.receivers:
            return
        event = Event(
            kind=signal.name.removeprefix("otp-").replace("-", "_"),
            time=self._clock(),
            outcome=outcome,
            reason=reason,
            purpose=self._known(about.purpose if about else purpose_name),
            channel=about.channel if about else channel_name,
            step=step,
            country=_country(about),
            subject=pseudonym(about.keys, about.identifier) if about else subject,
            challenge=_challenge(about),
            message_id=message_id,
            network=_network(),
            seconds=seconds,
        )
        signal.send(self._app, event=event, **arguments)

    def _known(self, purpose: str | None) -> str | None:
        return purpose if purpose in self._purposes else None

    def follow(self, flow: str, call: Callable[[], T], purpose: str | None) -> T:
        """Run a flow and report its outcome. Exceptions are reported and raised again."""
        began, outcome = time.perf_counter(), "error"
        try:
            answer = call()
            outcome = "done"
            return answer
        except OTPError as error:
            if error.reason in REASONS:
                outcome = error.reason
            if isinstance(error, RateLimited):
                limit = error.limit if error.limit in LIMITS else "other"
                self.tell(limit_reached, "refused", reason=limit, step=flow, purpose_name=purpose)
            raise
        finally:
            seconds = time.perf_counter() - began
            self.tell(flow_ended, outcome, step=flow, seconds=seconds, purpose_name=purpose)


def flow(name: str) -> Callable[[Callable[Concatenate[S, P], T]], Callable[Concatenate[S, P], T]]:
    """Decorate a flow, a method of an object with ``_parts``. Without a receiver, it is just called."""

    def decorate(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
        def followed(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if not (flow_ended.receivers or limit_reached.receivers):
                return function(self, *args, **kwargs)
            purpose = kwargs.get("purpose")
            named = purpose if isinstance(purpose, str) else None
            return self._parts.events.follow(name, lambda: function(self, *args, **kwargs), named)

        return update_wrapper(followed, function)

    return decorate


def _country(about: Handle | Proof | None) -> str | None:
    return about.numbers[-2:] if isinstance(about, Handle) and about.numbers else None


def _challenge(about: Handle | Proof | None) -> str | None:
    if not isinstance(about, Handle):
        return None
    return about.keys.tag(b"event", b"challenge", about.challenge_id).hex()


def _network() -> str | None:
    return shorten(network_of(request.remote_addr)) if has_request_context() else None
