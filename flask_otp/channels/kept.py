"""The channels for factors that the user has already. They send nothing: the user looks the code up."""

from __future__ import annotations

from ..errors import DeliveryFailed
from ..models import Message
from .base import Channel

TOTP, RECOVERY = "totp", "recovery"
KEPT_FACTORS = (TOTP, RECOVERY)

#: Used instead of a channel in a verification by a trusted browser.
TRUSTED = "trusted"


class KeptFactor(Channel):
    """A placeholder among a purpose's channels. It never delivers."""

    def deliver(self, message: Message) -> None:
        raise DeliveryFailed
