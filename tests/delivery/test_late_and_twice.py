"""What happens to a message that has to wait, that two workers are given, or whose hooks raise."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, got_request_exception

from flask_otp import OTP, DeliveryFailed, Message
from flask_otp.delivery.background import Background
from flask_otp.delivery.environment import loses_background
from flask_otp.signals import code_rejected, delivery_failed
from flask_otp.stores import Store
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock
from tests.support.apps import SECRET, AppFactory

ANN = "ann@example.com"


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


# Two workers with one payload


class Worker:
    """Runs a payload in an app of its own, as a worker in another process does."""

    def __init__(self, make_app: AppFactory, clock: Clock, channel: Callable[[Message], None], **config: Any) -> None:
        otp = OTP(clock=clock)
        otp.channel("email")(channel)
        self.app, self.otp = make_app(otp, **config), otp

    def deliver(self, payload: dict[str, str]) -> None:
        with self.app.app_context():
            self.otp.deliver(payload)


def queue(otp: OTP, app: Flask) -> list[dict[str, str]]:
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    return payloads


@pytest.mark.server
@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.long)])
def test_two_workers_with_one_payload_send_one_message(
    make_app: AppFactory, otp: OTP, clock: Clock, any_store: Store, rounds: int
) -> None:
    app = make_app(otp, OTP_IP_SEND_LIMIT=None)
    otp.channel("email")(lambda message: None)
    payloads, sent = queue(otp, app), []
    workers = [Worker(make_app, clock, lambda message: sent.append(message.id)) for _ in range(2)]
    for each in (app, *(worker.app for worker in workers)):
        each.extensions["otp"].store = any_store
    barrier = threading.Barrier(2)

    def work(worker: Worker) -> None:
        barrier.wait(30)
        worker.deliver(payloads[-1])

    with ThreadPoolExecutor(2) as threads:
        for number in range(rounds):
            assert app.test_client().post("/otp/send", json={"email": f"user{number}@example.com"}).status_code == 200
            list(threads.map(work, workers))
            assert len(sent) == number + 1
    assert len(set(sent)) == rounds


def test_a_worker_that_waits_delivers_when_the_first_one_fails(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    app = make_app(otp)
    payloads, sent = queue(otp, app), []
    is_trying, may_fail = threading.Event(), threading.Event()

    @otp.channel("email")
    def send(message: Message) -> None:
        if not is_trying.is_set():
            is_trying.set()
            assert may_fail.wait(20)
            raise OSError("the first one fails")
        sent.append(message.id)

    app.test_client().post("/otp/send", json={"email": ANN})

    def work() -> None:
        with app.app_context():
            otp.deliver(payloads[0])

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(work)
        assert is_trying.wait(20)
        second = threads.submit(work)
        assert sent == []
        may_fail.set()
        with pytest.raises(DeliveryFailed):
            first.result(20)
        second.result(20)
    assert len(sent) == 1


def test_the_claim_of_a_worker_that_died_ends(make_app: AppFactory, otp: OTP, clock: Clock) -> None:
    """As after ``kill -9``: it frees nothing."""
    app = make_app(otp, OTP_CHANNEL_TIMEOUT=1)
    payloads, sent = queue(otp, app), []
    otp.channel("email")(lambda message: sent.append(message.id))
    app.test_client().post("/otp/send", json={"email": ANN})
    worker = app.extensions["otp"].delivery.worker
    worker._note_delivered = worker._transport.deliver = lambda *args, **more: None
    with app.app_context():
        otp.deliver(payloads[0])
        del worker._note_delivered, worker._transport.deliver
        with pytest.raises(DeliveryFailed):  # it waits for as long as a delivery may take
            otp.deliver(payloads[0])
        clock.advance(10)
        otp.deliver(payloads[0])
        otp.deliver(payloads[0])
    assert len(sent) == 1


# A message that had to wait in the background


@pytest.mark.parametrize(
    ("waits", "act", "arrives"),
    [
        ("1s", None, True),
        ("2m", None, True),
        ("5m", None, False),
        ("20m", None, False),
        ("2m", "revoke", False),
        ("-1h", None, True),
    ],
)
def test_a_background_message_with_an_expired_code_is_dropped_and_told(
    make_app: AppFactory, otp: OTP, clock: Clock, waits: str, act: str | None, arrives: bool
) -> None:
    app = make_app(otp, OTP_DELIVERY="background", OTP_EXPIRES_IN="5m")
    jobs: list[Callable[[], None]] = []
    app.extensions["otp"].delivery._background.run = lambda job, discreet: bool(jobs.append(job)) or True
    sent: list[Message] = []
    told: list[str] = []
    otp.channel("email")(sent.append)
    app.test_client().post("/otp/send", json={"email": ANN})
    if act == "revoke":
        with app.app_context():
            otp.revoke(ANN)
    clock.now += -3600 if waits == "-1h" else int(waits[:-1]) * {"s": 1, "m": 60}[waits[-1]]
    hear = lambda sender, **values: told.append(values["identifier"])  # noqa: E731
    with app.app_context(), delivery_failed.connected_to(hear, app):
        jobs.pop()()
    assert (len(sent), told) == ((1, []) if arrives else (0, [ANN]))
    if waits == "2m" and arrives:
        assert "3 minutes" in sent[0].text


# What an error tracker keeps


class Tracker:
    """Keeps what Sentry does: the variables of all frames of each exception and of those behind it."""

    def __init__(self, app: Flask) -> None:
        self.kept: list[str] = []
        app.config["PROPAGATE_EXCEPTIONS"] = False
        got_request_exception.connect(self._keep, app)

    def _keep(self, sender: Flask, exception: BaseException | None, **more: object) -> None:
        while exception is not None:
            frame = exception.__traceback__
            while frame is not None:
                self.kept += [
                    f"{frame.tb_frame.f_code.co_name} {name}: {value!r}"
                    for name, value in frame.tb_frame.f_locals.items()
                ]
                frame = frame.tb_next
            exception = exception.__cause__ or exception.__context__


def breaks(message: Message) -> Any:
    text, code = message.text, message.code  # what a real one has in its variables
    raise LookupError(f"{text} {code}")


HOOKS = ["subject.txt", "email.txt", "email.html", "syntax", "message_builder", "before_send", "channel", "dispatcher"]


@pytest.mark.parametrize("verb", ["send", "resend"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_raises_leaves_no_code_where_an_error_tracker_looks(
    make_app: AppFactory, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, hook: str, verb: str
) -> None:
    is_broken = verb == "send"
    otp = OTP(clock=clock)
    sent: list[Message] = []

    def guarded(message: Message) -> Any:
        if is_broken:
            breaks(message)
        return message

    def deliver(message: Message) -> None:
        sent.append(message)
        if hook == "channel":
            guarded(message)

    otp.channel("email")(deliver)
    if hook in ("message_builder", "before_send"):
        getattr(otp, hook)(guarded)
    if hook == "dispatcher":
        otp.dispatcher(lambda payload: 1 / 0 if is_broken else None)
    app = make_app(otp, OTP_CODE_IN_SUBJECT=True)
    if "." in hook or hook == "syntax":
        folder = tmp_path / "flask_otp"
        folder.mkdir()
        app.template_folder = str(tmp_path)
        body = "{{ code }} {{ shop(code) }}" if hook != "syntax" else "{{ code }} {% if %}"
        (folder / ("email.txt" if hook == "syntax" else hook)).write_text(body)
        app.jinja_env.globals["shop"] = lambda code: {}[f"no shop for {code}"] if is_broken else "Shop"
    tracker, client = Tracker(app), app.test_client()
    caplog.set_level(logging.DEBUG)
    if verb == "resend":
        first = client.post("/otp/send", json={"email": ANN})
        if hook == "syntax":
            assert first.status_code == 503
            return
        assert first.status_code == 200
        clock.advance(60)
        is_broken = True
    answer = client.post(f"/otp/{verb}", json={"email": ANN} if verb == "send" else {})
    assert (answer.status_code, answer.get_json()["reason"]) == (503, "delivery_failed")
    if verb == "send":
        # An app that catches the error may pass it on to its tracker, with all that is behind it.
        with app.app_context(), pytest.raises(DeliveryFailed) as caught:
            otp.send("bob@example.com")
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    codes = [message.code for message in sent] or ["no code went out"]
    for kept in (*tracker.kept, caplog.text):
        assert not [code for code in codes if code in kept]
    assert tracker.kept == []
    assert [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info is None]


def test_a_receiver_that_raises_on_a_wrong_code_leaves_not_the_right_one(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp)
    sent: list[Message] = []
    otp.channel("email")(sent.append)
    tracker, client = Tracker(app), app.test_client()
    client.post("/otp/send", json={"email": ANN})

    def fail(sender: Flask, **values: object) -> None:
        raise LookupError("a receiver of the app's")

    with code_rejected.connected_to(fail, app):
        wrong = "000000" if sent[0].code != "000000" else "000001"
        assert client.post("/otp/verify", json={"code": wrong}).status_code == 500
    assert tracker.kept
    assert not [kept for kept in tracker.kept if sent[0].code in kept]


def test_a_store_that_breaks_on_a_right_code_leaves_it_in_no_variable_of_its_own(
    make_app: AppFactory, otp: OTP
) -> None:
    class Broken(MemoryStore):
        def redeem(self, *args: Any) -> Any:
            raise TypeError("a store of somebody else's")

    app = make_app(otp)
    app.extensions["otp"].store = Broken()
    sent: list[Message] = []
    otp.channel("email")(sent.append)
    tracker, client = Tracker(app), app.test_client()
    client.post("/otp/send", json={"email": ANN})
    other = "111111" if sent[0].code != "111111" else "111112"
    assert client.post("/otp/verify", json={"code": other}).status_code == 500
    assert not [kept for kept in tracker.kept if sent[0].code in kept]


# Where nothing runs between two requests


class Uwsgi:
    worker_id: Callable[[], int]

    def __init__(self, **options: object) -> None:
        self.opt = {name.replace("_", "-").encode(): value for name, value in options.items()}


@pytest.mark.parametrize(
    ("environ", "modules", "is_lost"),
    [
        ({}, {}, False),
        ({"AWS_LAMBDA_FUNCTION_NAME": "codes"}, {}, True),
        ({"K_SERVICE": "codes"}, {}, True),
        ({"FUNCTIONS_WORKER_RUNTIME": "python"}, {}, True),
        ({"VERCEL": "1"}, {}, True),
        ({"FUNCTION_TARGET": "app"}, {}, True),
        ({}, {"uwsgi": Uwsgi(processes=b"2")}, True),
        ({}, {"uwsgi": Uwsgi(enable_threads=True)}, False),
        ({}, {"uwsgi": Uwsgi(threads=b"4")}, False),
    ],
)
def test_environments_that_lose_what_is_done_in_the_background_are_known(
    environ: dict[str, str], modules: dict[str, Any], is_lost: bool
) -> None:
    assert (loses_background(environ, modules) is not None) is is_lost


@pytest.mark.parametrize(("worker", "is_at_once"), [(0, True), (1, False)])
def test_before_uwsgi_forks_a_message_goes_out_at_once_and_no_thread_begins(
    app: Flask, monkeypatch: pytest.MonkeyPatch, worker: int, is_at_once: bool
) -> None:
    uwsgi = Uwsgi(threads=b"4")
    uwsgi.worker_id = lambda: worker
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)  # type: ignore[arg-type]
    ran: list[threading.Thread] = []
    background = Background(app)
    assert background.run(lambda: ran.append(threading.current_thread()), discreet=True)
    assert background.wait(10)
    assert (ran == [threading.current_thread()]) is is_at_once
    assert len(ran) == 1


def test_a_teardown_that_fails_ends_no_thread_of_the_background(caplog: pytest.LogCaptureFixture) -> None:
    app, ran = Flask("site"), list[int]()

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        raise OSError(f"{SECRET}: no connection")

    background = Background(app, workers=2, pause=0)
    for number in range(6):
        assert background.run(lambda number=number: ran.append(number), discreet=True)  # type: ignore[misc]
        assert background.wait(10)
    assert ran == [0, 1, 2, 3, 4, 5]
    assert caplog.messages == ["a teardown function of the app failed after a delivery: OSError"] * 6


@pytest.mark.parametrize("delivery", ["background", "inline"])
def test_an_app_that_would_lose_deliveries_says_so_at_start_and_so_does_the_doctor(
    monkeypatch: pytest.MonkeyPatch, delivery: str
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "codes")
    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://", OTP_DELIVERY=delivery)
    otp = OTP()
    otp.channel("email")(lambda message: None)
    if delivery == "background":
        with pytest.warns(UserWarning, match="deliveries may be lost: AWS Lambda freezes a process"):
            otp.init_app(app)
    else:
        otp.init_app(app)
    output = app.test_cli_runner().invoke(args=["otp", "doctor"]).stdout
    assert ("Messages go out in the background and may be lost" in output) is (delivery == "background")
