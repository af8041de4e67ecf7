"""Pooled connections that are no good any more: of a server that is no master, forgotten by a firewall, broken."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from flask_otp.errors import StoreUnavailable
from flask_otp.redis_clients.pool import QUESTION_AFTER, Pool
from flask_otp.redis_clients.server import NotSent
from flask_otp.redis_clients.uri import connect
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock, capture_codes
from flask_otp.testing.stores import SubjectDriver
from tests.support.apps import AppFactory
from tests.support.proxy import Proxy
from tests.support.redis_verbs import QUESTIONS, failing, warm, warm_each
from tests.support.servers import Server, wait_until

pytestmark = pytest.mark.server

PATIENT = {"socket_timeout": 1, "socket_connect_timeout": 1}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers of one managed service."""
    directory = tmp_path_factory.mktemp("pair")
    servers = Server(directory), Server(directory)
    for server in servers:
        server.start()
    try:
        for server in servers:
            wait_until(server.is_up)
        yield servers
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def masters(pair: tuple[Server, Server]) -> tuple[Server, Server]:
    for server in pair:
        server.ask("REPLICAOF", "NO", "ONE")
        server.ask("FLUSHALL")
    return pair


@pytest.fixture
def proxy(masters: tuple[Server, Server]) -> Iterator[Proxy]:
    """The name: it leads to the first of the two."""
    with Proxy(masters[0].port) as proxy:
        yield proxy


@pytest.fixture
def stores(proxy: Proxy) -> Iterator[Callable[[], RedisStore]]:
    """Makes one store after the other, each with connections of its own."""
    with contextlib.ExitStack() as stack:

        def make() -> RedisStore:
            return stack.enter_context(
                contextlib.closing(RedisStore(f"redis://127.0.0.1:{proxy.port}", "otp", PATIENT))
            )

        yield make


@pytest.fixture
def store(stores: Callable[[], RedisStore]) -> RedisStore:
    return stores()


def fail_over(proxy: Proxy, old: Server, new: Server) -> None:
    """As a managed service does it: the roles change, and then the name. No connection breaks."""
    new.ask("REPLICAOF", "127.0.0.1", old.port)
    wait_until(new.is_replica)
    new.ask("REPLICAOF", "NO", "ONE")
    old.ask("REPLICAOF", "127.0.0.1", new.port)
    proxy.lead_to(new.port)


def pool_of(store: RedisStore) -> Pool:
    pool: Pool = store.client.connection_pool  # type: ignore[union-attr]
    return pool


def rest(store: RedisStore, seconds: float) -> None:
    """Let the idle connections be so old."""
    pool_of(store).clock = lambda: time.monotonic() + seconds


def fill(store: RedisStore, number: int) -> None:
    """Have so many idle connections."""
    pool = pool_of(store)
    taken = [pool.take()[0] for _ in range(number)]
    for connection in taken:
        pool.release(connection)


def charges(store: RedisStore, ann: SubjectDriver) -> int:
    """How many wrong codes of the subject were counted."""
    ((_, failures),) = [
        item
        for item in store.client.hgetall(store._key(ann.subject)).items()
        if item[0] == b"f"  # type: ignore[union-attr]
    ]
    return int.from_bytes(failures[:4], "little")


# The server is no master any more


def test_a_verb_that_a_replica_refused_goes_to_the_new_master(
    masters: tuple[Server, Server], proxy: Proxy, stores: Callable[[], RedisStore], clock: Clock
) -> None:
    callers = warm_each(stores, clock)
    fail_over(proxy, *masters)
    assert [failing(callers) for _ in range(3)] == [{}] * 3


def test_what_a_replica_refused_is_carried_out_once(
    masters: tuple[Server, Server], proxy: Proxy, store: RedisStore, clock: Clock
) -> None:
    ann, opened = warm(store, clock)
    fill(store, 4)
    fail_over(proxy, *masters)
    ann.wrong(opened)
    assert charges(store, ann) == 1
    # The other idle connections led to the old master as well.
    proxy.reset()
    assert ann.holds(b"proof")
    assert proxy.connections == 0


def test_the_guard_takes_no_proof_from_a_replica_that_was_revoked_on_the_new_master(
    masters: tuple[Server, Server], proxy: Proxy, store: RedisStore, clock: Clock
) -> None:
    """No write has met the new roles yet, and the old master has lost the new one."""
    ann, opened = warm(store, clock)
    fill(store, 4)
    old, new = masters
    fail_over(proxy, old, new)
    old.ask("REPLICAOF", "127.0.0.1", 1)
    with contextlib.closing(RedisStore(f"redis://127.0.0.1:{new.port}", "otp", PATIENT)) as elsewhere:
        SubjectDriver(elsewhere, clock, subject=ann.subject).revoke()
    assert not ann.holds(b"proof")
    assert not ann.is_live(opened)


