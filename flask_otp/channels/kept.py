"""The channels of factors that a person keeps. Nothing is sent by them: the person looks the code up."""

from __future__ import annotations

from ..errors import DeliveryFailed
from ..models import Message
from .base import Channel

TOTP, RECOVERY = "totp", "recovery"
KEPT_FACTORS = (TOTP, RECOVERY)


class KeptFactor(Channel):
    """Stands among the channels of a purpose, and is never asked to deliver."""

    def deliver(self, message: Message) -> None:
        raise DeliveryFailed
