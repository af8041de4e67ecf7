"""What one app has of us, in ``app.extensions["otp"]``."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from flask import Blueprint, current_app

from .config.settings import Settings
from .crypto.payloads import Proof
from .errors import ConfigError
from .hooks import Hooks
from .rendering import Templates
from .service import Service

_TRUSTED = 10_000


class Trust:
    """Remembers for ``OTP_REVOCATION_LAG`` seconds that the store vouched for a proof. With 0 it remembers nothing."""

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._lock = Lock()
        self._until: dict[bytes, float] = {}
        #: How often something was ended: an answer from before the last end is not remembered.
        self.ends = 0

    def holds(self, proof: Proof, now: float) -> bool:
        return now < self._until.get(proof.proof_id, now) <= now + self._lag

    def remember(self, proof: Proof, now: float, ends: int) -> None:
        with self._lock:
            if self._lag == 0 or ends != self.ends:
                return
            if len(self._until) >= _TRUSTED:
                self._until.clear()
            self._until[proof.proof_id] = now + self._lag

    def clear(self) -> None:
        """Something was ended: ask the store about everything anew."""
        with self._lock:
            self.ends += 1
            self._until.clear()


@dataclass(frozen=True)
class State:
    service: Service
    hooks: Hooks
    trust: Trust
    #: Ours; the app may have another of the same name.
    blueprint: Blueprint

    @property
    def settings(self) -> Settings:
        return self.service.settings

    @property
    def templates(self) -> Templates:
        return self.service.courier.templates

    def own_identifier(self) -> str | None:
        """The signed-in user's own address, where the app has an ``identifier_loader`` and somebody is signed in."""
        own = None if self.hooks.identifier_loader is None else self.hooks.identifier_loader()
        return None if own is None else self.service.testers.parse(own).value

    def vouches(self, proof: Proof) -> bool:
        """Whether the proof is still good, as the store says it, or said it within the lag."""
        now, ends = self.service.clock(), self.trust.ends
        if self.trust.holds(proof, now):
            return True
        if not self.service.store.holds(proof.subject, proof.proof_id, int(now)):
            return False
        self.trust.remember(proof, now, ends)
        return True

    def end(self, proof: Proof) -> bool:
        """End the proof. True for the one caller that ended it."""
        try:
            return self.service.store.spend(proof.subject, proof.proof_id, int(self.service.clock()))
        finally:
            # Also when the answer was lost: it may be ended all the same.
            self.trust.clear()


def current_state() -> State:
    """
    :raises ConfigError: the current app has no ``OTP``.
    """
    state = current_app.extensions.get("otp")
    if not isinstance(state, State):
        raise ConfigError(f"flask_otp is not set up on app {current_app.name!r}: call OTP(app) or otp.init_app(app)")
    return state
