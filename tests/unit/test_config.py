"""Every ``OTP_*`` key: its default, what it takes, what it refuses; and what stops an app at its start."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, ConfigError, Message, otp_required
from flask_otp.config.brand import Brand
from flask_otp.config.settings import Settings, known_keys
from flask_otp.testing import capture_codes

SECRET = "a secret that is only for tests"
ANN = "ann@example.com"
AppFactory = Callable[..., Flask]


def no_one(message: Message) -> None:
    """A channel that takes everything."""


def bare_app(**config: Any) -> Flask:
    app = Flask("site")
    app.config.update({"TESTING": True, "SECRET_KEY": SECRET, "OTP_STORAGE_URI": "memory://", **config})
    return app


def start(**config: Any) -> Flask:
    app = bare_app(**config)
    OTP(app)
    return app


def production(**config: Any) -> Flask:
    return start(TESTING=False, **config)


def settings(**config: Any) -> Settings:
    found = start(**config).extensions["otp"].settings
    assert isinstance(found, Settings)
    return found


def value_of(key: str, **config: Any) -> Any:
    """A key's value as it is used: those of codes by the purpose ``login``."""
    found, name = settings(**config), key.removeprefix("OTP_").lower()
    return getattr(found.purposes["login"], name, None) if not hasattr(found, name) else getattr(found, name)


def amounts(limits: Any) -> list[tuple[int, int]]:
    return [
        (item[0], item[1]) if isinstance(item, tuple) and not hasattr(item, "amount") else _pair(item)
        for item in limits
    ]


def _pair(item: Any) -> tuple[int, int]:
    return item.amount, item.period if hasattr(item, "period") else item.get_expiry()


# Defaults

DEFAULTS = {
    "OTP_TOTP_STEPS": 1,
    "OTP_BRAND": Brand(),
    "OTP_CSP": {},
    "OTP_STORAGE_URI": "memory://",
    "OTP_STORAGE_OPTIONS": {},
    "OTP_KEY_PREFIX": "otp",
    "OTP_CODE_LENGTH": 6,
    "OTP_EXPIRES_IN": 300,
    "OTP_MAX_ATTEMPTS": 5,
    "OTP_MAX_ANNUAL_RISK": 0.001,
    "OTP_COOLDOWN": 30,
    "OTP_CHANNEL_BUDGET": {},
    "OTP_PREFIX_BUDGET": {},
    "OTP_PUMPING_BREAKER": (30, 100, 0.2, 3600),
    "OTP_CHANNELS": None,
    "OTP_SMS_COUNTRIES": frozenset(),
    "OTP_TEST_RECIPIENTS": {},
    "OTP_EMAIL_SERVICE": None,
    "OTP_EMAIL_SPECIAL_DOMAINS": (),
    "OTP_TRUSTED_ORIGINS": (),
    "OTP_CHANNEL_TIMEOUT": 10,
    "OTP_EMAIL_TIMEOUT": 10,
    "OTP_EMAIL_REPLY_TO": None,
    "OTP_EMAIL_EHLO": None,
    "OTP_EMAIL_CA": None,
    "OTP_EMAIL_OAUTH": None,
    "OTP_CODE_IN_SUBJECT": False,
    "OTP_HEALTH": False,
    "OTP_DELIVERY": "auto",
    "OTP_VERIFIED_FOR": 12 * 3600,
    "OTP_REVOCATION_LAG": 0,
    "OTP_ON_BUDGET": "escalate",
    "OTP_NEXT_CHANNEL_AFTER": None,
    "OTP_BASE_URL": None,
    "OTP_LINKS": False,
    "OTP_OPENAPI": False,
    "OTP_URL_PREFIX": "/otp",
    "OTP_DEFAULT_NEXT": "/",
    "OTP_SITE_NAME": None,
    "OTP_AUDIT": False,
    "OTP_STATS": False,
    "OTP_DELIVER_ONLY_TO": None,
    "OTP_OUTBOX": False,
    "OTP_LANGUAGES": ("en", "de", "es", "fr", "pt", "ar", "hi", "ja", "zh_Hans"),
}
LIMIT_DEFAULTS = {
    "OTP_FAILURE_BUDGET": [(20, 30 * 86400)],
    "OTP_SURGE_LIMIT": [(100, 3600)],
    "OTP_SEND_LIMIT": [(5, 3600), (10, 86400)],
    "OTP_RECIPIENT_LIMIT": [(20, 3600), (50, 86400)],
    "OTP_IP_SEND_LIMIT": [(20, 60), (300, 3600)],
    "OTP_IP_VERIFY_LIMIT": [(60, 60)],
}


