"""From a challenge to a channel: at once, in the background, through a queue; and what is left when it fails."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, has_request_context
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, Channel, ConfigError, DeliveryFailed, Message, StoreUnavailable, signals
from flask_otp.crypto.codes import display
from flask_otp.testing import Clock
from tests.support.apps import SECRET, AppFactory, ValkeyServer
from tests.support.leaks import chain, layers
from tests.support.mail import serving
from tests.support.proxy import Proxy

ANN = "ann@example.com"
BOB = "bob@example.com"
PHONE = "+4915112345678"
NAMES = (
    "code_sent",
    "delivery_failed",
    "code_verified",
    "code_rejected",
    "budget_spent",
    "surge",
    "proof_revoked",
)


def post(client: FlaskClient, path: str, **body: str) -> TestResponse:
    return client.post(f"/otp/{path}", json=body)


def send(client: FlaskClient, email: str = ANN) -> TestResponse:
    return post(client, "send", email=email)


def reason(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.get_json() or {}).get("reason")


FAILED = (503, "delivery_failed")
LIMITED = (429, "rate_limited")


class Post:
    """A channel that keeps its messages, and fails while it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.in_requests: list[bool] = []
        self.error: Callable[[Message], Exception] | None = None
        self.delivered = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def __call__(self, message: Message) -> None:
        assert self.open.wait(20)
        self.messages.append(message)
        self.in_requests.append(has_request_context())
        self.delivered.release()
        if self.error is not None:
            raise self.error(message)

    def fails(self, message: Message) -> Exception:
        return OSError("no line")

    @property
    def code(self) -> str:
        return self.messages[-1].code

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.delivered.acquire(timeout=20)


@pytest.fixture
def letters() -> Post:
    return Post()


@pytest.fixture
def otp(clock: Clock, letters: Post) -> OTP:
    """With ``letters`` as its e-mail channel."""
    otp = OTP(clock=clock)
    otp.channel("email")(letters)
    return otp


Recorded = list[tuple[str, dict[str, Any]]]


@contextmanager
def recorded(app: Flask) -> Iterator[Recorded]:
    """Every signal of the app, in order."""
    seen: Recorded = []
    with ExitStack() as stack:
        for name in NAMES:

            def receive(sender: Any, /, name: str = name, **arguments: Any) -> None:
                assert sender is app
                assert arguments.pop("event").kind == name
                seen.append((name, arguments))

            stack.enter_context(getattr(signals, name).connected_to(receive, app))
        yield seen


# The console, and channels of the app's own


