"""Several providers under one name: what one message meets on its way, in which time, and what the next is spared."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import smtplib
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from flask import Flask, current_app, g, request
from werkzeug.test import TestResponse

from flask_otp import OTP, Channel, Message, ProviderDown, RecipientRefused, WebhookChannel, signals
from flask_otp.channels import deadline
from flask_otp.channels.deadline import MOST_LEFT_BEHIND, Deadline, Threads
from flask_otp.delivery.circuit_breaker import FAILURES, PAUSE
from flask_otp.processes import PerProcess
from flask_otp.testing import Clock
from tests.support.apps import SECRET, AppFactory, free_port
from tests.support.mail import SLACK, Inbox, mail_config, serving, wait_until

pytestmark = pytest.mark.server

ANN = "ann@example.com"
#: Seconds, for functions that hang; no setting is so short.
SHORT = 0.2

SENT = (200, None)
FAILED = (503, "delivery_failed")


def works(message: Message) -> None:
    pass


def breaks(message: Message) -> None:
    raise LookupError("no line")


def is_down(message: Message) -> None:
    raise ProviderDown("no line")


class Provider(Channel):
    """Keeps what it is given, and then behaves as it is told to."""

    def __init__(self, behaves: Callable[[Message], None] = works, timeout: float | None = None) -> None:
        self.behaves = behaves
        self.timeout = timeout
        self.asked: list[Message] = []

    def deliver(self, message: Message) -> None:
        self.asked.append(message)
        self.behaves(message)


class Hanging(Provider):
    """Takes a message only when it is let go, which is long after its time-out."""

    def __init__(self, timeout: float | None = SHORT) -> None:
        super().__init__(self._hang, timeout)
        self.go = threading.Event()
        self.taken = threading.Semaphore(0)

    def _hang(self, message: Message) -> None:
        assert self.go.wait(60)
        self.taken.release()

    def finish(self, count: int = 1) -> None:
        """Let go, and wait for so many late successes."""
        self.go.set()
        for _ in range(count):
            assert self.taken.acquire(timeout=20)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    provider = Hanging()
    yield provider
    provider.go.set()


@pytest.fixture
def climb(make_app: AppFactory) -> Callable[..., Flask]:
    """``climb(first, second, ...)``: an app with these steps for its e-mail."""

    def make(*steps: Any, **config: Any) -> Flask:
        return make_app(OTP_CHANNELS={"email": list(steps)}, OTP_IP_SEND_LIMIT=None, **config)

    return make


_numbers = iter(range(10**9))


def send(app: Flask, email: str | None = None) -> TestResponse:
    """As a new person, so our limits do not interfere."""
    return app.test_client().post("/otp/send", json={"email": email or f"user{next(_numbers)}@example.com"})


def outcome(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.get_json() or {}).get("reason")


def send_many(app: Flask, count: int) -> list[tuple[int, str | None]]:
    return [outcome(send(app)) for _ in range(count)]


def send_at_once(app: Flask, count: int) -> list[tuple[int, str | None]]:
    barrier = threading.Barrier(count)

    def one(_: int) -> tuple[int, str | None]:
        barrier.wait(20)
        return outcome(send(app))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


OPENED = re.compile(r"failed 5 times in a row: until it works, it is tried last")
CLOSED = re.compile(r"works again")


# The deadline of a step


def test_a_step_that_hangs_is_left_for_the_next_and_the_user_sees_one_outcome(
    climb: Callable[..., Flask], hanging: Hanging
) -> None:
    second = Provider()
    app, told = climb(hanging, second), []
    with (
        signals.code_sent.connected_to(lambda sender, **_: told.append("sent"), app),
        signals.delivery_failed.connected_to(lambda sender, **_: told.append("failed"), app),
    ):
        started = time.monotonic()
        assert outcome(send(app)) == SENT
        assert SHORT <= time.monotonic() - started < SHORT + SLACK
        hanging.finish()
    assert told == ["sent"]
    assert len(second.asked) == 1


def test_the_late_success_of_a_step_that_was_left_is_the_same_code_and_good_for_one_verification(
    climb: Callable[..., Flask], hanging: Hanging
) -> None:
    second = Provider()
    app = climb(hanging, second)
    client = app.test_client()
    handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
    hanging.finish()
    [late], [early] = hanging.asked, second.asked
    assert late == early
    assert client.post("/otp/verify", json={"code": late.code}).status_code == 200
    for message in (early, late):
        again = app.test_client().post("/otp/verify", json={"code": message.code, "challenge": handle})
        assert outcome(again) == (400, "invalid_code")


def test_the_late_success_of_a_ladder_that_failed_opens_nothing(
    climb: Callable[..., Flask], hanging: Hanging, clock: Clock
) -> None:
    app = climb(hanging)
    client = app.test_client()
    assert outcome(client.post("/otp/send", json={"email": ANN})) == FAILED
    hanging.finish()
    [late] = hanging.asked
    assert outcome(client.post("/otp/verify", json={"code": late.code})) == (400, "challenge_required")
    clock.advance(30)
    assert outcome(client.post("/otp/send", json={"email": ANN})) == SENT
    assert outcome(client.post("/otp/verify", json={"code": late.code})) == (400, "invalid_code")
    assert client.post("/otp/verify", json={"code": hanging.asked[1].code}).status_code == 200


def test_the_longest_that_a_ladder_takes_is_the_sum_of_its_time_outs(climb: Callable[..., Flask]) -> None:
    steps = [Hanging() for _ in range(3)]
    started = time.monotonic()
    assert outcome(send(climb(*steps))) == FAILED
    assert 3 * SHORT <= time.monotonic() - started < 3 * SHORT + SLACK
    assert [len(step.asked) for step in steps] == [1, 1, 1]
    for step in steps:
        step.finish()


def test_otp_channel_timeout_holds_for_a_plain_function_too(climb: Callable[..., Flask]) -> None:
    go = threading.Event()
    app = climb(lambda message: go.wait(60), works, OTP_CHANNEL_TIMEOUT="1s")
    started = time.monotonic()
    assert outcome(send(app)) == SENT
    assert 1 <= time.monotonic() - started < 1 + SLACK
    go.set()


def test_a_channel_may_have_a_longer_time_out_of_its_own(climb: Callable[..., Flask]) -> None:
    slow = Provider(lambda message: time.sleep(1.2), timeout=1.2 + SLACK)
    assert outcome(send(climb(slow, OTP_CHANNEL_TIMEOUT="1s"))) == SENT


def test_in_the_background_a_step_has_its_deadline_as_well(climb: Callable[..., Flask], hanging: Hanging) -> None:
    told = threading.Event()
    app = climb(hanging, works, OTP_DELIVERY="background")
    with signals.code_sent.connected_to(lambda sender, **_: told.set(), app):
        assert outcome(send(app)) == SENT
        assert told.wait(20)
    hanging.finish()


def test_a_step_of_which_too_many_deliveries_hang_fails_at_once_until_they_end(
    climb: Callable[..., Flask], hanging: Hanging
) -> None:
    app = climb(hanging)
    assert send_at_once(app, MOST_LEFT_BEHIND) == [FAILED] * MOST_LEFT_BEHIND
    hanging.timeout = None
    assert send_many(app, 3) == [FAILED] * 3
    assert len(hanging.asked) == MOST_LEFT_BEHIND
    hanging.finish(MOST_LEFT_BEHIND)
    wait_until(lambda: outcome(send(app)) == SENT)


HUNG = """
import threading
from flask import Flask
from flask_otp import OTP, DeliveryFailed

