"""Refusals that Apprise takes for successes.

Some providers answer 200 to every message and report a refusal in the body. Apprise looks at the status alone,
so the body is read here.
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


def _each(*path: str, wanted: object) -> Callable[[Any], bool]:
    """Whether every message of the answer says ``wanted`` at the end of ``path``."""

    def accepts(answer: Any) -> bool:
        *parents, last = path
        for name in parents:
            answer = answer[name]
        messages = answer if isinstance(answer, list) else [answer]
        return bool(messages) and all(message[last] == wanted for message in messages)

    return accepts


#: By the name of Apprise's class: whether the body says that the message was taken. From the providers' own pages.
_ACCEPTS: dict[str, Callable[[Any], bool]] = {
    "NotifyClickatell": _each("messages", "accepted", wanted=True),
    "NotifyClickSend": _each("data", "messages", "status", wanted="SUCCESS"),
    "NotifyMSG91": _each("type", wanted="success"),
    "NotifyVonage": _each("messages", "status", wanted="0"),
}


class _Overheard:
    """Stands for ``requests`` in the module of such a service: the same, but what comes back is kept."""

    def __getattr__(self, name: str) -> Any:
        wanted = getattr(requests, name)
        return partial(_ask, wanted) if name in ("get", "post") else wanted


def _ask(function: Callable[..., requests.Response], *args: Any, **kwargs: Any) -> requests.Response:
    answer = function(*args, **kwargs)
    answers = _answers.get()
    if answers is not None:
        answers.append(answer)
    return answer


@contextmanager
def capture_responses(service: type) -> Iterator[Callable[[], bool]]:
    """Within the ``with``, keep what the provider answers; what it gives tells whether the message was taken.

    :param service: Apprise's class.
    """
    accepts = _ACCEPTS.get(service.__name__)
    if accepts is None:
        yield lambda: True
        return
    module: Any = sys.modules[service.__module__]
    if not isinstance(module.requests, _Overheard):
        module.requests = _Overheard()
    answers: list[requests.Response] = []
    token = _answers.set(answers)
    try:
        yield lambda: bool(answers) and all(_says(accepts, answer) for answer in answers)
    finally:
        _answers.reset(token)


def _says(accepts: Callable[[Any], bool], answer: requests.Response) -> bool:
    try:
        return accepts(answer.json())
    except (ValueError, LookupError, TypeError):
        return False
