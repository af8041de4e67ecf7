"""How it grows: with threads, with gunicorn's workers of every kind, and with the live codes of a store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

from flask import Flask

from flask_otp.stores import Attempt, ChallengeRequest, RedeemOutcome, Store
from flask_otp.stores.memory import MemoryStore
from tests.support.apps import ValkeyServer

from .bench import Bench
from .ceiling import server_seconds
from .measure import Case, Rounds, exactly, spread
from .people import POLICY, copies, subject_of
from .report import Row
from .servers import open_store
from .sites import Plan, Site
from .traffic import Environ, Traffic

#: gunicorn's arguments: kinds of workers, processes, and what each process does at one time.
WORKERS = {
    "sync, 1 process": ("sync", 1, 1),
    "sync, 2 processes": ("sync", 2, 1),
    "sync, 4 processes": ("sync", 4, 1),
    "gthread, 1 process, 4 threads": ("gthread", 1, 4),
    "gthread, 1 process, 32 threads": ("gthread", 1, 32),
    "gthread, 2 processes, 4 threads": ("gthread", 2, 4),
    "gevent, 1 process": ("gevent", 1, 32),
    "gevent, 2 processes": ("gevent", 2, 32),
}
_CLIENTS = 8
_THREADS = (1, 2, 4, 8, 16, 32)
_FEW = 1_000
#: Every subject has its one challenge under the same id, so that nobody has to remember a million.
_ID = b"the id of a code"
#: Nobody's attempts run out: it is the same verb each time.
_ENDLESS = replace(POLICY, max_attempts=10**9, failure_budget=((10**9, 3600),))
#: A verb takes a tenth of a request, or less.
_TIMES = 10


def create_app() -> Flask:
    """For gunicorn: the site that is measured."""
    uri = os.environ["BENCHMARK_URI"]
    # All clients are on one network: its limits are counted, and never reached.
    return Site(Plan(uri, uri, limiter=False, rules=True, high=True)).app


def rows(bench: Bench) -> Iterator[Row]:
    uri = bench.servers.valkey.uri
    yield from _threads(bench, Traffic(Site(Plan(uri, uri, limiter=False, rules=True))))
    for name, (kind, processes, threads) in list(WORKERS.items())[: bench.scale.workers]:
        if kind == "gevent" and find_spec("gevent") is None:
            yield Row("requests", name, None, note="gevent is not installed")
            continue
        yield from _workers(bench, name, kind, processes, threads)
    yield from _codes(bench)


def _threads(bench: Bench, traffic: Traffic) -> Iterator[Row]:
    for number in _THREADS:
        cases = {"verify": traffic.right(session=False), "send": traffic.send(session=False)}
        for what, case in cases.items():
            environs = case.prepare(bench.scale.calls // 2)
            with ThreadPoolExecutor(number) as pool:
                list(pool.map(case.call, case.prepare(2 * number)))
                began = time.process_time()
                answers = list(pool.map(case.call, environs, chunksize=1))
                seconds = time.process_time() - began
            for answer in answers:
                case.check(answer)
            yield Row(
                f"{what}: processor time of the app", f"{number} threads", exactly(seconds / len(environs) * 1e6), "us"
            )


def _workers(bench: Bench, name: str, kind: str, processes: int, threads: int) -> Iterator[Row]:
    uri = bench.servers.valkey.uri
    traffic = Traffic(Site(Plan(uri, uri, limiter=False, rules=True)))
    cases: dict[str, Callable[[], Environ]] = {
        "GET view": lambda: traffic.post("/reference", key="nothing"),
        "send": lambda: traffic.send(session=False).prepare(1)[0],
        "verify": lambda: traffic.right(session=False).prepare(1)[0],
    }
    with _Gunicorn(uri, kind, processes, threads) as gunicorn:
        for what, make in cases.items():
            bodies = [
                (environ["PATH_INFO"], environ["wsgi.input"].read())
                for environ in (make() for _ in range(bench.scale.calls))
            ]
            gunicorn.ask(bodies[: 4 * _CLIENTS])
            before, began = gunicorn.cpu_seconds(), time.perf_counter()
            failed = gunicorn.ask(bodies[4 * _CLIENTS :])
            count = len(bodies) - 4 * _CLIENTS
            seconds, cpu = time.perf_counter() - began, gunicorn.cpu_seconds() - before
            if failed:
                raise RuntimeError(f"{failed} of {count} requests failed")
            yield Row(f"{what}: processor time of the app", name, exactly(cpu / count * 1e6), "us")
            yield Row(f"{what}: answered", name, exactly(round(count / seconds)), "a second")


class _Gunicorn:
    """A gunicorn on a free port, and clients on connections of their own."""

    def __init__(self, uri: str, kind: str, processes: int, threads: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self._port}", "-w", str(processes), "-k", kind]
        command += ["--threads", str(threads)] if kind == "gthread" else ["--worker-connections", str(threads)]
        self._command = [*command, "--keep-alive", "30", "benchmarks.growth:create_app()"]
        self._environment = os.environ | {"BENCHMARK_URI": uri}

    def __enter__(self) -> _Gunicorn:
        top = Path(__file__).parent.parent
        self._process = subprocess.Popen(self._command, cwd=top, env=self._environment, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1):
                    return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("gunicorn did not start")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def ask(self, bodies: Sequence[tuple[str, bytes]]) -> int:
        """Send them all, and say how many were not answered with 200."""
        failed, lock, left = 0, threading.Lock(), iter(bodies)

        def client() -> None:
            nonlocal failed
            connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            while True:
                with lock:
                    path, body = next(left, ("", b""))
                if not path:
                    return connection.close()
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                with lock:
                    failed += answer.status != 200

        clients = [threading.Thread(target=client) for _ in range(_CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        return failed

    def cpu_seconds(self) -> float:
        """Processor time of all workers, as Linux counts it."""
        ticks = 0
        for child in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _codes(bench: Bench) -> Iterator[Row]:
    """The time of one verb in a full store, relative to one with a thousand live codes."""
    what, size = "verify, wrong (the verb), over 1,000 codes", bench.scale.block * _TIMES
    few, few_server = _case(_fill_memory(_FEW), _FEW), bench.servers.new_valkey()
    few_there = _case(_fill_redis(few_server, _FEW), _FEW)
    count = 10 * _FEW
    while count <= bench.scale.many:
        measured = Rounds({"few": few, "many": _case(_fill_memory(count), count)}, bench.scale.rounds, size)
        # A rate is the reciprocal of a time: how often the small one answers while the large one does once.
        yield Row(what, f"memory, {count:,} codes", measured.rate("few", "many"), "x")
        server = bench.servers.new_valkey()
        there = _case(_fill_redis(server, count), count)
        ratios = (
            _server_time(server, there, size) / _server_time(few_server, few_there, size)
            for _ in range(bench.scale.rounds)
        )
        yield Row(what, f"redis, {count:,} codes, processor time of the server", spread(ratios), "x")
        count *= 10


def _server_time(server: ValkeyServer, case: Case, count: int) -> float:
    """Seconds. By the clock, a server costs twice as much once it has moved to the other core."""
    with server.client() as client:
        began = server_seconds(client)
        for item in case.prepare(count):
            case.check(case.call(item))
        return server_seconds(client) - began


def _case(store: Store, count: int) -> Case:
    numbers, attempt, now = cycle(range(0, count, max(1, count // 997))), Attempt(_ID, False, b"", 0), int(time.time())

    def check(answer: Any) -> None:
        if answer.outcome is not RedeemOutcome.WRONG:
            raise RuntimeError(f"the live code was not there: {answer}")

    return Case(
        lambda size: [subject_of(next(numbers)) for _ in range(size)],
        lambda subject: store.redeem(subject, attempt, _ENDLESS, now),
        check,
    )


def _fill_memory(count: int) -> Store:
    store = MemoryStore(max_subjects=count)
    for number in range(count):
        store.open(subject_of(number), ChallengeRequest(_ID, b"a bucket 8"), POLICY, int(time.time()))
    return store


def _fill_redis(server: ValkeyServer, count: int) -> Store:
    store = open_store(server.uri)
    store.open(subject_of(0), ChallengeRequest(_ID, b"a bucket 8"), POLICY, int(time.time()))
    with server.client() as client:
        copies(client, "otp", count)
    return store
