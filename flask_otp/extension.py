"""``OTP``: the one object that an app makes, and the proxy for who is verified."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, cast

from flask import Blueprint, Flask
from flask.sansio.scaffold import Scaffold
from werkzeug.local import LocalProxy

from . import cli, guard, identifiers, rendering
from .config.settings import Settings
from .config.test_recipients import TestRecipients
from .crypto.keys import Keys
from .crypto.tokens import Tokens
from .delivery.environment import loses_background
from .errors import ConfigError
from .events import Events
from .factor_methods import RecoveryMethods, TotpMethods
from .factors.totp import library
from .hooks import HookDecorators
from .http import actions, factor_views, openapi
from .http.blueprint import create_blueprint, finish
from .identifiers import Parser
from .limits import risk
from .limits.counters import Limits
from .limits.sms_pumping import SmsPumping
from .models import Challenge, Factors, TrustedBrowser, Verification
from .observability.audit import Audit
from .rendering import Templates
from .site import EXTENSION
from .startup_checks import check_app, tell_of_reloads
from .state import AppState, current_state
from .stores import Store, store_from_uri

_MIN_SECRET = 16


class OTP(HookDecorators):
    """One-time codes for a Flask app: made, sent, limited and checked.

    ::

        otp = OTP(app)          # or otp = OTP(), then otp.init_app(app)

    It keeps nothing of an app, so one object may serve many. Hooks are shared by its apps.

    :param register_blueprint: mount the pages and the HTTP API at ``OTP_URL_PREFIX``; else mount :attr:`blueprint`
        yourself, or use the Python API alone.
    :param clock: what tells the time, in seconds since 1970.
    :raises ConfigError: the configuration is wrong; the message names the key.
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

        :raises ConfigError: the configuration is wrong, or the app has an ``OTP`` already.
        """
        if EXTENSION in app.extensions:
            raise ConfigError(f"app {app.name!r} has an OTP already: make one, and import it where you need it")
        _refuse_text_for_flags(app)
        settings = Settings.from_config(app.config)
        # The first request should not wait for any of this.
        identifiers.prepare(settings.sms_countries)
        rendering.compile_messages()
        tokens = Tokens([Keys(secret, settings.key_prefix) for secret in _secrets(app)])
        if not (app.debug or app.testing):
            _warn(app, settings)
        store = store_from_uri(settings.storage_uri, settings.key_prefix, settings.storage_options)
        app.extensions[EXTENSION] = self._state(app, settings, tokens, store)
        if self._register_blueprint:
            app.register_blueprint(self.blueprint, url_prefix=settings.url_prefix)
        app.after_request(finish)
        app.cli.commands.setdefault("otp", cli.commands)
        if settings.audit:
            app.extensions[EXTENSION].audit = audit = Audit(app, tokens.keys)
            audit.connect()
        self._check_before_serving(app)

    def _state(self, app: Flask, settings: Settings, tokens: Tokens, store: Store) -> AppState:
        limits = Limits(settings, app.extensions)
        events = Events(app, lambda: state.clock(), settings.purposes)
        # By the state's clock, which the tests of apps may set.
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
        """Make a code and send it. In a request, the session remembers the challenge.

        Called again by the same session while the code lives, it sends the same code again, or during the cooldown
        nothing, and gives back the same challenge.

        :param identifier: an e-mail address, or a phone number with its country code.
        :param channel: one of ``OTP_CHANNELS``; by default the first that takes such an identifier.
        :param context: a JSON value that the code is bound to, such as an amount and a payee.
        :raises InvalidIdentifier: it is neither, or the channel takes another kind.
        :raises InvalidRequest: no such purpose or channel, or a context of over 512 bytes, or with a value that JSON
            cannot write, such as NaN.
        :raises ValueError: the context is no JSON value.
        :raises RateLimited: too much, too soon.
        :raises DeliveryFailed: the message could not be handed over; nothing is outstanding.
        :raises StoreUnavailable: the store is out of reach; nothing was sent.
        """
        return actions.send(identifier, channel, purpose, context)

    def resend(self, challenge: str | None = None, *, purpose: str = "login", channel: str | None = None) -> Challenge:
        """Send the code of a challenge once more: the same code, and no attempt is given back.

        :param challenge: a handle of ``purpose``; by default the session's own.
        :param channel: another one of ``OTP_CHANNELS``: it may be asked for at once, without a cooldown. A guard with
            ``channels`` passes only if it allows every channel that carried the code.
        :raises ChallengeRequired: there is none, it is over, or it went out by four channels already.
        :raises InvalidRequest: there is no such channel.
        :raises InvalidIdentifier: it takes another kind of address.
        :raises RateLimited: too soon, or too often.
        :raises DeliveryFailed: the message could not be handed over; the earlier one still counts.
        :raises StoreUnavailable: the store is out of reach.
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

        :param challenge: a handle; by default the session's own for ``purpose``.
        :param identifier: where it is given, the challenge must be this one's.
        :param context: must equal the context that the code was sent for.
        :raises InvalidCode: wrong, expired, used, or for something else.
        :raises InvalidIdentifier: ``identifier`` is none.
        :raises ChallengeRequired: there is no challenge to verify.
        :raises RateLimited: too many attempts from this network.
        :raises StoreUnavailable: the store is out of reach; nothing passes.
        """
        return actions.verify(code, challenge, identifier, purpose, context)

    def verification(self, purpose: str = "login") -> Verification | None:
        """What the current client has verified for a purpose, checked with the store; ``None`` if nothing.

        A verification for a context is seen only behind the guard that asked for that context. Needs a request.

        :raises StoreUnavailable: nobody can say.
        """
        return guard.find_verification(purpose)

    def forget(self, purpose: str | None = None) -> None:
        """End the current client's proofs of one purpose, or of all: the log-out. A saved cookie is worth nothing then.

        Needs a request.

        :raises StoreUnavailable: they could not be ended.
        """
        actions.forget(purpose)

    def revoke(self, identifier: str) -> None:
        """End every proof, outstanding challenge and known browser of an identifier, on every machine.

        :raises InvalidIdentifier: it is none.
        :raises StoreUnavailable: some of it may not be ended; call again.
        """
        actions.revoke(identifier)

    def deliver(self, payload: dict[str, str]) -> None:
        """In a worker, within an app context: deliver what :meth:`dispatcher` was given.

        Run again once the message has gone out, it does nothing. What comes too late, since its code has expired or was
        used or revoked, it drops with a log line and the signal ``delivery_failed``. A worker that dies in the middle
        leaves nothing behind but a claim that ends soon: the next to run it delivers. Of two that run it at one time,
        one sends and the other waits for it. The store must be the one that the code was asked for with.

        With ``OTP_NEXT_CHANNEL_AFTER``, a payload that came with a delay sends the code by the next channel, unless it
        was verified meanwhile, and gives the dispatcher what comes after.

        :raises DeliveryFailed: no channel took the message; try again if you like, while the code lives.
        :raises StoreUnavailable: nobody can say whether it is still wanted, and nothing was sent: try again.
        """
        current_state().service.deliver(payload)

    # Factors that a person keeps

    def factors(self, identifier: str) -> Factors:
        """The authenticator apps of a person, and how many recovery codes are left. No secret is in it.

        :raises InvalidIdentifier: ``identifier`` is none.
        :raises FactorsUnavailable: what the ``factors_loader`` gives does not open.
        """
        state = current_state()
        return state.factors.enroller.factors(state.identifiers.named(identifier).value)

    def move_factors(self, old: str, new: str) -> None:
        """Bind the factors to another identifier, because the person's address has changed.

        Call it after the change was saved. Called again, it does nothing.

        :raises FactorsUnavailable: the factors open under neither identifier, or were not saved.
        """
        state = current_state()
        state.factors.enroller.move(state.identifiers.named(old).value, state.identifiers.parse(new).value)

    def reseal(self, identifier: str) -> None:
        """Seal the factors with the present ``SECRET_KEY``, where one of ``SECRET_KEY_FALLBACKS`` opens them.

        Call it for every user before an old key is taken away: whoever has not been here in the meantime would lose the
        apps.

        :raises FactorsUnavailable: no key opens them, or they were not saved.
        """
        state = current_state()
        state.factors.enroller.reseal(state.identifiers.named(identifier).value)

    def trusted(self, identifier: str) -> tuple[TrustedBrowser, ...]:
        """The browsers that may go without a second factor, the oldest first.

        :raises StoreUnavailable: the store is out of reach.
        """
        state = current_state()
        return state.factors.trusted.list(state.identifiers.named(identifier).value)

    def untrust(self, identifier: str, browser_id: str) -> bool:
        """End the trust in one browser, on every machine.

        :param browser_id: the ``id`` that :meth:`trusted` gives.
        :returns: whether there was such a browser.
        :raises StoreUnavailable: it may still be trusted.
        """
        state = current_state()
        return state.factors.trusted.end(state.identifiers.named(identifier).value, browser_id)

    # The HTTP API

    def openapi(self) -> dict[str, Any]:
        """The HTTP API as an OpenAPI 3.1 document: of this app's prefix, purposes and channels. Needs an app context.

        ``components.responses.VerificationRequired`` describes what a guarded view answers: the app's own document
        may refer to it.
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
        """Guard every view of an app or a blueprint, as ``@otp_required`` with the same arguments would.

        A blueprint must be protected before it is registered.

        A view is what a route leads to. An error handler, such as the page for a 404, is no view: it runs for every
        visitor. Nor is the handler of a socket event, for which Flask runs no ``before_request``. Ask
        :meth:`verification` there.

        :param exempt: endpoint names that stay open. Our own pages and the route of the app's static folder always do.
        :raises ConfigError: an argument is wrong; what ``exempt`` names is looked for at the first request.
        """
        if not isinstance(target, Scaffold):
            raise ConfigError(f"protect takes an app or a blueprint, not {target!r}")
        rule = guard.make_rule(purpose, max_age, channels, context, identifier, once, trust)
        blueprint = target.name if isinstance(target, Blueprint) else ""
        target.before_request(guard.protector(rule, exempt, blueprint))

    def _check_before_serving(self, app: Flask) -> None:
        """Look at the finished app once, at its first request: whoever came after us is there by then."""
        blueprint = self.blueprint

        def check() -> None:
            state = current_state()
            if state.hooks.factors_loader is not None:
                library("pyotp"), library("segno")
            check_app(app, blueprint, state.routing, state.settings)
            tell_of_reloads(app)
            _exempt_from_csrf(app, blueprint)
            # A new list, since Flask is walking the old one. From now on no request pays for this.
            hooks = app.before_request_funcs[None]
            app.before_request_funcs[None] = [hook for hook in hooks if hook is not check]
            # Flask calls the first of these last: then it sees what all the others have done.
            hooks_after = app.after_request_funcs[None]
            app.after_request_funcs[None] = [finish, *(hook for hook in hooks_after if hook is not finish)]

        _exempt_from_csrf(app, blueprint)
        app.before_request(check)


