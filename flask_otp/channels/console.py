"""A channel for development that prints messages to the terminal."""

from __future__ import annotations

import sys

from ..models import Message
from .base import Channel


class ConsoleChannel(Channel):
    """Prints the whole message including the code, so it exists only in debug and testing mode."""

    def deliver(self, message: Message) -> None:
        # Printed, not logged: logs are kept, and a log must never contain a code at any level.
        print(f"\n--- to {message.recipient}: {message.subject}\n{message.text}\n---", file=sys.stderr, flush=True)
