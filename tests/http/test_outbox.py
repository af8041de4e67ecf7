"""``OTP_OUTBOX``: the developer's page with the messages, and that it is open to the developer alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_otp import OTP
from flask_otp.doctor import Level, examine, site_of
from flask_otp.testing import Clock
from tests.support.apps import AppFactory

ANN = "ann@example.com"
EVIL = "<script>alert(1)</script><p style='color:red'>Hello</p>"


@pytest.fixture
def site(make_app: AppFactory, clock: Clock) -> Flask:
    """An app that has sent one message with a script in it."""
    otp = OTP(clock=clock)
    otp.channel("email")(lambda message: None)
    otp.message_builder(lambda message: replace(message, subject="<b>Hi</b>", html=EVIL))
    app = make_app(otp, OTP_OUTBOX=True)
    send(app, ANN)
    return app


def send(app: Flask, address: str) -> None:
    assert app.test_client().post("/otp/send", json={"email": address}).status_code == 200


def status(app: Flask, path: str = "/otp/outbox", **options: Any) -> int:
    return app.test_client().get(path, **options).status_code


def frame(app: Flask) -> str:
    """The path of the newest message's HTML."""
    found = re.search(r'<iframe [^>]*sandbox [^>]*src="([^"]+)"', app.test_client().get("/otp/outbox").text)
    assert found is not None
    return found[1]


def test_it_shows_the_messages_and_the_newest_first(site: Flask) -> None:
    send(site, "bob@example.com")
    page = site.test_client().get("/otp/outbox")
    codes = [message.written_code for message in site.extensions["otp"].delivery.transport.outbox.messages()]
    assert len(codes) == 2
    assert page.text.index("bob@example.com") < page.text.index(ANN)
    for code in codes:
        assert code in page.text
    assert page.headers["Cache-Control"] == "no-store"


def test_a_script_in_a_mail_runs_nowhere(site: Flask) -> None:
    page = site.test_client().get("/otp/outbox")
    assert "<script>alert" not in page.text
    assert "&lt;b&gt;Hi" in page.text
    assert "frame-src 'self'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    mail = site.test_client().get(frame(site))
    assert mail.text == EVIL
    rules = dict(rule.strip().partition(" ")[::2] for rule in mail.headers["Content-Security-Policy"].split(";"))
    assert rules["sandbox"] == ""
    assert rules["default-src"] == rules["form-action"] == "'none'"
    assert "script-src" not in rules
    assert rules["frame-ancestors"] == "'self'"
    assert mail.headers["X-Content-Type-Options"] == "nosniff"
    assert (mail.headers["Referrer-Policy"], mail.headers["X-Frame-Options"]) == ("no-referrer", "SAMEORIGIN")
    assert mail.content_type == page.content_type == "text/html; charset=utf-8"
    assert status(site, "/otp/outbox/another") == 404


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"headers": {name: "127.0.0.1"}}
            for name in (
                "X-Forwarded-For",
                "X-Forwarded-Host",
                "Forwarded",
                "X-Real-IP",
                "Client-IP",
                "True-Client-IP",
                "CF-Connecting-IP",
                "Via",
            )
        ),
        *({"headers": {"Host": host}} for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "")),
        *({"headers": {"Host": host}} for host in ("localhost:80@evil.example", "127.0.0.2", "0.0.0.0:5000")),
        *({"environ_base": {"REMOTE_ADDR": peer}} for peer in ("192.168.0.7", "203.0.113.5", "2001:db8::1", "")),
        {"environ_base": {"REMOTE_ADDR": "::ffff:192.168.0.7"}},
        {"headers": {"Origin": "https://evil.example"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("trusts_proxy", [False, True])
def test_only_a_browser_on_this_machine_sees_it(site: Flask, options: dict[str, Any], trusts_proxy: bool) -> None:
    path = frame(site)
    if trusts_proxy:
        site.wsgi_app = ProxyFix(site.wsgi_app, x_for=1, x_host=1)  # type: ignore[method-assign]
    assert status(site, **options) == 404
    assert status(site, path, **options) == 404


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_this_machine_has_several_names(site: Flask, peer: str, host: str) -> None:
    assert status(site, environ_base={"REMOTE_ADDR": peer}, headers={"Host": host}) == 200


def test_another_middleware_cannot_make_a_stranger_local(site: Flask) -> None:
    """What the server received counts too, even if a middleware has removed the header that it has read."""
    inner = site.wsgi_app

    def forgetful(environ: Any, start_response: Any) -> Any:
        del environ["HTTP_X_FORWARDED_FOR"]
        return inner(environ, start_response)

    site.wsgi_app = ProxyFix(forgetful, x_for=1)  # type: ignore[method-assign]
    stranger = {"environ_base": {"REMOTE_ADDR": "203.0.113.5"}, "headers": {"X-Forwarded-For": "127.0.0.1"}}
    assert status(site, **stranger) == 404


def test_in_production_there_is_none_and_nothing_is_kept(site: Flask) -> None:
    path = frame(site)
    site.testing = False
    assert status(site) == status(site, path) == 404
    send(site, "bob@example.com")
    # app.run(debug=True) comes after the app was set up.
    site.debug = True
    page = site.test_client().get("/otp/outbox")
    assert page.status_code == 200
    assert "bob@example.com" not in page.text


def test_without_the_setting_there_is_none(make_app: AppFactory) -> None:
    app = make_app()
    send(app, ANN)
    assert status(app) == 404
    assert app.extensions["otp"].delivery.transport.outbox.messages() == []


def test_it_keeps_fifty_and_shows_no_message_that_was_not_sent(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(clock=clock)
    otp.recipient_loader(lambda identifier, channel: None if identifier.startswith("unknown") else identifier)
    app = make_app(
        otp, OTP_OUTBOX=True, OTP_DELIVERY="inline", OTP_DELIVER_ONLY_TO=["@example.org"], OTP_IP_SEND_LIMIT=None
    )
    for number in range(51):
        send(app, f"ann{number}@example.com")
    send(app, "unknown@example.com")
    kept = [message.recipient for message in app.extensions["otp"].delivery.transport.outbox.messages()]
    # Also the diverted ones, which a developer wants to read.
    assert kept == [f"ann{number}@example.com" for number in range(50, 0, -1)]


@pytest.mark.parametrize(
    ("base_url", "levels"),
    [("https://shop.example", [Level.WARNING]), ("https://localhost:5000", []), (None, [])],
)
def test_doctor_warns_where_the_site_looks_like_production(
    make_app: AppFactory, base_url: str | None, levels: list[Level]
) -> None:
    app = make_app(OTP_OUTBOX=True, OTP_BASE_URL=base_url)
    findings = examine(site_of(app, app.extensions["otp"], accounts=1))
    assert [finding.level for finding in findings if finding.check == "outbox"] == levels
