"""``flask otp config``: every setting, where it is from, and nothing secret or personal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, Message, WebhookChannel
from flask_otp.config.settings import Purpose, Settings, keys, known_keys
from flask_otp.support import configuration
from tests.support.apps import SECRET

SECRETS = ("hunter2", "geheim", "402817", "ann@", "ann:", "bob", "4915112345678", "15550100", SECRET)
DOCS = Path(__file__).parents[2] / "docs"


def site(**config: Any) -> Flask:
    app = Flask("site")
    app.config.update({"SECRET_KEY": SECRET, "OTP_STORAGE_URI": "memory://"} | config)
    OTP(app)
    return app


def run(app: Flask, *args: str) -> str:
    result = app.test_cli_runner().invoke(args=["otp", "config", *args])
    assert result.exit_code == 0, result.output
    return result.output


def rows(app: Flask, *args: str) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(row["key"], row["purpose"]): row for row in json.loads(run(app, "--json", *args))}


def token() -> str:
    return "hunter2"


FULL: dict[str, Any] = {
    "SECRET_KEY_FALLBACKS": ["hunter2 hunter2 hunter2"],
    "OTP_STORAGE_URI": "redis://ann:hunter2@cache.example:6379/0?password=geheim",
    "OTP_STORAGE_OPTIONS": {"password": "hunter2", "client_name": "geheim"},
    "OTP_CHANNELS": {
        "email": "email",
        "sms": [
            WebhookChannel("https://example.com/hunter2", secret="hunter2 hunter2 hunter2 hunter2"),
            lambda message: None,
        ],
    },
    "OTP_TEST_RECIPIENTS": {"+15550100": ("402817", "2099-01-31"), "ann@example.com": ("402817", "2099-01-31")},
    "OTP_DELIVER_ONLY_TO": ("bob@example.com", "+4915112345678"),
    "OTP_EMAIL_REPLY_TO": "ann@example.com",
    "OTP_EMAIL_OAUTH": token,
    "OTP_EMAIL_SERVICE": "gmail",
    "OTP_PREFIX_BUDGET": {"+49": "9/day", "+4915112345678": "1/day"},
    "MAIL_USERNAME": "ann@example.com",
    "MAIL_PASSWORD": "hunter2",
    "MAIL_DEFAULT_SENDER": ("Bob", "bob@example.com"),
}


@pytest.mark.filterwarnings("ignore:with these settings")
def test_r34_no_secret_and_no_address_of_a_full_configuration_is_shown() -> None:
    app = site(**FULL)
    for output in (run(app), run(app, "--json"), run(app, "--changed")):
        for secret in SECRETS:
            assert secret.lower() not in output.lower(), secret
    shown = rows(app)
    assert shown["OTP_STORAGE_URI", None]["value"] == "redis://***@cache.example:6379/0?***"
    assert shown["OTP_STORAGE_OPTIONS", None]["value"] == {"password": "***", "client_name": "***"}
    assert shown["OTP_CHANNELS", None]["value"] == {"email": "email", "sms": ["WebhookChannel", "a function"]}
    assert shown["OTP_TEST_RECIPIENTS", None]["value"] == "*** (2)"
    assert shown["OTP_EMAIL_OAUTH", None]["value"] == "token"
    assert shown["OTP_EMAIL_REPLY_TO", None]["value"] == "a***@example.com"
    assert shown["MAIL_DEFAULT_SENDER", None]["value"] == "b***@example.com"
    assert shown["SECRET_KEY", None]["value"] == "***"
    assert shown["SECRET_KEY_FALLBACKS", None]["value"] == "*** (1)"


@pytest.mark.parametrize("item", [item for item in (*keys(Purpose), *keys(Settings)) if item.metadata["secret"]])
def test_r34_a_setting_that_is_marked_as_secret_is_hidden_without_more_ado(
    item: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newly marked setting is hidden too, as long as no rule says how to show a part of it."""
    if item.name == "channels":
        return  # has a row of its own
    monkeypatch.setattr(configuration, "_SHOW", {})
    key = f"OTP_{item.name.upper()}"
    app = site(**{"OTP_STORAGE_URI": FULL["OTP_STORAGE_URI"], key: FULL[key]})
    assert rows(app)[key, None]["value"] == "***"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis+sentinel://:hunter2@a:1,b:2/service", "redis+sentinel://***@a:1,b:2/service"),
        ("rediss://[::1]:6379/0", "rediss://[::1]:6379/0"),
        ("valkey+unix:///run/valkey.sock?password=hunter2", "valkey+unix:///run/valkey.sock?***"),
        ("postgresql+psycopg://me:hunter2@db/otp", "postgresql+psycopg://***@db/otp"),
        ("sqlite:////var/lib/otp.db", "sqlite:////var/lib/otp.db"),
        # Where a password was not escaped, nothing is told apart with certainty.
        ("redis://:pa/hunter2@cache/0", "redis://***"),
        ("redis://:pa?hunter2@cache/0", "redis://***"),
        ("redis://:pa#hunter2@cache/0", "redis://***"),
        ("redis://:hunter2", "redis://***"),
        ("redis://me:hunter2", "redis://***"),
        ("redis://:a@hunter2@cache", "redis://***"),
        ("redis://cache/0?password=a@hunter2", "redis://***"),
        ("vault://hunter2/path", "vault://***"),
    ],
)
def test_r34_no_password_of_a_uri_is_shown(uri: str, shown: str) -> None:
    assert configuration._uri(uri) == shown
    assert "hunter2" not in configuration._uri(uri)