app = Flask("site")
app.config.update(SECRET_KEY="{secret}", OTP_STORAGE_URI="memory://", OTP_CHANNEL_TIMEOUT=1)
otp = OTP(app)
otp.channel("email")(lambda message: threading.Event().wait())
with app.app_context():
    try:
        otp.send("ann@example.com")
    except DeliveryFailed:
        print("failed")
"""


def test_the_interpreter_ends_although_a_delivery_hangs_for_ever() -> None:
    program = HUNG.format(secret=SECRET)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "failed\n"), done.stderr


def test_a_conversation_that_begins_after_the_deadline_is_cut_at_once() -> None:
    go, cut = threading.Event(), threading.Event()

    def work() -> None:
        assert go.wait(60)
        deadline.cut_when_late(cut.set)

    with pytest.raises(TimeoutError):
        deadline.Deadline(SHORT).run(work)
    assert not cut.is_set()
    go.set()
    assert cut.wait(20)


def test_a_message_goes_out_although_no_thread_can_be_started(
    climb: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from Python 3.12 on when the interpreter is ending."""

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(deadline.threading, "Thread", NoThread)
    monkeypatch.setattr(deadline, "_threads", Threads())
    first, second = Provider(breaks), Provider()
    assert outcome(send(climb(first, second))) == SENT
    assert (len(first.asked), len(second.asked)) == (1, 1)