@pytest.mark.parametrize("reason", ["a replica", "without its replicas"])
def test_a_question_to_what_may_be_out_of_date_is_503(
    masters: tuple[Server, Server], stores: Callable[[], RedisStore], clock: Clock, reason: str
) -> None:
    callers = {verb: caller for verb, caller in warm_each(stores, clock).items() if verb in QUESTIONS}
    if reason == "a replica":
        masters[0].ask("REPLICAOF", "127.0.0.1", masters[1].port)
    else:
        masters[0].ask("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        assert {verb: type(error) for verb, error in failing(callers).items()} == dict.fromkeys(
            QUESTIONS, StoreUnavailable
        )
    finally:
        masters[0].ask("CONFIG", "SET", "min-replicas-to-write", 0)


def test_a_master_that_cannot_save_answers_the_guard(
    masters: tuple[Server, Server], store: RedisStore, clock: Clock
) -> None:
    ann, opened = warm(store, clock)
    server = masters[0]
    server.ask("CONFIG", "SET", "save", "3600 1")
    in_the_way = server.directory / server.ask("CONFIG", "GET", "dbfilename")[b"dbfilename"].decode()
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    try:
        server.ask("BGSAVE")
        wait_until(lambda: server.ask("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(StoreUnavailable):
            ann.wrong(opened)
        assert ann.holds(b"proof")
        assert ann.is_live(opened)
    finally:
        in_the_way.rmdir()
        server.ask("CONFIG", "SET", "save", "")


def test_where_no_master_answers_to_the_name_it_is_503_after_one_more_try(
    masters: tuple[Server, Server], proxy: Proxy, store: RedisStore, clock: Clock
) -> None:
    ann, _ = warm(store, clock)
    masters[0].ask("REPLICAOF", "127.0.0.1", masters[1].port)
    wait_until(masters[0].is_replica)  # until then it may be too busy to answer
    proxy.reset()
    with pytest.raises(StoreUnavailable):
        ann.open()
    assert proxy.connections == 1


@pytest.mark.parametrize("own_limiter", [False, True], ids=["ours", "the app's Limiter"])
def test_the_storage_of_the_limits_follows_the_name_too(
    masters: tuple[Server, Server], proxy: Proxy, make_app: AppFactory, own_limiter: bool
) -> None:
    uri = f"redis://127.0.0.1:{proxy.port}"
    app = make_app(
        OTP_STORAGE_URI="memory://" if own_limiter else uri, OTP_STORAGE_OPTIONS={} if own_limiter else PATIENT
    )
    if own_limiter:
        Limiter(get_remote_address, app=app, storage_uri=uri)
    client = app.test_client()
    with capture_codes(app):
        assert client.post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
        fail_over(proxy, *masters)
        answers = [client.post("/otp/send", json={"email": f"bob{n}@example.com"}).status_code for n in range(4)]
    assert answers == [200] * 4


# A firewall has forgotten the connection


@pytest.mark.parametrize("how", ["reset", "silence"])
def test_a_verb_after_a_long_rest_works_though_the_connection_was_forgotten(
    proxy: Proxy, stores: Callable[[], RedisStore], clock: Clock, how: str
) -> None:
    callers = warm_each(stores, clock)
    for ann, _ in callers.values():
        rest(ann.store, QUESTION_AFTER)  # type: ignore[arg-type]
    proxy.forget(how)
    assert failing(callers, threads=len(callers)) == {}


@pytest.mark.parametrize("how", ["reset", "silence"])
def test_no_thread_of_many_is_refused_after_a_long_rest(
    proxy: Proxy, store: RedisStore, clock: Clock, how: str
) -> None:
    ann, _ = warm(store, clock)
    fill(store, 8)
    rest(store, QUESTION_AFTER)
    proxy.forget(how)
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: ann.holds(b"proof"), range(24)))


@pytest.mark.parametrize("how", ["reset", "silence"])
def test_a_connection_forgotten_after_a_short_rest_costs_one_request_and_no_more(
    proxy: Proxy, store: RedisStore, clock: Clock, how: str
) -> None:
    """It is not known whether the server had the command, so it is not sent again."""
    ann, opened = warm(store, clock)
    fill(store, 8)
    proxy.forget(how)
    with pytest.raises(StoreUnavailable):
        ann.wrong(opened)
    ann.wrong(opened, 3)
    assert charges(store, ann) == 3
    assert len(pool_of(store)._of_process.get().idle) == 1


def test_a_rested_connection_that_is_well_is_asked_once_and_used(proxy: Proxy, store: RedisStore, clock: Clock) -> None:
    ann, _ = warm(store, clock)
    proxy.reset()
    rest(store, QUESTION_AFTER - 1)
    ann.holds(b"proof")
    assert (proxy.round_trips, proxy.connections) == (1, 0)
    rest(store, 2 * QUESTION_AFTER)
    ann.holds(b"proof")
    assert (proxy.round_trips, proxy.connections) == (3, 0)


def test_how_long_a_connection_may_rest_is_an_option(proxy: Proxy, clock: Clock) -> None:
    options = {**PATIENT, "health_check_interval": 5}
    with contextlib.closing(RedisStore(f"redis://127.0.0.1:{proxy.port}", "otp", options)) as store:
        ann, _ = warm(store, clock)
        proxy.reset()
        rest(store, 6)
        ann.holds(b"proof")
        assert proxy.round_trips == 2


