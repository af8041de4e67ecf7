"""The examples with a queue, and their real workers on a real Valkey: what arrives when a worker is killed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
import rq
from aiosmtpd.smtp import SMTP, Envelope, Session
from flask.testing import FlaskClient

from flask_otp.delivery.environment import loses_background
from flask_otp.testing import Clock, set_clock
from tests.support.apps import SECRET, ValkeyServer
from tests.support.leaks import layers
from tests.support.mail import Inbox, serving
from tests.support.servers import wait_until

pytestmark = pytest.mark.server

PAGES = Path(__file__).parents[2] / "docs" / "guides"
MODULES = {"celery": "celery", "rq": "rq.cli"}
ANN = "ann@example.com"
#: Seconds that a worker may need to start, and to deliver, on a busy machine.
PATIENCE = 60


class Mailbox(Inbox):
    """A mail server. What comes while it is told to wait, it holds up, and takes in no case."""

    def __init__(self) -> None:
        super().__init__()
        #: Seconds that it takes, whether or not the sender still listens.
        self.takes = 0.0
        self.waits = threading.Event()
        self.waiting = threading.Semaphore(0)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.waits.is_set():
            self.waiting.release()
            while self.waits.is_set():
                await asyncio.sleep(0.01)
            return "451 too late"
        await asyncio.sleep(self.takes)
        return await super().handle_DATA(server, session, envelope)

    def letters(self) -> list[tuple[str, str]]:
        """Recipient and code of each."""
        codes = self.codes()
        return [(envelope.rcpt_tos[0], code) for envelope, code in zip(self.envelopes, codes, strict=False)]

    def codes(self) -> list[str]:
        texts = [envelope.content for envelope in self.envelopes]
        return [
            re.findall(rb"^ +(\d{6})\r?$", text, re.MULTILINE)[0].decode() for text in texts if isinstance(text, bytes)
        ]


class Queued:
    """The app of a page, in this process, and workers, started by the page's own command.

    :param broker: another one than the store's.
    :param own_times: use the page's times too. Otherwise one second stands for Celery's thirty.
    """

    def __init__(
        self,
        page: str,
        directory: Path,
        valkey: ValkeyServer,
        mailbox: Mailbox,
        broker: ValkeyServer | None = None,
        own_times: bool = False,
        **settings: str,
    ) -> None:
        text = (PAGES / f"{page}.md").read_text("utf-8")
        (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        (commands,) = re.findall(r"```sh\n(.*?)```", text.replace("\\\n", " "), re.DOTALL)
        (command,) = re.findall(r"^(\w+) (.*) &$", commands, re.MULTILINE)
        self.page, self.valkey, self.mailbox, self.directory = page, valkey, mailbox, directory
        self.broker = f"{(broker or valkey).uri}/1"
        arguments = shlex.split(command[1].replace("$FLASK_RQ_URL", self.broker))
        self.command = [sys.executable, "-m", MODULES[command[0]], *arguments]
        self.settings = {
            "FLASK_SECRET_KEY": SECRET,
            "FLASK_OTP_STORAGE_URI": valkey.uri,
            "FLASK_OTP_STORAGE_OPTIONS": '{"socket_timeout": 10, "socket_connect_timeout": 10}',
            "FLASK_OTP_COOLDOWN": "0s",
            "FLASK_OTP_IP_SEND_LIMIT": "1000/minute",
            "FLASK_OTP_IP_VERIFY_LIMIT": "1000/minute",
            "FLASK_MAIL_SERVER": "127.0.0.1",
            "FLASK_MAIL_PORT": str(mailbox.port),
            "FLASK_MAIL_DEFAULT_SENDER": "codes@shop.example",
            "FLASK_RQ_URL": self.broker,
            "FLASK_CELERY__broker_url": self.broker,
            **settings,
        }
        if not own_times:
            options = "FLASK_CELERY__broker_transport_options"
            self.settings |= {f"{options}__visibility_timeout": "1", f"{options}__unacked_restore_interval": "1"}
        (directory / "app.py").write_text(source, encoding="utf-8")
        self.log = directory / "worker.log"
        self.worker: subprocess.Popen[bytes] | None = None
        self.names: Any = ModuleType("app")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.items():
                patch.setenv(name, value)
            exec(compile(source, f"{page}.md", "exec"), vars(self.names))
        self.app = self.names.app
        self.app.testing = True

    def close(self) -> None:
        self.kill_all()
        connection = self.names.celery if self.page == "celery" else self.names.connection
        connection.close()

    # Workers

    def start(self) -> None:
        """A worker, in a session of its own, in which its children are too."""
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=os.environ | self.settings,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill_all(self) -> None:
        """As when the machine dies: ``kill -9`` for the worker and all of its children."""
        if self.worker is not None:
            for process, _ in self._session():
                _kill(process)
            self.worker.wait()
            self.worker = None

    def stop_all(self) -> None:
        """Whatever is sent to them, they do nothing, as on a machine that is too busy."""
        for process, _ in self._session():
            os.kill(process, signal.SIGSTOP)

    def kill_the_child(self) -> None:
        """``kill -9`` for what delivers, and not for what watches over it."""
        assert self.worker is not None
        children = [(process, group) for process, group in self._session() if process != self.worker.pid]
        # RQ's has a process group of its own, unlike its scheduler.
        grouped = [process for process, group in children if group == process]
        for process in grouped or [process for process, _ in children]:
            _kill(process)

    def _session(self) -> list[tuple[int, int]]:
        """Process and group of each in the worker's session."""
        assert self.worker is not None
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                _, _, group, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.worker.pid:
                    found.append((int(path.parent.name), int(group)))
        return found

    def time_passes(self) -> None:
        """For RQ a minute: its worker was not heard of, and holds no lock any more. Celery's is a second here."""
        with contextlib.closing(redis.Redis.from_url(self.broker)) as client:
            client.delete("rq:scheduler-lock:otp")
            for running in _values(client, b"rq:wip:otp"):
                client.zadd("rq:wip:otp", {running: 1})

    # People

    def send(self, client: FlaskClient | None = None) -> FlaskClient:
        client = client or self.app.test_client()
        assert client.post("/otp/send", json={"email": f"{random.randbytes(8).hex()}@example.com"}).status_code == 200
        return client

    def arrives(self, seconds: float = PATIENCE) -> str:
        """The code, once a message has arrived. A worker that has quit meanwhile is started again, as on a site."""

        def has_arrived() -> bool:
            if self.worker is not None and self.worker.poll() is not None:
                self.start()
            return bool(self.mailbox.envelopes)

        try:
            wait_until(has_arrived, seconds)
        except AssertionError:
            raise AssertionError(self.log.read_text() + repr(list(self.in_broker()))) from None
        return self.mailbox.codes()[-1]

    def is_held_up(self) -> None:
        assert self.mailbox.waiting.acquire(timeout=PATIENCE), self.log.read_text()

    def in_broker(self, database: int = 1) -> Iterator[bytes]:
        """Every key and value."""
        with contextlib.closing(redis.Redis.from_url(f"{self.broker[:-1]}{database}")) as client:
            keys: Any = client.keys("*")
            for key in keys:
                yield key
                yield from _values(client, key)

    def in_valkey(self) -> Iterator[bytes]:
        """All that the store and the broker hold, down to what is in it in base64, or compressed."""
        for value in (*self.in_broker(), *self.in_broker(0)):
            yield from _within(value)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _values(client: redis.Redis, key: bytes) -> list[bytes]:
    read: dict[bytes, Callable[[], Any]] = {
        b"string": lambda: [client.get(key)],
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"hash": lambda: [item for pair in client.hgetall(key).items() for item in pair],
    }
    kind: Any = client.type(key)
    return list(read[kind]()) if kind in read else []