def test_the_tables_here_name_every_key() -> None:
    assert sorted(known_keys()) == sorted([*DEFAULTS, *LIMIT_DEFAULTS, "OTP_PURPOSES"])


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items())
def test_each_key_has_its_default(key: str, default: Any) -> None:
    assert value_of(key) == default


@pytest.mark.parametrize(("key", "default"), LIMIT_DEFAULTS.items())
def test_each_limit_has_its_default(key: str, default: list[tuple[int, int]]) -> None:
    assert amounts(value_of(key)) == default


def test_there_is_one_purpose_by_default() -> None:
    assert list(settings().purposes) == ["login"]


def test_the_site_is_called_by_the_apps_name_or_as_it_likes() -> None:
    assert "site" in start().test_client().get("/otp/").text
    assert "Café &amp; Co" in start(OTP_SITE_NAME="Café & Co").test_client().get("/otp/").text


# Values

GOOD: list[tuple[str, Any, Any]] = [
    ("OTP_CODE_LENGTH", 6, 6),
    ("OTP_CODE_LENGTH", 12, 12),
    ("OTP_EXPIRES_IN", "30s", 30),
    ("OTP_EXPIRES_IN", "10m", 600),
    ("OTP_EXPIRES_IN", "600s", 600),
    ("OTP_EXPIRES_IN", "120", 120),
    ("OTP_EXPIRES_IN", 120, 120),
    ("OTP_EXPIRES_IN", timedelta(minutes=2), 120),
    ("OTP_MAX_ATTEMPTS", 1, 1),
    ("OTP_MAX_ATTEMPTS", 10, 10),
    ("OTP_COOLDOWN", 0, 0),
    ("OTP_COOLDOWN", "1m", 60),
    ("OTP_VERIFIED_FOR", "24h", 86400),
    ("OTP_VERIFIED_FOR", "1d", 86400),
    ("OTP_REVOCATION_LAG", "10s", 10),
    ("OTP_EMAIL_TIMEOUT", 3, 3),
    ("OTP_CHANNEL_TIMEOUT", "3s", 3),
    ("OTP_EMAIL_REPLY_TO", "help@example.com", "help@example.com"),
    ("OTP_CODE_IN_SUBJECT", True, True),
    ("OTP_HEALTH", True, True),
    ("OTP_EMAIL_EHLO", "mail.example.com", "mail.example.com"),
    ("OTP_EMAIL_EHLO", "[192.0.2.1]", "[192.0.2.1]"),
    ("OTP_DELIVERY", "inline", "inline"),
    ("OTP_DELIVERY", "background", "background"),
    ("OTP_ON_BUDGET", "refuse", "refuse"),
    ("OTP_NEXT_CHANNEL_AFTER", "45s", 45),
    ("OTP_IP_SEND_LIMIT", None, ()),
    ("OTP_IP_VERIFY_LIMIT", None, ()),
    ("OTP_SMS_COUNTRIES", ["DE", "FR"], frozenset({"DE", "FR"})),
    ("OTP_SMS_COUNTRIES", {"DE"}, frozenset({"DE"})),
    ("OTP_PUMPING_BREAKER", None, None),
    ("OTP_PUMPING_BREAKER", {}, (30, 100, 0.2, 3600)),
    ("OTP_PUMPING_BREAKER", {"ratio": 1, "window": timedelta(days=1)}, (30, 100, 1.0, 86400)),
    ("OTP_PUMPING_BREAKER", {"minimum": 200, "country_minimum": 200}, (200, 200, 0.2, 3600)),
    ("OTP_KEY_PREFIX", "shop_2", "shop_2"),
    ("OTP_BASE_URL", "https://example.com", "https://example.com"),
    ("OTP_BASE_URL", "https://Example.com:8443/", "https://example.com:8443"),
    ("OTP_BASE_URL", "http://localhost:5000", "http://localhost:5000"),
    ("OTP_URL_PREFIX", "/auth/code", "/auth/code"),
    ("OTP_DEFAULT_NEXT", "/account?x=1", "/account?x=1"),
    ("OTP_SITE_NAME", "My shop", "My shop"),
    ("OTP_LANGUAGES", ["de", "zh-Hans", "de"], ("de", "zh_Hans")),
    ("OTP_MAX_ANNUAL_RISK", 1e-6, 1e-6),
    ("OTP_MAX_ANNUAL_RISK", 1, 1.0),
    ("OTP_STORAGE_OPTIONS", {"max_subjects": 10}, {"max_subjects": 10}),
]


