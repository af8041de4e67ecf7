"""The ``OTP_*`` keys of ``app.config``: read once, checked at once, frozen.

Each field below is one key: ``OTP_`` and its name in capitals. The field carries its default and its parser, so this
file is the whole list. A key that is not here stops the app, with the nearest right name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, NamedTuple

from limits import RateLimitItem, parse_many

from .errors import ConfigError
from .web import is_safe_path

PREFIX = "OTP_"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Rate(NamedTuple):
    """At most ``amount`` events in a window of ``period`` seconds that begins with the first of them."""

    amount: int
    period: int


# Parsers take the raw value and give the checked one, or raise ValueError with the second half of a sentence.


def seconds(value: object) -> int:
    """A duration: ``"30s"``, ``"5m"``, ``"12h"``, ``"30d"``, whole seconds, or a timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
        if value != int(value):
            raise ValueError("must be whole seconds")
        value = int(value)
    if isinstance(value, str) and (match := re.fullmatch(r"\s*([0-9]{1,9})\s*([smhd]?)\s*", value)):
        return int(match[1]) * _UNITS[match[2] or "s"]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError('must be a duration such as "30s", "5m", "12h", "30d", whole seconds or a timedelta')


def _duration(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        parsed = seconds(value)
        if not least <= parsed <= most:
            raise ValueError(f"must be between {least} and {most} seconds")
        return parsed

    return parse


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _integer(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def _fraction(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1")
    return float(value)


def _limits(value: object) -> tuple[RateLimitItem, ...]:
    try:
        # "5/0 hours" would be read as five an hour.
        items = (
            tuple(parse_many(value)) if isinstance(value, str) and not re.search(r"[/r]\s*0+\s*[a-z]", value) else ()
        )
    except ValueError:
        items = ()
    if not items or any(item.amount < 1 for item in items):
        raise ValueError('must be a limit such as "5/hour;10/day"')
    return items


def _rates(value: object) -> tuple[Rate, ...]:
    return tuple(Rate(item.amount, item.get_expiry()) for item in _limits(value))


def _optional_limits(value: object) -> tuple[RateLimitItem, ...]:
    return () if value is None else _limits(value)


def _storage_uri(value: object) -> str:
    return "memory://" if value is None else _text(r"[a-z][a-z0-9+.-]*://\S*", "redis://host:6379")(value)


def _choice(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError("must be one of " + ", ".join(map(repr, words)))
        return value

    return parse


def _text(pattern: str, example: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"must be text such as {example!r}")
        return value

    return parse


def _path(value: object) -> str:
    if not isinstance(value, str) or not is_safe_path(value):
        raise ValueError('must be a path on this site such as "/account"')
    return value


def _base_url(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?/?", value):
        raise ValueError('must be an origin such as "https://example.com"')
    origin = value.rstrip("/").lower()
    # As a browser writes it: without the port that goes without saying.
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError("must be a list of names")
    if not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a list of names")
    return tuple(value)


def _countries(value: object) -> frozenset[str]:
    names = _names(value)
    if not all(re.fullmatch("[A-Z]{2}", name) for name in names):
        raise ValueError('must be a list of two-letter country codes such as ("DE", "FR")')
    return frozenset(names)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a dict with names as keys")
    return dict(value)


def _budgets(value: object) -> dict[str, tuple[RateLimitItem, ...]]:
    return {name: _limits(limit) for name, limit in _mapping(value).items()}


def _site_name(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise ValueError("must be one line of text")
    return value


def _purposes(value: object) -> dict[str, Any]:
    purposes = _mapping(value)
    if not purposes:
        raise ValueError("must name a purpose at least")
    return purposes


def _key(default: object, parse: Callable[[object], Any], *, secret: bool = False) -> Any:
    """One key. The value of a ``secret`` one may hold a password, so that no error and no ``repr`` shows it."""
    return field(repr=not secret, metadata={"default": default, "parse": parse, "secret": secret})


@dataclass(frozen=True)
class Purpose:
    """What holds for the codes of one purpose: the app's settings, with that purpose's overrides.

    Bounds: NIST SP 800-63B-4 3.1.3.2 (at least six digits, at most ten minutes) and 2.2.3 (proofs within a day).
    """

    code_length: int = _key(6, _integer(6, 12))
    expires_in: int = _key("5m", _duration(30, 600))
    max_attempts: int = _key(5, _integer(1, 10))
    failure_budget: tuple[Rate, ...] = _key("20/30 days", _rates)
    cooldown: int = _key("30s", _duration(0, 600))
    send_limit: tuple[Rate, ...] = _key("5/hour;10/day", _rates)
    recipient_limit: tuple[Rate, ...] = _key("20/hour;50/day", _rates)
    verified_for: int = _key("12h", _duration(10, 86400))
    on_budget: str = _key("escalate", _choice("escalate", "refuse"))
    #: Only these channels, in this order; empty: any. A purpose's own; it has no ``OTP_*`` key.
    channels: tuple[str, ...] = ()

    def check(self, where: str) -> None:
        if self.cooldown > self.expires_in:
            raise ConfigError(
                f"{where}: OTP_COOLDOWN ({self.cooldown} s) is longer than OTP_EXPIRES_IN ({self.expires_in} s): "
                "nobody could have a lost message sent again"
            )


@dataclass(frozen=True)
class Settings:
    """The app's settings. ``purposes`` holds the merged settings of each purpose."""

    storage_uri: str = _key(None, _storage_uri, secret=True)
    storage_options: dict[str, Any] = _key({}, _mapping, secret=True)
    key_prefix: str = _key("otp", _text(r"[A-Za-z][A-Za-z0-9_]{0,31}", "otp"))
    surge_limit: tuple[RateLimitItem, ...] = _key("100/hour", _limits)
    max_annual_risk: float = _key(0.001, _fraction)
    ip_send_limit: tuple[RateLimitItem, ...] = _key("20/minute;300/hour", _optional_limits)
    ip_verify_limit: tuple[RateLimitItem, ...] = _key("60/minute", _optional_limits)
    channel_budget: dict[str, tuple[RateLimitItem, ...]] = _key({}, _budgets)
    channels: dict[str, Any] | None = _key(None, lambda value: None if value is None else _mapping(value), secret=True)
    sms_countries: frozenset[str] = _key((), _countries)
    email_service: str | None = _key(None, lambda value: None if value is None else _text(r"\S+", "gmail")(value))
    email_timeout: int = _key("10s", _duration(1, 60))
    delivery: str = _key("auto", _choice("auto", "inline", "background"))
    purposes: dict[str, Purpose] = _key({"login": {}}, _purposes)
    revocation_lag: int = _key("0s", _duration(0, 3600))
    base_url: str | None = _key(None, _base_url)
    links: bool = _key(False, _flag)
    url_prefix: str = _key("/otp", _text(r"(/[A-Za-z0-9._~-]+)+", "/otp"))
    default_next: str = _key("/", _path)
    site_name: str | None = _key(None, _site_name)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read and check every key.

        :raises ConfigError: a value is wrong, two contradict each other, or a key is unknown.
        """
        _refuse_unknown(config)
        common = Purpose(**{item.name: _read(config, item) for item in _keys(Purpose)})
        values = {item.name: _read(config, item) for item in _keys(cls)}
        if values["links"] and values["base_url"] is None:
            raise ConfigError(
                "OTP_LINKS needs OTP_BASE_URL: a link is never built from what a request says of its host"
            )
        values["purposes"] = {
            name: _override(common, name, overrides) for name, overrides in values["purposes"].items()
        }
        return cls(**values)


def nearest(word: str, known: list[str]) -> str:
    """A hint for a message: the nearest of the ``known`` words, or all of them."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(sorted(known))


def known_keys() -> list[str]:
    return [PREFIX + item.name.upper() for item in (*_keys(Purpose), *_keys(Settings))]


def _keys(cls: type) -> list[Any]:
    return [item for item in fields(cls) if "parse" in item.metadata]


def _read(config: Mapping[str, Any], item: Any) -> Any:
    key = PREFIX + item.name.upper()
    try:
        return item.metadata["parse"](config.get(key, item.metadata["default"]))
    except ValueError as error:
        given = "" if item.metadata["secret"] else f", not {config.get(key)!r}"
        raise ConfigError(f"{key} {error}{given}") from None


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    known = known_keys()
    for key in config:
        if isinstance(key, str) and key.startswith(PREFIX) and key not in known:
            raise ConfigError(f"{key} is not a setting of flask_otp: {nearest(key, known)}")


def _override(common: Purpose, name: str, overrides: object) -> Purpose:
    where = f"OTP_PURPOSES[{name!r}]"
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
        raise ConfigError(f"{where}: a purpose's name is lower-case letters, digits, _ and -, 32 at most")
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"{where} must be a dict of overrides, which may be empty")
    parsers = {item.name: item.metadata["parse"] for item in _keys(Purpose)} | {"channels": _names}
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if key not in parsers:
            raise ConfigError(f"{where} has no override {key!r}: {nearest(str(key), list(parsers))}")
        try:
            values[key] = parsers[key](value)
        except ValueError as error:
            raise ConfigError(f"{where}[{key!r}] {error}, not {value!r}") from None
    purpose = replace(common, **values)
    purpose.check(where)
    return purpose