# The threads of the steps


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    made = Threads()
    monkeypatch.setattr(deadline, "_threads", made)
    return made


def waiting(threads: Threads) -> int:
    return len(threads._waiting.get())


def test_deliveries_one_after_the_other_share_a_thread(climb: Callable[..., Flask], threads: Threads) -> None:
    seen: list[int] = []
    app = climb(lambda message: seen.append(threading.get_ident()))
    for _ in range(5):
        send(app)
        wait_until(lambda: waiting(threads) == 1)
    assert len(seen) == 5
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


def test_a_thread_that_waits_keeps_nothing_of_its_last_delivery(climb: Callable[..., Flask], threads: Threads) -> None:
    class Resource:
        pass

    held: ContextVar[Resource] = ContextVar("held")
    alive: list[weakref.ref[Resource]] = []
    app = climb(breaks, works)

    @app.before_request
    def hold() -> None:
        resource = Resource()
        held.set(resource)
        alive.append(weakref.ref(resource))

    assert copy_context().run(send, app).status_code == 200
    wait_until(lambda: waiting(threads) == 1)
    wait_until(lambda: alive[0]() is None)


def test_no_more_threads_wait_than_are_needed(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Threads, "MOST_WAITING", 2)
    go = threading.Event()
    jobs: list[threading.Thread] = []

    def work() -> None:
        jobs.append(threading.current_thread())
        assert go.wait(20)

    with ThreadPoolExecutor(5) as pool:
        done = [pool.submit(Deadline(20).run, work) for _ in range(5)]
        wait_until(lambda: len(jobs) == 5)
        go.set()
        for each in done:
            each.result()
    wait_until(lambda: sum(job.is_alive() for job in jobs) == waiting(threads) == 2)


def test_no_thread_waits_for_long(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Threads, "PATIENCE", SHORT)
    jobs: list[threading.Thread] = []
    Deadline(20).run(lambda: jobs.append(threading.current_thread()))
    wait_until(lambda: not jobs[0].is_alive())
    assert waiting(threads) == 0


