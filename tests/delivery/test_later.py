"""Delayed jobs of this process: when they run, and what is logged if they cannot."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from weakref import ref

import pytest
from flask import Flask

from flask_otp.delivery.background import Background
from flask_otp.delivery.later import Later, _drop
from flask_otp.testing import Clock
from tests.support.servers import wait_until


@pytest.fixture
def background() -> Background:
    return Background(Flask("x"), pause=0)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flask_otp-later"]


def test_one_daemon_thread_runs_the_jobs_in_the_order_of_their_times(background: Background) -> None:
    later, done = Later(background, time.time), list[str]()
    now = time.time()
    for seconds, name in ((0.3, "second"), (0.1, "first"), (0.3, "third")):
        assert later.put(now + seconds, lambda name=name: done.append(name))  # type: ignore[misc]
    assert [thread.daemon for thread in watchers()] == [True]
    wait_until(lambda: len(done) == 3)
    assert (done[0], {*done}) == ("first", {"first", "second", "third"})
    assert 0.3 <= time.time() - now < 1
    # The thread ends with the last job, and starts again with the next.
    wait_until(lambda: not watchers())
    assert later.put(0, lambda: done.append("fourth"))
    wait_until(lambda: done[-1] == "fourth")


def test_the_thread_sleeps_until_a_job_is_due(background: Background) -> None:
    looks: list[float] = []
    later = Later(background, lambda: looks.append(time.time()) or looks[-1])  # type: ignore[func-returns-value]
    for _ in range(2):
        later.put(time.time() + 60, lambda: None)
    time.sleep(0.2)
    assert len(looks) < 20
    _drop(ref(later._waiting.get()), os.getpid())


def test_no_more_than_the_maximum_wait(background: Background, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Later, "MAX_WAITING", 2)
    later, done = Later(background, clock), list[int]()
    put = [later.put(clock.now + 60, lambda number=number: done.append(number)) for number in range(3)]  # type: ignore[misc]
    assert put == [True, True, False]
    assert later.take_due() == []
    clock.advance("1m")
    for job in later.take_due():
        job()
    assert done == [0, 1]


def test_a_job_that_the_background_has_no_room_for_is_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    later = Later(Background(Flask("x"), workers=0, waiting=0), clock)
    assert later.put(clock.now, lambda: pytest.fail("it has no room"))
    told = "a delivery by the next channel was dropped: too many are waiting in the background"
    wait_until(lambda: caplog.record_tuples == [("flask_otp", logging.ERROR, told)])


def test_after_a_thread_that_did_not_start_the_next_job_tries_again(
    background: Background, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    later, done = Later(background, time.time), list[int]()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        assert later.put(0, lambda: done.append(1))
    assert caplog.messages == ["no thread could be started: codes go out late by their next channel, or not at all"]
    assert later.put(0, lambda: done.append(2))
    wait_until(lambda: sorted(done) == [1, 2])


def test_a_platform_that_loses_jobs_is_named_once(
    background: Background, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    later = Later(background, clock)
    for _ in range(2):
        later.put(clock.now + 60, lambda: None)
    clock.advance("1m")
    later.take_due()
    assert [message for message in caplog.messages if "next channel" in message] == [
        "a delivery by the next channel may be lost: AWS Lambda freezes a process between two requests; "
        "see docs/operate/deployment.md"
    ]
    caplog.clear()
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    Later(background, clock).put(0, lambda: None)
    assert caplog.messages == []


@pytest.mark.parametrize(("number", "what"), [(1, "1 code"), (2, "2 codes")])
def test_what_is_lost_at_the_end_is_logged_by_the_process_that_had_it(
    background: Background, clock: Clock, caplog: pytest.LogCaptureFixture, number: int, what: str
) -> None:
    later = Later(background, clock)
    for _ in range(number):
        later.put(clock.now + 60, lambda: None)
    waiting = later._waiting.get()
    _drop(ref(waiting), os.getpid() + 1)
    assert (caplog.messages, len(waiting.jobs)) == ([], number)
    for _ in range(2):
        _drop(ref(waiting), os.getpid())
    assert caplog.messages == [f"the process ends: {what} will not go out by the next channel"]
    wait_until(lambda: not waiting.has_thread)
    forgotten: Callable[[], None] = ref(type("Gone", (), {})())  # type: ignore[assignment]
    _drop(forgotten, os.getpid())  # type: ignore[arg-type]
