"""Webhooks by the Standard Webhooks specification: how we sign them, and how a receiver reads them.

The service that :class:`~flask_otp.WebhookChannel` posts to calls :func:`read`. Its app needs no ``OTP``.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields

from .errors import ConfigError, InvalidWebhook
from .models import Message

_MIN_SECRET = 24
_FIELDS = frozenset(field.name for field in fields(Message))


def read(
    headers: Mapping[str, str],
    body: bytes,
    secrets: str | Sequence[str],
    tolerance: int = 300,
    now: float | None = None,
) -> Message:
    """The message of a webhook, if the signature is right and recent.

    A repeated delivery has the same ``message.id``: handle each id only once. Remember an id for twice the
    ``tolerance``, because the sender's clock may be ahead of yours. After that, a recorded request is too old to be
    accepted.

    :param headers: the request's headers, in any case.
    :param body: the raw bytes of the request, before any parsing.
    :param secrets: the channel's secret, or several during a rotation: one match is enough.
    :param tolerance: maximum seconds that the webhook may be old, or ahead.
    :param now: seconds since 1970. By default the current time.
    :raises InvalidWebhook: bad signature, too old, or not a message. Uncaught, it becomes the right response: 400.
    :raises ConfigError: a secret is malformed.
    """
    keys = read_secrets(secrets)
    named = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = named.get("webhook-id", ""), named.get("webhook-timestamp", "")
    given = named.get("webhook-signature", "").encode().split(b" ")
    wanted = sign(keys, message_id, timestamp, body).encode().split(b" ")
    matches = [hmac.compare_digest(ours, theirs) for ours in wanted for theirs in given]
    if not any(matches) or not message_id or not re.fullmatch("[0-9]{1,12}", timestamp):
        raise InvalidWebhook
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        raise InvalidWebhook
    return _message(body, message_id)


def _message(body: bytes, message_id: str) -> Message:
    try:
        values = json.loads(body)
        # A newer sender may send more members, an older one fewer.
        return Message(**{name: values[name] for name in values.keys() & _FIELDS} | {"id": message_id})
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidWebhook from None


def sign(keys: Sequence[bytes], message_id: str, timestamp: str, body: bytes) -> str:
    """The header ``webhook-signature``: one signature for each key."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


def read_secrets(secrets: str | Sequence[str]) -> tuple[bytes, ...]:
    """The key in each secret: the decoded base64 after ``whsec_``, or otherwise the text's own bytes.

    :raises ConfigError: there is no secret, or one is shorter than 24 bytes, the minimum of the specification.
    """
    listed = [secrets] if isinstance(secrets, str) else secrets
    if not isinstance(listed, (list, tuple)) or not listed:
        raise ConfigError("a webhook needs a secret as text, or a list of secrets")
    return tuple(map(_key, listed))


def _key(secret: object) -> bytes:
    # No error here quotes the secret.
    if not isinstance(secret, str):
        raise ConfigError(f"a webhook's secret must be text, not {type(secret).__name__}")
    text = secret.encode()
    if text.startswith(b"whsec_"):
        text = text.removeprefix(b"whsec_").rstrip(b"=")
        try:
            text = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise ConfigError("a webhook's secret that starts with whsec_ must continue in base64") from None
    if len(text) < _MIN_SECRET:
        raise ConfigError(
            f"a webhook's secret must have at least {_MIN_SECRET} bytes: make one with "
            "'whsec_' + base64.b64encode(secrets.token_bytes(32)).decode()"
        )
    return text
