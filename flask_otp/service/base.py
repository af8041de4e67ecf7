"""The shared base of one app's flows: its components, and the client's view of a challenge."""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache

from .. import identifiers
from ..channels.kept import KEPT_FACTORS
from ..config.parsers import nearest
from ..config.settings import Purpose
from ..crypto import codes
from ..crypto.payloads import Handle
from ..delivery.components import Components
from ..delivery.routing import Router
from ..delivery.sender import Sender
from ..errors import InvalidRequest
from ..factors import verification as kept
from ..factors.verification import FactorVerifier
from ..languages import N_
from ..models import Challenge
from ..stores.base import CHANNEL_TAG

logger = logging.getLogger("flask_otp")


class Flows:
    """The base of the flows. All dependencies are passed in."""

    def __init__(self, components: Components, routing: Router, delivery: Sender, factors: FactorVerifier) -> None:
        self._parts = components
        self._app = components.app
        self._settings = components.settings
        self._tokens = components.tokens
        self._routing = routing
        self._delivery = delivery
        self._factors = factors
        self._policies = {name: purpose.policy() for name, purpose in self._settings.purposes.items()}

    def purpose(self, name: str) -> Purpose:
        """
        :raises InvalidRequest: ``OTP_PURPOSES`` does not contain it.
        """
        purpose = self._settings.purposes.get(name)
        if purpose is None:
            logger.warning("no purpose %r in OTP_PURPOSES: %s", name[:40], nearest(name, list(self._settings.purposes)))
            raise InvalidRequest(N_("There is no such purpose."))
        return purpose

    def describe(self, handle: Handle) -> Challenge:
        """A handle's challenge, as its client may see it."""
        now = self._now()
        return Challenge(
            handle=self._tokens.dump_handle(handle),
            channel=handle.channel,
            destination=kept.destination(handle.channel)
            if handle.channel in KEPT_FACTORS
            else identifiers.readable(identifiers.mask(handle.identifier)),
            purpose=handle.purpose,
            code_length=self._code_length(handle),
            expires_in=max(0, handle.expires_at - now),
            resend_in=max(0, handle.ready_at - now),
            other_channels=self.other_channels(handle),
        )

    def is_typed(self, purpose: str) -> bool:
        """Whether there is a code to type. If not, there is only a link."""
        rules = self._settings.purposes.get(purpose)
        return rules is None or rules.typed

    def _code_length(self, handle: Handle) -> int:
        if not self.is_typed(handle.purpose):
            return 0
        return codes.STRONG_LENGTH if handle.strong else handle.length

    def _is_surge(self, purpose: str, network: str | None) -> bool:
        """Whether short codes must stop."""
        return self.is_typed(purpose) and self._parts.limits.is_surge(network)

    def other_channels(self, handle: Handle) -> tuple[str, ...]:
        """Other channels that can carry the code of a handle."""
        rules = self._settings.purposes.get(handle.purpose)
        if rules is None or handle.channel in KEPT_FACTORS:
            return ()
        return self._routing.others(rules, handle.channel, handle.identifier)

    def _now(self) -> int:
        return int(self._parts.clock())


@lru_cache(maxsize=64)
def channel_tag(channel: str) -> bytes:
    """The store's name for a channel. It is not secret, and the same under every key."""
    return hashlib.sha256(channel.encode()).digest()[:CHANNEL_TAG]