def test_the_console_prints_the_message_to_the_terminal_and_not_to_a_log(
    make_app: AppFactory, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_app(OTP_CHANNELS={"console": "console"}).test_client()
    assert send(client).status_code == 200
    out, err = capsys.readouterr()
    code = re.findall(r"^ +(\d{6})$", err, re.MULTILINE)[0]
    assert post(client, "verify", code=code).status_code == 200
    assert ANN in err
    assert out == ""
    assert code not in caplog.text


def test_r35_the_console_exists_in_debug_and_testing_only(make_app: AppFactory) -> None:
    with pytest.raises(ConfigError, match="console"):
        make_app(OTP_CHANNELS={"console": "console"}, TESTING=False)
    assert "console" in make_app(TESTING=False, DEBUG=True).test_client().post(
        "/otp/send", json={"email": ANN}
    ).get_data(as_text=True)


def test_without_any_channel_a_send_fails_and_the_log_says_what_to_set(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    assert reason(send(make_app(TESTING=False).test_client())) == FAILED
    assert "OTP_CHANNELS" in caplog.text


def test_a_decorated_function_is_a_channel_and_gets_one_message(app: Flask, make_app: AppFactory, clock: Clock) -> None:
    otp, got = OTP(clock=clock), []

    @otp.channel("pager")
    def page(message: Message) -> None:
        got.append(message)

    answer = send(make_app(otp, OTP_SITE_NAME="Shop").test_client())
    assert answer.get_json()["channel"] == "pager"
    [message] = got
    assert (message.channel, message.recipient, message.purpose) == ("pager", ANN, "login")
    assert (message.site_name, message.expires_in) == ("Shop", 300)
    assert message.code in message.text
    assert re.fullmatch(r"\d{6}", message.code)
    assert page.__name__ == "page"


class Pigeon(Channel):
    def __init__(self, accepts: str | None = None) -> None:
        self.accepts = accepts
        self.carried: list[Message] = []

    def deliver(self, message: Message) -> None:
        self.carried.append(message)


def test_a_channel_object_may_be_configured_and_chosen_by_name(make_app: AppFactory, letters: Post) -> None:
    pigeon = Pigeon()
    client = make_app(OTP_CHANNELS={"letter": letters, "pigeon": pigeon}).test_client()
    assert post(client, "send", email=ANN, channel="pigeon").get_json()["channel"] == "pigeon"
    assert [message.recipient for message in pigeon.carried] == [ANN]
    assert post(client, "send", email=BOB).get_json()["channel"] == "letter"
    assert len(letters.messages) == 1
    assert reason(post(client, "send", email=ANN, channel="owl")) == (400, "invalid_request")


def test_the_decorator_wins_over_the_configured_channel_of_the_same_name(
    make_app: AppFactory, otp: OTP, letters: Post
) -> None:
    pigeon = Pigeon()
    send(make_app(otp, OTP_CHANNELS={"email": pigeon}).test_client())
    assert (len(letters.messages), pigeon.carried) == (1, [])


@pytest.mark.parametrize(
    ("works", "tried", "status"),
    [
        ((True, True, True), 1, 200),
        ((False, True, True), 2, 200),
        ((False, False, True), 3, 200),
        ((False, False, False), 3, 503),
    ],
)
def test_a_ladder_is_climbed_in_order_until_one_step_holds(
    make_app: AppFactory, works: tuple[bool, ...], tried: int, status: int
) -> None:
    calls: list[tuple[int, str]] = []

    def step(number: int) -> Callable[[Message], None]:
        def take(message: Message) -> None:
            calls.append((number, message.code))
            if not works[number]:
                raise OSError("no line")

        return take

    app = make_app(OTP_CHANNELS={"email": [step(number) for number in range(3)]})
    with recorded(app) as seen:
        assert send(app.test_client()).status_code == status
    assert [number for number, _ in calls] == list(range(tried))
    assert len({code for _, code in calls}) == 1
    assert [name for name, _ in seen] == ["code_sent" if status == 200 else "delivery_failed"]


def test_a_step_that_takes_another_kind_of_address_is_passed_over(make_app: AppFactory) -> None:
    email, phone = Pigeon("email"), Pigeon("phone")
    client = make_app(OTP_CHANNELS={"any": [email, phone]}, OTP_SMS_COUNTRIES=["DE"]).test_client()
    assert post(client, "send", phone=PHONE).status_code == 200
    assert [message.recipient for message in phone.carried] == [PHONE]
    assert email.carried == []


# Saved before it is sent, and taken back when it was not


def test_the_challenge_is_in_the_store_before_the_message_goes_out(
    make_app: AppFactory, otp: OTP, valkey: ValkeyServer
) -> None:
    found: list[int] = []

    @otp.channel("email")
    def look(message: Message) -> None:
        found.append(len(client.keys("otp:{*")))

    with make_app(otp, OTP_STORAGE_URI=valkey.uri).app_context(), valkey.client() as client:
        assert client.dbsize() == 0
        otp.send(ANN)
    assert found == [1]


def test_r37_with_the_store_out_of_reach_nothing_is_sent(
    make_app: AppFactory, otp: OTP, letters: Post, tmp_path: Path
) -> None:
    app = make_app(otp, OTP_STORAGE_URI=ValkeyServer(tmp_path).uri)
    answer = send(app.test_client())
    assert reason(answer) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert letters.messages == []


def test_a_failed_delivery_is_503_and_its_challenge_is_gone(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock
) -> None:
    client = make_app(otp).test_client()
    letters.error = letters.fails
    answer = send(client)
    assert reason(answer) == FAILED
    assert "challenge" not in answer.get_json()
    assert reason(post(client, "verify", code=letters.code)) == (400, "challenge_required")
    letters.error = None
    clock.advance("30s")
    handle = send(client).get_json()["challenge"]
    # The same session would have got the same code again, had its challenge still been there.
    assert letters.messages[1].code != letters.messages[0].code
    old = post(client, "verify", code=letters.messages[0].code, challenge=handle)
    assert reason(old) == (400, "invalid_code")


def test_a_failed_delivery_gives_the_count_back_but_not_the_cooldown(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock
) -> None:
    app = make_app(otp, OTP_SEND_LIMIT="1/day", OTP_RECIPIENT_LIMIT="1/day")
    letters.error = letters.fails
    assert reason(send(app.test_client())) == FAILED
    assert reason(send(app.test_client())) == LIMITED
    clock.advance("30s")
    letters.error = None
    assert send(app.test_client()).status_code == 200
    clock.advance("30s")
    assert reason(send(app.test_client())) == LIMITED


def test_who_waits_as_long_as_a_failed_delivery_says_may_try_again(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock
) -> None:
    client = make_app(otp, OTP_COOLDOWN="2m").test_client()
    letters.error = letters.fails
    clock.advance(int(send(client).headers["Retry-After"]))
    letters.error = None
    assert send(client).status_code == 200


@pytest.mark.parametrize("path", ["send", "resend"])
def test_a_failed_resend_keeps_the_earlier_code_and_gives_its_count_back(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock, path: str
) -> None:
    client = make_app(otp, OTP_SEND_LIMIT="2/day").test_client()
    body = {"email": ANN} if path == "send" else {}
    send(client)
    clock.advance("30s")
    letters.error = letters.fails
    assert reason(post(client, path, **body)) == FAILED
    letters.error = None
    clock.advance("30s")
    assert post(client, path, **body).status_code == 200
    clock.advance("30s")
    assert reason(post(client, path, **body)) == LIMITED
    assert len({message.code for message in letters.messages}) == 1
    assert post(client, "verify", code=letters.code).status_code == 200


@pytest.mark.server
def test_a_failed_delivery_is_signalled_even_if_the_store_is_gone_by_then(
    make_app: AppFactory, otp: OTP, tmp_path: Path
) -> None:
    server = ValkeyServer(tmp_path)
    server.start()

    @otp.channel("email")
    def pull_the_plug(message: Message) -> None:
        server.stop()
        raise OSError("no line")

    app = make_app(otp, OTP_STORAGE_URI=server.uri)
    with recorded(app) as seen:
        assert send(app.test_client()).status_code == 503
    assert [name for name, _ in seen] == ["delivery_failed"]


def test_a_client_that_hears_of_a_failed_delivery_may_send_again_at_once(
    make_app: AppFactory, otp: OTP, letters: Post
) -> None:
    app = make_app(otp, OTP_COOLDOWN="0s", OTP_SEND_LIMIT="1/day")
    letters.error = letters.fails

    def hear(sender: Flask, **_: Any) -> None:
        letters.error = None
        otp.send(ANN)

    with signals.delivery_failed.connected_to(hear, app), app.app_context(), pytest.raises(DeliveryFailed):
        otp.send(ANN)
    assert len({message.code for message in letters.messages}) == 2


def test_a_failed_delivery_is_undone_although_a_receiver_breaks(make_app: AppFactory, otp: OTP, letters: Post) -> None:
    app = make_app(otp, OTP_COOLDOWN="0s", OTP_SEND_LIMIT="1/day")
    letters.error = letters.fails

    def hear(sender: Flask, **_: Any) -> None:
        raise LookupError

    with app.app_context():
        with signals.delivery_failed.connected_to(hear, app), pytest.raises(LookupError):
            otp.send(ANN)
        letters.error = None
        otp.send(ANN)


def test_a_before_send_that_breaks_leaves_nothing_behind(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock
) -> None:
    otp.before_send(lambda message: 1 / 0)
    app = make_app(otp, OTP_SEND_LIMIT="1/day")
    with app.app_context():
        with pytest.raises(DeliveryFailed):
            otp.send(ANN)
        otp.before_send(lambda message: None)
        clock.advance("30s")
        otp.send(ANN)
    assert len(letters.messages) == 1


# In the background


def test_a_request_does_not_wait_for_a_background_delivery(make_app: AppFactory, otp: OTP, letters: Post) -> None:
    client = make_app(otp, OTP_DELIVERY="background").test_client()
    letters.open.clear()
    assert send(client).status_code == 200
    assert letters.messages == []
    letters.open.set()
    letters.wait()
    assert post(client, "verify", code=letters.code).status_code == 200


@pytest.mark.parametrize(
    ("mode", "loader", "background"),
    [
        ("auto", False, False),
        ("auto", True, True),
        ("inline", True, False),
        ("background", False, True),
    ],
)
def test_r22_auto_is_background_where_a_loader_could_be_timed(
    make_app: AppFactory, otp: OTP, letters: Post, mode: str, loader: bool, background: bool
) -> None:
    if loader:
        otp.recipient_loader(lambda identifier, channel: identifier)
    send(make_app(otp, OTP_DELIVERY=mode).test_client())
    letters.wait()
    assert letters.in_requests == [not background]


def test_a_failed_background_delivery_is_signalled_and_its_code_is_dead(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(otp, OTP_DELIVERY="background", OTP_SEND_LIMIT="1/day")
    client, told = app.test_client(), threading.Event()

    def hear(sender: Flask, **arguments: Any) -> None:
        assert arguments.pop("event").outcome == "failed"
        assert arguments == {"identifier": ANN, "channel": "email", "purpose": "login"}
        told.set()

    letters.error = letters.fails
    with signals.delivery_failed.connected_to(hear, app):
        assert send(client).status_code == 200
        assert told.wait(20)
    assert "no line" in caplog.text
    assert reason(post(client, "verify", code=letters.code)) == (400, "invalid_code")
    letters.error = None
    clock.advance("30s")
    assert send(client).status_code == 200
    letters.wait(2)


def test_jobs_that_are_broken_off_altogether_block_no_later_delivery(
    make_app: AppFactory, otp: OTP, letters: Post
) -> None:
    app = make_app(otp, OTP_DELIVERY="background", OTP_IP_SEND_LIMIT=None)
    client, broken = app.test_client(), threading.Semaphore(0)

    def leave(sender: Flask, **arguments: Any) -> None:
        broken.release()
        raise SystemExit

    with signals.delivery_started.connected_to(leave, app):
        for number in range(8):
            assert send(client, f"user{number}@example.com").status_code == 200
            assert broken.acquire(timeout=20)
    assert send(client).status_code == 200
    letters.wait()
    assert app.extensions["otp"].delivery._background.wait(20)


def test_a_loader_that_is_broken_off_altogether_leaves_nothing_behind(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock
) -> None:
    breaks = [True]

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str:
        if breaks:
            raise SystemExit
        return identifier

    client = make_app(otp, OTP_SEND_LIMIT="1/day").test_client()
    with pytest.raises(SystemExit):
        send(client)
    breaks.clear()
    clock.advance("30s")
    assert send(client).status_code == 200


async def _late(*arguments: object) -> bool:
    """An ``async`` function behind a plain one: only its result shows what it is."""
    return False


class _AsyncPost(Channel):
    async def deliver(self, message: Message) -> None:  # type: ignore[override]
        """Its result would have to be awaited."""


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        (lambda otp: otp.channel("email")(lambda message: _late()), "channel 'email'"),
        (lambda otp: otp.channel("email")(_AsyncPost()), "channel 'email'"),
        (lambda otp: otp.dispatcher(lambda payload: _late()), "the dispatcher"),
        (lambda otp: otp.before_send(lambda message: _late()), "before_send"),
    ],
    ids=["function", "channel", "dispatcher", "before_send"],
)
def test_a_function_that_returns_a_coroutine_has_sent_nothing(
    make_app: AppFactory, otp: OTP, letters: Post, caplog: pytest.LogCaptureFixture, hook: Any, what: str
) -> None:
    hook(otp)
    assert reason(send(make_app(otp).test_client())) == (503, "delivery_failed")
    assert f"{what} returned a coroutine, which nobody awaits" in caplog.text
    assert letters.messages == []


def test_when_too_many_wait_the_next_message_is_sent_at_once(make_app: AppFactory, otp: OTP) -> None:
    here, free, done = ContextVar("here", default=False), threading.Event(), threading.Semaphore(0)
    here.set(True)
    inline: list[str] = []

    @otp.channel("email")
    def wait(message: Message) -> None:
        if here.get():
            inline.append(message.recipient)
        else:
            assert free.wait(60)
            done.release()

    queued = 0
    with make_app(otp, OTP_DELIVERY="background", OTP_CHANNEL_TIMEOUT="60s").app_context():
        while not inline and queued < 2000:
            otp.send(f"user{queued}@example.com")
            queued += 1
    free.set()
    assert inline == [f"user{queued - 1}@example.com"]
    for _ in range(queued - 1):
        assert done.acquire(timeout=20)


PROGRAM = """
import json, os, sys, time
from flask import Flask
from flask_otp import OTP

config, count, own = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "own"
app = Flask("site")
app.config.update(config)
otp = OTP(app)
if own:
    @otp.channel("email")
    def write(message):
        time.sleep(0.05)
        os.write(1, f"{message.recipient} ".encode())
with app.app_context():
    for number in range(count):
        otp.send(f"user{number}@example.com")
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


BACKGROUND = {"SECRET_KEY": SECRET, "OTP_STORAGE_URI": "memory://", "OTP_DELIVERY": "background"}


def test_what_still_waits_when_the_interpreter_ends_is_sent_first() -> None:
    printed = run(PROGRAM, json.dumps(BACKGROUND), "20", "own").split()
    assert sorted(printed) == sorted(f"user{number}@example.com" for number in range(20))


@pytest.mark.server
def test_mails_that_still_wait_when_the_interpreter_ends_are_sent_first() -> None:
    """Python 3.12 and later let no new thread start by then."""
    with serving() as inbox:
        mail = {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": inbox.port, "MAIL_DEFAULT_SENDER": "codes@shop.example"}
        printed = run(PROGRAM, json.dumps(BACKGROUND | mail), "20", "mail")
    assert "failed" not in printed
    assert len(inbox.envelopes) == 20


# Through the app's own queue


@pytest.fixture
def queue(otp: OTP) -> list[dict[str, str]]:
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    return payloads


def test_the_layers_of_a_token_are_seen_through() -> None:
    inner = base64.urlsafe_b64encode(zlib.compress(b"a secret")).decode()
    outer = base64.urlsafe_b64encode(json.dumps([inner]).encode()).decode()
    assert any(b"a secret" in layer for layer in layers(json.dumps({"x": outer + ".sig"})))


def test_r17_a_queued_payload_is_json_with_neither_code_nor_address(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post
) -> None:
    otp.recipient_loader(lambda identifier, channel: "private@example.net")
    app = make_app(otp)
    assert send(app.test_client()).status_code == 200
    [payload] = queue
    text = json.dumps(payload)
    assert json.loads(text) == payload
    with app.app_context():
        otp.deliver(payload)
    assert letters.messages[0].recipient == "private@example.net"
    seen = b"\n".join(layers(text))
    for secret in (letters.code, ANN, "ann", "private@example.net", "private"):
        assert secret.encode() not in seen


WORKER = """
import json, sys
from flask import Flask
from flask_otp import OTP

config, payload = json.loads(sys.argv[1]), json.loads(sys.argv[2])
app = Flask("site")
app.config.update(config)
otp = OTP(app)

@otp.channel("email")
def write(message):
    print(message.recipient, message.code, message.text.count(message.code))

with app.app_context():
    otp.deliver(payload)
"""


def test_another_process_derives_and_delivers_the_code_and_no_other_does_again(
    make_app: AppFactory, queue: list[dict[str, str]], letters: Post, valkey: ValkeyServer
) -> None:
    otp = OTP()
    otp.dispatcher(queue.append)
    otp.channel("email")(letters)
    config = {"SECRET_KEY": SECRET, "OTP_STORAGE_URI": valkey.uri, "OTP_SEND_LIMIT": "1/day"}
    app = make_app(otp, **config)
    client = app.test_client()
    assert send(client).status_code == 200
    recipient, code, count = run(WORKER, json.dumps(config), json.dumps(queue[0])).split()
    with app.app_context():
        otp.deliver(queue[0])
    assert letters.messages == []
    assert (recipient, count) == (ANN, "1")
    assert post(client, "verify", code=code).status_code == 200
    assert reason(post(client, "verify", code=code))[0] == 400


def test_a_payload_that_comes_too_late_is_dropped_and_signalled(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post, clock: Clock
) -> None:
    app = make_app(otp)
    with app.app_context():
        otp.send(ANN)
        clock.advance("5m")
        with recorded(app) as seen:
            otp.deliver(queue[0])
    assert letters.messages == []
    assert seen == [("delivery_failed", {"identifier": ANN, "channel": "email", "purpose": "login"})]


ENDS: dict[str, Callable[[OTP, FlaskClient, str], object]] = {
    "used": lambda otp, client, code: post(client, "verify", code=code),
    "revoked": lambda otp, client, code: otp.revoke(ANN),
    "logged out": lambda otp, client, code: client.post("/otp/logout"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_payload_with_an_expired_code_is_dropped_and_signalled(
    make_app: AppFactory,
    otp: OTP,
    queue: list[dict[str, str]],
    letters: Post,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    app = make_app(otp)
    client = app.test_client()
    with app.app_context():
        send(client)
        otp.deliver(queue[0])
        clock.advance("30s")
        post(client, "resend")
        ENDS[end](otp, client, letters.code)
        with recorded(app) as seen:
            otp.deliver(queue[1])
    assert len(letters.messages) == 1
    assert seen == [("delivery_failed", {"identifier": ANN, "channel": "email", "purpose": "login"})]
    assert "dropped" in caplog.text


def test_what_has_gone_out_does_not_go_out_again_and_a_resend_does(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post, clock: Clock
) -> None:
    app = make_app(otp)
    client = app.test_client()
    send(client)
    clock.advance("30s")
    post(client, "resend")
    with recorded(app) as seen, app.app_context():
        for payload in queue * 3:
            otp.deliver(payload)
    assert [name for name, _ in seen] == ["code_sent"] * 2
    assert len({message.code for message in letters.messages}) == 1
    assert len({message.id for message in letters.messages}) == 2
    assert post(client, "verify", code=letters.code).status_code == 200
    with recorded(app) as seen, app.app_context():
        otp.deliver(queue[0])
    assert seen == []


def test_what_has_gone_out_is_known_for_as_long_as_its_code_lives(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post, clock: Clock
) -> None:
    app = make_app(otp)
    with app.app_context():
        otp.send(ANN)
        otp.deliver(queue[0])
        clock.advance(299)
        otp.deliver(queue[0])
    assert len(letters.messages) == 1


def test_r37_with_the_store_out_of_reach_a_worker_sends_nothing_and_may_try_again(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post, valkey: ValkeyServer
) -> None:
    with Proxy(valkey.port) as proxy:
        app = make_app(otp, OTP_STORAGE_URI=f"redis://127.0.0.1:{proxy.port}")
        with app.app_context(), recorded(app) as seen:
            otp.send(ANN)
            proxy.refuse()
            with pytest.raises(StoreUnavailable):
                otp.deliver(queue[0])
            assert (seen, letters.messages) == ([], [])
            proxy.listen()
            otp.deliver(queue[0])
    assert len(letters.messages) == 1


def test_what_went_out_when_the_store_failed_is_not_sent_again_at_once_but_may_be(
    make_app: AppFactory,
    otp: OTP,
    queue: list[dict[str, str]],
    letters: Post,
    clock: Clock,
    valkey: ValkeyServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Proxy(valkey.port) as proxy:
        otp.channel("email")(lambda message: (letters(message), proxy.refuse())[0])
        app = make_app(otp, OTP_STORAGE_URI=f"redis://127.0.0.1:{proxy.port}")
        with app.app_context():
            otp.send(ANN)
            otp.deliver(queue[0])  # raises nothing: the queue is told that it is done
            assert "could not be noted" in caplog.text
            proxy.listen()
            clock.advance("1m")  # the claim could not be given back either: wait until it expires
            otp.deliver(queue[0])
    assert len(letters.messages) == 2


def test_two_workers_with_one_payload_send_one_code_which_verifies_once(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post
) -> None:
    app = make_app(otp)
    client = app.test_client()
    send(client)
    letters.open.clear()

    def work() -> None:
        with app.app_context():
            otp.deliver(queue[0])

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    letters.open.set()
    for worker in workers:
        worker.join()
    assert len(letters.messages) in (1, 2)
    assert len({message.code for message in letters.messages}) == 1
    assert post(client, "verify", code=letters.code).status_code == 200
    assert post(client, "verify", code=letters.code).status_code == 400


def test_a_worker_with_another_store_drops_what_it_gets_and_says_why(
    make_app: AppFactory,
    otp: OTP,
    queue: list[dict[str, str]],
    letters: Post,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with make_app(otp).app_context():
        otp.send(ANN)
    with make_app(otp).app_context():
        otp.deliver(queue[0])
    assert letters.messages == []
    assert "another store" in caplog.text


def test_what_was_only_pretended_is_never_signalled_in_a_worker(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post, clock: Clock
) -> None:
    otp.recipient_loader(lambda identifier, channel: None)
    app = make_app(otp)
    with app.app_context(), recorded(app) as seen:
        otp.send(ANN)
        otp.deliver(queue[0])
        clock.advance("5m")
        otp.deliver(queue[0])
    assert (seen, letters.messages) == ([], [])


def tampered(payload: dict[str, str]) -> Iterator[Any]:
    token = payload["delivery"]
    yield {"delivery": token[:-3]}
    yield {"delivery": ("A" if token[0] != "A" else "B") + token[1:]}
    yield {"delivery": token[:60]}
    yield {"delivery": f"{token}."}
    yield {"delivery": token[:60] + token[:59:-1]}
    yield {"delivery": [token]}
    yield {"delivery": None}
    yield {"delivery": ""}
    yield {"delivery": "\N{SNOWMAN}"}
    yield {}
    yield token
    yield None
    yield [payload]


def test_a_payload_that_is_not_ours_is_dropped(
    make_app: AppFactory,
    otp: OTP,
    queue: list[dict[str, str]],
    letters: Post,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with make_app(otp).app_context():
        handle = otp.send(ANN).handle
        for payload in (*tampered(queue[0]), {"delivery": handle}):
            caplog.clear()
            otp.deliver(payload)
            assert letters.messages == []
            assert "dropped" in caplog.text
        otp.deliver(queue[0])
    assert len(letters.messages) == 1


@pytest.mark.parametrize("other", [{"SECRET_KEY": "the secret of another app"}, {"OTP_KEY_PREFIX": "shop"}], ids=str)
def test_a_payload_of_another_app_is_dropped(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post, other: dict[str, str]
) -> None:
    with make_app(otp, **other).app_context():
        otp.send(ANN)
    with make_app(otp).app_context():
        otp.deliver(queue[0])
    assert letters.messages == []


def test_a_worker_is_told_when_the_delivery_failed_and_may_try_again(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post
) -> None:
    app = make_app(otp)
    client = app.test_client()
    send(client)
    letters.error = letters.fails
    with app.app_context():
        with recorded(app) as seen, pytest.raises(DeliveryFailed):
            otp.deliver(queue[0])
        assert [name for name, _ in seen] == ["delivery_failed"]
        letters.error = None
        otp.deliver(queue[0])
    assert post(client, "verify", code=letters.code).status_code == 200


def test_a_broken_queue_is_a_failed_delivery(make_app: AppFactory, otp: OTP, letters: Post, clock: Clock) -> None:
    otp.dispatcher(lambda payload: 1 / 0)
    app = make_app(otp, OTP_SEND_LIMIT="1/day")
    client = app.test_client()
    with recorded(app) as seen:
        assert reason(send(client)) == FAILED
    assert [name for name, _ in seen] == ["delivery_failed"]
    assert reason(post(client, "verify", code="123456")) == (400, "challenge_required")
    otp.dispatcher(lambda payload: otp.deliver(payload))
    clock.advance("30s")
    assert send(client).status_code == 200
    assert len(letters.messages) == 1


def test_r21_a_broken_queue_does_not_tell_who_has_an_account(make_app: AppFactory, otp: OTP) -> None:
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    otp.dispatcher(lambda payload: 1 / 0)
    app = make_app(otp)
    assert reason(send(app.test_client(), ANN)) == reason(send(app.test_client(), BOB))


def test_r22_unknown_addresses_go_through_the_queue_too_and_nothing_is_sent_to_them(
    make_app: AppFactory, otp: OTP, queue: list[dict[str, str]], letters: Post
) -> None:
    """What handing over costs would tell who has an account."""
    otp.recipient_loader(lambda identifier, channel: identifier if identifier == ANN else None)
    app = make_app(otp)
    for address in (ANN, BOB):
        assert send(app.test_client(), address).status_code == 200
    assert len(queue) == 2
    with app.app_context():
        for payload in queue:
            otp.deliver(payload)
    assert [message.recipient for message in letters.messages] == [ANN]


# Errors that quote the code


def become_strong(client: FlaskClient, clock: Clock) -> None:
    """Spend a failure budget of one."""
    send(client)
    post(client, "verify", code="000000")
    clock.advance("30s")


QUOTES: list[Callable[[Message], Exception]] = [
    lambda message: OSError(f"could not send {message.code}"),
    lambda message: OSError(f"could not send {display(message.code)!r}"),
    lambda message: OSError(f"could not send {display(message.code).lower()!r}"),
    lambda message: OSError(f"could not send {message.text}"),
    lambda message: OSError({"to": message.recipient, "body": message.text.encode()}),
    lambda message: RuntimeError(message.recipient.upper(), message.code),
    lambda message: KeyError(message.code),
]


@pytest.mark.parametrize("quote", range(len(QUOTES)))
@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("mode", ["inline", "background"])
def test_r34_an_error_that_quotes_the_code_is_redacted(
    make_app: AppFactory,
    otp: OTP,
    letters: Post,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    quote: int,
    strong: bool,
    mode: str,
) -> None:
    caplog.set_level("DEBUG")
    app = make_app(otp, OTP_FAILURE_BUDGET="1/30 days", OTP_DELIVERY=mode)
    client, told = app.test_client(), threading.Event()
    if strong:
        become_strong(client, clock)
        if mode == "background":
            letters.wait()
    letters.error = QUOTES[quote]
    with signals.delivery_failed.connected_to(lambda sender, **_: told.set(), app):
        answer = send(client)
        assert told.wait(20)
    assert answer.status_code == (503 if mode == "inline" else 200)
    code = letters.code
    assert len(code) == (13 if strong else 6)
    assert "failed: " in caplog.text
    for text in (caplog.text, answer.get_data(as_text=True)):
        for secret in (code, display(code), ANN):
            assert secret.lower() not in text.lower()


def test_r34_what_is_raised_again_does_not_carry_the_error_that_quoted_the_code(
    make_app: AppFactory, otp: OTP, letters: Post
) -> None:
    letters.error = QUOTES[0]
    with make_app(otp).app_context(), pytest.raises(DeliveryFailed) as caught:
        otp.send(ANN)
    for error in chain(caught.value):
        assert letters.code not in repr(error) + str(error) + repr(vars(error))
    assert letters.code not in "".join(traceback.format_exception(caught.value))


# Signals


NETWORK_SURGE = (
    "one network's failures reached a tenth of OTP_SURGE_LIMIT (1 per 1 day): "
    "its codes are strong until the window ends"
)


def test_r46_each_signal_is_sent_once_with_its_arguments_and_no_code(
    make_app: AppFactory, otp: OTP, letters: Post, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(otp, OTP_FAILURE_BUDGET="2/30 days", OTP_SURGE_LIMIT="1/day")
    client = app.test_client()
    whom: dict[str, Any] = {"identifier": ANN, "purpose": "login"}
    with recorded(app) as seen:

        def new() -> Recorded:
            news = seen[:]
            seen.clear()
            for _, arguments in news:
                for message in letters.messages:
                    assert message.code not in repr(arguments)
                    assert message.code not in map(str, arguments.values())
            return news

        send(client)
        assert new() == [("code_sent", whom | {"channel": "email"})]
        send(client)  # a double click: nothing is sent
        assert new() == []
        wrong = "000000" if letters.code != "000000" else "000001"
        client.environ_base["REMOTE_ADDR"] = "203.0.113.9"  # this network has no short codes from now on
        post(client, "verify", code=wrong)
        assert new() == [("code_rejected", whom)]
        client.environ_base["REMOTE_ADDR"] = "127.0.0.1"
        post(client, "verify", code=letters.code)
        [(name, arguments)] = new()
        assert name == "code_verified"
        assert list(arguments) == ["verification"]
        assert arguments["verification"].identifier == ANN
        clock.advance("30s")
        stranger = app.test_client()
        send(stranger)
        new()
        wrong = "000000" if letters.code != "000000" else "000001"
        post(stranger, "verify", code=wrong)
        assert sorted(new(), key=lambda item: item[0]) == [
            ("budget_spent", whom),
            ("code_rejected", whom),
            ("surge", {}),
        ]
        assert [record.getMessage() for record in caplog.records] == [
            NETWORK_SURGE,
            "the failure budget of a***@example.com is spent",
            NETWORK_SURGE,
            "failures are above OTP_SURGE_LIMIT: new codes are strong until the surge ends",
        ]
        post(stranger, "verify", code=letters.code)
        assert new() == [("code_rejected", whom)]
        post(stranger, "verify", code="no code")
        assert new() == [("code_rejected", whom)]
        post(stranger, "verify", code="123456", challenge="forged")
        assert new() == [("code_rejected", {"identifier": None, "purpose": None})]
        client.post("/otp/logout")
        assert new() == [("proof_revoked", {"identifier": ANN, "purposes": ("login",)})]
        with app.app_context():
            otp.revoke("Ann@Example.com")
        assert new() == [("proof_revoked", {"identifier": ANN, "purposes": ("login",)})]
        letters.error = letters.fails
        clock.advance("30s")
        send(app.test_client())
        assert new() == [("delivery_failed", whom | {"channel": "email"})]


@pytest.mark.parametrize("unknown", [True, False])
def test_a_message_that_is_only_pretended_or_vetoed_is_not_signalled_as_sent(
    make_app: AppFactory, otp: OTP, letters: Post, unknown: bool
) -> None:
    if unknown:
        otp.recipient_loader(lambda identifier, channel: None)
    else:
        otp.before_send(lambda message: False)
    app = make_app(otp, OTP_DELIVERY="inline")
    with recorded(app) as seen:
        assert send(app.test_client()).status_code == 200
    assert seen == []
    assert letters.messages == []


def test_a_signal_goes_to_the_receivers_of_its_own_app_only(make_app: AppFactory, otp: OTP) -> None:
    one, other = make_app(otp), make_app(otp)
    with recorded(other) as seen:
        send(one.test_client())
    assert seen == []
