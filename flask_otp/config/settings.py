"""The ``OTP_*`` keys of ``app.config``: read once, checked at once, frozen.

Each field below is one key: ``OTP_`` plus its name in capitals. The field has its default and its parser, so this file
is the complete list. An unknown key stops the app, and the error suggests the nearest key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..documentation import page_of
from ..errors import ConfigError
from ..stores.base import Policy
from . import parsers
from .brand import Brand
from .brand import brand as parse_brand
from .page_policy import Sources, page_policy
from .page_policy import csp as parse_csp
from .parsers import nearest
from .safe_recipients import safe_recipients
from .test_recipients import TestRecipient, check_lengths, test_recipients

if TYPE_CHECKING:
    from limits import RateLimitItem

PREFIX = "OTP_"
_PURPOSES = "settings/otp-purposes"


def _key(default: object, parse: Callable[[object], Any], *, secret: bool = False) -> Any:
    """One key. If it is ``secret``, its value may hold a password, so no error and no ``repr`` shows it."""
    return field(repr=not secret, metadata={"default": default, "parse": parse, "secret": secret})


@dataclass(frozen=True)
class Purpose:
    """The settings for codes of one purpose: the app's settings with the purpose's overrides.

    Bounds: NIST SP 800-63B-4 3.1.3.2 (at least six digits, at most ten minutes) and 2.2.3 (proofs within a day).
    """

    code_length: int = _key(6, parsers.integer(6, 12))
    expires_in: int = _key("5m", parsers.duration(30, 600))
    max_attempts: int = _key(5, parsers.integer(1, 10))
    failure_budget: tuple[parsers.Rate, ...] = _key("20/30 days", parsers.rates)
    cooldown: int = _key("30s", parsers.duration(0, 600))
    send_limit: tuple[parsers.Rate, ...] = _key("5/hour;10/day", parsers.rates)
    recipient_limit: tuple[parsers.Rate, ...] = _key("20/hour;50/day", parsers.rates)
    verified_for: int = _key("12h", parsers.duration(10, 86400))
    on_budget: str = _key("escalate", parsers.choice("escalate", "refuse"))
    #: Seconds after which an unverified code goes out by the next channel. ``None`` means never.
    next_channel_after: int | None = _key(None, parsers.optional(parsers.duration(1, 600)))
    #: The only channels, in this order. Empty means any channel. Set per purpose; there is no ``OTP_*`` key.
    channels: tuple[str, ...] = ()
    #: Whether the message has a code to type. If not, it has only a link. Set per purpose; there is no ``OTP_*`` key.
    typed: bool = True
    #: What people read in place of the purpose's name. Set per purpose; there is no ``OTP_*`` key.
    label: object = None

    def policy(self) -> Policy:
        """The settings that the store needs."""
        return Policy(
            expires_in=self.expires_in,
            max_attempts=self.max_attempts,
            cooldown=self.cooldown,
            send_limit=self.send_limit,
            recipient_limit=self.recipient_limit,
            # A link cannot be guessed. And without a budget, no attacker can spend the owner's.
            failure_budget=self.failure_budget if self.typed else (),
            refuse=self.on_budget == "refuse",
        )

    def check(self, where: str) -> None:
        if self.cooldown > self.expires_in:
            raise ConfigError(
                f"{where}: OTP_COOLDOWN ({self.cooldown} s) is longer than OTP_EXPIRES_IN ({self.expires_in} s): "
                "a lost message could never be resent",
                see="settings/otp-cooldown",
            )
        if self.next_channel_after is not None and self.next_channel_after >= self.expires_in:
            raise ConfigError(
                f"{where}: OTP_NEXT_CHANNEL_AFTER ({self.next_channel_after} s) must be shorter than OTP_EXPIRES_IN "
                f"({self.expires_in} s): the code would have expired by then",
                see="settings/otp-next-channel-after",
            )


@dataclass(frozen=True)
class Settings:
    """The app's settings. ``purposes`` holds the merged settings of each purpose."""

    storage_uri: str = _key(None, parsers.storage_uri, secret=True)
    storage_options: dict[str, Any] = _key({}, parsers.mapping, secret=True)
    key_prefix: str = _key("otp", parsers.text(r"[A-Za-z][A-Za-z0-9_]{0,31}", "otp"))
    surge_limit: tuple[RateLimitItem, ...] = _key("100/hour", parsers.limits)
    max_annual_risk: float = _key(0.001, parsers.fraction)
    ip_send_limit: tuple[RateLimitItem, ...] = _key("20/minute;300/hour", parsers.optional_limits)
    ip_verify_limit: tuple[RateLimitItem, ...] = _key("60/minute", parsers.optional_limits)
    channel_budget: dict[str, tuple[RateLimitItem, ...]] = _key({}, parsers.budgets)
    prefix_budget: dict[str, tuple[RateLimitItem, ...]] = _key({}, parsers.prefix_budgets)
    pumping_breaker: parsers.Breaker | None = _key(parsers.BREAKER, parsers.breaker)
    channels: dict[str, Any] | None = _key(None, parsers.optional(parsers.mapping), secret=True)
    sms_countries: frozenset[str] = _key((), parsers.countries)
    test_recipients: dict[str, TestRecipient] = _key({}, test_recipients, secret=True)
    email_special_domains: tuple[str, ...] = _key((), parsers.special_domains)
    email_service: str | None = _key(None, parsers.optional(parsers.text(r"\S+", "gmail")))
    channel_timeout: int = _key("10s", parsers.duration(1, 60))
    email_timeout: int = _key("10s", parsers.duration(1, 60))
    email_reply_to: str | None = _key(None, parsers.optional(parsers.text(parsers.ADDRESS, "help@example.com")))
    email_ehlo: str | None = _key(None, parsers.optional(parsers.text(parsers.HOST, "mail.example.com")))
    email_ca: str | None = _key(None, parsers.optional(parsers.text(r".+", "/etc/ssl/mail-ca.pem")))
    email_oauth: Callable[[], str] | None = _key(None, parsers.optional(parsers.function))
    code_in_subject: bool = _key(False, parsers.flag)
    delivery: str = _key("auto", parsers.choice("auto", "inline", "background"))
    purposes: dict[str, Purpose] = _key({"login": {}}, parsers.purposes)
    #: Time steps before the current one whose codes of an authenticator app are still accepted.
    totp_steps: int = _key(1, parsers.integer(0, 2))
    revocation_lag: int = _key("0s", parsers.duration(0, 3600))
    base_url: str | None = _key(None, parsers.base_url)
    trusted_origins: tuple[str, ...] = _key((), parsers.origins)
    links: bool = _key(False, parsers.flag)
    openapi: bool = _key(False, parsers.flag)
    url_prefix: str = _key("/otp", parsers.text(r"(/[A-Za-z0-9._~-]+)+", "/otp"))
    default_next: str = _key("/", parsers.path)
    site_name: str | None = _key(None, parsers.site_name)
    brand: Brand = _key({}, parse_brand)
    csp: Sources = _key({}, parse_csp)
    health: bool = _key(False, parsers.flag)
    languages: tuple[str, ...] = _key(None, parsers.languages)
    audit: bool = _key(False, parsers.flag)
    stats: bool = _key(False, parsers.flag)
    deliver_only_to: frozenset[str] | None = _key(None, safe_recipients, secret=True)
    outbox: bool = _key(False, parsers.flag)

    @cached_property
    def page_policy(self) -> str:
        """The content security policy of our pages.

        After a form, the app may lead the browser to another of its origins, and browsers apply ``form-action`` to
        redirects too.
        """
        origins = [origin for origin in (self.base_url, *self.trusted_origins) if (origin or "").startswith("http")]
        return page_policy({"img-src": [self.brand.logo_host], "form-action": origins}, self.csp)

    @cached_property
    def form_policy(self) -> str:
        """The policy of a page whose form goes to a view of the app, which may lead on to any site."""
        return page_policy({"img-src": [self.brand.logo_host], "form-action": ["https:"]}, self.csp)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read and check every key.

        :raises ConfigError: a value is wrong, two values contradict each other, or a key is unknown.
        """
        _refuse_unknown(config)
        common = Purpose(**{item.name: _read(config, item) for item in keys(Purpose)})
        values = {item.name: _read(config, item) for item in keys(cls)}
        if values["links"] and values["base_url"] is None:
            raise ConfigError("OTP_LINKS needs OTP_BASE_URL: links are never built from a request's Host header")
        values["purposes"] = {
            name: _override(common, name, overrides) for name, overrides in values["purposes"].items()
        }
        without = [name for name, purpose in values["purposes"].items() if not purpose.typed]
        if without and not values["links"]:
            raise ConfigError(
                f"OTP_PURPOSES[{without[0]!r}]['typed']: without a code to type there must be a link: "
                "set OTP_LINKS = True and OTP_BASE_URL"
            )
        lengths = {name: each.code_length for name, each in values["purposes"].items() if each.typed}
        try:
            check_lengths(values["test_recipients"], lengths)
        except ValueError as error:
            raise ConfigError(f"OTP_TEST_RECIPIENTS {error}") from None
        return cls(**values)


def known_keys() -> list[str]:
    return [PREFIX + item.name.upper() for item in (*keys(Purpose), *keys(Settings))]


def keys(cls: type) -> list[Any]:
    """The fields of :class:`Purpose` or :class:`Settings` that are keys of ``app.config``."""
    return [item for item in fields(cls) if "parse" in item.metadata]


def _read(config: Mapping[str, Any], item: Any) -> Any:
    key = PREFIX + item.name.upper()
    try:
        return item.metadata["parse"](config.get(key, item.metadata["default"]))
    except ValueError as error:
        is_shown = "must" in str(error) and not item.metadata["secret"]
        given = f", not {config.get(key)!r}" if is_shown else ""
        raise ConfigError(f"{key} {error}{given}", see=page_of(key)) from None


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    known = known_keys()
    for key in config:
        if isinstance(key, str) and key.startswith(PREFIX) and key not in known:
            raise ConfigError(f"{key} is not a setting of flask_otp: {nearest(key, known)}", see="settings")


def _override(common: Purpose, name: str, overrides: object) -> Purpose:
    where = f"OTP_PURPOSES[{name!r}]"
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
        raise ConfigError(
            f"{where}: a purpose's name must be lower-case letters, digits, _ and -, at most 32", see=_PURPOSES
        )
    if not isinstance(overrides, Mapping):
        raise ConfigError(f"{where} must be a dict of overrides, which can be empty", see=_PURPOSES)
    known = {item.name: item.metadata["parse"] for item in keys(Purpose)}
    known |= {"channels": parsers.names, "typed": parsers.flag, "label": parsers.label}
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        if key not in known:
            raise ConfigError(f"{where} has no override {key!r}: {nearest(str(key), list(known))}", see=_PURPOSES)
        try:
            values[key] = known[key](value)
        except ValueError as error:
            raise ConfigError(f"{where}[{key!r}] {error}, not {value!r}", see=_PURPOSES) from None
    if name == "login" and values.get("label") is not None:
        raise ConfigError(
            f"{where}['label']: for this purpose pages and messages say that people sign in", see=_PURPOSES
        )
    purpose = replace(common, **values)
    purpose.check(where)
    return purpose
