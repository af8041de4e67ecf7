"""Helpers for the tests of apps: the sent codes, a client that starts verified, a clock to set.

They work only if ``app.testing`` is set. :mod:`flask_otp.testing.fixtures` has them for pytest, and
:mod:`flask_otp.testing.stores` is the suite for stores.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

from flask import Flask
from flask import session as flask_session
from flask.testing import FlaskClient

from ..channels import Channel
from ..config.parsers import seconds
from ..crypto.context import context_digest
from ..crypto.payloads import Proof
from ..http import session
from ..models import Message
from ..state import AppState, current_state
from ..stores import Attempt, ChallengeRequest, Policy

_NO_LIMITS = Policy(60, 1, 0, (), (), ())


class Outbox(list[Message]):
    """The messages sent, oldest first."""

    @property
    def code(self) -> str:
        """The code of the newest message."""
        if not self:
            raise AssertionError("no code was sent")
        return self[-1].code

    @property
    def link(self) -> str:
        """The link of the newest message."""
        if not self or self[-1].link is None:
            raise AssertionError("no link was sent")
        return self[-1].link

    def code_for(self, recipient: str) -> str:
        """The newest code that went to ``recipient``."""
        for message in reversed(self):
            if message.recipient == recipient:
                return message.code
        others = ", ".join(dict.fromkeys(message.recipient for message in self)) or "nobody"
        raise AssertionError(f"no code was sent to {recipient}, but to {others}")


class _Recorder(Channel):
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def deliver(self, message: Message) -> None:
        self._outbox.append(message)


@contextmanager
def capture_codes(app: Flask) -> Iterator[Outbox]:
    """Collect all messages in an outbox instead of sending them.

    They are in it when ``send`` returns, whatever the delivery setting. Nothing is left to do in the background, and a
    queue gets a payload that sends nothing.

    :raises RuntimeError: the app is not testing.
    """
    transport = _state(app).delivery.transport
    outbox = Outbox()
    before, transport.intercept = transport.intercept, _Recorder(outbox)
    try:
        yield outbox
    finally:
        transport.intercept = before


def send_due(app: Flask) -> None:
    """Send the messages of ``OTP_NEXT_CHANNEL_AFTER`` that are due by the app's clock.

    Call it in a test after moving the clock, instead of waiting. For apps without a dispatcher.

    :raises RuntimeError: the app is not testing.
    """
    for job in _state(app).delivery.later.take_due():
        with app.app_context():
            job()


class Clock:
    """A clock that stands still until it is moved. Pass it to ``OTP(app, clock=...)`` or to :func:`set_clock`."""

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    def __call__(self) -> float:
        return self.now

    def advance(self, by: str | int | timedelta) -> None:
        """Move on by a duration: ``"5m"``, seconds or a timedelta."""
        self.now += seconds(by)


def set_clock(app: Flask, clock: Callable[[], float]) -> Callable[[], float]:
    """Use ``clock`` for codes, proofs and the limits of subjects. Returns the previous clock.

    Network limits use the real time.

    :raises RuntimeError: the app is not testing.
    """
    state = _state(app)
    before, state.clock = state.clock, clock
    return before


class OTPClient(FlaskClient):
    """A test client that starts verified::

        app.test_client_class = OTPClient
        client = app.test_client(verified="ann@example.com")

    The app's ``verified_handler`` is called as after a verification over HTTP, so it can sign the user in.

    :param verified: the verified identifier. By default none.
    :param purpose: purpose of the verification.
    :param channel: channel of the verification.
    :param context: context of the verification, for a view whose guard has a ``context``.
    :param user: a user object to sign in with Flask-Login first, as after a password.
    :raises RuntimeError: the app is not testing.
    """

    def __init__(
        self,
        *args: Any,
        verified: str | None = None,
        purpose: str = "login",
        channel: str = "email",
        context: Any = None,
        user: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if user is not None:
            login_user = import_module("flask_login").login_user
            self._in_its_session(lambda: login_user(user))
        if verified is not None:
            state = _state(self.application)
            proof = _record(state, verified, purpose, channel, context)
            self._in_its_session(lambda: self._verify(state, proof))

    def _verify(self, state: AppState, proof: Proof) -> None:
        session.set("proof", proof.purpose, state.tokens.dump_proof(proof))
        if state.hooks.verified_handler is not None:
            state.hooks.verified_handler(state.service.verification(proof))

    def _in_its_session(self, act: Callable[[], object]) -> None:
        """Call ``act`` in a request of this client, and keep its changes of the session."""
        _state(self.application)
        with self.session_transaction() as kept:
            # Flask-Login binds a session to the client's address and user agent.
            with self.application.test_request_context(environ_base=self.environ_base):
                flask_session.update(kept)
                act()
                left = dict(flask_session)
            kept.clear()
            kept.update(left)


def _record(state: AppState, verified: str, purpose: str, channel: str, context: Any) -> Proof:
    """Let the store record a proof, as after a code."""
    now = state.clock()
    proof = Proof(
        proof_id=secrets.token_bytes(12),
        purpose=purpose,
        channel=channel,
        context=context_digest(context),
        verified_at=now,
        expires_at=int(now) + state.service.purpose(purpose).verified_for,
        identifier=state.identifiers.parse(verified).value,
        keys=state.tokens.keys,
    )
    request = ChallengeRequest(challenge_id=secrets.token_bytes(16), bucket=b"testing")
    state.store.open(proof.subject, request, _NO_LIMITS, int(now))
    attempt = Attempt(request.challenge_id, True, proof.proof_id, proof.expires_at)
    state.store.redeem(proof.subject, attempt, _NO_LIMITS, int(now))
    return proof


def _state(app: Flask) -> AppState:
    if not app.testing:
        raise RuntimeError("flask_otp.testing works only on an app with app.testing")
    with app.app_context():
        return current_state()