@pytest.mark.parametrize(("key", "value", "expected"), GOOD)
def test_good_values_are_taken(key: str, value: Any, expected: Any) -> None:
    assert value_of(key, **{key: value}) == expected


@pytest.mark.parametrize("key", LIMIT_DEFAULTS)
def test_limits_are_read(key: str) -> None:
    assert amounts(value_of(key, **{key: "3 per hour; 7/2 days"})) == [(3, 3600), (7, 2 * 86400)]


NO_DURATIONS: list[Any] = [
    "",
    "5 minutes",
    "m",
    "-1",
    -1,
    "1.5m",
    2.5,
    True,
    None,
    [],
    "5m5s",
    "１m",
    timedelta(0, 0.5),
]
DURATIONS = [
    "OTP_EXPIRES_IN",
    "OTP_COOLDOWN",
    "OTP_VERIFIED_FOR",
    "OTP_REVOCATION_LAG",
    "OTP_EMAIL_TIMEOUT",
    "OTP_CHANNEL_TIMEOUT",
]
NO_LIMITS: list[Any] = ["", "5", "5/", "/hour", "0/hour", "-1/hour", "5/fortnight", "x", 5, True, [], {}, "5/hour;;x"]

BAD: list[tuple[str, Any]] = [
    *((key, value) for key in DURATIONS for value in NO_DURATIONS),
    *((key, value) for key in LIMIT_DEFAULTS for value in NO_LIMITS),
    *((key, None) for key in LIMIT_DEFAULTS if "_IP_" not in key),
    *(("OTP_CODE_LENGTH", value) for value in (5, 13, 0, -6, "6", 6.0, True, None)),
    *(("OTP_MAX_ATTEMPTS", value) for value in (0, 11, -1, "5", True, None)),
    ("OTP_EXPIRES_IN", "601s"),
    ("OTP_EXPIRES_IN", "1h"),
    ("OTP_EXPIRES_IN", 1),
    ("OTP_VERIFIED_FOR", "86401s"),
    ("OTP_VERIFIED_FOR", 0),
    ("OTP_CHANNEL_TIMEOUT", 0),
    ("OTP_CHANNEL_TIMEOUT", 61),
    ("OTP_EMAIL_TIMEOUT", 0),
    ("OTP_CHANNEL_TIMEOUT", "2m"),
    *(("OTP_MAX_ANNUAL_RISK", value) for value in (0, -0.1, 1.1, "0.001", None, True, float("nan"))),
    *(("OTP_DELIVERY", value) for value in ("", "async", None, True)),
    *((key, value) for key in ("OTP_LINKS", "OTP_CODE_IN_SUBJECT", "OTP_HEALTH") for value in ("", "yes", None, 1, 0)),
    *(("OTP_EMAIL_EHLO", value) for value in ("", "two words", "a\r\nMAIL FROM:<x>", "-a.example", 5)),
    *(("OTP_EMAIL_CA", value) for value in ("", 5, b"ca.pem")),
    *(("OTP_EMAIL_OAUTH", value) for value in ("token", 5, str)),
    *(("OTP_ON_BUDGET", value) for value in ("", "lock", None, "Escalate")),
    *(("OTP_KEY_PREFIX", value) for value in ("", "a:b", "{a}", "a b", "1a", "a" * 33, None, "a\n")),
    *(("OTP_STORAGE_URI", value) for value in ("", "memory", "memory://x", "nosuch://x", 5, "redis", "redis:// x")),
    *(("OTP_STORAGE_OPTIONS", value) for value in (None, [], "x", {"nosuch": 1}, {"max_subjects": 0}, {1: 2})),
    *(
        ("OTP_CHANNELS", value)
        for value in ([], "email", {"email": None}, {"email": []}, {"email": "nosuch"}, {1: no_one})
    ),
    *(("OTP_CHANNEL_BUDGET", value) for value in (None, [], "5/hour", {"sms": 5}, {"sms": "x"}, {"sms": None})),
    *(("OTP_SMS_COUNTRIES", value) for value in ("DE", ["de"], ["DEU"], [1], None, ["DE\n"], ["UK"], ["ZZ"])),
    *(("OTP_PREFIX_BUDGET", value) for value in (None, [], "5/day", {"+44": 5}, {"+44": "x"}, {"+44": None})),
    *(
        ("OTP_PREFIX_BUDGET", {prefix: "5/day"})
        for prefix in ("44", "+", "+044", "0044", "+44 70", "+44\n", "GB", "", "+٤٤")
    ),
    *(
        ("OTP_PUMPING_BREAKER", value)
        for value in (True, 5, "off", [], {"minimum": 0}, {"minimum": "30"}, {"ratio": 0})
    ),
    *(("OTP_PUMPING_BREAKER", {"ratio": value}) for value in (1.1, "20%", None, True, float("nan"))),
    *(("OTP_PUMPING_BREAKER", {"window": value}) for value in (0, "59s", "25h", None, "1 hour")),
    ("OTP_PUMPING_BREAKER", {"minimum": 101}),
    *(("OTP_EMAIL_SERVICE", value) for value in ("nosuch", "", 5)),
    *(
        ("OTP_BASE_URL", value)
        for value in ("", "example.com", "//example.com", "https://example.com/path", "https://a@b.com", "ftp://x", 5)
    ),
    *(("OTP_URL_PREFIX", value) for value in ("", "/", "otp", "/otp/", "/<int:x>", "/a b", None, "/otp\n")),
    *(("OTP_DEFAULT_NEXT", value) for value in ("", "account", "//evil.example", "/\\evil.example", "https://x", None)),
    *(("OTP_SITE_NAME", value) for value in ("", "  ", "a\nb", "a\r\nBcc: b", 5, "a\u2028b")),
    *(("OTP_LANGUAGES", value) for value in ("de", [], {"de"}, ["de", "xx"], ["de_DE"], ["DE"], [1], 5)),
    *(("OTP_PURPOSES", value) for value in (None, [], "login", {"login": None}, {"login": []}, {1: {}}, {"": {}})),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_values_stop_the_app_and_name_the_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        start(**{key: value})


@pytest.mark.parametrize("limit", ["5/0 hours", "5/0 HOURS", "5 PER 0 hours"])
@pytest.mark.parametrize("key", LIMIT_DEFAULTS)
def test_a_limit_over_no_time_is_refused(key: str, limit: str) -> None:
    with pytest.raises(ConfigError, match=key):
        start(**{key: limit})


@pytest.mark.parametrize(
    "limit", ["1000000001/hour", "5000000000/day", f"{10**30}/hour", "5/101 years", f"5/{10**9} days"]
)
@pytest.mark.parametrize("key", LIMIT_DEFAULTS)
def test_a_limit_that_no_store_can_count_is_refused(key: str, limit: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} must not exceed 1,000,000,000 events or 100 years"):
        start(**{key: limit})


@pytest.mark.parametrize(
    "config",
    [
        {"OTP_CHANNEL_BUDGET": {"sms": "5000000000/day"}},
        {"OTP_PREFIX_BUDGET": {"+49": "5000000000/day"}},
        {"OTP_PURPOSES": {"login": {"send_limit": "5000000000/day"}}},
    ],
    ids=str,
)
def test_nor_is_one_inside_of_another_value(config: dict[str, Any]) -> None:
    (key,) = config
    with pytest.raises(ConfigError, match=f"{key}.*must not exceed"):
        start(**config)


@pytest.mark.parametrize("name", ["memory", pytest.param("redis", marks=pytest.mark.server), "sqlite"])
def test_every_store_counts_as_far_as_a_limit_may_go(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uris = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'otp.db'}"}
    uri = uris.get(name) or request.getfixturevalue("valkey").uri
    most = "1000000000/100 years"
    limits = dict.fromkeys((key for key in LIMIT_DEFAULTS), most)
    app = start(OTP_STORAGE_URI=uri, TESTING=True, OTP_COOLDOWN=0, **limits)
    app.extensions["otp"].store.prepare()
    with capture_codes(app) as codes:
        client = app.test_client()
        assert client.post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
        wrong = f"{(int(codes.code) + 1) % 10**6:06}"
        assert client.post("/otp/verify", json={"code": wrong}).status_code == 400
        assert client.post("/otp/verify", json={"code": codes.code}).status_code == 200
    app.extensions["otp"].store.close()


# Names


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("OTP_EXPIRE_IN", "OTP_EXPIRES_IN"),
        ("OTP_STORAGE_URL", "OTP_STORAGE_URI"),
        ("OTP_SMS_COUNTRY", "OTP_SMS_COUNTRIES"),
        ("OTP_ATTEMPTS", "OTP_MAX_ATTEMPTS"),
        ("OTP_IP_SEND_LIMITS", "OTP_IP_SEND_LIMIT"),
        ("OTP_PURPOSE", "OTP_PURPOSES"),
    ],
)
def test_a_misspelt_key_stops_the_app_with_the_nearest_name(misspelt: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"{misspelt}.*\b{meant}\b"):
        start(**{misspelt: 1})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("OTP_PUMPING_BREAKER", {"minimun": 5}, "has no 'minimun': did you mean minimum?"),
        ("OTP_PUMPING_BREAKER", {"x": 5}, "known are country_minimum, minimum, ratio, window"),
        ("OTP_PUMPING_BREAKER", {"window": "1y"}, r"\['window'\] must be a duration"),
        ("OTP_PUMPING_BREAKER", {"minimum": 101}, "'country_minimum' below its 'minimum'"),
        ("OTP_PREFIX_BUDGET", {"GB": "5/day"}, r"has 'GB', which is not a phone number prefix such as \"\+44\" \(see"),
        ("OTP_SMS_COUNTRIES", ["UK"], "'UK'.*the United Kingdom is 'GB'"),
        ("OTP_SMS_COUNTRIES", ["ZZ"], "'ZZ'.*ISO 3166"),
    ],
)
def test_what_is_wrong_with_phone_numbers_is_told_in_words(key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} .*{words}"):
        start(**{key: value})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("OTP_SMS_COUNTRIES", ["ZZ"], "has 'ZZ', which is not a country with its own phone numbers (see ISO 3166-1)"),
        ("OTP_PUMPING_BREAKER", {"minimun": 5}, "has no 'minimun': did you mean minimum?"),
        ("OTP_CSP", {"style-scr": []}, "has no 'style-scr': did you mean style-src?"),
        ("OTP_CODE_LENGTH", 4, "must be a whole number from 6 to 12, not 4"),
        ("OTP_HEALTH", "True", "must be True or False, in an environment variable true or false, not 'True'"),
        ("OTP_HEALTH", 1, "must be True or False, not 1"),
        (
            "OTP_TRUSTED_ORIGINS",
            ["*"],
            'must be a list of exact origins such as ("https://app.example.com", "capacitor://localhost"), '
            "without a path or a wildcard, not ['*']",
        ),
    ],
)
def test_a_wrong_value_is_told_once(key: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        start(**{key: value})
    assert caught.value.args == (f"{key} {words}",)


def test_settings_from_the_environment_are_as_the_reference_says(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for variable, value in re.findall(r"`(FLASK_OTP_[A-Z_]+)='?([^'`]+)'?`", page):
        monkeypatch.setenv(variable, value)
    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, TESTING=True, OTP_BASE_URL="https://shop.example")
    app.config.from_prefixed_env()
    OTP(app)
    settings = app.extensions["otp"].settings
    assert (settings.purposes["login"].code_length, settings.purposes["login"].cooldown) == (8, 30)
    assert (settings.links, settings.sms_countries) == (True, {"DE", "FR"})


def test_a_key_that_is_near_to_nothing_stops_the_app_with_all_names() -> None:
    with pytest.raises(ConfigError) as caught:
        start(OTP_QQQQ=1)
    assert all(key in str(caught.value) for key in known_keys())


def test_keys_of_others_are_left_alone() -> None:
    start(MY_OTP_KEY=1, OTPX=2, otp_key=3, OT=4)


def test_keys_are_read_once() -> None:
    app = start()
    app.config["OTP_URL_PREFIX"] = "/elsewhere"
    app.config["OTP_CODE_LENGTH"] = 8
    with capture_codes(app):
        assert app.test_client().post("/otp/send", json={"identifier": ANN}).get_json()["code_length"] == 6


# Contradictions


def test_a_cooldown_longer_than_the_code_lives_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"OTP_COOLDOWN.*OTP_EXPIRES_IN"):
        start(OTP_COOLDOWN="2m", OTP_EXPIRES_IN="1m")
    start(OTP_COOLDOWN="1m", OTP_EXPIRES_IN="1m")


