"""The aids that apps' own tests use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, current_verification, otp_required
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
    with pytest.raises(AssertionError, match="carol"):
        outbox.code_for("carol@example.com")


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
    assert state.delivery.intercept is None


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