def _refuse_text_for_flags(app: Flask) -> None:
    """In debug and testing, codes may be printed and secrets may be short. Flask takes any text for yes there.

    :raises ConfigError: one of the two is text.
    """
    for key in ("DEBUG", "TESTING"):
        if isinstance(app.config.get(key), (str, bytes)):
            raise ConfigError(f"{key} must be True or False, not text such as {app.config[key]!r}: all text means yes")


def _secrets(app: Flask) -> list[bytes]:
    secret = app.secret_key
    if not secret:
        raise ConfigError("SECRET_KEY is not set: codes and proofs are derived from it")
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or []
    if not isinstance(fallbacks, (list, tuple)) or not all(key and isinstance(key, (str, bytes)) for key in fallbacks):
        raise ConfigError("SECRET_KEY_FALLBACKS must be a list of keys, none of them empty")
    keys = [_as_bytes(key) for key in (secret, *fallbacks)]
    if min(map(len, keys)) < _MIN_SECRET and not (app.debug or app.testing):
        name = "SECRET_KEY" if len(keys[0]) < _MIN_SECRET else "SECRET_KEY_FALLBACKS: a key"
        raise ConfigError(f"{name} is shorter than {_MIN_SECRET} bytes: make one with secrets.token_hex()")
    return keys