def _within(value: bytes) -> Iterator[bytes]:
    with contextlib.suppress(zlib.error):
        value = zlib.decompress(value)
    yield from layers(value.decode("latin-1"))
    for run in re.findall(rb"[A-Za-z0-9+/]{16,}={0,2}", value):
        with contextlib.suppress(ValueError):
            yield from layers(base64.b64decode(run).decode("latin-1"))


def verifies_once(client: FlaskClient, code: str) -> bool:
    answers = [client.post("/otp/verify", json={"code": code}).status_code for _ in range(2)]
    return answers == [200, 400]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with serving(Mailbox()) as mailbox:
        assert isinstance(mailbox, Mailbox)
        yield mailbox
        mailbox.waits.clear()


MakeQueued = Callable[..., Queued]


@pytest.fixture
def make_queued(tmp_path: Path, valkey: ValkeyServer, mailbox: Mailbox) -> Iterator[MakeQueued]:
    with contextlib.ExitStack() as stack:

        def make(page: str, **options: Any) -> Queued:
            return stack.enter_context(contextlib.closing(Queued(page, tmp_path, valkey, mailbox, **options)))

        yield make


@pytest.fixture(params=["celery", "rq"])
def queued(request: pytest.FixtureRequest, make_queued: MakeQueued) -> Queued:
    return make_queued(request.param)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Another server than the store's, which is not started yet."""
    broker = ValkeyServer(tmp_path)
    yield broker
    broker.stop()


