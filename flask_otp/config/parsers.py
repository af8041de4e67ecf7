"""Parsers for the values of settings.

Each parser takes the raw value and returns the checked one, or raises ``ValueError`` with the second half of a
sentence.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import identifiers
from ..languages import LANGUAGES
from ..lazy import lazy
from ..urls import is_safe_path

if TYPE_CHECKING:
    from limits import RateLimitItem

_library = lazy("limits")

#: One plain address: no comma for a second address, no line break for another header.
ADDRESS = r"[^\s,;:<>()\"@]+@[^\s,;:<>()\"@]+"

#: Seconds of "1 year" in ``limits``.
_YEAR = 360 * 86400
#: Maximum amount of a limit, and its longest window in seconds.
MAX_AMOUNT, MAX_PERIOD = 1_000_000_000, 100 * _YEAR
#: Names allowed for ``EHLO``: a host name, or an address in brackets (RFC 5321 4.1.3).
HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Za-z:.]+\]"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Rate(NamedTuple):
    """At most ``amount`` events in a window of ``period`` seconds that starts with the first event."""

    amount: int
    period: int


class Breaker(NamedTuple):
    """When messages to a range of phone numbers are withheld. The window is in seconds."""

    minimum: int
    country_minimum: int
    ratio: float
    window: int


#: ``docs/protection/sms-pumping.md`` gives the reasons for these values.
BREAKER = {"minimum": 30, "country_minimum": 100, "ratio": 0.2, "window": "1h"}


def nearest(word: str, known: list[str]) -> str:
    """A hint for an error: the nearest of the ``known`` words, or all of them."""
    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(sorted(known))


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


def duration(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        parsed = seconds(value)
        if not least <= parsed <= most:
            raise ValueError(f"must be between {least} and {most} seconds")
        return parsed

    return parse


def optional(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else parse(value)


def flag(value: object) -> bool:
    if isinstance(value, str):  # from_prefixed_env reads JSON
        raise ValueError("must be True or False, in an environment variable true or false")
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def flag_in_words(value: object) -> bool:
    """A flag that may also be text or a number, as from the environment. Text that means no is never read as yes."""
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    found = words.get(str(value).strip().lower()) if isinstance(value, (bool, int, str)) else None
    if found is None:
        raise ValueError("must be True or False")
    return found


def function(value: object) -> Callable[..., Any]:
    if not callable(value) or isinstance(value, type):
        raise ValueError("must be a function")
    return value


def integer(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def fraction(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1")
    return float(value)


def limits(value: object) -> tuple[RateLimitItem, ...]:
    try:
        # Otherwise "5/0 hours" would be read as five an hour.
        is_plain = isinstance(value, str) and not re.search(r"[/r]\s*0+\s*[a-z]", value, re.IGNORECASE)
        items = tuple(_library.parse_many(value)) if is_plain else ()
    except ValueError:
        items = ()
    if not items or any(item.amount < 1 for item in items):
        raise ValueError('must be a limit such as "5/hour;10/day"')
    # Every store must be able to count this far: the Redis store has four bytes for an amount and five for a time.
    if any(item.amount > MAX_AMOUNT or item.get_expiry() > MAX_PERIOD for item in items):
        raise ValueError(f"must not exceed {MAX_AMOUNT:,} events or {MAX_PERIOD // _YEAR} years")
    return items


def rates(value: object) -> tuple[Rate, ...]:
    return tuple(Rate(item.amount, item.get_expiry()) for item in limits(value))


def optional_limits(value: object) -> tuple[RateLimitItem, ...]:
    return () if value is None else limits(value)


def storage_uri(value: object) -> str:
    if isinstance(value, str) and re.search(r"\s", value):
        # Said without the value, which may hold a password.
        raise ValueError("must have no white space, such as a line break at its end")
    return "memory://" if value is None else text(r"[a-z][a-z0-9+.-]*://\S*", "redis://host:6379")(value)


def choice(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError("must be one of " + ", ".join(map(repr, words)))
        return value

    return parse


def text(pattern: str, example: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"must be text such as {example!r}")
        return value

    return parse


def path(value: object) -> str:
    if not isinstance(value, str) or not is_safe_path(value):
        raise ValueError('must be a path on this site such as "/account"')
    return value


def base_url(value: object) -> str | None:
    if value is None:
        return None
    scheme, separator, place = value.rstrip("/").lower().partition("://") if isinstance(value, str) else ("", "", "")
    host, colon, port = place.partition(":")
    origin = scheme + separator + identifiers.ascii_domain(host) + colon + port
    if not re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]+)?", origin):
        raise ValueError('must be an origin such as "https://example.com"')
    # As browsers write it, without the default port.
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


#: An origin as browsers write it, of the web or of an app's own scheme.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")


def origins(value: object) -> tuple[str, ...]:
    """Exact origins, as browsers write them in ``Origin``: lower case, ASCII, without the scheme's default port."""
    return tuple(dict.fromkeys(map(_origin, names(value))))


