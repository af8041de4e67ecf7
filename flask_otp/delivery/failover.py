"""The providers under one channel name, tried in order until one takes the message.

A step that fails repeatedly is skipped. Anyone can make a step fail with an address that it refuses, and must not be
able to block it for everyone else. So a failure counts only if the recipient cannot be its cause: it came before the
provider saw a recipient, or the channel says so, or another step then took the same message.
"""

from __future__ import annotations

import logging
import re
import smtplib
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol
from urllib.parse import quote, urlsplit

from flask import Flask

from .. import identifiers
from ..channels.base import Channel, ProviderDown, RecipientRefused, refuse_coroutine
from ..channels.deadline import Deadline
from ..crypto.payloads import Handle
from ..events import Events
from ..models import Message
from ..signals import delivery_tried
from .app_contexts import own_app_context
from .circuit_breaker import FAILURES, Circuit, Entry

logger = logging.getLogger("flask_otp")

#: The providers under one name, in the order in which they are tried.
Failover = tuple[Channel, ...]

#: Errors about one message from a healthy server. The app's own functions may use smtplib or Flask-Mail.
_REFUSALS = (RecipientRefused, smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)


class Secrets(Protocol):
    """Values that a log must not show: a :class:`~flask_otp.Message` has them."""

    @property
    def code(self) -> str: ...

    @property
    def recipient(self) -> str: ...

    @property
    def link(self) -> str | None: ...


class Result(Enum):
    """The result of a message at one step, and what it says about the step."""

    TAKEN = "taken"
    #: Failed as any other message would.
    DOWN = "down"
    #: Failed, but other messages may succeed.
    REFUSED = "refused"
    FAILED = "failed"


class Deliverer:
    """Tries the providers of one app's channels, and remembers in this process how their steps do.

    :param timeout: maximum seconds for a step whose channel sets none.
    """

    def __init__(self, app: Flask, timeout: float, clock: Callable[[], float], events: Events) -> None:
        self._app = app
        self._timeout = timeout
        self._clock = clock
        self._events = events
        self._providers: dict[int, _Provider] = {}

    def deliver(self, providers: Failover, message: Message, handle: Handle) -> bool:
        """Whether a step took the message. Each step is asked at most once, so the sum of their timeouts is the limit.

        :param handle: the handle of the message's challenge.
        """
        kind = identifiers.kind(message.recipient)
        tell = partial(self._events.tell, delivery_tried, about=handle, message_id=message.id)
        attempts = [
            _Attempt(self._provider(channel), partial(tell, step=str(place)))
            for place, channel in enumerate(providers, 1)
            if channel.accepts in (None, kind)
        ]
        try:
            # Skipped steps are asked last, not never: an open circuit alone must not fail a message.
            return any(attempt.take(message, is_last) for is_last in (False, True) for attempt in attempts)
        finally:
            if not any(attempt.result for attempt in attempts):
                # Every other failure has its own log line.
                why = (
                    "every step is down, and another message is trying it" if attempts else "no step takes this address"
                )
                logger.error("channel %r failed: %s", message.channel, why)
            is_taken = any(attempt.result is Result.TAKEN for attempt in attempts)
            for attempt in attempts:
                attempt.end(message, is_taken)

    def longest(self, providers: Failover) -> float:
        """Maximum seconds that one message may take at all steps together."""
        return sum(self._timeout if channel.timeout is None else channel.timeout for channel in providers)

    def _provider(self, channel: Channel) -> _Provider:
        # By id, because a channel need not be hashable. The step holds a reference, so no other channel gets this id.
        if id(channel) not in self._providers:
            self._providers.setdefault(id(channel), _Provider(channel, self._app, self._timeout, self._clock))
        return self._providers[id(channel)]


class _Provider:
    """A channel, and how it is doing."""

    def __init__(self, channel: Channel, app: Flask, timeout: float, clock: Callable[[], float]) -> None:
        self.channel = channel
        self.circuit = Circuit(clock)
        self._app = app
        self._timeout = timeout
        self._left_behind: set[Deadline] = set()

    def try_message(self, message: Message) -> Result:
        """Try the message. No exception leaves this method, because it may quote the code."""
        timeout = self._timeout if self.channel.timeout is None else self.channel.timeout
        deadline = Deadline(timeout, self._left_behind)
        try:
            deadline.run(lambda: self._deliver(message))
            return Result.TAKEN
        except Exception as error:
            reason = redact(f"{type(error).__name__}: {error}", message)
            is_down = deadline.is_impersonal or isinstance(error, ProviderDown)
            result = Result.REFUSED if isinstance(error, _REFUSALS) else Result.DOWN if is_down else Result.FAILED
        # Outside the ``except`` block, where log handlers do not see the exception.
        logger.error("channel %r (%s) failed: %s", message.channel, type(self.channel).__name__, reason)
        return result

    def _deliver(self, message: Message) -> None:
        # Not in the request's app context, which may be torn down (with its database session) before we finish.
        with own_app_context(self._app):
            # Apps with different timeouts may share the channel.
            self.channel.default_timeout = self._timeout
            deliver: Callable[[Message], object] = self.channel.deliver
            refuse_coroutine(deliver(message), f"channel {message.channel!r}")


class _Attempt:
    """One message at one step."""

    def __init__(self, provider: _Provider, tell: Callable[..., None]) -> None:
        self._provider = provider
        self._tell = tell
        self._entry = Entry.REFUSED
        self.result: Result | None = None

    def take(self, message: Message, is_last_resort: bool) -> bool:
        """Whether the step takes the message, now that its turn has come."""
        if self._entry is not Entry.REFUSED:
            return False  # it has been tried
        self._entry = self._provider.circuit.enter(is_last_resort=is_last_resort)
        if self._entry is not Entry.REFUSED:
            began = time.perf_counter()
            self.result = self._provider.try_message(message)
            self._tell(self.result.value, seconds=time.perf_counter() - began)
        return self.result is Result.TAKEN

    def end(self, message: Message, is_taken: bool) -> None:
        """Update the step, now that it is known whether any step took the message."""
        if self._entry is Entry.REFUSED:
            return
        counts = self.result is Result.DOWN or (self.result is Result.FAILED and is_taken)
        works = True if self.result is Result.TAKEN else False if counts else None
        is_open = self._provider.circuit.leave(self._entry, works)
        if is_open is not None:
            broken = f"failed {FAILURES} times in a row: until it works, it is tried last, by one message at a time"
            change = broken if is_open else "works again"
            logger.warning("channel %r (%s) %s", message.channel, type(self._provider.channel).__name__, change)


def redact(text: str, secrets: Secrets) -> str:
    """Put ``text`` on one line, without code, link and recipient: libraries often quote what they could not send."""
    code = r"[\s-]*".join(map(re.escape, secrets.code))
    address = secrets.recipient.removeprefix("+")
    # An empty code's pattern would match everywhere.
    words = [*([code] if code else ()), re.escape(address), re.escape(quote(address))]
    if secrets.link is not None:
        secret = urlsplit(secrets.link).path.rpartition("/")[2]
        # The text may be a longer line than quoted-printable allows, where each break is preceded by "=".
        words.append(r"(?:[\s=]|\\[rn])*".join(map(re.escape, secret)))
    text = re.sub("|".join(words), "[redacted]", text, flags=re.IGNORECASE)
    return " ".join(text.split())[:500]
