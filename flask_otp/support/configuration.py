"""``flask otp config``: every setting with its value, its source and its default. Shows nothing secret or personal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.utils import parseaddr
from typing import Any

from ..channels.base import FunctionChannel
from ..channels.email import SERVICES
from ..channels.kept import KEPT_FACTORS
from ..config.settings import PREFIX, Purpose, Settings, keys
from ..identifiers import mask
from ..state import AppState

_DEFAULT, _CONFIG = "default", "app.config"
#: Flask-Mail's keys, and whether the value may be shown.
_MAIL = {
    "MAIL_SERVER": True,
    "MAIL_PORT": True,
    "MAIL_USE_TLS": True,
    "MAIL_USE_SSL": True,
    "MAIL_USERNAME": False,
    "MAIL_PASSWORD": False,
    "MAIL_DEFAULT_SENDER": True,
    "MAIL_SUPPRESS_SEND": True,
}
#: A longer prefix of phone numbers may be a person's number.
_LONGEST_PREFIX = 9
#: URIs of our own stores in which user, host and path can be told apart with certainty. In any other URI, a password
#: may stand anywhere.
_CLEAR_URI = re.compile(
    r"(?P<scheme>(?:redis|valkey)s?(?:\+[a-z]+)?|(?:sqlite|postgres|postgresql|mariadb|mysql)(?:\+[a-z0-9]+)?|memory)://"
    r"(?P<user>[^@/?#]*@)?"
    r"(?P<place>(?:[A-Za-z0-9._-]+(?::[0-9]+)?(?:,[A-Za-z0-9._-]+(?::[0-9]+)?)*|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?)?"
    r"(?:/[A-Za-z0-9._/-]*)?)"
    r"(?P<query>\?[^@]*)?"
)
_WIDEST = 32


class Shown(str):
    """Text that stands for a value: a value that is hidden, in part or whole."""

    __slots__ = ()


HIDDEN = Shown("***")


@dataclass(frozen=True)
class Row:
    """One setting, as it may be shown."""

    key: str
    #: The purpose, if this row is its override.
    purpose: str | None
    value: Any
    default: Any
    #: Where the value is from: ``"default"``, ``"app.config"``, or another setting.
    source: str
    changed: bool


def rows(state: AppState) -> list[Row]:
    """Every setting, each with the overrides of purposes after it; then those of Flask and Flask-Mail."""
    return [*_settings(state), *_secret_keys(state.app.config), *_mail(state.app.config, state.settings.email_service)]


def as_text(found: Sequence[Row]) -> str:
    cells = [(_label(row), _python(row.value)) for row in found]
    width = max((len(label) for label, _ in cells), default=0)
    wide = max((len(value) for _, value in cells if len(value) <= _WIDEST), default=0)
    lines = []
    for row, (label, value) in zip(found, cells, strict=True):
        tells_default = row.changed and row.purpose is None and row.key.startswith(PREFIX)
        source = f"{row.source} (default: {_python(row.default)})" if tells_default else row.source
        lines.append(f"{label:{width}}  {value:{wide}}  {source}")
    return "\n".join(lines)


def _label(row: Row) -> str:
    if row.purpose is None:
        return row.key
    return f"  {row.purpose}" if row.key == "OTP_PURPOSES" else f"  {row.purpose}: {row.key[len(PREFIX) :].lower()}"


def as_json(found: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in found], indent=2, default=str)


def _python(value: Any) -> str:
    if isinstance(value, Shown) or value is None:
        return str(value)
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def _settings(state: AppState) -> Iterator[Row]:
    purposes: Mapping[str, Mapping[str, Any]] = state.app.config.get("OTP_PURPOSES") or {}
    for item in (*keys(Purpose), *keys(Settings)):
        row = _channels(state) if item.name == "channels" else _setting(state, item)
        yield row
        for purpose, overrides in purposes.items():
            for name, value in overrides.items():
                if name in _OVERRIDES and name == item.name:
                    yield Row(row.key, purpose, value, row.value, "OTP_PURPOSES", changed=True)
                elif name not in _OVERRIDES and item.name == "purposes":
                    yield Row(row.key, purpose, {name: value}, None, "OTP_PURPOSES", changed=True)


#: What a purpose can override. It can have further members, which are no setting of the app.
_OVERRIDES = {item.name for item in keys(Purpose)}


def _setting(state: AppState, item: Any) -> Row:
    config, key = state.app.config, PREFIX + item.name.upper()
    default, parse = item.metadata["default"], item.metadata["parse"]
    given = config.get(key, default)
    show = _SHOW.get(item.name, _hide if item.metadata["secret"] else _plain)
    try:
        parsed = parse(given)
        # The settings of a purpose are merged, so only the others can be compared with those in use.
        is_used = item.name not in Settings.__dataclass_fields__ or item.name == "purposes"
        is_used = is_used or parsed == getattr(state.settings, item.name)
    except ValueError:
        parsed, is_used = None, False
    source = _DEFAULT if key not in config else _CONFIG if is_used else f"{_CONFIG}, set too late: not in use"
    return Row(key, None, show(given), show(default), source, changed=parsed != parse(default))


def _plain(value: Any) -> Any:
    return value


def _hide(value: Any) -> Any:
    return HIDDEN if value else value


def _uri(value: Any) -> Any:
    if not value:
        return value
    if match := _CLEAR_URI.fullmatch(str(value)):
        user, query = (HIDDEN + "@" if match["user"] else ""), ("?" + HIDDEN if match["query"] else "")
        return Shown(f"{match['scheme']}://{user}{match['place']}{query}")
    return Shown(f"{str(value).partition('://')[0]}://{HIDDEN}")


def _options(value: Any) -> Any:
    return dict.fromkeys(value, HIDDEN) if value else value


def _count(value: Any) -> Any:
    """Show only how many there are."""
    return Shown(f"{HIDDEN} ({len(value)})") if value else value


def _address(value: Any) -> Any:
    return Shown(mask(value)) if isinstance(value, str) else value


def _prefixes(value: Any) -> Any:
    return {prefix if len(prefix) <= _LONGEST_PREFIX else mask(prefix): limit for prefix, limit in value.items()}


def _function(value: Any) -> Any:
    return value if value is None else Shown(getattr(value, "__name__", type(value).__name__))


#: How to show a setting that holds a secret or an address, in part. Another one that is marked as secret is hidden.
_SHOW: dict[str, Callable[[Any], Any]] = {
    "storage_uri": _uri,
    "storage_options": _options,
    "test_recipients": _count,
    "deliver_only_to": _count,
    "email_reply_to": _address,
    "email_oauth": _function,
    "prefix_budget": _prefixes,
    "purposes": lambda value: list(value),
}


def _channels(state: AppState) -> Row:
    """All channels of the app: those of ``OTP_CHANNELS`` and ``@otp.channel``, or the one that stands in for them."""
    given, own = state.app.config.get("OTP_CHANNELS"), state.hooks.channels
    standing_in = {name: name for name in state.routing.channels() if name not in own and name not in KEPT_FACTORS}
    value = {name: _channel(each) for name, each in {**(standing_in if given is None else given), **own}.items()}
    sources = [_CONFIG] * (given is not None) + ["@otp.channel"] * bool(own)
    return Row("OTP_CHANNELS", None, value, None, ", ".join(sources) or _DEFAULT, changed=bool(sources))


def _channel(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_channel(each) for each in value]
    if isinstance(value, str):
        scheme, separator, _ = value.partition("://")
        return f"{scheme}://{HIDDEN}" if separator else value
    return "a function" if isinstance(value, FunctionChannel) or not hasattr(value, "deliver") else type(value).__name__


def _secret_keys(config: Mapping[str, Any]) -> Iterator[Row]:
    for key in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        given = config.get(key)
        value = _count(given) if key.endswith("S") else _hide(given)
        yield Row(key, None, value, None, _CONFIG if given else _DEFAULT, changed=bool(given))


def _mail(config: Mapping[str, Any], service: str | None) -> Iterator[Row]:
    """Flask-Mail's keys that are set. flask_otp has filled in some of them when the app was set up."""
    for key, may_be_shown in _MAIL.items():
        given = config.get(key)
        if given is None:
            continue
        source = _CONFIG
        if service is not None and SERVICES[service].get(key) == given:
            source = "OTP_EMAIL_SERVICE"
        elif key == "MAIL_DEFAULT_SENDER" and given == config.get("MAIL_USERNAME"):
            source = "MAIL_USERNAME"
        value = _sender(given) if key == "MAIL_DEFAULT_SENDER" else given if may_be_shown else HIDDEN
        yield Row(key, None, value, None, source, changed=True)


def _sender(value: Any) -> Any:
    """The address in part, without the sender's name."""
    return _address(value[-1] if isinstance(value, (list, tuple)) and value else parseaddr(str(value))[1])
