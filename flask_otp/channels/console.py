"""For development: the message is printed to the terminal."""

from __future__ import annotations

import sys

from ..models import Message
from .base import Channel


class ConsoleChannel(Channel):
    """Prints the whole message, code included, so it exists in debug and testing only."""

    def deliver(self, message: Message) -> None:
        # Not logged: logs are kept, and no code may be in them at any level.
        print(f"\n--- to {message.recipient}: {message.subject}\n{message.text}\n---", file=sys.stderr, flush=True)