def _warn(app: Flask, settings: Settings) -> None:
    """Tell what an app may do, but should not do unawares. ``flask otp doctor`` tells more."""
    if app.config.get("OTP_STORAGE_URI") is None:
        warnings.warn(
            "OTP_STORAGE_URI is not set: codes and limits are kept in this process's memory, so each worker has "
            "its own and a restart forgets them; set it to redis://..., or to memory:// if that is what you want",
            stacklevel=4,
        )
    lost = loses_background() if settings.delivery == "background" else None
    if lost is not None:
        warnings.warn(
            f"OTP_DELIVERY is 'background', and deliveries would be lost: {lost}; give them to a queue "
            "(@otp.dispatcher), or set OTP_DELIVERY = 'inline'",
            stacklevel=4,
        )
    chance = risk.compute(settings).one_account
    if chance > settings.max_annual_risk:
        warnings.warn(
            f"by these settings, an attacker may guess into one account with a chance of {chance:.1%} a year "
            f"({risk.one_in(chance)}), more than OTP_MAX_ANNUAL_RISK ({settings.max_annual_risk:g}): lower "
            "OTP_FAILURE_BUDGET or raise OTP_CODE_LENGTH; 'flask otp doctor' shows the sum",
            stacklevel=4,
        )


def _as_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _exempt_from_csrf(app: Flask, blueprint: Blueprint) -> None:
    """Our routes refuse cross-origin requests themselves, and API clients have no token for Flask-WTF to see."""
    csrf = app.extensions.get("csrf")
    if csrf is not None and hasattr(csrf, "exempt"):
        csrf.exempt(blueprint)


#: The current client's verification for ``login``, or a false value: a proxy for ``otp.verification()``.
current_verification = cast(Verification, LocalProxy(lambda: guard.find_verification("login")))
