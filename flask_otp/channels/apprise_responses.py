"""Refusals that Apprise reports as successes.

Some providers answer 200 to every message and report a refusal in the body. Apprise mostly checks only the status. So
the body is read here: for every service to find a refusal, and for some services to find the expected confirmation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import requests

_answers: ContextVar[list[requests.Response] | None] = ContextVar("flask_otp_answers", default=None)


def _values(answer: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """What the answer has at the end of the path, once for each message in a list."""
    if isinstance(answer, list):
        for part in answer:
            yield from _values(part, path)
    elif path:
        yield from _values(answer[path[0]], path[1:])
    else:
        yield answer


def _each(*path: str, wanted: object) -> Callable[[Any], bool]:
    """Whether every message in the answer has ``wanted``, or one of it, at the end of ``path``."""
    good = wanted if isinstance(wanted, tuple) else (wanted,)

    def accepts(answer: Any) -> bool:
        found = list(_values(answer, path))
        return bool(found) and all(value in good for value in found)

    return accepts


def _all(*conditions: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda answer: all(condition(answer) for condition in conditions)


#: By Apprise class name: whether the body confirms that the message was accepted. From the providers' documentation.
_ACCEPTS: dict[str, Callable[[Any], bool]] = {
    "NotifyAfricasTalking": _each("SMSMessageData", "Recipients", "status", wanted="Success"),
    "NotifyBulkSMS": _each("status", "type", wanted=("ACCEPTED", "SCHEDULED", "SENT", "DELIVERED")),
    "NotifyBulkVS": _each("Results", "Status", wanted="SUCCESS"),
    "NotifyBurstSMS": _each("error", "code", wanted="SUCCESS"),
    "NotifyClickatell": _each("messages", "accepted", wanted=True),
    "NotifyClickSend": _each("data", "messages", "status", wanted="SUCCESS"),
    "NotifyMSG91": _each("type", wanted="success"),
    "NotifySeven": _all(_each("success", wanted="100"), _each("messages", "success", wanted=True)),
    "NotifyTelegram": _each("ok", wanted=True),
    # Delivered (200 to the phone, 203 and 251 to the network), under way or queued.
    "NotifyTelesign": _each("status", "code", wanted=(200, 203, 251, 290, 291, 292, 295)),
    "NotifyVonage": _each("messages", "status", wanted="0"),
    "NotifyZulip": _each("result", wanted="success"),
}

#: Signs of a refusal anywhere in a body: a non-empty value under the first names, or ``False`` under the second.
_FAULTS = frozenset({"error", "errors", "error_code", "errorcode", "error_message", "errcode", "invalid_number"})
_YES = frozenset({"ok", "success", "accepted", "sent"})
_STATES = frozenset(
    {
        *("failed", "failed-dnd", "undelivered", "undeliverable", "rejected", "expired", "error"),
        *("sending_failed", "delivery_failed"),
    }
)
#: How deep in the body to look for a refusal.
_DEPTH = 6


class _Overheard:
    """Replaces ``requests`` in the service's module. It behaves the same, but keeps the responses."""

    def __getattr__(self, name: str) -> Any:
        wanted = getattr(requests, name)
        return partial(_ask, wanted) if name in ("get", "post", "put", "request") else wanted


def _ask(function: Callable[..., requests.Response], *args: Any, **kwargs: Any) -> requests.Response:
    answer = function(*args, **kwargs)
    answers = _answers.get()
    if answers is not None:
        answers.append(answer)
    return answer


@contextmanager
def capture_responses(service: type) -> Iterator[Callable[[], bool]]:
    """Keep the provider's responses. Yields a function that tells whether the message was accepted.

    :param service: Apprise's class.
    """
    accepts = _ACCEPTS.get(service.__name__)
    module: Any = sys.modules[service.__module__]
    if getattr(module, "requests", None) is None:
        yield lambda: accepts is None
        return
    if not isinstance(module.requests, _Overheard):
        module.requests = _Overheard()
    answers: list[requests.Response] = []
    token = _answers.set(answers)
    try:
        yield lambda: _is_taken(accepts, answers)
    finally:
        _answers.reset(token)


def _is_taken(accepts: Callable[[Any], bool] | None, answers: list[requests.Response]) -> bool:
    """Whether all answers confirm the message. Apprise itself understands answers other than 2xx."""
    if accepts is not None:
        return bool(answers) and all(_says(accepts, answer) for answer in answers)
    return not any(answer.ok and _says(_is_refusal, answer) for answer in answers)


def _is_refusal(body: Any, depth: int = _DEPTH) -> bool:
    if isinstance(body, list):
        return depth > 0 and any(_is_refusal(part, depth - 1) for part in body)
    if not isinstance(body, dict):
        return False
    return any(
        (name.lower() in _FAULTS and value not in (None, "", 0, "0", [], {}, False))
        or (name.lower() in _YES and value is False)
        or (name.lower() in ("status", "groupname") and str(value).lower() in _STATES)
        or (depth > 0 and _is_refusal(value, depth - 1))
        for name, value in body.items()
    )


def _says(accepts: Callable[[Any], bool], answer: requests.Response) -> bool:
    try:
        return accepts(answer.json())
    except (ValueError, LookupError, TypeError):
        return False