def test_the_same_holds_for_a_purpose() -> None:
    with pytest.raises(ConfigError, match="transfer"):
        start(OTP_COOLDOWN="2m", OTP_PURPOSES={"login": {}, "transfer": {"expires_in": "1m"}})


def test_two_kinds_of_tls_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"MAIL_USE_TLS.*MAIL_USE_SSL"):
        start(MAIL_SERVER="localhost", MAIL_USE_TLS=True, MAIL_USE_SSL=True)


# Purposes


@pytest.mark.parametrize("name", ["Login", "lo gin", "1st", "", "a" * 33, "log.in", "löschen", "a\n", "a/b"])
def test_a_purposes_name_is_plain(name: str) -> None:
    with pytest.raises(ConfigError, match="OTP_PURPOSES"):
        start(OTP_PURPOSES={"login": {}, name: {}})


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"code_lenght": 8}, r"code_lenght.*code_length"),
        ({"OTP_CODE_LENGTH": 8}, "OTP_CODE_LENGTH"),
        ({"storage_uri": "memory://"}, "storage_uri"),
        ({"name": "x"}, "name"),
        ({"code_length": 5}, "code_length"),
        ({"expires_in": "1h"}, "expires_in"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"verified_for": "25h"}, "verified_for"),
        ({"channels": "email"}, "channels"),
        ({"channels": [1]}, "channels"),
        ({"failure_budget": None}, "failure_budget"),
        *(({"label": bad}, "label") for bad in ("", " ", "two\nlines", "x" * 61, 5, b"text", ["text"])),
        ({1: 2}, "1"),
    ],
)
def test_a_bad_override_stops_the_app_and_names_purpose_and_key(overrides: dict[Any, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"OTP_PURPOSES\['transfer'\].*{told}"):
        start(OTP_PURPOSES={"login": {}, "transfer": overrides})


def test_signing_in_has_no_label() -> None:
    with pytest.raises(ConfigError, match=r"OTP_PURPOSES\['login'\]\['label'\]"):
        start(OTP_PURPOSES={"login": {"label": "The archive"}})


def test_overrides_lie_over_the_apps_own_values() -> None:
    purposes = settings(
        OTP_CODE_LENGTH=7,
        OTP_MAX_ATTEMPTS=3,
        OTP_PURPOSES={
            "login": {},
            "transfer": {"code_length": 8, "expires_in": "2m", "verified_for": "10m", "channels": ["email"]},
        },
    ).purposes
    login, transfer = purposes["login"], purposes["transfer"]
    assert (login.code_length, login.max_attempts, login.expires_in, login.verified_for) == (7, 3, 300, 43200)
    assert (transfer.code_length, transfer.max_attempts, transfer.expires_in, transfer.verified_for) == (8, 3, 120, 600)
    assert (login.channels, transfer.channels) == ((), ("email",))


def test_overrides_reach_the_codes() -> None:
    app = start(
        OTP_CHANNELS={"email": no_one}, OTP_PURPOSES={"login": {}, "pay": {"code_length": 9, "max_attempts": 1}}
    )
    with capture_codes(app) as sent:
        client = app.test_client()
        client.post("/otp/send", json={"identifier": ANN, "purpose": "pay"})
        assert len(sent.code) == 9
        assert client.post("/otp/verify", json={"code": "000000000", "purpose": "pay"}).status_code == 400
        assert client.post("/otp/verify", json={"code": sent.code, "purpose": "pay"}).status_code == 400


def test_without_any_purpose_the_app_does_not_start() -> None:
    with pytest.raises(ConfigError, match="OTP_PURPOSES"):
        start(OTP_PURPOSES={})


def test_an_app_without_the_login_purpose_serves_its_others() -> None:
    app = start(OTP_CHANNELS={"email": no_one}, OTP_PURPOSES={"transfer": {}})
    with capture_codes(app) as sent:
        client = app.test_client()
        client.post("/otp/send", json={"identifier": ANN, "purpose": "transfer"})
        assert client.post("/otp/verify", json={"code": sent.code}).get_json()["purpose"] == "transfer"
        assert client.get("/otp/").status_code == 400


def test_a_guard_for_an_unknown_purpose_stops_at_the_first_request() -> None:
    app = start()

    @app.get("/own")
    @otp_required(purpose="nosuch")
    def own() -> str:
        return ""

    with pytest.raises(ConfigError, match=r"own.*nosuch"):
        app.test_client().get("/own")


@pytest.mark.parametrize("password", ["p#ss", "p/ss", "p?ss"])
def test_a_password_that_ends_the_host_of_a_redis_uri_is_explained_and_not_told(password: str) -> None:
    with pytest.raises(ConfigError, match="write special characters of a password as %23") as caught:
        start(OTP_STORAGE_URI=f"redis://:{password}@localhost:6379")
    assert password not in str(caught.value)


# The secret


@pytest.mark.parametrize("secret", [None, "", b""])
@pytest.mark.parametrize("testing", [True, False])
def test_r41_without_a_secret_key_nothing_starts(secret: str | bytes | None, testing: bool) -> None:
    with pytest.raises(ConfigError, match=r"SECRET_KEY is not set before OTP\(app\): make one"):
        start(SECRET_KEY=secret, TESTING=testing)


@pytest.mark.parametrize("secret", [12345678901234567890, ["a good old secret of ours"], True])
def test_r41_a_secret_key_that_is_neither_text_nor_bytes_stops_the_app_and_is_not_told(secret: Any) -> None:
    """``FLASK_SECRET_KEY`` of digits alone is a number after ``from_prefixed_env``."""
    with pytest.raises(ConfigError, match="SECRET_KEY must be text or bytes") as caught:
        production(SECRET_KEY=secret)
    assert str(secret) not in str(caught.value)


@pytest.mark.parametrize("secret", ["x" * 15, b"x" * 15])
def test_r41_a_short_secret_key_is_for_debug_and_testing_only(secret: str | bytes) -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY") as caught:
        production(SECRET_KEY=secret)
    assert str(secret) not in str(caught.value)
    start(SECRET_KEY=secret)
    production(SECRET_KEY=secret, DEBUG=True)


@pytest.mark.parametrize("secret", ["x" * 16, b"x" * 16, "é" * 8])
def test_r41_sixteen_bytes_are_enough(secret: str | bytes) -> None:
    production(SECRET_KEY=secret)


@pytest.mark.parametrize("fallbacks", [[""], ["a good old secret of ours", ""], [None], "a secret, but not in a list"])
def test_r41_bad_fallbacks_stop_the_app(fallbacks: Any) -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY_FALLBACKS"):
        start(SECRET_KEY_FALLBACKS=fallbacks)


@pytest.mark.parametrize("fallbacks", [None, [], ["a good old secret of ours"], (b"a good old secret of ours",)])
def test_r41_good_fallbacks_are_taken(fallbacks: Any) -> None:
    start(SECRET_KEY_FALLBACKS=fallbacks)


# Stores and channels outside of debug and testing


@pytest.mark.parametrize(
    "uri", ["redis://:secret@localhost\n", " redis://:secret@localhost", "redis://:sec ret@localhost"]
)
def test_white_space_in_the_storage_uri_is_named_without_the_uri(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^OTP_STORAGE_URI must have no white space") as refused:
        start(OTP_STORAGE_URI=uri)
    assert "sec" not in str(refused.value)


def test_r40_without_a_storage_uri_production_is_warned() -> None:
    with pytest.warns(UserWarning, match="OTP_STORAGE_URI") as caught:
        production(OTP_STORAGE_URI=None)
    assert len(caught) == 1


@pytest.mark.parametrize("config", [{}, {"TESTING": False, "DEBUG": True}], ids=["testing", "debug"])
def test_r40_without_a_storage_uri_debug_and_testing_are_not_warned(config: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start(OTP_STORAGE_URI=None, **config)


def test_r52_production_is_warned_of_odds_above_the_bound() -> None:
    told = r"12\.3% a year \(1 in 8\), more than OTP_MAX_ANNUAL_RISK \(0\.001\)"
    with pytest.warns(UserWarning, match=told) as caught:
        production(OTP_FAILURE_BUDGET="15/hour")
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "config",
    [
        {"TESTING": False, "OTP_FAILURE_BUDGET": "15/hour", "OTP_MAX_ANNUAL_RISK": 0.2},
        {"TESTING": False, "OTP_FAILURE_BUDGET": "15/hour", "OTP_CODE_LENGTH": 9},
        {"TESTING": False, "OTP_FAILURE_BUDGET": "15/hour", "DEBUG": True},
        {"OTP_FAILURE_BUDGET": "15/hour"},
    ],
    ids=["bound", "digits", "debug", "testing"],
)
def test_r52_who_accepts_the_odds_is_not_warned(config: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start(**config)


def test_r40_who_names_the_memory_store_is_not_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        production()


@pytest.mark.parametrize("value", ["console", [no_one, "console"]], ids=["alone", "as the second"])
def test_r35_the_console_is_refused_outside_of_debug_and_testing(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"OTP_CHANNELS\['email'\].*console"):
        production(OTP_CHANNELS={"email": value})
    start(OTP_CHANNELS={"email": value})
    production(OTP_CHANNELS={"email": value}, DEBUG=True)


def channel_names(app: Flask) -> list[str]:
    state = app.extensions["otp"]
    return list(state.routing.channels_of(state.service.purpose("login")))


def test_the_default_channel_is_email_where_mail_is_configured_else_the_console_in_testing_only() -> None:
    assert channel_names(start()) == ["console"]
    assert channel_names(production()) == []
    assert channel_names(start(MAIL_SERVER="localhost")) == ["email"]
    assert channel_names(production(OTP_EMAIL_SERVICE="gmail")) == ["email"]


def test_an_email_service_fills_in_only_what_is_not_set() -> None:
    app = start(OTP_EMAIL_SERVICE="gmail", MAIL_PORT=2525, MAIL_USERNAME="shop@gmail.com")
    assert app.config["MAIL_SERVER"] == "smtp.gmail.com"
    assert app.config["MAIL_PORT"] == 2525
    assert app.config["MAIL_USE_TLS"] is True
    assert app.config["MAIL_DEFAULT_SENDER"] == "shop@gmail.com"


# What an error may quote

SECRETIVE = [
    ("OTP_STORAGE_URI", "nosuch://user:s3cret@host/0"),
    ("OTP_STORAGE_URI", "redis:/user:s3cret@host/0"),
    ("OTP_STORAGE_URI", "redis//user:s3cret@host"),
    ("OTP_STORAGE_URI", "redis://user:s3cret word@host"),
    ("OTP_STORAGE_URI", "redis://:s3cret#x@host:6379/0"),
    ("OTP_STORAGE_URI", "redis://:s3cret/x@host:6379/0"),
    ("OTP_STORAGE_URI", "redis://:s3cret?x@host:6379/0"),
    ("OTP_STORAGE_URI", "memory://user:s3cret@host"),
    ("OTP_STORAGE_URI", b"redis://user:s3cret@host"),
    ("OTP_STORAGE_OPTIONS", "password=s3cret"),
    ("OTP_STORAGE_OPTIONS", [("password", "s3cret")]),
    ("OTP_STORAGE_OPTIONS", {"password": "s3cret"}),
    ("OTP_CHANNELS", "mailto://user:s3cret@example.com"),
    ("OTP_CHANNELS", {"email": "nosuch://user:s3cret@example.com"}),
]


@pytest.mark.parametrize(("key", "value"), SECRETIVE)
def test_r34_no_config_error_quotes_a_password(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        start(**{key: value})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


# One object and many apps


def test_a_second_otp_on_one_app_is_refused() -> None:
    app = start()
    with pytest.raises(ConfigError, match="already"):
        OTP(app)
    other = OTP()
    with pytest.raises(ConfigError, match="already"):
        other.init_app(app)


def test_the_same_otp_twice_on_one_app_is_refused() -> None:
    app, otp = bare_app(), OTP()
    otp.init_app(app)
    with pytest.raises(ConfigError, match="already"):
        otp.init_app(app)


def test_after_a_failed_start_the_app_can_be_set_up_right() -> None:
    app = bare_app(OTP_CODE_LENGTH=3)
    with pytest.raises(ConfigError):
        OTP(app)
    app.config["OTP_CODE_LENGTH"] = 8
    OTP(app)
    assert app.test_client().get("/otp/").status_code == 200


def test_apps_that_share_one_otp_keep_their_own_settings_codes_and_proofs() -> None:
    otp = OTP()
    first = bare_app(OTP_CODE_LENGTH=7, OTP_SITE_NAME="First", OTP_CHANNELS={"email": no_one})
    second = bare_app(
        OTP_CODE_LENGTH=9, OTP_URL_PREFIX="/codes", OTP_SITE_NAME="Second", OTP_CHANNELS={"email": no_one}
    )
    for app in (first, second):
        otp.init_app(app)
        app.add_url_rule("/own", "own", otp_required(lambda: "private"))
    with capture_codes(first) as firsts, capture_codes(second) as seconds:
        one, two = first.test_client(), second.test_client()
        handle = one.post("/otp/send", json={"identifier": ANN}).get_json()["challenge"]
        assert two.post("/otp/send", json={"identifier": ANN}).status_code == 404
        assert two.post("/codes/send", json={"identifier": ANN}).status_code == 200
        assert (len(firsts.code), len(seconds.code)) == (7, 9)
        assert (firsts[0].site_name, seconds[0].site_name) == ("First", "Second")
        assert two.post("/codes/verify", json={"code": firsts.code, "challenge": handle}).status_code == 400
        proof = one.post("/otp/verify", json={"code": firsts.code}).get_json()["proof"]
    bearer = {"Authorization": f"Bearer {proof}"}
    assert first.test_client().get("/own", headers=bearer).status_code == 200
    assert second.test_client().get("/own", headers=bearer).status_code == 401


def test_the_config_is_not_changed_by_reading_it() -> None:
    purposes = {"login": {"code_length": 8}}
    app = start(OTP_PURPOSES=purposes, OTP_CHANNELS={"email": no_one})
    assert app.config["OTP_PURPOSES"] == {"login": {"code_length": 8}}
    purposes["login"]["code_length"] = 6
    assert app.extensions["otp"].service.purpose("login").code_length == 8


@pytest.mark.parametrize("key", ["DEBUG", "TESTING"])
def test_text_that_flask_takes_for_yes_stops_the_app(key: str) -> None:
    """``TESTING=False`` from the environment would let codes be printed, and short secrets pass."""
    app = Flask("site")
    app.config.update(SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://", **{key: "False"})
    with pytest.raises(ConfigError, match=f"^{key} must be True or False, not text such as 'False'"):
        OTP(app)
