"""The channels: base class, built-in implementations and exceptions."""

from __future__ import annotations

from ..models import Message
from .base import Channel, ProviderDown, RecipientRefused, channel_from_function
from .console import ConsoleChannel
from .email import EmailChannel
from .webhook import WebhookChannel

__all__ = [
    "Channel",
    "ConsoleChannel",
    "EmailChannel",
    "Message",
    "ProviderDown",
    "RecipientRefused",
    "WebhookChannel",
    "channel_from_function",
]