@pytest.mark.long
def test_a_code_arrives_once_although_its_worker_is_killed_and_killed_again(
    queued: Queued, mailbox: Mailbox, clock: Clock
) -> None:
    late = queued.app.test_client()
    before = set_clock(queued.app, clock)
    clock.now = time.time() - 301
    queued.send(late)
    set_clock(queued.app, before)
    mailbox.waits.set()
    client = queued.send()
    waiting = list(queued.in_valkey())
    # First, what is only in one process of it dies.
    queued.start()
    queued.is_held_up()
    queued.kill_the_child()
    # Then, all of it.
    queued.is_held_up()
    queued.kill_all()
    mailbox.waits.clear()
    queued.time_passes()
    queued.start()
    code = queued.arrives()
    assert verifies_once(client, code)
    assert "its code has expired" in queued.log.read_text()
    assert any(b'"delivery"' in layer for layer in waiting)
    assert not any(code.encode() in layer for layer in waiting)
    assert len(mailbox.envelopes) == 1


@pytest.mark.parametrize("page", [pytest.param("celery", marks=pytest.mark.long), "rq"])
def test_the_next_channel_is_a_job_that_waits_and_outlives_a_killed_worker(
    page: str, make_queued: MakeQueued, mailbox: Mailbox
) -> None:
    channels = '{"email": "email", "second": "email", "third": "email"}'
    queued = make_queued(page, FLASK_OTP_CHANNELS=channels, FLASK_OTP_NEXT_CHANNEL_AFTER="3s")
    client, started = queued.send(), time.monotonic()
    queued.start()
    code = queued.arrives()
    queued.kill_all()
    queued.time_passes()
    queued.start()
    wait_until(lambda: len(mailbox.envelopes) == 2, PATIENCE)
    assert time.monotonic() - started >= 3
    # The third is planned by now, and not wanted any more.
    assert verifies_once(client, code)
    wait_until(lambda: not any(b'"next"' in layer for layer in queued.in_valkey()), PATIENCE)
    assert set(mailbox.codes()) == {code}
    assert len(mailbox.envelopes) == 2


@pytest.mark.long
@pytest.mark.parametrize(("page", "after"), [("celery", 6), ("rq", 30)])
def test_in_200_rounds_no_message_follows_a_code_that_was_verified_just_before_the_next_channel(
    page: str, after: int, make_queued: MakeQueued, mailbox: Mailbox
) -> None:
    """A busy machine may miss the moment. Then there is a message, and the proof says so."""
    channels = '{"email": "email", "second": "email"}'
    queued = make_queued(page, FLASK_OTP_CHANNELS=channels, FLASK_OTP_NEXT_CHANNEL_AFTER=f"{after}s")
    queued.start()

    def verify_at_the_last_moment(clients: dict[str, FlaskClient]) -> list[list[str]]:
        started = time.monotonic()
        for who, client in clients.items():
            assert client.post("/otp/send", json={"email": who}).status_code == 200
        wait_until(lambda: {who for who, _ in mailbox.letters()} >= clients.keys(), PATIENCE)
        wait_until(lambda: time.monotonic() - started > after - 0.2, PATIENCE)
        codes = dict(mailbox.letters())
        answers = [client.post("/otp/verify", json={"code": codes[who]}) for who, client in clients.items()]
        # A message by the next channel waits in the queue itself, after it was planned.
        wait_until(lambda: not any(b'"next"' in layer or b'"delivery"' in layer for layer in queued.in_valkey()), 120)
        return [answer.get_json()["channels"] for answer in answers]

    proved = []
    for batch in range(10):
        clients = {f"person{batch}-{number}@example.com": queued.app.test_client() for number in range(20)}
        proved += verify_at_the_last_moment(clients)
        sent = Counter(who for who, _ in mailbox.letters())
        assert [sent[who] for who in clients] == [len(channels) for channels in proved[-20:]]
    assert len(proved) == 200
    assert proved.count(["email"]) > 20


