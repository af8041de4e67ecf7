"""The arguments of one guard, checked once at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from inspect import iscoroutinefunction, signature
from typing import Any

from ..config.parsers import seconds
from ..errors import ConfigError

_DAY = 86400


@dataclass(frozen=True)
class Rule:
    """The arguments of one guard, checked."""

    purpose: str
    max_age: int | None = None
    channels: tuple[str, ...] = ()
    context: Callable[[], Any] | None = None
    identifier: Callable[[], str] | None = None
    once: bool = False
    #: Seconds after a verification for which its browser needs no other one, if the user ticks the box.
    trust: int | None = None

    @cached_property
    def is_plain(self) -> bool:
        """Whether any proof of the right person passes: nothing is computed for the request, and no proof is spent."""
        return self.context is None and self.identifier is None and not self.once


def make_rule(
    purpose: str = "login",
    max_age: str | int | timedelta | None = None,
    channels: Iterable[str] = (),
    context: Callable[[], Any] | None = None,
    identifier: Callable[[], str] | None = None,
    once: bool = False,
    trust: str | int | timedelta | None = None,
) -> Rule:
    """
    :raises ConfigError: an argument has the wrong type.
    """
    if not isinstance(purpose, str):
        raise ConfigError(f"otp_required: purpose must be a name, not {purpose!r}")
    for name, function in (("context", context), ("identifier", identifier)):
        if function is not None and not _can_be_called(function):
            raise ConfigError(
                f"otp_required: {name} must be a function without arguments and not async, because "
                "it is called on each request"
            )
    names = () if isinstance(channels, str) or not isinstance(channels, Iterable) else tuple(channels)
    if channels != () and (not names or not all(isinstance(name, str) for name in names)):
        raise ConfigError(f'otp_required: channels must be a list of names, such as ("sms",), not {channels!r}')
    try:
        oldest = None if max_age is None else seconds(max_age)
    except ValueError as error:
        raise ConfigError(f"otp_required: max_age {error}, not {max_age!r}") from None
    return Rule(purpose, oldest, names, context, identifier, bool(once), _trust(trust, context, once))


def _trust(trust: str | int | timedelta | None, context: object, once: bool) -> int | None:
    """
    :raises ConfigError: it is not a duration, or contradicts the other arguments.
    """
    if trust is None:
        return None
    if context is not None or once:
        raise ConfigError("otp_required: trust cannot be combined with context or once: they need a new code each time")
    try:
        life = seconds(trust)
    except ValueError as error:
        raise ConfigError(f"otp_required: trust {error}, not {trust!r}") from None
    if not _DAY <= life <= 90 * _DAY:
        raise ConfigError(f"otp_required: trust must be between 1 and 90 days, not {trust!r}")
    return life


def _can_be_called(function: object) -> bool:
    if not callable(function) or iscoroutinefunction(function):
        return False
    try:
        signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return True
    return True
