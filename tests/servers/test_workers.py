"""Real servers that fork, preload and change the standard library under us: gunicorn with gevent, and uWSGI."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.apps import ValkeyServer
from tests.support.examples import at_night
from tests.support.web_server import GUNICORN, WebServer

pytestmark = pytest.mark.server

#: What an operator's module has: the app is made, and used once, before anything forks.
APP = """
import os, time, warnings
from flask import Flask
from flask_otp import OTP

app = Flask("site")
app.config.update(SECRET_KEY="x" * 32, OTP_STORAGE_URI=os.environ["URI"], OTP_DELIVERY="background", OTP_HEALTH=True)
app.config.update(OTP_IP_SEND_LIMIT=None, OTP_STORAGE_OPTIONS=dict(socket_timeout=5, socket_connect_timeout=5))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    otp = OTP(app)

@otp.channel("email")
def mail(message):
    time.sleep(5 if message.recipient.startswith("held") else 1 if message.recipient.startswith("slow") else 0.05)
    with open(os.environ["SENT"], "a") as file:
        file.write(f"{os.getpid()} {message.recipient}\\n")

if os.environ.get("USED_BEFORE"):
    with app.app_context():
        otp.send("parent@example.com")
        app.extensions["otp"].check_health()
        app.extensions["otp"].delivery._background.wait(10)
if os.environ.get("UNDER_WAY"):
    with app.app_context():
        otp.send("held@example.com")
"""


class Site(WebServer):
    """One server with the app, on a port of its own."""

    def __init__(self, directory: Path, uri: str, command: Sequence[str], **environment: str) -> None:
        (directory / "site_app.py").write_text(APP)
        self.sent_path = directory / "sent"
        self.sent_path.touch()
        super().__init__(command, directory, URI=uri, SENT=str(self.sent_path), **environment)
        assert self._ask("GET", "/otp/health") == 204, self.log_path.read_text()

    def send(self, name: str) -> int:
        body = json.dumps({"email": f"{name}@example.com"})
        return self._ask("POST", "/otp/send", body, {"Content-Type": "application/json"})

    def _ask(self, *request: object) -> int:
        with contextlib.closing(self.connect()) as connection:
            connection.request(*request)  # type: ignore[arg-type]
            return connection.getresponse().status

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Process ids and recipients."""
        return [(pid, who) for pid, who in map(str.split, self.sent_path.read_text().splitlines())]

    def recipients(self, name: str) -> list[str]:
        """Of the messages that went out, those whose names begin so."""
        return [who for _, who in self.sent if who.startswith(name)]

    def wait_for(self, number: int, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while len(self.sent) < number:
            assert time.monotonic() < deadline, (self.sent, self.log_path.read_text()[-3000:])
            time.sleep(0.05)


PRELOADED = [*GUNICORN, "--preload", "site_app:app"]
UWSGI = [
    str(shutil.which("uwsgi", path=str(Path(sys.executable).parent))),
    "--http-socket",
    "127.0.0.1:{port}",
    "--master",
]
UWSGI += ["--module", "site_app:app", "--need-app", "--die-on-term"]
SERVERS = {
    "gunicorn, gevent": [*PRELOADED, "-w", "2", "-k", "gevent"],
    "gunicorn, sync": [*PRELOADED, "-w", "2"],
    "gunicorn, threads": [*PRELOADED, "-w", "2", "--threads", "4"],
    "uwsgi, enable-threads": [*UWSGI, "-p", "4", "--enable-threads"],
    "uwsgi, threads": [*UWSGI, "-p", "2", "--threads", "4"],
}


@pytest.fixture
def sites(tmp_path: Path, valkey: ValkeyServer) -> Iterator[type[Site]]:
    made: list[Site] = []

    def start(command: Sequence[str], **environment: str) -> Site:
        if not Path(command[0]).exists():
            pytest.skip("no uwsgi: pip install pyuwsgi")
        made.append(Site(tmp_path, valkey.uri, command, **environment))
        return made[-1]

    yield start  # type: ignore[misc]
    for site in made:
        site.close()


def send_to_many(site: Site, number: int) -> None:
    """From several threads at once. Each gets one message."""
    before = len(site.sent)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: site.send(f"user{n}"), range(number))) == [200] * number
    site.wait_for(number + before)
    assert len(set(site.recipients("user"))) == len(site.recipients("user")) == number


def end_with_messages_under_way(site: Site) -> float:
    """They go out first. How long it took to end."""
    assert [site.send(f"slow{n}") for n in range(4)] == [200] * 4
    time.sleep(0.3)  # uWSGI runs nothing at the end of a worker that has not yet finished a request
    seconds = site.stop(signal.SIGTERM, 30)
    assert sorted(site.recipients("slow")) == [f"slow{n}@example.com" for n in range(4)]
    return seconds


@pytest.mark.parametrize("used_before", ["1", *at_night("")], ids=["used before the fork", ""])
@pytest.mark.parametrize("server", [name for name in SERVERS if "gunicorn" in name])
def test_workers_of_gunicorn_send_every_message_also_those_under_way_at_sigterm(
    sites: type[Site], server: str, used_before: str
) -> None:
    """They fork after the app was made, and perhaps used."""
    site = sites(SERVERS[server], USED_BEFORE=used_before)  # type: ignore[call-arg, arg-type]
    send_to_many(site, 24)
    assert len(site.recipients("parent")) == bool(used_before)
    end_with_messages_under_way(site)


@pytest.mark.parametrize("used_before", ["", *at_night("1")], ids=["", "used before the fork"])
@pytest.mark.parametrize("server", [name for name in SERVERS if "uwsgi" in name])
def test_workers_of_uwsgi_share_no_connection_and_end_soon_at_sigterm_when_all_is_sent(
    sites: type[Site], server: str, used_before: str
) -> None:
    """Its ``fork`` calls no hooks of Python's. A connection that two processes share gives one the other's answer."""
    site = sites(SERVERS[server], USED_BEFORE=used_before)  # type: ignore[call-arg, arg-type]
    send_to_many(site, 60)
    assert len(site.recipients("parent")) == bool(used_before)
    assert len({pid for pid, who in site.sent if who.startswith("user")}) > 1
    assert end_with_messages_under_way(site) < 15


@pytest.mark.parametrize("server", ["uwsgi, enable-threads", *at_night("uwsgi, threads")])
def test_uwsgi_forks_beside_no_thread_that_delivers(sites: type[Site], server: str) -> None:
    """A worker that is forked beside one never ends, or never starts."""
    site = sites(SERVERS[server], UNDER_WAY="1")  # type: ignore[call-arg, arg-type]
    send_to_many(site, 8)
    assert end_with_messages_under_way(site) < 15
    assert site.recipients("held") == ["held@example.com"]


def test_uwsgi_without_threads_says_that_deliveries_are_lost(sites: type[Site]) -> None:
    site = sites([*UWSGI, "-p", "1"])  # type: ignore[call-arg, arg-type]
    assert site.send("ann") == 200
    assert "may be lost: uWSGI runs no application threads" in site.log_path.read_text()
