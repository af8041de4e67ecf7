"""What ``flask otp show`` prints in the situations of ``docs/operate/support.md``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, InvalidCode, Message, RateLimited
from flask_otp.testing import Clock
from tests.support.apps import AppFactory

PAGE = Path(__file__).parents[2] / "docs" / "operate" / "support.md"
#: 2026-11-26 14:13:20 UTC
NOON = 1_795_702_400
ANN = "ann@example.com"


class Desk:
    """A site, its people, and the support that looks at it from another process."""

    def __init__(self, make_app: AppFactory, uri: str, **config: Any) -> None:
        self.clock, self.sent = Clock(NOON), list[Message]()
        self.otp = OTP(clock=self.clock)
        self.otp.channel("email")(self.sent.append)
        self.otp.recipient_loader(lambda who, channel: None if who.startswith("nobody") else who)
        self.app: Flask = make_app(self.otp, OTP_STORAGE_URI=uri, OTP_DELIVERY="inline", **config)

    def ask(self, networks: list[str], wait: int = 30) -> None:
        for network in networks:
            base = {"REMOTE_ADDR": network}
            client = self.app.test_client()
            assert client.post("/otp/send", json={"email": ANN}, environ_base=base).status_code in (200, 429)
            self.clock.advance(wait)

    def guess(self, times: int) -> None:
        with self.app.app_context():
            for number in range(times):
                if number % 5 == 0:
                    self.clock.advance("1d")
                    handle = self.otp.send(ANN).handle
                with pytest.raises((InvalidCode, RateLimited)):
                    self.otp.verify("000000" if self.sent[-1].code != "000000" else "111111", challenge=handle)

    def run(self, command: str) -> str:
        return self.app.test_cli_runner().invoke(args=command.split()[1:]).output


def nothing(desk: Desk) -> None:
    pass


def one_network(desk: Desk) -> None:
    desk.ask(["192.0.2.1"] * 6, wait=100)


def many_networks(desk: Desk) -> None:
    desk.ask(["192.0.2.1", "198.51.100.7", "203.0.113.9", "2001:db8::1"] * 5)
    desk.clock.advance("5m")


def guessed(desk: Desk) -> None:
    desk.guess(20)
    desk.clock.advance("1h")


#: By the heading on the page.
SITUATIONS: dict[str, tuple[Callable[[Desk], None], dict[str, Any]]] = {
    "Nothing is in the way": (nothing, {}),
    "They have pressed the button too often": (one_network, {}),
    "An attacker asks from many networks": (many_networks, {}),
    "An attacker has guessed": (guessed, {}),
    "There is no such account": (nothing, {}),
    "This is a test environment": (nothing, {"OTP_DELIVER_ONLY_TO": ("@shop.example",)}),
}


def blocks() -> dict[str, tuple[str, str]]:
    """Of each situation, the command and what it prints."""
    section = PAGE.read_text("utf-8").partition("## Six situations\n")[2].partition("\n## ")[0]
    found = re.findall(r"^### (.*?)\n.*?```console\n\$ flask (.*?)\n(.*?)```", section, re.DOTALL | re.MULTILINE)
    return {heading: (command, output) for heading, command, output in found}


def test_the_page_has_six_situations() -> None:
    assert len(SITUATIONS) == 6
    assert list(blocks()) == list(SITUATIONS)


@pytest.mark.parametrize("heading", SITUATIONS)
def test_the_page_shows_what_is_printed(make_app: AppFactory, tmp_path: Path, heading: str) -> None:
    happen, config = SITUATIONS[heading]
    desk = Desk(make_app, f"sqlite:///{tmp_path / 'otp.db'}", **config)
    happen(desk)
    command, output = blocks()[heading]
    assert desk.run(f"flask {command}") == output