@pytest.mark.parametrize("page", ["celery", "rq"])
def test_when_the_broker_is_down_the_person_is_told_at_once(
    page: str, make_queued: MakeQueued, broker: ValkeyServer
) -> None:
    queued = make_queued(page, broker=broker)
    started = time.monotonic()
    answer = queued.app.test_client().post("/otp/send", json={"email": ANN})
    assert (answer.status_code, answer.json["reason"]) == (503, "delivery_failed")
    assert time.monotonic() - started < 5


@pytest.mark.long
def test_in_many_rounds_of_killing_at_any_moment_every_code_arrives(queued: Queued, mailbox: Mailbox) -> None:
    """How often each came: ``pytest -m long -n0 -s -k any_moment``."""
    outcomes: Counter[tuple[str, int]] = Counter()
    mailbox.takes = 0.3
    queued.start()
    for _ in range(30):
        mailbox.envelopes.clear()
        client = queued.send()
        time.sleep(random.uniform(0, 2))
        how = random.choice(["child", "all"])
        if how == "child":
            queued.kill_the_child()
        else:
            queued.kill_all()
            queued.time_passes()
            queued.start()
        try:
            code = queued.arrives(100)
        except AssertionError:
            # The gap that the page describes.
            assert (queued.page, how) == ("celery", "all")
            client.post("/otp/resend")
            code = queued.arrives()
            outcomes[how, 0] += 1
        else:
            time.sleep(3)  # for another, if there is one
            outcomes[how, len(mailbox.envelopes)] += 1
        assert set(mailbox.codes()) == {code}
        assert verifies_once(client, code)
    print(f"\n{queued.page}: killed, and how often the code came: {dict(outcomes)}")
    assert max(count for _, count in outcomes) <= 3


@pytest.mark.long
@pytest.mark.parametrize("page", ["celery", "rq"])
def test_by_the_times_of_the_page_a_code_arrives_within_its_life_when_all_of_a_worker_was_killed(
    page: str, make_queued: MakeQueued, mailbox: Mailbox
) -> None:
    queued = make_queued(page, own_times=True)
    mailbox.waits.set()
    client = queued.send()
    queued.start()
    queued.is_held_up()
    queued.kill_all()
    mailbox.waits.clear()
    started = time.monotonic()
    queued.start()
    code = queued.arrives(200)
    print(f"\n{page}: {time.monotonic() - started:.0f} seconds after it was killed")
    assert verifies_once(client, code)


@pytest.mark.long
def test_a_mail_server_that_refuses_for_a_while_is_tried_again(queued: Queued, mailbox: Mailbox) -> None:
    mailbox.data_reply = "451 not now"
    client = queued.send()
    queued.start()
    wait_until(lambda: queued.log.read_text().count("451") >= 2, PATIENCE)
    mailbox.data_reply = "250 OK"
    assert verifies_once(client, queued.arrives())


@pytest.mark.long
def test_a_celery_worker_goes_on_when_the_broker_was_away(
    make_queued: MakeQueued, broker: ValkeyServer, mailbox: Mailbox
) -> None:
    broker.start()
    queued = make_queued("celery", broker=broker)
    queued.start()
    queued.send()
    queued.arrives()
    broker.stop()
    time.sleep(3)
    broker.start()
    mailbox.envelopes.clear()
    assert verifies_once(queued.send(), queued.arrives())


@pytest.mark.long
def test_what_was_handed_to_a_worker_that_never_saw_it_is_lost_with_celery_and_not_with_rq(
    queued: Queued, mailbox: Mailbox
) -> None:
    queued.start()
    queued.send()
    queued.arrives()
    time.sleep(3)  # until it waits for the next
    queued.stop_all()
    mailbox.envelopes.clear()
    client = queued.send()
    time.sleep(0.5)
    queued.kill_all()
    queued.start()
    if queued.page == "celery":
        time.sleep(20)
        assert mailbox.envelopes == []
        client.post("/otp/resend")
    assert verifies_once(client, queued.arrives(200))


def test_a_job_of_rq_knows_that_its_process_ends_with_it(valkey: ValkeyServer) -> None:
    """A thread that the job leaves behind is lost. An app that starts such a thread therefore gets a warning."""
    with contextlib.closing(valkey.client()) as client:
        job = rq.Queue(connection=client).enqueue(loses_background)
        assert loses_background() is None  # here rq is loaded too, and no job is running
        worker = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--quiet", "--url", valkey.uri]
        subprocess.run(worker, timeout=PATIENCE, check=True)
        assert job.return_value() == "an RQ worker ends its process with the job"