def _origin(text: str) -> str:
    scheme, separator, place = text.strip().lower().partition("://")
    host, colon, port = place.partition(":")
    match = _ORIGIN.fullmatch(scheme + separator + identifiers.ascii_domain(host) + colon + port)
    # All local files and sandboxed pages have the origin "null", so allowing it would allow all of them.
    if match is None or scheme in ("file", "data", "blob", "about", "javascript"):
        raise ValueError(
            'must be a list of exact origins such as ("https://app.example.com", "capacitor://localhost"), '
            "without a path or a wildcard"
        )
    return match[0].removesuffix({"https": ":443", "http": ":80"}.get(scheme, "/"))


def special_domains(value: object) -> tuple[str, ...]:
    """Domains of RFC 6761 and similar, whose addresses are accepted: ``"local"``, ``"home.arpa"``."""
    found = tuple(name.lower().strip(".") for name in names(value))
    if not all(re.fullmatch(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", name) for name in found):
        raise ValueError('must be a list of domains such as ("local", "home.arpa")')
    return found


def names(value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise ValueError("must be a list of names")


def languages(value: object) -> tuple[str, ...]:
    if value is None:
        return LANGUAGES
    # The order matters, so a set is refused.
    named = names(value) if isinstance(value, (list, tuple)) else ()
    chosen = tuple(dict.fromkeys(name.replace("-", "_") for name in named))
    if not chosen or not set(chosen) <= set(LANGUAGES):
        raise ValueError(f"must be a list with the default first, from {', '.join(LANGUAGES)}")
    return chosen


def countries(value: object) -> frozenset[str]:
    codes = names(value)
    if not all(re.fullmatch("[A-Z]{2}", code) for code in codes):
        raise ValueError('must be a list of two-letter country codes such as ("DE", "FR")')
    for code in codes:
        if not identifiers.is_country(code):
            hint = "the United Kingdom is 'GB'" if code == "UK" else "see ISO 3166-1"
            raise ValueError(f"has {code!r}, which is not a country with its own phone numbers ({hint})")
    return frozenset(codes)


def mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a dict with names as keys")
    return dict(value)


def budgets(value: object) -> dict[str, tuple[RateLimitItem, ...]]:
    return {name: limits(limit) for name, limit in mapping(value).items()}


def prefix_budgets(value: object) -> dict[str, tuple[RateLimitItem, ...]]:
    parsed = budgets(value)
    for prefix in parsed:
        if not re.fullmatch(r"\+[1-9][0-9]{0,14}", prefix):
            raise ValueError(f'has {prefix!r}, which is not a phone number prefix such as "+44"')
    return parsed


def breaker(value: object) -> Breaker | None:
    """The defaults, updated with the given values. ``None`` means off."""
    if value is None:
        return None
    given = BREAKER | mapping(value)
    for name in given:
        if name not in BREAKER:
            raise ValueError(f"has no {name!r}: {nearest(name, list(BREAKER))}")
    parsed = Breaker(
        _member(given, "minimum", integer(1, 1_000_000)),
        _member(given, "country_minimum", integer(1, 1_000_000)),
        _member(given, "ratio", fraction),
        _member(given, "window", duration(60, 86400)),
    )
    if parsed.country_minimum < parsed.minimum:
        raise ValueError("must not have a 'country_minimum' below its 'minimum': no range could ever reach it")
    return parsed


def _member(given: Mapping[str, Any], name: str, parse: Callable[[object], Any]) -> Any:
    try:
        return parse(given[name])
    except ValueError as error:
        raise ValueError(f"[{name!r}] {error}") from None


def site_name(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise ValueError("must be one line of text")
    return value


def label(value: object) -> object:
    """Text of one line, or an object that becomes text when it is shown, such as a ``LazyString`` of Flask-Babel."""
    if isinstance(value, str):
        is_label = bool(value.strip()) and value.isprintable() and len(value) <= 60
    else:
        has_text = type(value).__str__ is not object.__str__ and type(value).__module__ != "builtins"
        is_label = value is None or has_text
    if not is_label:
        raise ValueError("must be one line of at most 60 characters, or a lazy string of Flask-Babel")
    return value


def purposes(value: object) -> dict[str, Any]:
    purposes = mapping(value)
    if not purposes:
        raise ValueError("must name at least one purpose")
    return purposes