def test_every_setting_is_printed_with_its_default() -> None:
    shown = rows(site())
    assert {key for key, _ in shown if key.startswith("OTP_")} == set(known_keys())
    assert shown["OTP_CODE_LENGTH", None] == {
        "key": "OTP_CODE_LENGTH",
        "purpose": None,
        "value": 6,
        "default": 6,
        "source": "default",
        "changed": False,
    }
    # It is set, to what it would be anyway.
    assert (shown["OTP_STORAGE_URI", None]["source"], shown["OTP_STORAGE_URI", None]["changed"]) == (
        "app.config",
        False,
    )


def test_each_value_says_where_it_is_from() -> None:
    app = site(
        OTP_CODE_LENGTH=8,
        OTP_EXPIRES_IN=300,
        OTP_PURPOSES={"login": {}, "transfer": {"code_length": 10, "channels": ["email"]}},
        OTP_EMAIL_SERVICE="fastmail",
        MAIL_USERNAME="shop@example.com",
        MAIL_PORT=4650,
    )
    shown = rows(app)
    told = {key: (row["value"], row["source"]) for key, row in shown.items()}
    assert told["OTP_CODE_LENGTH", None] == (8, "app.config")
    assert told["OTP_CODE_LENGTH", "transfer"] == (10, "OTP_PURPOSES")
    assert told["OTP_PURPOSES", "transfer"] == ({"channels": ["email"]}, "OTP_PURPOSES")
    assert told["OTP_EXPIRES_IN", None] == (300, "app.config")
    assert told["OTP_CHANNELS", None] == ({"email": "email"}, "default")
    assert told["MAIL_SERVER", None] == ("smtp.fastmail.com", "OTP_EMAIL_SERVICE")
    assert told["MAIL_PORT", None] == (4650, "app.config")
    assert told["MAIL_DEFAULT_SENDER", None] == ("s***@example.com", "MAIL_USERNAME")
    changed = rows(app, "--changed")
    assert changed.keys() == {key for key, row in shown.items() if row["changed"]}
    assert ("OTP_EXPIRES_IN", None) not in changed  # "5m", in other words
    assert ("OTP_CODE_LENGTH", "transfer") in changed


def test_a_key_that_is_set_too_late_is_told() -> None:
    app = site()
    app.config.update(OTP_SITE_NAME="Shop", OTP_TOTP_STEPS="many")
    shown = rows(app)
    assert shown["OTP_SITE_NAME", None]["source"] == "app.config, set too late: not in use"
    assert shown["OTP_TOTP_STEPS", None]["source"] == "app.config, set too late: not in use"


def test_the_apps_own_channels_are_named() -> None:
    app, otp = Flask("site"), OTP()
    app.config.update(SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")

    @otp.channel("sms")
    def send_sms(message: Message) -> None: ...

    otp.init_app(app)
    row = rows(app)["OTP_CHANNELS", None]
    assert (row["value"], row["source"]) == ({"sms": "a function"}, "@otp.channel")


def test_the_columns_are_aligned_and_the_page_shows_them_so() -> None:
    app = site(
        OTP_CODE_LENGTH=8,
        OTP_PURPOSES={"login": {}, "transfer": {"code_length": 10}},
        OTP_STORAGE_URI="redis://:hunter2@cache.example:6379/0",
        OTP_EMAIL_SERVICE="gmail",
    )
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    example = page.partition("$ flask otp config --changed\n")[2].partition("```")[0]
    lines = run(app, "--changed").splitlines()
    assert [line for line in lines if not line.startswith("MAIL_")] == [
        line for line in example.splitlines() if not line.startswith("MAIL_")
    ]
    assert set(example.splitlines()) <= set(lines)
    columns = {re.search(r"(app\.config|OTP_PURPOSES|OTP_EMAIL_SERVICE)( |$)", line[20:]).start() for line in lines}  # type: ignore[union-attr]
    assert len(columns) == 1