def test_an_account_that_may_not_ask_the_question_keeps_its_connections(
    masters: tuple[Server, Server], proxy: Proxy, clock: Clock
) -> None:
    masters[0].ask("ACL", "SETUSER", "shop", "on", ">secret", "~*", "+@all", "-ping")
    uri = f"redis://shop:secret@127.0.0.1:{proxy.port}"
    with contextlib.closing(RedisStore(uri, "otp", PATIENT)) as store:
        ann, _ = warm(store, clock)
        rest(store, QUESTION_AFTER)
        proxy.reset()
        assert ann.holds(b"proof")
        assert proxy.connections == 0


def test_a_connection_that_broke_while_it_was_idle_is_replaced(
    proxy: Proxy, stores: Callable[[], RedisStore], clock: Clock
) -> None:
    callers = warm_each(stores, clock)
    for ann, _ in callers.values():
        fill(ann.store, 3)  # type: ignore[arg-type]
    proxy.cut()
    assert failing(callers) == {}


# What is certain


class Refusing:
    """A connection whose other end was reset between the look at it and the command."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        raise redis.ConnectionError("Error 32 while writing to socket. Broken pipe.")


@pytest.mark.parametrize(("commands", "goes_again"), [(1, True), (2, False)])
def test_a_command_that_the_system_did_not_take_goes_again_and_two_commands_do_not(
    proxy: Proxy, commands: int, goes_again: bool
) -> None:
    """Of two, the first may have been on its way."""
    client = connect(f"redis://127.0.0.1:{proxy.port}", PATIENT)
    with contextlib.closing(client):
        client.exchange("key", ("SET", "key", 0))
        idle = client.connection_pool._of_process.get().idle  # type: ignore[union-attr]
        idle[:] = [(since, Refusing(connection)) for since, connection in idle]
        incr = [("INCR", "key")] * commands
        if goes_again:
            assert client.exchange("key", *incr) == [1]
        else:
            with pytest.raises(redis.ConnectionError) as caught:
                client.exchange("key", *incr)
            assert not isinstance(caught.value, NotSent)
        assert client.exchange("key", ("GET", "key")) == [b"1" if goes_again else b"0"]


def test_a_server_before_version_7_is_known_for_a_replica_by_its_words(proxy: Proxy, store: RedisStore) -> None:
    words = "Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only replica."
    answer = Words(words)
    with pytest.raises(redis.exceptions.ReadOnlyError):
        store.client._converse(answer, [("EVALSHA", "1")])  # type: ignore[union-attr]


class Words:
    """A connection over which an error comes."""

    def __init__(self, words: str) -> None:
        self.words = words

    def pack_commands(self, commands: object) -> None: ...

    def send_packed_command(self, packed: object, check_health: bool) -> None: ...

    def disconnect(self) -> None: ...

    def read_response(self) -> None:
        raise redis.ResponseError(self.words)


# Whose connections they are


#: As uWSGI does it: the C library forks, and Python's hooks are not called. The process has one thread: a child of one
#: with more could wait for ever for a lock of a thread that it does not have.
FORKING = """
import ctypes, os, sys
from flask_otp.redis_clients.uri import connect

client = connect(sys.argv[1], {"socket_timeout": 10})
pool = client.connection_pool
for connection in [pool.take()[0] for _ in range(2)]:
    pool.release(connection)

def use():
    return [client.exchange("key", ("GET", "key")) for _ in range(2)] == [[None], [None]]

child = ctypes.PyDLL(None).fork()
if child == 0:
    os._exit(0 if use() else 1)
assert os.waitpid(child, 0)[1] == 0
assert use()
"""


def test_a_child_makes_connections_of_its_own_without_any_hook_on_forks(proxy: Proxy) -> None:
    command = [sys.executable, "-c", FORKING, f"redis://127.0.0.1:{proxy.port}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert proxy.connections == 3  # two of the parent, which still serve it, and one of the child


def test_connections_are_bounded_and_given_back(proxy: Proxy) -> None:
    client = connect(f"redis://127.0.0.1:{proxy.port}", {**PATIENT, "max_connections": 2})
    pool: Pool = client.connection_pool  # type: ignore[union-attr]
    taken = [pool.take()[0] for _ in range(2)]
    with pytest.raises(NotSent):
        client.exchange("key", ("GET", "key"))
    pool.release(taken.pop())
    assert client.exchange("key", ("GET", "key")) == [None]
    pool.discard(taken.pop())
    client.close()


def made_before_use(store: RedisStore) -> dict[int, object]:
    return pool_of(store)._of_process._made


def test_nothing_is_made_before_the_first_use(proxy: Proxy, clock: Clock) -> None:
    with contextlib.closing(RedisStore(f"redis://127.0.0.1:{proxy.port}", "otp", PATIENT)) as store:
        assert made_before_use(store) == {}
        SubjectDriver(store, clock).open()
        assert list(made_before_use(store)) == [os.getpid()]
