"""The channels under one name, tried in order until one takes the message."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from .base import Channel, Message

Ladder = tuple[Channel, ...]


def redact(text: str, message: Message) -> str:
    """``text`` on one line, without code, link and recipient: libraries like to quote what they could not send."""
    code = r"[\s-]*".join(map(re.escape, message.code))
    address = message.recipient.removeprefix("+")
    words = [code, re.escape(address), re.escape(quote(address))]
    if message.link is not None:
        secret = urlsplit(message.link).path.rpartition("/")[2]
        # Its line is longer than a line of quoted-printable, where each break is led by "=".
        words.append(r"(?:[\s=]|\\[rn])*".join(map(re.escape, secret)))
    secrets = "|".join(words)
    text = re.sub(secrets, "[redacted]", text, flags=re.IGNORECASE)
    return " ".join(text.split())[:500]


def attempt(channel: Channel, message: Message) -> str | None:
    """What went wrong, in words that may be logged. The exception itself goes no further: it may quote the code."""
    try:
        channel.deliver(message)
    except Exception as error:
        return redact(f"{type(error).__name__}: {error}", message)
    return None
