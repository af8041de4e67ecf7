"""The aids that apps' own tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request, session
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user

from flask_otp import OTP, Message, current_verification, otp_required
from flask_otp.errors import ConfigError
from flask_otp.testing import Clock, OTPClient, Outbox, capture_codes, set_clock


@pytest.fixture
def site(make_app: Any) -> Flask:
    app: Flask = make_app(
        OTP_PURPOSES={"login": {}, "transfer": {"verified_for": "2m"}},
    )
    app.test_client_class = OTPClient
    app.add_url_rule("/account", "account", otp_required(lambda: current_verification.identifier))
    app.add_url_rule("/transfer", "transfer", otp_required(purpose="transfer")(lambda: "done"))
    return app


def test_a_client_starts_verified(site: Flask) -> None:
    client = site.test_client(verified="Ann@Example.com")
    assert client.get("/account").text == "ann@example.com"
    assert client.get("/transfer").status_code == 401
    assert site.test_client(verified="ann@example.com", purpose="transfer").get("/transfer").text == "done"
    assert site.test_client().get("/account").status_code == 401


def test_its_verification_is_a_real_one(site: Flask) -> None:
    client = site.test_client(verified="ann@example.com")
    client.post("/otp/logout")
    assert client.get("/account").status_code == 401


def test_its_verification_is_of_a_context(make_app: Any) -> None:
    app = make_app()
    app.test_client_class = OTPClient
    guard = otp_required(context=lambda: {"amount": int(request.args["amount"])})
    app.add_url_rule("/pay", "pay", guard(lambda: "paid"))
    client = app.test_client(verified="ann@example.com", context={"amount": 5})
    assert [client.get(f"/pay?amount={amount}").status_code for amount in (5, 6)] == [200, 401]


@pytest.fixture
def club(make_app: Any) -> Flask:
    """Members sign in by a code, or by a password and then a code."""
    otp = OTP()
    app: Flask = make_app(otp)
    app.test_client_class = OTPClient
    login = LoginManager(app)
    login.session_protection = "strong"
    login.user_loader(Member)
    otp.verified_handler(lambda verification: login_user(Member(verification.identifier)) and None)
    app.add_url_rule("/me", "me", login_required(lambda: current_user.get_id()))
    app.add_url_rule("/count", "count", lambda: str(session.setdefault("count", 0)))
    return app


class Member(UserMixin):
    def __init__(self, email: str) -> None:
        self.id = email


def test_a_client_is_signed_in_by_the_apps_own_handler(club: Flask) -> None:
    client = club.test_client(verified="ann@example.com")
    assert client.get("/me").text == "ann@example.com"
    assert club.test_client().get("/me").status_code == 401


def test_a_client_may_have_a_password_alone_or_both(club: Flask, make_app: Any) -> None:
    assert club.test_client(user=Member("ann@example.com")).get("/me").text == "ann@example.com"
    otp = OTP()
    otp.identifier_loader(lambda: current_user.get_id())
    app = make_app(otp)
    LoginManager(app).user_loader(Member)
    app.test_client_class = OTPClient
    app.add_url_rule("/account", "account", otp_required(lambda: "in"))
    ann = Member("ann@example.com")
    assert app.test_client(user=ann).get("/account").status_code == 401
    assert app.test_client(user=ann, verified="bob@example.com").get("/account").status_code == 401
    assert app.test_client(user=ann, verified="ann@example.com").get("/account").text == "in"


def test_many_clients_of_one_person_meet_no_limit(site: Flask) -> None:
    for _ in range(60):
        assert site.test_client(verified="ann@example.com").get("/account").status_code == 200


def test_a_verified_client_takes_no_message_from_the_persons_limits(site: Flask) -> None:
    for _ in range(60):
        site.test_client(verified="ann@example.com")
    with capture_codes(site) as outbox:
        assert site.test_client().post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
    assert len(outbox) == 1


def test_the_clock_is_set_by_hand(site: Flask) -> None:
    clock = Clock(1_800_000_000)
    set_clock(site, clock)
    client = site.test_client(verified="ann@example.com", purpose="transfer")
    clock.advance("119s")
    assert client.get("/transfer").status_code == 200
    clock.advance(1)
    assert client.get("/transfer").status_code == 401


def test_codes_are_captured_and_channels_come_back(site: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    with capture_codes(site) as outbox:
        site.test_client().post("/otp/send", json={"email": "ann@example.com"})
        site.test_client().post("/otp/send", json={"email": "bob@example.com"})
    assert [message.recipient for message in outbox] == ["ann@example.com", "bob@example.com"]
    assert outbox.code == outbox.code_for("bob@example.com") != outbox.code_for("ann@example.com")
    assert capsys.readouterr().err == ""
    site.test_client().post("/otp/send", json={"email": "eve@example.com"})
    assert "eve@example.com" in capsys.readouterr().err
    with pytest.raises(AssertionError, match=r"to Ann@example\.com, but to ann@example\.com, bob@"):
        outbox.code_for("Ann@example.com")
    with pytest.raises(AssertionError, match=r"to carol@example\.com, but to nobody"):
        Outbox().code_for("carol@example.com")


def test_an_app_without_an_otp_is_named() -> None:
    app = Flask("shop")
    app.testing = True
    with pytest.raises(ConfigError, match="flask_otp is not set up on app 'shop'"):
        set_clock(app, Clock())


@pytest.mark.parametrize("mode", ["inline", "background", "loader", "queue", "worker"])
def test_codes_are_captured_at_once_however_messages_are_delivered(make_app: Any, mode: str) -> None:
    otp, sent, queued = OTP(), list[Message](), list[dict[str, str]]()
    otp.channel("email")(sent.append)
    if mode == "loader":
        otp.recipient_loader(lambda identifier, channel: identifier if identifier != "nobody@example.com" else None)
    if mode in ("queue", "worker"):
        otp.dispatcher(queued.append if mode == "queue" else otp.deliver)
    app = make_app(otp, OTP_DELIVERY="background" if mode == "background" else "auto")
    with capture_codes(app) as outbox:
        client = app.test_client()
        client.post("/otp/send", json={"email": "ann@example.com"})
        assert [message.recipient for message in outbox] == ["ann@example.com"]
        assert client.post("/otp/verify", json={"code": outbox.code}).status_code == 200
        app.test_client().post("/otp/send", json={"email": "nobody@example.com"})
        assert len(outbox) == (1 if mode == "loader" else 2)
    app.extensions["otp"].delivery._background.wait(10)
    with app.app_context():
        for payload in queued:  # a worker that comes to it after the test
            otp.deliver(payload)
    assert sent == []


@pytest.mark.parametrize("use", [lambda app: capture_codes(app).__enter__(), lambda app: set_clock(app, Clock())])
def test_they_refuse_to_work_in_production(use: Any) -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://")
    OTP(app)
    with pytest.raises(RuntimeError, match="testing"):
        use(app)
    app.test_client_class = OTPClient
    with pytest.raises(RuntimeError, match="testing"):
        app.test_client(verified="ann@example.com")


# As fixtures


@pytest.fixture
def app(site: Flask) -> Iterator[Flask]:
    """Checks that the fixtures, which come after it and so end before it, leave nothing behind."""
    state = site.extensions["otp"]
    before = state.clock
    yield site
    assert state.clock is before
    assert state.delivery.transport.intercept is None


def test_fixtures_capture_codes_and_set_the_clock(app: Flask, otp_codes: Outbox, otp_clock: Clock) -> None:
    client = app.test_client()
    for advance, status in (("299s", 200), ("300s", 400)):
        client.post("/otp/send", json={"email": f"{advance}@example.com"})
        otp_clock.advance(advance)
        assert client.post("/otp/verify", json={"code": otp_codes.code}).status_code == status


def test_a_fixture_makes_verified_clients(app: Flask, otp_client: Callable[..., OTPClient]) -> None:
    app.test_client_class = None
    assert otp_client("ann@example.com").get("/account").text == "ann@example.com"
    assert otp_client("bob@example.com", purpose="transfer").get("/transfer").text == "done"
    assert otp_client("bob@example.com").get("/transfer").status_code == 401
