"""The rights that ``docs/operate/deployment.md`` names are enough for a user of Redis, and each of them is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import flask_otp
from flask_otp import OTP, Message
from flask_otp.errors import StoreUnavailable
from flask_otp.testing import Clock
from tests.support.apps import AppFactory, ValkeyServer

pytestmark = pytest.mark.server

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "deployment.md").read_text(encoding="utf-8")


def documented() -> list[str]:
    """The commands of the ``ACL SETUSER`` in the page."""
    (line,) = re.findall(r"^ACL SETUSER shop .*$", PAGE, re.MULTILINE)
    return re.findall(r" \+(\S+)", line)


def use(app: Flask, otp: OTP, sent: list[Message], clock: Clock) -> None:
    """All that needs the store.

    :raises StoreUnavailable: something could not be done.
    """
    with app.app_context():
        flask_otp.health(app)
        challenge = otp.send("ann@example.com")
        clock.advance(60)
        otp.resend(challenge.handle)
        with pytest.raises(flask_otp.InvalidCode):
            otp.verify("000000" if sent[0].code != "000000" else "000001", challenge=challenge.handle)
        otp.verify(sent[0].code, challenge=challenge.handle)
        otp.revoke("ann@example.com")
    client = app.test_client()
    for path, body in (("send", {"email": "bob@example.com"}), ("verify", {"code": None}), ("logout", {})):
        body = body if path != "verify" else {"code": sent[-1].code}
        if client.post(f"/otp/{path}", json=body).status_code == 503:
            raise StoreUnavailable
    # A wrong code from the browser that is known by now.
    client.post("/otp/send", json={"email": "bob@example.com"})
    wrong = "000000" if sent[-1].code != "000000" else "000001"
    if client.post("/otp/verify", json={"code": wrong}).status_code == 503:
        raise StoreUnavailable
    otp.channel("email")(lambda message: 1 / 0)
    client.post("/otp/send", json={"email": "eve@example.com"})  # given back
    otp.channel("email")(sent.append)


@pytest.fixture
def run(valkey: ValkeyServer, make_app: AppFactory, clock: Clock) -> Iterator[Callable[..., None]]:
    admin = valkey.client()

    def run(commands: list[str], rest: str = "") -> None:
        admin.flushall()
        admin.execute_command("SCRIPT", "FLUSH")
        admin.execute_command(
            "ACL", "SETUSER", "shop", "reset", "on", ">secret", "~otp:*", *[f"+{c}" for c in commands]
        )
        otp = OTP(clock=clock)
        sent: list[Message] = []
        otp.channel("email")(sent.append)
        app: Any = make_app(
            otp, OTP_STORAGE_URI=f"redis://shop:secret@127.0.0.1:{valkey.port}{rest}", OTP_PREFIX_BUDGET={}
        )
        use(app, otp, sent, clock)
        app.extensions["otp"].store.close()

    yield run
    admin.execute_command("ACL", "DELUSER", "shop")
    admin.close()


def test_the_rights_of_the_page_are_enough(run: Callable[..., None]) -> None:
    run(documented())


@pytest.mark.parametrize("command", documented())
def test_each_right_of_the_page_is_needed(run: Callable[..., None], command: str) -> None:
    with pytest.raises(StoreUnavailable):
        run([other for other in documented() if other != command])


@pytest.mark.parametrize(("rest", "right"), [("/1", "select"), ("?client_name=shop", "client|setname")])
def test_a_part_of_the_uri_may_need_a_right_that_the_page_names(
    run: Callable[..., None], rest: str, right: str
) -> None:
    assert f"`+{right}`" in PAGE
    with pytest.raises(StoreUnavailable):
        run(documented(), rest)
    run([*documented(), right], rest)
