"""``OTP``, the object that an app creates, and a proxy for the current verification."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, cast

from flask import Blueprint, Flask, Response
from flask.sansio.scaffold import Scaffold
from werkzeug.local import LocalProxy

from . import cli, guard, identifiers, rendering
from .config import flask_settings
from .config.settings import Settings
from .config.test_recipients import TestRecipients
from .crypto.keys import Keys
from .crypto.tokens import Tokens
from .errors import ConfigError
from .events import Events
from .factor_methods import RecoveryMethods, TotpMethods
from .factors.totp import library
from .hooks import HookDecorators
from .http import actions, factor_views, openapi, session
from .http.blueprint import answer_trusted_origins, create_blueprint
from .identifiers import Parser
from .limits.counters import Limits
from .limits.sms_pumping import SmsPumping
from .models import Challenge, Factors, TrustedBrowser, Verification
from .rendering import Templates
from .site import EXTENSION
from .startup_checks import check_app, tell_of_reloads, warn_of_settings
from .state import AppState, current_state
from .stores import Store, store_from_uri


class OTP(HookDecorators):
    """One-time codes for a Flask app: send, limit and verify.

    ::

        otp = OTP(app)          # or otp = OTP(), then otp.init_app(app)

    It stores nothing of an app, so one object may serve several apps. They share its hooks.

    :param register_blueprint: mount the pages and the HTTP API at ``OTP_URL_PREFIX``. If ``False``, mount
        :attr:`blueprint` yourself, or use only the Python API.
    :param clock: returns the time in seconds since 1970.
    :raises ConfigError: the configuration is wrong. The message names the key.
    """

    def __init__(
        self, app: Flask | None = None, *, register_blueprint: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self.blueprint: Blueprint = create_blueprint()
        factor_views.add_routes(self.blueprint, guard.require)
        #: Authenticator apps: :class:`~flask_otp.factor_methods.TotpMethods`.
        self.totp = TotpMethods()
        #: Recovery codes: :class:`~flask_otp.factor_methods.RecoveryMethods`.
        self.recovery = RecoveryMethods()
        self._register_blueprint = register_blueprint
        self._clock = clock
        super().__init__()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an app. Its ``OTP_*`` keys are read now, and not again.

        :raises ConfigError: the configuration is wrong, or the app already has an ``OTP``.
        """
        if EXTENSION in app.extensions:
            raise ConfigError(
                f"app {app.name!r} has an OTP already: create only one, and import it where you need it",
                see="python/otp",
            )
        flask_settings.refuse_text_for_flags(app)
        settings = Settings.from_config(app.config)
        # Done now, so the first request does not wait for it.
        identifiers.prepare(settings.sms_countries)
        rendering.compile_messages()
        keyring = [Keys(secret, settings.key_prefix) for secret in flask_settings.secret_keys(app)]
        tokens = Tokens(keyring, for_few=settings.deliver_only_to is not None)
        if not (app.debug or app.testing):
            warn_of_settings(app, settings)
        store = store_from_uri(settings.storage_uri, settings.key_prefix, settings.storage_options)
        app.extensions[EXTENSION] = self._state(app, settings, tokens, store)
        if self._register_blueprint:
            app.register_blueprint(self.blueprint, url_prefix=settings.url_prefix)
        for hook in _last_hooks(settings):
            app.after_request(hook)
        app.cli.commands.setdefault("otp", cli.commands)
        self._check_before_serving(app)

    def _state(self, app: Flask, settings: Settings, tokens: Tokens, store: Store) -> AppState:
        limits = Limits(settings, app.extensions)
        events = Events(app, lambda: state.clock(), settings.purposes)
        # With the state's clock, which an app's tests may set.
        test_recipients = TestRecipients(settings.test_recipients, lambda: state.clock())
        state = AppState(
            app=app,
            settings=settings,
            hooks=self._hooks,
            events=events,
            tokens=tokens,
            store=store,
            limits=limits,
            sms_pumping=SmsPumping(events, settings, limits),
            test_recipients=test_recipients,
            identifiers=Parser(test_recipients.number, settings.sms_countries, settings.email_special_domains),
            templates=Templates(app),
            clock=self._clock,
            blueprint=self.blueprint,
        )
        return state

    # Codes

    def send(
        self, identifier: str, *, channel: str | None = None, purpose: str = "login", context: Any = None
    ) -> Challenge:
        """Create a code and send it. In a request, the session remembers the challenge.

        If the same session calls it again while the code is valid, the same code is sent again (during the cooldown
        nothing is sent), and the same challenge is returned.

        :param identifier: an e-mail address, or a phone number with its country code.
        :param channel: one of ``OTP_CHANNELS``. By default the first that accepts the identifier.
        :param context: a JSON value that the code is bound to, such as an amount and a payee.
        :raises InvalidIdentifier: it is neither, or the channel accepts another kind.
        :raises InvalidRequest: no such purpose or channel, or the context is over 512 bytes or contains a value that
            JSON cannot write, such as NaN.
        :raises ValueError: the context is not a JSON value.
        :raises RateLimited: a limit or a cooldown is reached.
        :raises DeliveryFailed: the message could not be delivered. No code is outstanding.
        :raises StoreUnavailable: the store is unreachable. Nothing was sent.
        """
        return actions.send(identifier, channel, purpose, context)

    def resend(self, challenge: str | None = None, *, purpose: str = "login", channel: str | None = None) -> Challenge:
        """Send the code of a challenge again: the same code, and no attempt is given back.

        :param challenge: a handle of ``purpose``. By default the session's own.
        :param channel: another one of ``OTP_CHANNELS``, which may be requested at once, without a cooldown. A guard
            with ``channels`` passes only if it allows every channel that carried the code.
        :raises ChallengeRequired: there is no challenge, it has ended, or its code already went out by four channels.
        :raises InvalidRequest: there is no such channel, or the code is one of an app or a list: nothing is sent.
        :raises InvalidIdentifier: the channel accepts another kind of address.
        :raises RateLimited: too soon, or too often.
        :raises DeliveryFailed: the message could not be delivered. The earlier code is still valid.
        :raises StoreUnavailable: the store is unreachable.
        """
        return actions.resend(challenge, purpose, channel)

    def verify(
        self,
        code: str,
        *,
        challenge: str | None = None,
        identifier: str | None = None,
        purpose: str = "login",
        context: Any = None,
    ) -> Verification:
        """Redeem a code: exactly one caller gets the verification. In a request, the session keeps its proof.

        :param challenge: a handle. By default the session's own for ``purpose``.
        :param identifier: if given, the challenge must belong to it.
        :param context: must equal the context that the code was sent for.
        :raises InvalidCode: the code is wrong, expired, used, or for something else.
        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises InvalidRequest, ValueError: :meth:`send` would not accept the context.
        :raises ChallengeRequired: there is no challenge to verify.
        :raises RateLimited: too many attempts from this network, or at an authenticator app's codes.
        :raises FactorsUnavailable: a recovery code was right, but the app did not save that it is used.
        :raises StoreUnavailable: the store is unreachable. No code passes.
        """
        return actions.verify(code, challenge, identifier, purpose, context)

    def verification(self, purpose: str = "login") -> Verification | None:
        """The current client's verification for a purpose, checked with the store. ``None`` if there is none.

        A verification for a context is visible only behind the guard that asked for that context. Needs a request.

        :raises StoreUnavailable: the store does not answer.
        """
        return guard.find_verification(purpose)

    def forget(self, purpose: str | None = None) -> None:
        """Log out: end the current client's proofs of one purpose, or of all. Saved cookies stop working too.

        Needs a request.

        :raises StoreUnavailable: the proofs could not be ended.
        """
        actions.forget(purpose)

    def revoke(self, identifier: str) -> None:
        """End every proof, outstanding challenge and known browser of an identifier, on every machine.

        :raises InvalidIdentifier: the identifier is not valid.
        :raises StoreUnavailable: some of it may not be ended. Call it again.
        """
        actions.revoke(identifier)

    def deliver(self, payload: dict[str, str]) -> None:
        """Deliver the payload that :meth:`dispatcher` received. Call it in a worker, within an app context.

        If the message has already been sent, it does nothing. If the code has expired, was used or was revoked, it
        drops the message with a log line and the signal ``delivery_failed``. A worker that dies leaves only a claim
        that ends soon, and the next worker delivers. If two workers run it at the same time, one sends and the other
        waits. The store must be the one that the code was requested with.

        With ``OTP_NEXT_CHANNEL_AFTER``, a delayed payload sends the code by the next channel, unless it has been
        verified, and passes the next payload to the dispatcher.

        :raises DeliveryFailed: no channel took the message. You may try again while the code is valid.
        :raises StoreUnavailable: it is not known whether the message is still wanted. Nothing was sent: try again.
        """
        current_state().service.deliver(payload)

    # Kept factors

    def factors(self, identifier: str) -> Factors:
        """A person's authenticator apps, and the number of recovery codes left. Contains no secret.

        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises FactorsUnavailable: the text from the ``factors_loader`` does not open.
        """
        state = current_state()
        return state.factors.enroller.factors(state.identifiers.named(identifier).value)

    def move_factors(self, old: str, new: str) -> None:
        """Bind the factors to another identifier, after the person's address has changed.

        Call it after the change was saved. Another call does nothing.

        :raises InvalidIdentifier: one of the two is not valid.
        :raises FactorsUnavailable: the factors open under neither identifier, or were not saved.
        :raises StoreUnavailable: the factors were moved, but browsers may still be trusted.
        """
        state = current_state()
        state.factors.enroller.move(state.identifiers.named(old).value, state.identifiers.named(new).value)

    def reseal(self, identifier: str) -> None:
        """Seal the factors with the current ``SECRET_KEY``, if one of ``SECRET_KEY_FALLBACKS`` opens them.

        Call it for every user before you remove an old key. Otherwise users who have not signed in since the rotation
        lose their apps.

        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises FactorsUnavailable: no key opens the factors, or they were not saved.
        """
        state = current_state()
        state.factors.enroller.reseal(state.identifiers.named(identifier).value)

    def trusted(self, identifier: str) -> tuple[TrustedBrowser, ...]:
        """The browsers that may skip the second factor, oldest first.

        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises StoreUnavailable: the store is unreachable.
        """
        state = current_state()
        return state.factors.trusted.list(state.identifiers.named(identifier).value)

    def untrust(self, identifier: str, browser_id: str) -> bool:
        """End the trust in one browser, on every machine.

        :param browser_id: the ``id`` from :meth:`trusted`.
        :returns: whether there was such a browser.
        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises StoreUnavailable: the browser may still be trusted.
        """
        state = current_state()
        return state.factors.trusted.end(state.identifiers.named(identifier).value, browser_id)

    # The HTTP API

    def openapi(self) -> dict[str, Any]:
        """The HTTP API as an OpenAPI 3.1 document, with this app's prefix, purposes and channels. Needs an app context.

        ``components.responses.VerificationRequired`` describes the response of a guarded view, so the app's own
        document can refer to it.
        """
        return openapi.document(current_state())

    # Guards

    def protect(
        self,
        target: Scaffold,
        exempt: Iterable[str] = (),
        *,
        purpose: str = "login",
        max_age: str | int | timedelta | None = None,
        channels: Iterable[str] = (),
        context: Callable[[], Any] | None = None,
        identifier: Callable[[], str] | None = None,
        once: bool = False,
        trust: str | int | timedelta | None = None,
    ) -> None:
        """Guard every view of an app or a blueprint, like ``@otp_required`` with the same arguments.

        A blueprint must be protected before it is registered.

        Only views of routes are guarded. Error handlers, such as the page for a 404, run for every visitor, and Flask
        runs no ``before_request`` for handlers of socket events. Call :meth:`verification` there.

        :param exempt: endpoint names that stay open. Our own pages and the app's static files are always open.
        :raises ConfigError: an argument is wrong. The names in ``exempt`` are checked on the first request.
        """
        if not isinstance(target, Scaffold):
            raise ConfigError(f"protect takes an app or a blueprint, not {target!r}")
        rule = guard.make_rule(purpose, max_age, channels, context, identifier, once, trust)
        blueprint = target.name if isinstance(target, Blueprint) else ""
        target.before_request(guard.protector(rule, exempt, blueprint))

    def _check_before_serving(self, app: Flask) -> None:
        """Check the finished app once, on its first request, when all extensions and views exist."""
        blueprint = self.blueprint

        def check() -> None:
            state = current_state()
            if state.hooks.factors_loader is not None:
                library("pyotp"), library("segno")
            check_app(app, blueprint, state.routing, state.settings)
            tell_of_reloads(app)
            _exempt_from_csrf(app, blueprint)
            # A new list, because Flask is iterating over the old one. From now on no request pays for this check.
            hooks = app.before_request_funcs[None]
            app.before_request_funcs[None] = [hook for hook in hooks if hook is not check]
            # Flask calls the first of these last, so ours see the effects of all others.
            last, hooks_after = _last_hooks(state.settings), app.after_request_funcs[None]
            app.after_request_funcs[None] = [*last, *(hook for hook in hooks_after if hook not in last)]

        _exempt_from_csrf(app, blueprint)
        app.before_request(check)


def _last_hooks(settings: Settings) -> list[Callable[[Response], Response]]:
    """What runs after every request of the app, the last one first. Most apps trust no other origin."""
    return [*([answer_trusted_origins] if settings.trusted_origins else []), session.finish]


def _exempt_from_csrf(app: Flask, blueprint: Blueprint) -> None:
    """Our routes refuse cross-origin requests themselves, and API clients have no token for Flask-WTF."""
    csrf = app.extensions.get("csrf")
    if csrf is not None and hasattr(csrf, "exempt"):
        csrf.exempt(blueprint)


#: The current client's verification for ``login``, or a false value: a proxy for ``otp.verification()``.
current_verification = cast(Verification, LocalProxy(lambda: guard.find_verification("login")))