def test_work_that_ends_at_the_very_last_moment_has_ended(threads: Threads) -> None:
    class Late(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if timeout is None:
                return super().get()
            wait_until(lambda: not self.empty())
            raise queue.Empty

    left_behind: set[Deadline] = set()
    ended = Deadline(20, left_behind)
    ended._outcome = Late()
    cut: list[bool] = []
    ended.on_leave(lambda: cut.append(True))
    ended.run(lambda: None)
    assert (left_behind, cut) == (set(), [])


def test_a_job_that_comes_when_the_patience_of_its_thread_ends_is_done(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Threads, "PATIENCE", 0.01)
    pop = threading.Event()

    class Slow(list[Any]):
        """The thread finds itself taken from here, some time before its job comes."""

        def append(self, inbox: Any) -> None:
            pop.set()
            threading.Timer(SHORT, lambda: inbox.put(done.set)).start()

    done = threading.Event()
    threads._waiting = PerProcess(Slow)
    threads.start(lambda: None)
    assert pop.wait(20)
    assert done.wait(20)


FORKED = """
import os, threading
from flask import Flask
from flask_otp import OTP

app = Flask("site")
app.config.update(SECRET_KEY="{secret}", OTP_STORAGE_URI="memory://", OTP_CHANNEL_TIMEOUT=5, OTP_COOLDOWN=0)
otp = OTP(app)
sent = []
otp.channel("email")(sent.append)
with app.app_context():
    otp.send("ann@example.com")
    if os.fork() == 0:
        otp.send("bob@example.com")
        os._exit(len(sent))
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent() -> None:
    program = FORKED.format(secret=SECRET)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_apps_with_other_time_outs_may_share_a_channel(make_app: AppFactory) -> None:
    otp = OTP()
    seen: list[float] = []
    provider = Provider(lambda message: seen.append(provider.default_timeout))
    otp.channel("email")(provider)
    apps = [make_app(otp, OTP_CHANNEL_TIMEOUT=seconds) for seconds in (3, 4)]
    for app in (*apps, *apps):
        send(app)
    assert seen == [3, 4, 3, 4]


def test_a_channel_may_be_added_or_replaced_at_any_time(make_app: AppFactory) -> None:
    otp = OTP()
    first, second = Provider(), Provider()
    otp.channel("email")(first)
    app = make_app(otp)
    send(app)
    otp.channel("email")(second)
    send(app)
    otp.channel("letter")(first)
    app.test_client().post("/otp/send", json={"email": ANN, "channel": "letter"})
    assert [message.channel for message in first.asked] == ["email", "letter"]
    assert len(second.asked) == 1


# Flask's contexts, in the thread of a step


def test_a_function_has_its_request_and_an_app_context_of_its_own(climb: Callable[..., Flask]) -> None:
    seen: list[Any] = []
    mark = ContextVar("mark", default="")

    def look(message: Message) -> None:
        seen.extend((current_app.name, request.path, "who" in g, mark.get()))
        g.connection = "ours"

    app = climb(look)
    left: list[Any] = []
    app.teardown_appcontext(lambda error: left.append(g.pop("connection", None)))

    @app.before_request
    def prepare() -> None:
        g.who = "the request"
        g.connection = "theirs"
        mark.set("of the request")

    assert outcome(send(app)) == SENT
    assert seen == ["site", "/otp/send", False, "of the request"]
    assert left == ["ours", "theirs"]


def test_a_function_that_outlasts_its_request_keeps_its_contexts_until_it_ends(climb: Callable[..., Flask]) -> None:
    go, done, seen, closed = threading.Event(), threading.Event(), [], []

    def work(message: Message) -> None:
        g.connection = "open"
        assert go.wait(60)
        seen.extend((current_app.name, request.path, g.connection))

    app = climb(Provider(work, SHORT), works)

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        if "connection" in g:
            closed.append(g.connection)
            done.set()

    assert outcome(send(app)) == SENT
    assert outcome(send(app, "not an address")) == (400, "invalid_identifier")
    assert closed == []
    go.set()
    assert done.wait(20)
    assert seen == ["site", "/otp/send", "open"]
    assert closed == ["open"]


@pytest.mark.parametrize(("first", "result", "asked"), [(works, SENT, (1, 0)), (breaks, SENT, (1, 1))])
def test_a_teardown_that_fails_leaves_the_outcome_of_the_message_as_it_is(
    climb: Callable[..., Flask], first: Callable[[Message], None], result: Any, asked: tuple[int, int]
) -> None:
    providers = Provider(first), Provider()
    app = climb(*providers)
    seen: list[str | None] = []

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        if threading.current_thread().name == "flask_otp-channel":
            seen.append(type(error).__name__ if error else None)
            raise OSError("no connection")

    assert outcome(send(app)) == result
    assert (len(providers[0].asked), len(providers[1].asked)) == asked
    assert seen == (["LookupError", None] if first is breaks else [None])


def test_the_error_of_a_function_that_was_left_behind_goes_nowhere(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    go, ended = threading.Event(), threading.Event()

    def work(message: Message) -> None:
        assert go.wait(60)
        ended.set()
        raise LookupError(message.code)

    provider = Provider(work, SHORT)
    assert outcome(send(climb(provider))) == FAILED
    assert "TimeoutError: it took longer than 0.2 s" in caplog.text
    go.set()
    assert ended.wait(20)
    assert "LookupError" not in caplog.text
    assert provider.asked[0].code not in caplog.text


def test_a_time_out_of_the_functions_own_is_logged_in_its_own_words(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    def gives_up(message: Message) -> None:
        raise TimeoutError("the gateway says nothing")

    assert outcome(send(climb(gives_up))) == FAILED
    assert "the gateway says nothing" in caplog.text


# The circuit


def test_a_step_that_fails_again_and_again_is_passed_over_and_that_is_logged_once(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Provider(breaks), Provider()
    app = climb(first, second)
    assert send_many(app, FAILURES + 20) == [SENT] * (FAILURES + 20)
    assert (len(first.asked), len(second.asked)) == (FAILURES, FAILURES + 20)
    assert len(OPENED.findall(caplog.text)) == 1
    [record] = [record for record in caplog.records if OPENED.search(record.getMessage())]
    assert (record.name, record.levelname) == ("flask_otp", "WARNING")
    assert record.getMessage().startswith("channel 'email' (Provider) failed")


def test_failures_count_only_in_a_row(climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture) -> None:
    first = Provider()
    app = climb(first, works)
    for _ in range(3):
        first.behaves = breaks
        send_many(app, FAILURES - 1)
        first.behaves = works
        send_many(app, 1)
    assert len(first.asked) == 3 * FAILURES
    assert not OPENED.search(caplog.text)


def opened(climb: Callable[..., Flask], *steps: Provider, **config: Any) -> Flask:
    """An app whose first step has just been found broken."""
    app = climb(*steps, **config)
    first = steps[0]
    behaves, first.behaves = first.behaves, is_down
    send_many(app, FAILURES)
    first.behaves = behaves
    first.asked.clear()
    return app


def test_after_the_pause_one_message_tries_it_and_its_success_closes_the_circuit(
    climb: Callable[..., Flask], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Provider(), Provider()
    app = opened(climb, first, second)
    clock.advance(PAUSE - 1)
    send_many(app, 3)
    assert first.asked == []
    clock.advance(1)
    second.asked.clear()
    send_many(app, 3)
    assert (len(first.asked), len(second.asked)) == (3, 0)
    assert len(CLOSED.findall(caplog.text)) == 1
    assert len(OPENED.findall(caplog.text)) == 1


def test_a_failed_trial_is_another_pause_which_is_not_logged_again(
    climb: Callable[..., Flask], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = Provider(breaks)
    app = opened(climb, first, Provider())
    for trial in range(1, 4):
        clock.advance(PAUSE)
        assert send_many(app, 3) == [SENT] * 3
        assert len(first.asked) == trial
    assert len(OPENED.findall(caplog.text)) == 1
    assert not CLOSED.search(caplog.text)


def test_of_many_messages_at_once_exactly_one_is_the_trial(climb: Callable[..., Flask], clock: Clock) -> None:
    first, second = Hanging(timeout=20), Provider()
    app = opened(climb, first, second)
    clock.advance(PAUSE)
    second.asked.clear()
    count = 16
    second.behaves = lambda message: first.go.set() if len(second.asked) == count - 1 else None
    assert send_at_once(app, count) == [SENT] * count
    assert (len(first.asked), len(second.asked)) == (1, count - 1)


def test_the_trial_lasts_until_its_message_is_through_so_that_the_next_one_does_not_wait_there_too(
    climb: Callable[..., Flask], clock: Clock
) -> None:
    first, second = Provider(breaks), Hanging(timeout=20)
    second.go.set()
    app = opened(climb, first, second)
    second.go.clear()
    second.asked.clear()
    clock.advance(PAUSE)
    with ThreadPoolExecutor(2) as pool:
        trial = pool.submit(send, app)
        wait_until(lambda: len(second.asked) == 1)
        other = pool.submit(send, app)
        wait_until(lambda: len(second.asked) == 2)
        second.go.set()
        assert [outcome(trial.result()), outcome(other.result())] == [SENT, SENT]
    assert len(first.asked) == 1


def test_a_trial_that_breaks_off_altogether_does_not_block_the_next(climb: Callable[..., Flask], clock: Clock) -> None:
    def leaves(message: Message) -> None:
        raise SystemExit

    first = Provider(leaves)
    app = opened(climb, first, Provider())
    clock.advance(PAUSE)
    assert outcome(send(app)) == SENT
    first.behaves = works
    clock.advance(PAUSE)
    send_many(app, 1)
    assert len(first.asked) == 2


def test_a_clock_that_is_set_back_makes_the_trial_sooner(climb: Callable[..., Flask], clock: Clock) -> None:
    first = Provider()
    app = opened(climb, first, Provider())
    clock.now -= 3600
    send_many(app, 1)
    assert len(first.asked) == 1


def test_what_is_open_is_still_asked_when_nothing_else_took_the_message(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Provider(), Provider(breaks)
    app = opened(climb, first, second)
    assert outcome(send(app)) == SENT
    assert (len(first.asked), len(second.asked)) == (1, FAILURES + 1)
    assert CLOSED.search(caplog.text)


def test_where_all_are_open_each_is_asked_by_one_message_at_a_time_and_the_others_fail_at_once(
    climb: Callable[..., Flask], hanging: Hanging
) -> None:
    app = opened(climb, hanging)
    hanging.timeout = 20
    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(send, app)
        wait_until(lambda: len(hanging.asked) == 1)
        answers = [send(app) for _ in range(5)]
        assert [outcome(answer) for answer in answers] == [FAILED] * 5
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        assert len(hanging.asked) == 1
        hanging.go.set()
        trial.result()


def test_a_message_that_meets_only_open_circuits_gives_its_count_back(
    climb: Callable[..., Flask], clock: Clock
) -> None:
    hanging = Hanging(timeout=20)
    app = opened(climb, hanging, OTP_SEND_LIMIT="1/day")
    with ThreadPoolExecutor(1) as pool:
        trial = pool.submit(send, app)
        wait_until(lambda: len(hanging.asked) == 1)
        assert outcome(send(app, ANN)) == FAILED
        hanging.finish()
        assert outcome(trial.result()) == SENT
    clock.advance(30)
    assert outcome(send(app, ANN)) == SENT


def test_each_app_has_circuits_of_its_own(make_app: AppFactory, clock: Clock) -> None:
    otp, provider = OTP(clock=clock), Provider(is_down)
    otp.channel("email")(provider)
    one, other = make_app(otp), make_app(otp)
    send_many(one, FAILURES)
    provider.behaves = works
    assert send_at_once(other, 8) == [SENT] * 8


def test_a_channel_need_not_be_hashable(climb: Callable[..., Flask]) -> None:
    @dataclass
    class Pager(Channel):
        asked: list[Message] = field(default_factory=list)

        def deliver(self, message: Message) -> None:
            self.asked.append(message)

    pager = Pager()
    assert send_many(climb(pager), 2) == [SENT] * 2
    assert len(pager.asked) == 2


# Whose failure it is: an attacker cannot switch a provider off by asking for codes to bad addresses

BAD = "nobody"


def refuses(error: Callable[[Message], Exception]) -> Callable[[Message], None]:
    def behave(message: Message) -> None:
        if message.recipient.startswith(BAD):
            raise error(message)

    return behave


REFUSALS: list[Callable[[Message], Exception]] = [
    lambda message: RecipientRefused("no such number"),
    lambda message: smtplib.SMTPRecipientsRefused({message.recipient: (550, b"no such user")}),
    lambda message: smtplib.SMTPDataError(550, b"no such user"),
]
UNKNOWN: list[Callable[[Message], Exception]] = [
    *REFUSALS,
    lambda message: LookupError("HTTP 400"),
    lambda message: TimeoutError("no answer"),
    lambda message: ConnectionRefusedError("by their own server"),
]


def attack(app: Flask, count: int = 3 * FAILURES) -> None:
    for number in range(count):
        send(app, f"{BAD}{number}@evil{number}.example")


@pytest.mark.parametrize("error", range(len(REFUSALS)))
def test_an_attacker_cannot_open_a_circuit_by_addresses_that_only_this_provider_refuses(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture, error: int
) -> None:
    first, second = Provider(refuses(REFUSALS[error])), Provider()
    app = climb(first, second)
    attack(app)
    second.asked.clear()
    assert outcome(send(app)) == SENT
    assert second.asked == []
    assert not OPENED.search(caplog.text)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("error", range(len(UNKNOWN)))
def test_an_attacker_cannot_open_a_circuit_by_addresses_that_nobody_takes(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture, error: int, steps: int
) -> None:
    providers = [Provider(refuses(UNKNOWN[error])) for _ in range(steps)]
    app = climb(*providers)
    attack(app)
    assert outcome(send(app)) == SENT
    assert len(providers[0].asked) == 3 * FAILURES + 1
    assert not OPENED.search(caplog.text)


def test_an_attacker_cannot_open_a_circuit_by_addresses_that_take_for_ever(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()

    def ponders(message: Message) -> None:
        if message.recipient.startswith(BAD):
            go.wait(60)

    provider = Provider(ponders, SHORT)
    app = climb(provider)
    attack(app, MOST_LEFT_BEHIND - 1)
    provider.timeout = 20
    assert send_at_once(app, 8) == [SENT] * 8
    assert not OPENED.search(caplog.text)
    go.set()


def test_a_circuit_that_was_opened_by_whatever_means_keeps_no_message_back(climb: Callable[..., Flask]) -> None:
    """Where one provider takes what another does not, an attacker can shift the messages, and that is all."""
    first, second = Provider(refuses(lambda message: LookupError("HTTP 400"))), Provider()
    app = climb(first, second)
    attack(app)
    second.asked.clear()
    assert send_many(app, 3) == [SENT] * 3
    assert len(second.asked) == 3
    second.behaves = breaks
    assert send_many(app, 3) == [SENT] * 3


def test_bad_addresses_neither_close_a_circuit_nor_prolong_its_pause(
    climb: Callable[..., Flask], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = Provider(refuses(lambda message: RecipientRefused()))
    app = opened(climb, first, Provider())
    clock.advance(PAUSE)
    attack(app)
    assert not CLOSED.search(caplog.text)
    assert outcome(send(app)) == SENT
    assert len(first.asked) == 3 * FAILURES + 1
    assert CLOSED.search(caplog.text)


def test_what_a_provider_takes_from_nobody_counts_without_a_second_step(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = climb(is_down)
    assert send_many(app, FAILURES - 1) == [FAILED] * (FAILURES - 1)
    assert not OPENED.search(caplog.text)
    assert send_many(app, 1) == [FAILED]
    assert OPENED.search(caplog.text)


# Mail servers


class Picky(Inbox):
    """Refuses the bad addresses, or says nothing of them until the client goes away."""

    ponders = False

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if address.startswith(BAD):
            while self.ponders and server.transport is not None and not server.transport.is_closing():
                await asyncio.sleep(0.02)
            return "550 no such user"
        return await super().handle_RCPT(server, session, envelope, address, rcpt_options)


def test_refused_mailboxes_do_not_switch_the_mail_server_off(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Picky()) as inbox:
        app = make_app(OTP_IP_SEND_LIMIT=None, **mail_config(inbox.port))
        attack(app, 2 * FAILURES)
        assert inbox.envelopes == []
        assert outcome(send(app, ANN)) == SENT
        assert [envelope.rcpt_tos for envelope in inbox.envelopes] == [[ANN]]
    assert caplog.text.count("550") >= 2 * FAILURES
    assert not OPENED.search(caplog.text)


@contextlib.contextmanager
def silent() -> Iterator[tuple[int, list[socket.socket]]]:
    """A server that takes connections and says nothing: its port, and its connections."""
    taken: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(listener.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1], taken
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(20)
    for connection in taken:
        connection.close()


def test_a_mail_server_that_hangs_holds_one_message_at_a_time_when_that_is_known(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    with silent() as (port, taken):
        app = make_app(OTP_IP_SEND_LIMIT=None, **mail_config(port, MAIL_SERVER="127.0.0.1", OTP_EMAIL_TIMEOUT=1))
        assert send_at_once(app, FAILURES) == [FAILED] * FAILURES
        assert len(OPENED.findall(caplog.text)) == 1
        assert len(taken) == FAILURES
        assert send_at_once(app, 6) == [FAILED] * 6
        assert FAILURES < len(taken) < FAILURES + 6


def test_a_mail_server_that_comes_back_is_used_by_the_very_next_message(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    app = make_app(OTP_IP_SEND_LIMIT=None, **mail_config(port))
    assert send_many(app, FAILURES + 3) == [FAILED] * (FAILURES + 3)
    assert len(OPENED.findall(caplog.text)) == 1
    with serving(Inbox(port=port)) as inbox:
        app.config["MAIL_PORT"] = inbox.port
        assert send_many(app, 3) == [SENT] * 3
    assert len(CLOSED.findall(caplog.text)) == 1


def test_a_webhook_that_nobody_answers_counts(climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture) -> None:
    webhook = WebhookChannel(f"http://127.0.0.1:{free_port()}/", secret=SECRET)
    send_many(climb(webhook), FAILURES)
    assert OPENED.search(caplog.text)


def test_a_password_that_a_mail_server_refuses_counts(make_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
    login = {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": "wrong"}
    with serving(Inbox(login_ok=False), auth=True) as inbox:
        send_many(make_app(OTP_IP_SEND_LIMIT=None, **mail_config(inbox.port, **login)), FAILURES)
    assert "SMTPAuthenticationError" in caplog.text
    assert OPENED.search(caplog.text)


def test_mailboxes_that_a_mail_server_ponders_for_ever_do_not_open_its_circuit(
    make_app: AppFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """As a server does that asks the recipient's own first."""
    picky = Picky()
    picky.ponders = True
    with serving(picky) as inbox:
        app = make_app(OTP_IP_SEND_LIMIT=None, **mail_config(inbox.port, OTP_EMAIL_TIMEOUT=1))
        with ThreadPoolExecutor(FAILURES) as pool:
            list(pool.map(lambda number: send(app, f"{BAD}{number}@evil.example"), range(FAILURES)))
        assert caplog.text.count("TimeoutError") == FAILURES
        assert send_at_once(app, 4) == [SENT] * 4
    assert not OPENED.search(caplog.text)


def test_a_hung_mail_server_is_left_for_a_function_and_then_not_asked_again(make_app: AppFactory) -> None:
    second = Provider()
    with silent() as (port, taken):
        config = mail_config(port, MAIL_SERVER="127.0.0.1", OTP_EMAIL_TIMEOUT=1)
        app = make_app(OTP_CHANNELS={"email": ["email", second]}, OTP_IP_SEND_LIMIT=None, **config)
        assert send_at_once(app, FAILURES) == [SENT] * FAILURES
        assert send_many(app, 10) == [SENT] * 10
        assert len(taken) == FAILURES
    assert len(second.asked) == FAILURES + 10


def test_r34_the_log_of_a_circuit_names_nobody(
    climb: Callable[..., Flask], caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    def quotes(message: Message) -> None:
        raise ProviderDown(f"{message.recipient}: {message.code}")

    first = Provider(quotes)
    app = climb(first)
    send_many(app, FAILURES)
    first.behaves = works
    send_many(app, 1)
    assert OPENED.search(caplog.text)
    assert CLOSED.search(caplog.text)
    for message in first.asked:
        assert message.code not in caplog.text
        assert message.recipient not in caplog.text
