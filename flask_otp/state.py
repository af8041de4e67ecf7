"""The state of one app: all components side by side, in ``app.extensions["otp"]``."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Flask, current_app, url_for
from werkzeug.wrappers import Response

from .config.brand import Brand
from .crypto.payloads import Proof
from .delivery.components import Components
from .delivery.routing import Router
from .delivery.sender import Sender
from .errors import ConfigError, OTPError
from .factors import KeptFactors
from .observability.audit import Audit
from .observability.statistics import Statistics
from .processes import lock_per_process
from .service import Service
from .signals import store_called
from .site import BLUEPRINT, EXTENSION
from .stores import Store
from .stores.watched import watched
from .urls import is_own_root

_TRUSTED = 10_000
#: The apps whose ``identifier_loader`` is running, in this thread or task.
_asked: ContextVar[frozenset[int]] = ContextVar("flask_otp_asked", default=frozenset())


class Trust:
    """Remembers for ``OTP_REVOCATION_LAG`` seconds that the store confirmed a proof. With 0 it remembers nothing."""

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._lock = lock_per_process()
        self._until: dict[bytes, float] = {}
        #: Number of endings so far. A store's answer from before the last ending is not remembered.
        self.ends = 0

    def holds(self, proof: Proof, now: float) -> bool:
        return now < self._until.get(proof.proof_id, now) <= now + self._lag

    def remember(self, proof: Proof, now: float, ends: int) -> None:
        if self._lag == 0:
            return
        with self._lock.get():
            if ends != self.ends:
                return
            if len(self._until) >= _TRUSTED:
                self._until.clear()
            self._until[proof.proof_id] = now + self._lag

    def clear(self) -> None:
        """Something was ended: ask the store about every proof again."""
        with self._lock.get():
            self.ends += 1
            self._until.clear()


@dataclass
class AppState(Components):
    """All components of one app. Implements :class:`~flask_otp.site.Site`."""

    #: Our own blueprint. The app may have another with the same name.
    blueprint: Blueprint

    def __post_init__(self) -> None:
        self.routing = Router(self)
        self.delivery = Sender(self, self.routing)
        self.trust = Trust(self.settings.revocation_lag)
        self.factors = KeptFactors(self, self.trust.clear)
        self.service = Service(self, self.routing, self.delivery, self.factors.verifier)
        self._connect_observers()

    def _connect_observers(self) -> None:
        # Kept here, because a signal does not keep its receivers alive.
        self.audit: Audit | None = None
        self.statistics: Statistics | None = None
        if self.settings.audit:
            self.audit = Audit(self.app, self.tokens.keys)
            self.audit.connect()
        if self.settings.stats:
            self.statistics = Statistics(self.limits.tally)
            self.statistics.connect(self.app)

    @property  # type: ignore[misc]  # the field's value, with a look at who listens
    def store(self) -> Store:
        """The store. While ``store_called`` has receivers, its verbs are timed."""
        return self._watched_store if store_called.receivers else self._store

    @store.setter
    def store(self, store: Store) -> None:
        self._store = store
        self._watched_store = watched(store, self.events)

    # The site

    @property
    def languages(self) -> Sequence[str]:
        return self.settings.languages

    @property
    def is_mounted(self) -> bool:
        return self.app.blueprints.get(BLUEPRINT) is self.blueprint

    @property
    def brand(self) -> Brand:
        return self.settings.brand

    def brand_in_mail(self) -> Brand:
        return self.settings.brand.in_mail(self.settings.base_url)

    def label_of(self, purpose: str) -> object:
        rules = self.settings.purposes.get(purpose)
        return None if rules is None else rules.label

    def render_page(self, name: str, **values: Any) -> str:
        return self.templates.render_page(name, site_name=self.site_name, **values)

    def render_error(self, error: OTPError) -> Response:
        if not is_own_root():
            return error.as_problem()
        page = self.render_page("error.html", error=error, start_url=url_for(f"{BLUEPRINT}.start"))
        response = error.with_headers(Response(page, error.code, content_type="text/html; charset=utf-8"))
        response.headers["Content-Security-Policy"] = self.settings.page_policy
        return response

    # Health

    def probe_store(self) -> None:
        """Check that the store accepts changes. Changes nothing.

        :raises StoreUnavailable: the store does not answer, or refuses us.
        """
        self.store.probe(int(self.clock()))

    def check_health(self) -> None:
        """Ask the store and the limits' storage. Nothing is counted, changed or sent.

        :raises StoreUnavailable: one of them does not answer. Its ``part`` and ``cause`` say which, and why.
        """
        self.probe_store()
        self.limits.probe()

    # Verification

    def own_identifier(self) -> str | None:
        """The signed-in user's own address, if the app has an ``identifier_loader`` and a user is signed in.

        :raises ConfigError: the loader itself asked, and not for a verification (``None`` would let anyone pass), or it
            returned something else than text, such as the user.
        """
        loader = self.hooks.identifier_loader
        if loader is None:
            return None
        if self.is_asking:
            raise ConfigError("the identifier_loader needs its own result: of otp, it may call only verification()")
        token = _asked.set(_asked.get() | {id(self)})
        try:
            own = loader()
        finally:
            _asked.reset(token)
        if not isinstance(own, (str, type(None))):
            raise ConfigError(f"the identifier_loader must return text or None, not {type(own).__name__}")
        return None if own is None else self.identifiers.named(own).value

    @property
    def is_asking(self) -> bool:
        """Whether the ``identifier_loader`` is running, so it is not known yet who is signed in."""
        return id(self) in _asked.get()

    def vouches(self, proof: Proof) -> bool:
        """Whether the proof is still valid: the store confirms it, or confirmed it within the lag."""
        now, ends = self.clock(), self.trust.ends
        if self.trust.holds(proof, now):
            return True
        if not self.store.holds(proof.subject, proof.proof_id, int(now)):
            return False
        self.trust.remember(proof, now, ends)
        return True

    def end(self, proof: Proof) -> bool:
        """End the proof. Returns ``True`` to the one caller that ended it."""
        try:
            return self.store.spend(proof.subject, proof.proof_id, int(self.clock()))
        finally:
            # Also if the answer was lost, because the proof may have been ended anyway.
            self.trust.clear()


def current_state() -> AppState:
    """
    :raises ConfigError: the current app has no ``OTP``.
    """
    # The app itself: each access through Flask's proxy calls five functions.
    state = current_app._get_current_object().extensions.get(EXTENSION)  # type: ignore[attr-defined]
    if not isinstance(state, AppState):
        raise ConfigError(
            f"flask_otp is not set up on app {current_app.name!r}: call OTP(app) or otp.init_app(app)", see="python/otp"
        )
    return state


def health(app: Flask) -> None:
    """Check whether an app can send and verify codes: one cheap read of the store, and one of the limits' storage.

    For an app's own readiness check. ``OTP_HEALTH = True`` serves it as ``GET /otp/health``. It sends and counts
    nothing.

    :raises StoreUnavailable: it cannot. ``error.part`` says what does not answer, ``error.cause.kind`` why.
    :raises ConfigError: the app has no ``OTP``.
    """
    with app.app_context():
        current_state().check_health()
