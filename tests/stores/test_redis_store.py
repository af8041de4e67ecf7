"""What only the Redis store has: round trips, failures of network and server, keys, and what a dump shows."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from flask_otp.errors import ConfigError, StoreUnavailable
from flask_otp.redis_clients.server import Command, NotReplicated, NotSent, Replicated, pack
from flask_otp.stores import OpenResult, store_from_uri
from flask_otp.stores.base import KNOWN_BROWSER_FOR
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock, capture_codes
from flask_otp.testing.stores import BROWSER, DAY, HOUR, MATCH, NO_LIMITS, REFUSED, SEND, WRONG, SubjectDriver
from tests.support.apps import AppFactory, ValkeyServer, free_port
from tests.support.leaks import Dump, issue
from tests.support.proxy import Proxy
from tests.support.redis_verbs import QUESTIONS, VERBS, failing, seconds_to_fail, warm, warm_each

pytestmark = pytest.mark.server

TIMEOUT = 0.25
PATIENT = {"socket_timeout": 10, "socket_connect_timeout": 10}

StoreFactory = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server of this module's own, to be stopped and starved."""
    server = ValkeyServer(tmp_path_factory.mktemp("own-valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(own_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """The same, running and empty, with its memory unlimited again afterwards."""
    if own_server.process is None:
        own_server.start()
    with contextlib.closing(own_server.client()) as client:
        client.flushall()
    yield own_server
    if own_server.process is not None:
        with contextlib.closing(own_server.client()) as client:
            client.config_set("maxmemory", 0)


@pytest.fixture
def proxy(server: ValkeyServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def connect() -> Iterator[StoreFactory]:
    """``connect(port_or_uri, **options)``: a store, closed after the test."""
    stores = []

    def make(where: int | str, prefix: str = "otp", **options: Any) -> RedisStore:
        uri = where if isinstance(where, str) else f"redis://127.0.0.1:{where}"
        stores.append(RedisStore(uri, prefix, options))
        return stores[-1]

    yield make
    for store in stores:
        store.client.close()


# Round trips


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_verb_is_one_round_trip(proxy: Proxy, connect: StoreFactory, clock: Clock, protocol: int) -> None:
    store = connect(proxy.port, protocol=protocol, **PATIENT)
    for verb, caller in warm_each(lambda: store, clock).items():
        proxy.reset()
        VERBS[verb](*caller)
        assert (proxy.round_trips, proxy.connections) == (1, 0), verb


def test_every_answer_of_every_verb_is_one_round_trip(proxy: Proxy, connect: StoreFactory, clock: Clock) -> None:
    ann, opened = warm(connect(proxy.port, **PATIENT), clock)
    steps: list[Callable[[], object]] = [
        lambda: ann.open(b"bucket2"),
        lambda: ann.reopen(opened, b"bucket2"),
        lambda: ann.reopen(OpenResult(SEND, b"unknown")),
        lambda: ann.holds(b"unknown"),
        lambda: ann.is_live(opened),
        lambda: ann.is_live(OpenResult(SEND, b"unknown")),
        lambda: ann.note(b"mark"),
        lambda: ann.check(b"step"),
        lambda: ann.check(b"step"),
        lambda: ann.check(b"another", matches=False),
        lambda: ann.pair(matches=False),
        lambda: ann.check(b"recovery", strong=True),
        lambda: ann.check(b"stranger", surge=True),
        lambda: ann.spend(b"unknown"),
        lambda: ann.drop(OpenResult(SEND, b"unknown")),
        *[lambda: ann.wrong(opened)] * 6,
        lambda: ann.right(opened),
    ]
    for number, step in enumerate(steps):
        proxy.reset()
        step()
        assert proxy.round_trips == 1, number


# One server


def test_errors_of_the_server_come_when_all_replies_are_read_and_keep_the_connection(
    proxy: Proxy, connect: StoreFactory
) -> None:
    client = connect(proxy.port, **PATIENT).client
    client.exchange("key", ("SET", "key", "text"))
    proxy.reset()
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.exchange("key", ("INCR", "key"), ("SET", "key", "2"))
    assert client.exchange("key", ("GET", "key"), ("INCR", "key")) == [b"2", 3]
    assert (proxy.round_trips, proxy.connections) == (2, 0)


def test_a_connection_whose_reply_was_lost_is_given_up_and_the_next_is_good(
    proxy: Proxy, connect: StoreFactory
) -> None:
    client = connect(proxy.port, socket_timeout=0.1).client
    client.exchange("key", ("SET", "key", "text"))
    proxy.reset()
    proxy.lose_reply("silence")
    with pytest.raises(redis.TimeoutError):
        client.exchange("key", ("GET", "key"))
    assert client.exchange("key", ("PING",)) == [b"PONG"]
    assert proxy.connections == 1


def test_what_was_not_sent_says_so(connect: StoreFactory) -> None:
    with pytest.raises(NotSent, match=r"^no connection to the server$"):
        connect(free_port()).client.exchange("key", ("PING",))


@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 0.25), ({"socket_timeout": 2}, 2), ({"socket_timeout": None}, 0.25)]
)
def test_a_client_tells_how_long_it_waits(connect: StoreFactory, options: dict[str, Any], seconds: float) -> None:
    assert connect("redis://localhost", **options).client.timeout == seconds


class Acknowledging:
    """A client with so many replicas, which remembers what it was asked for."""

    def __init__(self, replicas: int, timeout: float) -> None:
        self.replicas = replicas
        self.timeout = timeout
        self.asked: list[Any] = []

    def exchange(self, key: bytes | str, *commands: Command) -> list[Any]:
        self.asked.append((key, *commands))
        return [b"reply"] * (len(commands) - 1) + [self.replicas]

    def close(self) -> None:
        self.asked.append("close")


@pytest.mark.parametrize(("timeout", "milliseconds"), [(0.25, 200), (2, 1600), (0.001, 1)])
def test_r37_replicas_are_waited_for_until_shortly_before_the_time_out(timeout: float, milliseconds: int) -> None:
    client = Acknowledging(2, timeout)
    strict = Replicated(client, 2)
    assert strict.exchange("key", ("SET", "key", "1"), ("GET", "key")) == [b"reply"] * 2
    assert client.asked == [("key", ("SET", "key", "1"), ("GET", "key"), ("WAIT", 2, milliseconds))]
    assert strict.timeout == timeout


@pytest.mark.parametrize(("replicas", "enough"), [(1, False), (2, True), (3, True)])
def test_r37_a_reply_counts_when_so_many_replicas_have_acknowledged_it(replicas: int, enough: bool) -> None:
    strict = Replicated(Acknowledging(replicas, 1), 2)
    if enough:
        assert strict.exchange("key", ("GET", "key")) == [b"reply"]
    else:
        with pytest.raises(NotReplicated, match=r"^too few replicas have acknowledged a change$"):
            strict.exchange("key", ("GET", "key"))


def test_no_replica_is_asked_unless_the_options_say_so(
    valkey: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    with contextlib.closing(valkey.client()) as client:
        client.config_resetstat()
        SubjectDriver(connect(valkey.uri, **PATIENT), clock).open()
        assert {"cmdstat_evalsha", "cmdstat_wait"} & set(client.info("commandstats")) == {"cmdstat_evalsha"}


def test_waiting_for_replicas_closes_the_client_itself() -> None:
    client = Acknowledging(1, 1)
    Replicated(client, 1).close()
    assert client.asked == ["close"]


# Scripts that the server has forgotten


def test_a_server_that_lost_its_scripts_is_given_them_again(
    server: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(server.port, **PATIENT)
    digests = {script.sha for script in store._scripts.values()}
    with contextlib.closing(server.client()) as client:
        for verb, caller in warm_each(lambda: store, clock).items():
            client.script_flush()
            assert not any(client.script_exists(*digests))
            VERBS[verb](*caller)
            assert any(client.script_exists(*digests)) or verb in ("drop", *QUESTIONS), verb


def test_the_first_verb_after_a_restart_works_on_an_old_connection(
    server: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    """Whichever verb it is: each has a connection of its own."""
    callers = warm_each(lambda: connect(server.port, **PATIENT), clock)
    server.stop()
    server.start()
    assert failing(callers) == {}


# Servers out of reach


def test_r37_a_refused_connection_is_known_at_once(connect: StoreFactory, clock: Clock) -> None:
    ann, opened = SubjectDriver(connect(free_port()), clock), OpenResult(SEND, b"id", bucket=b"bucket")
    for verb, call in VERBS.items():
        assert seconds_to_fail(lambda call=call: call(ann, opened), enough=0.05) < 0.05, verb  # type: ignore[misc]


RETRYING = [
    {},
    {"retry_on_timeout": True},
    {"retry": Retry(NoBackoff(), 3)},
    {"retry_on_error": [redis.ConnectionError, redis.TimeoutError], "retry": Retry(NoBackoff(), 3)},
]


@pytest.mark.parametrize("options", RETRYING, ids=["defaults", "on-timeout", "retry", "on-error"])
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_r07_a_verb_whose_reply_was_lost_has_run_once_whatever_the_options_say(
    proxy: Proxy, connect: StoreFactory, clock: Clock, how: str, options: dict[str, Any]
) -> None:
    ann, opened = warm(connect(proxy.port, **{"socket_timeout": 0.5, **options}), clock)
    proxy.reset()
    proxy.lose_reply(how)
    with pytest.raises(StoreUnavailable):
        ann.wrong(opened)
    assert proxy.round_trips == 1
    assert ann.wrong(opened, 5) == [WRONG] * 4 + [REFUSED]


def test_r07_nor_does_the_uri_make_it_run_twice(proxy: Proxy, connect: StoreFactory, clock: Clock) -> None:
    ann, opened = warm(connect(f"redis://127.0.0.1:{proxy.port}?retry_on_timeout=true", socket_timeout=0.5), clock)
    proxy.reset()
    proxy.lose_reply("silence")
    with pytest.raises(StoreUnavailable):
        ann.wrong(opened)
    assert proxy.round_trips == 1


# Servers that answer, but will not


@pytest.fixture
def starved(server: ValkeyServer) -> Callable[[], None]:
    def starve() -> None:
        with contextlib.closing(server.client()) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)

    return starve


def test_r37_a_code_tried_without_memory_leaves_no_proof(
    server: ValkeyServer, starved: Callable[[], None], connect: StoreFactory, clock: Clock
) -> None:
    ann, opened = warm(connect(server.port, **PATIENT), clock)
    starved()
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            ann.right(opened, b"new proof")
    with contextlib.closing(server.client()) as client:
        client.config_set("maxmemory", 0)
    assert not ann.holds(b"new proof")


def test_r25_a_revocation_needs_no_memory(
    server: ValkeyServer, starved: Callable[[], None], connect: StoreFactory, clock: Clock
) -> None:
    ann, opened = warm(connect(server.port, **PATIENT), clock)
    assert ann.holds(b"proof")
    starved()
    ann.revoke()
    assert not ann.holds(b"proof")
    with contextlib.closing(server.client()) as client:
        client.config_set("maxmemory", 0)
    assert ann.right(opened) is not MATCH


@pytest.mark.parametrize("kind", ["text", "list"])
def test_r37_a_foreign_key_is_an_outage_and_no_crash(
    server: ValkeyServer, connect: StoreFactory, clock: Clock, kind: str
) -> None:
    store = connect(server.port, **PATIENT)
    callers = warm_each(lambda: store, clock)
    with contextlib.closing(server.client()) as client:
        for key in list(client.scan_iter()):
            client.delete(key)
            client.set(key, b"\xc1 what?") if kind == "text" else client.rpush(key, "what?")
    assert {verb: type(error) for verb, error in failing(callers).items()} == dict.fromkeys(VERBS, StoreUnavailable)


def test_r37_a_wrong_password_is_an_outage(server: ValkeyServer, connect: StoreFactory, clock: Clock) -> None:
    store = connect(f"redis://somebody:secret@127.0.0.1:{server.port}", **PATIENT)
    with pytest.raises(StoreUnavailable) as caught:
        SubjectDriver(store, clock).open()
    assert "secret" not in str(caught.value)


# Keys


def test_r50_every_key_expires_and_not_before_its_state_does(
    valkey: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(valkey.uri, **PATIENT)
    callers = warm_each(lambda: store, clock)
    assert failing(callers) == {}
    with contextlib.closing(valkey.client()) as client:
        lives = {key: client.ttl(key) for key in client.scan_iter()}
    assert len(lives) == 1 + len(callers)
    assert all(DAY - 60 < life <= KNOWN_BROWSER_FOR for life in lives.values())


@pytest.mark.parametrize("used_again", [False, True], ids=["", "and used again"])
@pytest.mark.parametrize(
    ("limits", "act", "life"),
    [
        ({}, lambda ann: ann.open(), 300),
        ({}, lambda ann: ann.prove(b"proof"), 12 * HOUR),
        ({"send_limit": ((9, 40 * DAY),)}, lambda ann: ann.open(), 40 * DAY),
        ({"recipient_limit": ((9, 40 * DAY),)}, lambda ann: ann.open(), 40 * DAY),
        ({"failure_budget": ((9, 90 * DAY),)}, lambda ann: ann.wrong(ann.open()), 90 * DAY),
        ({"failure_budget": ((9, 90 * DAY),)}, lambda ann: ann.wrong(ann.open(known=BROWSER)), 90 * DAY),
        ({}, lambda ann: ann.revoke(), KNOWN_BROWSER_FOR),
        ({}, lambda ann: ann.note(b"mark"), HOUR),
        ({}, lambda ann: ann.check(b"step", life=40 * DAY), 40 * DAY),
        ({}, lambda ann: ann.check(b"step"), 12 * HOUR),
        ({"failure_budget": ((9, 90 * DAY),)}, lambda ann: ann.check(matches=False), 90 * DAY),
        ({"send_limit": ((9, 40 * DAY),)}, lambda ann: ann.pair(matches=False), 40 * DAY),
        ({"recipient_limit": ((9, 40 * DAY),)}, lambda ann: ann.pair(matches=False), 40 * DAY),
    ],
    ids=[
        *("challenge", "proof", "bucket", "recipient", "failure", "known browser's failure", "revocation", "note"),
        *("mark", "proof of an app", "failure of an app", "pair", "pair of anybody"),
    ],
)
def test_r50_a_key_lives_as_long_as_the_longest_of_what_it_holds(
    valkey: ValkeyServer,
    connect: StoreFactory,
    clock: Clock,
    limits: dict[str, Any],
    act: Callable[[SubjectDriver], object],
    life: int,
    used_again: bool,
) -> None:
    """Else a spent budget or a revocation would be forgotten with it."""
    store = connect(valkey.uri, **PATIENT)
    act(SubjectDriver(store, clock, replace(NO_LIMITS, **limits)))
    if used_again:
        SubjectDriver(store, clock, NO_LIMITS).open(b"another bucket")
    with contextlib.closing(valkey.client()) as client:
        (key,) = client.keys()
        assert life - 30 < client.ttl(key) <= life


def test_a_subject_that_means_nothing_any_more_leaves_no_key(
    valkey: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    ann = SubjectDriver(connect(valkey.uri, **PATIENT), clock, NO_LIMITS)
    ann.drop(ann.open())
    ann.prove(b"proof")
    ann.spend(b"proof")
    ann.holds(b"proof")
    ann.note(b"over", -10)
    ann.is_live(OpenResult(SEND, b"unknown"))
    ann.wrong(OpenResult(SEND, b"unknown"))
    with contextlib.closing(valkey.client()) as client:
        assert client.keys() == []


def test_an_expired_note_leaves_no_key_and_no_field(valkey: ValkeyServer, connect: StoreFactory, clock: Clock) -> None:
    ann = SubjectDriver(connect(valkey.uri, **PATIENT), clock, NO_LIMITS)
    ann.open()
    with contextlib.closing(valkey.client()) as client:
        before = client.hgetall(*client.keys())
        ann.note(b"over", 0)
        assert client.hgetall(*client.keys()) == before


def test_every_key_starts_with_the_prefix_and_lies_in_its_subjects_slot(
    valkey: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    store = connect(valkey.uri, "shop", **PATIENT)
    for subject in (bytes(16), b"\xff" * 16, b"{}" * 8, b"s" * 16):
        ann = SubjectDriver(store, clock, subject=subject)
        before = all_keys(valkey)
        ann.prove(b"proof", b"bucket1")
        for number in range(3):
            ann.wrong(ann.open(b"bucket%d" % number, session_tag=b"h", known=b"known"), 2)
        ann.revoke()
        new = all_keys(valkey) - before
        tags = {re.fullmatch(rb"shop:\{([A-Za-z0-9_-]+)\}.*", key)[1] for key in new}  # type: ignore[index]
        assert len(tags) == 1
        assert {key_slot(key) for key in new} == {key_slot(tags.pop())}


def all_keys(server: ValkeyServer) -> set[bytes]:
    with contextlib.closing(server.client()) as client:
        return set(client.scan_iter())


def test_a_store_whose_prefix_is_not_named_has_the_usual_one(valkey: ValkeyServer, clock: Clock) -> None:
    store = RedisStore(valkey.uri, options=PATIENT)
    with contextlib.closing(store):
        SubjectDriver(store, clock).open()
    assert [key.partition(b":")[0] for key in all_keys(valkey)] == [b"otp"]


def test_a_strong_code_is_live_for_as_long_as_any(valkey: ValkeyServer, connect: StoreFactory, clock: Clock) -> None:
    """Only the first bytes of a challenge are its end."""
    ann = SubjectDriver(connect(valkey.uri, **PATIENT), clock)
    opened = ann.open(surge=True)
    assert (opened.strong, ann.is_live(opened)) == (True, True)
    clock.advance(300)
    assert not ann.is_live(opened)


def test_apps_with_prefixes_of_their_own_share_nothing(
    valkey: ValkeyServer, connect: StoreFactory, clock: Clock
) -> None:
    shop, bank = (SubjectDriver(connect(valkey.uri, name, **PATIENT), clock) for name in ("shop", "bank"))
    shop.prove(b"proof")
    assert not bank.holds(b"proof")
    assert bank.open().outcome is SEND


def test_r50_an_app_leaves_only_keys_that_have_its_prefix_and_an_end(
    valkey: ValkeyServer, make_app: AppFactory
) -> None:
    app = make_app(
        OTP_STORAGE_URI=valkey.uri,
        OTP_STORAGE_OPTIONS=PATIENT,
        OTP_KEY_PREFIX="shop",
        OTP_CHANNEL_BUDGET={"console": "9/day"},
    )
    with closing_store(app), capture_codes(app) as codes:
        client = app.test_client()
        for name in ("ann", "bob"):
            handle = client.post("/otp/send", json={"identifier": f"{name}@example.com"}).json["challenge"]
            assert client.post("/otp/verify", json={"code": "000000", "challenge": handle}).status_code == 400
            assert client.post("/otp/verify", json={"code": codes.code, "challenge": handle}).status_code == 200
    with contextlib.closing(valkey.client()) as client:
        keys = list(client.scan_iter())
        assert len(keys) > 2
        assert [key for key in keys if not key.startswith(b"shop:") or client.ttl(key) <= 0] == []


@contextlib.contextmanager
def closing_store(app: Flask) -> Iterator[None]:
    try:
        yield
    finally:
        app.extensions["otp"].store.client.close()


# URIs and options


@pytest.fixture(scope="module")
def socket_path(own_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server on a Unix socket only."""
    path = tmp_path_factory.mktemp("s") / "v"
    process = subprocess.Popen(
        [own_server.binary, "--port", "0", "--unixsocket", path, "--save", "", "--dir", path.parent],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    yield path
    process.kill()
    process.wait()


@pytest.mark.parametrize("scheme", ["redis+unix", "unix", "valkey+unix"])
def test_a_unix_socket_works(socket_path: Path, connect: StoreFactory, clock: Clock, scheme: str) -> None:
    ann = SubjectDriver(connect(f"{scheme}://{socket_path}?db=2", **PATIENT), clock, subject=scheme.encode())
    assert ann.right(ann.open()) is MATCH
    with contextlib.closing(redis.Redis(unix_socket_path=str(socket_path), db=2)) as client:
        assert client.dbsize() >= 1


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_the_schemes_of_one_server_work_with_a_database_number(valkey: ValkeyServer, clock: Clock, scheme: str) -> None:
    store = store_from_uri(f"{scheme}://localhost:{valkey.port}/3", "otp", dict(PATIENT))
    assert isinstance(store, RedisStore)
    with contextlib.closing(store.client):
        ann = SubjectDriver(store, clock)
        assert ann.right(ann.open()) is MATCH
        assert store.client.dbsize() == 1
    assert all_keys(valkey) == set()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_the_schemes_of_tls_use_tls(connect: StoreFactory, scheme: str) -> None:
    pool = connect(f"{scheme}://localhost:1").client.connection_pool
    assert pool.connection_class is redis.SSLConnection


def test_options_reach_the_client(valkey: ValkeyServer, connect: StoreFactory, clock: Clock) -> None:
    store = connect(valkey.uri, client_name="the-shop", db=5, **PATIENT)
    SubjectDriver(store, clock).open()
    with contextlib.closing(valkey.client()) as client:
        assert "the-shop" in {row["name"] for row in client.client_list()}
    assert store.client.dbsize() == 1
    assert all_keys(valkey) == set()


def test_the_time_outs_are_short_unless_the_options_say_otherwise(connect: StoreFactory) -> None:
    defaults = connect("redis://localhost").client.connection_pool.connection_kwargs
    assert (defaults["socket_timeout"], defaults["socket_connect_timeout"]) == (TIMEOUT, TIMEOUT)
    own = connect("redis://localhost", socket_timeout=2).client.connection_pool.connection_kwargs
    assert (own["socket_timeout"], own["socket_connect_timeout"]) == (2, TIMEOUT)


@pytest.mark.parametrize("where", ["options", "uri"])
def test_decoded_responses_are_not_a_way_to_break_the_store(
    valkey: ValkeyServer, connect: StoreFactory, clock: Clock, where: str
) -> None:
    if where == "uri":
        store = connect(valkey.uri + "?decode_responses=True", **PATIENT)
    else:
        store = connect(valkey.uri, decode_responses=True, **PATIENT)
    ann = SubjectDriver(store, clock)
    opened = ann.open(b"\xff" * 8, session_tag=b"h")
    assert opened.bucket == b"\xff" * 8
    assert ann.right(opened) is MATCH


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("redis://localhost:port", {}),
        ("redis://localhost:99999", {}),
        ("redis://localhost/shop", {}),
        ("redis://localhost?socket_timeout=soon", {}),
        ("redis://localhost", {"max_connections": -1}),
        ("redis://localhost", {"socket_timeouts": 1}),
        ("redis://localhost?socket_timeouts=1", {}),
    ],
)
def test_a_wrong_uri_or_option_stops_the_app(uri: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="OTP_STORAGE"):
        store_from_uri(uri, "otp", options)


def test_r34_a_wrong_uri_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        store_from_uri("redis://:hunter2/x@localhost:6379", "otp", {})
    assert "hunter2" not in str(caught.value)


# R17: what an attacker with the whole store can find out


def dump_of(thing: object, seen: set[int] | None = None) -> list[bytes]:
    """All bytes, text and whole numbers in a Python object, whatever it is built of. Numbers come as eight bytes."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, bytes):
        return [thing]
    if isinstance(thing, str):
        return [thing.encode()]
    if isinstance(thing, int):
        return [thing.to_bytes(8, "big", signed=True)]
    if isinstance(thing, dict):
        return [chunk for item in thing.items() for part in item for chunk in dump_of(part, seen)]
    if hasattr(thing, "__dict__"):
        return dump_of(vars(thing), seen)
    try:
        return [chunk for item in thing for chunk in dump_of(item, seen)]  # type: ignore[attr-defined]
    except TypeError:
        return []


def dump_of_server(server: ValkeyServer) -> list[bytes]:
    with contextlib.closing(server.client()) as client:
        return [part for key in client.scan_iter() for part in (key, *contents(client, key))]


def contents(client: Any, key: bytes) -> list[bytes]:
    """All that lies at a key, be it one of ours or of the limits."""
    if client.type(key) == b"string":
        return [client.get(key)]
    return [part for pair in client.hgetall(key).items() for part in pair]


@pytest.mark.parametrize("every_code", [False, pytest.param(True, marks=pytest.mark.long)])
def test_r17_the_whole_store_without_the_key_gives_no_code_away(
    valkey: ValkeyServer, make_app: AppFactory, every_code: bool
) -> None:
    on_redis, in_memory = make_app(OTP_STORAGE_URI=valkey.uri, OTP_STORAGE_OPTIONS=PATIENT), make_app()
    with closing_store(on_redis):
        issued = {"ann@example.com": issue(on_redis, "ann@example.com")}
    issued["bob@example.com"] = issue(in_memory, "bob@example.com")
    state = in_memory.extensions["otp"]
    in_process = dump_of(vars(state.store)) + dump_of(vars(state.limits.storage))
    dump = Dump(dump_of_server(valkey) + in_process)

    salts = [b""]
    for identifier, (challenge_id, code) in issued.items():
        # The dump is the real thing: the challenge is in it.
        assert challenge_id in dump.everything
        assert identifier.encode() not in dump.everything
        assert sha256(identifier.encode()).digest()[:8] not in dump.windows
        for form in (int(code).to_bytes(4, "big"), int(code).to_bytes(4, "little"), code[::-1].encode()):
            assert form not in dump.everything
        salts += [identifier.encode(), challenge_id]
    assert dump.finds(salts, range(10**6) if every_code else [int(code) for _, code in issued.values()]) == []

    # With the key, each code follows from what the dump holds.
    keys = state.tokens.keys
    for identifier, (challenge_id, code) in issued.items():
        subject = keys.subject("login", identifier)
        assert keys.code(challenge_id, purpose="login", subject=subject, context=b"", strong=False, length=6) == code


@pytest.mark.parametrize(
    "leak",
    [
        b"x123456x",
        sha256(b"123456").digest(),
        sha256(b"123456").hexdigest().encode(),
        b":" + base64.b64encode(sha256(b"ann@example.com123456").digest()),
        base64.urlsafe_b64encode(b"v1" + sha256(b"ann@example.com123456").digest()[:12]),
    ],
    ids=["plain", "digest", "hex", "base64", "shortened"],
)
def test_r17_the_search_would_find_a_code_if_it_were_there(leak: bytes) -> None:
    dump = Dump([b"before \x93\x01\x02", b"\xa8" + leak + b"\xc0after"])
    assert dump.finds([b"", b"ann@example.com"], range(123_000, 124_000)) == ["123456"]


def test_commands_are_packed_as_redis_py_packs_them() -> None:
    commands: list[Command] = [("EVALSHA", "a" * 40, 2, "otp:{ä}", b"\0\r\n\xff", -7, 1.5, b""), ("GET", "x" * 9000)]
    theirs = redis.Connection().pack_commands(commands)
    assert pack(commands) == b"".join(theirs)
