"""Redis Cluster, Sentinel, TLS: the same guarantees on each, while a master dies, and what a replica may not know."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
import redis
import trustme
from flask import Flask
from flask_limiter import Limiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from flask_otp import doctor
from flask_otp.doctor import storage
from flask_otp.errors import ConfigError, StoreUnavailable
from flask_otp.redis_clients.cluster import Sentinel as SentinelClient
from flask_otp.redis_clients.cluster import SlotMap
from flask_otp.redis_clients.cluster import Topology as TopologyClient
from flask_otp.redis_clients.server import Script
from flask_otp.redis_clients.uri import connect
from flask_otp.stores import OpenResult, Store, store_from_uri
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock, Outbox, capture_codes
from flask_otp.testing.stores import MATCH, NO_LIMITS, REFUSED, SEND, WAIT, WRONG, StoreSuite, SubjectDriver
from flask_otp.testing.stores.races import RaceTests
from flask_otp.testing.stores.redeeming import RedeemingTests
from tests.support.apps import AppFactory, ValkeyServer, free_port
from tests.support.proxy import Proxy
from tests.support.redis_verbs import QUESTIONS, VERBS, failing, seconds_to_fail, warm, warm_each
from tests.support.servers import SERVICE, Cluster, Sentinel, SentinelTrio, Server, TlsFront, Topology, wait_until

pytestmark = pytest.mark.server

PATIENT = {"socket_timeout": 10, "socket_connect_timeout": 10}
#: Seconds, where an outage is to be told.
TIMEOUT = 0.5
#: Must be percent-encoded in a URI.
PASSWORD = "p@ss/w:rd,1"

_numbers = count()


@dataclass
class Shapes:
    """All that this module starts, at once, since a cluster takes two seconds to agree."""

    cluster: Cluster
    sentinel: SentinelTrio
    lagging: SentinelTrio
    alone: Cluster
    behind_tls: Cluster
    tls: TlsFront
    authority: trustme.CA

    def topology(self, name: str) -> Topology:
        return self.cluster if name == "cluster" else self.sentinel


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes]:
    directory = tmp_path_factory.mktemp("topologies")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    tls = TlsFront(context)
    announced = ("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(tls.port))
    shapes = Shapes(
        cluster=Cluster(directory, password=PASSWORD),
        sentinel=SentinelTrio(directory, PASSWORD, sentinel_password="another"),
        lagging=SentinelTrio(directory),
        alone=Cluster(directory, masters=1, replicas=0),
        behind_tls=Cluster(directory, *announced, masters=1, replicas=0),
        tls=tls,
        authority=authority,
    )
    tls.upstream = shapes.behind_tls.servers[0].port
    topologies = (shapes.cluster, shapes.alone, shapes.behind_tls, shapes.sentinel, shapes.lagging)
    try:
        for topology in topologies:
            topology.start()
        for topology in topologies:
            topology.wait()
        yield shapes
    finally:
        for topology in topologies:
            for server in topology.servers:
                server.kill()
        tls.close()


@pytest.fixture(params=["cluster", "sentinel"])
def topology(request: pytest.FixtureRequest, shapes: Shapes) -> Topology:
    return shapes.topology(request.param)


Stores = Callable[..., RedisStore]


@pytest.fixture
def connect_to() -> Iterator[Stores]:
    """``connect_to(topology, **options)``: a store with keys of its own, unless ``prefix`` says whose."""
    with contextlib.ExitStack() as stack:

        def make(topology: Topology, prefix: str = "", **options: Any) -> RedisStore:
            store = RedisStore(topology.uri, prefix or f"t{next(_numbers)}", topology.options | options)
            stack.callback(store.client.close)
            return store

        yield make


@pytest.fixture
def store(topology: Topology, connect_to: Stores) -> RedisStore:
    return connect_to(topology, **PATIENT)


def key_of(person: SubjectDriver) -> str:
    tag = base64.urlsafe_b64encode(person.subject).rstrip(b"=").decode()
    return f"{person.store._prefix}:{{{tag}}}"  # type: ignore[attr-defined]


# What one server does, many do


class TestEach(RedeemingTests):
    """Of the suite what a code hangs on, on a cluster and behind Sentinels. The whole takes half a minute."""

    shared = False
    clock, ann, track = StoreSuite.clock, StoreSuite.ann, StoreSuite.track
    pytest_generate_tests = StoreSuite.pytest_generate_tests

    @pytest.fixture
    def store(self, topology: Topology, connect_to: Stores) -> RedisStore:
        return connect_to(topology, **PATIENT)


@pytest.mark.long
class TestRacesOnEach(RaceTests, TestEach):
    """The scripts are those of one server, for which the suite runs the same races with every change."""


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_r50_the_doctor_asks_every_server(topology: Topology, make_app: AppFactory, policy: str) -> None:
    app = make_app(OTP_STORAGE_URI=topology.uri, OTP_STORAGE_OPTIONS={**topology.options, **PATIENT})
    state = app.extensions["otp"]
    site = doctor.Site(app, state, {}, 1)
    assert list(storage.eviction(site)) == []
    one = state.store.servers()[-1]
    try:
        one.config_set("maxmemory-policy", policy)
        found = list(storage.eviction(site))
    finally:
        one.config_set("maxmemory-policy", "noeviction")
    others = "The store" if isinstance(topology, SentinelTrio) else r"1 of the store's \d servers"
    assert [bool(re.match(f"{others} may evict keys", finding.what)) for finding in found] == (
        [] if policy == "noeviction" else [True]
    )
    state.store.close()


def test_subjects_lie_on_all_masters_of_a_cluster(shapes: Shapes, connect_to: Stores, clock: Clock) -> None:
    store = connect_to(shapes.cluster, **PATIENT)
    people = [SubjectDriver(store, clock, subject=b"%016d" % number) for number in range(20)]
    assert {person.right(person.open()) for person in people} == {MATCH}
    assert {shapes.cluster.owner(key_of(person)).port for person in people} == {
        master.port for master in shapes.cluster.masters
    }


def test_a_server_that_lost_its_scripts_is_given_them_again(
    topology: Topology, store: RedisStore, clock: Clock
) -> None:
    for verb, (ann, opened) in warm_each(lambda: store, clock).items():
        topology.owner(key_of(ann)).ask("SCRIPT", "FLUSH")
        VERBS[verb](ann, opened)


def test_r07_a_wrong_code_by_a_script_that_was_lost_is_charged_once(
    topology: Topology, store: RedisStore, clock: Clock
) -> None:
    ann = SubjectDriver(store, clock)
    opened = ann.open()
    for _ in range(5):
        topology.owner(key_of(ann)).ask("SCRIPT", "FLUSH")
        assert ann.wrong(opened) == [WRONG]
    assert ann.right(opened) is REFUSED


def test_a_slot_that_is_moving_is_followed_and_charged_once(shapes: Shapes, connect_to: Stores, clock: Clock) -> None:
    cluster = shapes.cluster
    ann = SubjectDriver(connect_to(cluster, **PATIENT), clock, subject=b"one that moves..")
    first, second = ann.open(b"bucket1"), ann.open(b"bucket2")
    ann.prove(b"proof", b"bucket3")
    key = key_of(ann)
    source = cluster.owner(key)
    target = next(master for master in cluster.masters if master is not source)
    slot, names = source.ask("CLUSTER", "KEYSLOT", key), {}
    for server in (source, target):
        names[server] = server.ask("CLUSTER", "MYID")
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    assert ann.wrong(first) == [WRONG]
    source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000, "AUTH", PASSWORD)
    assert ann.wrong(first, 2) == [WRONG] * 2  # by ASK
    assert (ann.holds(b"proof"), ann.is_live(second), ann.inspect().failures[0][0]) == (True, True, 3)
    for server in (target, source):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    assert ann.wrong(first, 3) == [WRONG, WRONG, REFUSED]  # by MOVED
    wait_until(lambda: cluster.owner(key) is target)
    assert (ann.right(second), ann.right(second)) == (MATCH, REFUSED)


class Fixed(TopologyClient):
    """One whose guides always name the same server."""

    def __init__(self, port: int) -> None:
        def make(host: str, port: int) -> Any:
            return connect(f"redis://{host}:{port}", {"socket_timeout": TIMEOUT})

        self.owner = ("127.0.0.1", port)
        super().__init__([self.owner], make, make, TIMEOUT)

    def _read_slots(self, guide: Any) -> SlotMap:
        return SlotMap([0], [(16383, self.owner)], [self.owner])


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_r07_a_script_whose_reply_was_lost_is_not_sent_to_anybody_again(valkey: ValkeyServer, how: str) -> None:
    with Proxy(valkey.port) as proxy, contextlib.closing(Fixed(proxy.port)) as client:
        script = Script(client, "return redis.call('INCR', KEYS[1])")
        assert script(["key"], []) == 1
        proxy.lose_reply(how)
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            script(["key"], [])
        assert script(["key"], []) == 3


def test_after_a_master_that_hung_the_next_request_asks_for_another(valkey: ValkeyServer) -> None:
    with Proxy(valkey.port) as proxy, contextlib.closing(Fixed(proxy.port)) as client:
        assert client.exchange("key", ("ECHO", "warm")) == [b"warm"]
        proxy.hang()
        client.owner = ("127.0.0.1", valkey.port)
        with pytest.raises(redis.TimeoutError):
            client.exchange("key", ("ECHO", "lost"))
        start = time.perf_counter()
        assert client.exchange("key", ("ECHO", "found")) == [b"found"]
        # It has not tried the old one first.
        assert time.perf_counter() - start < TIMEOUT


def test_the_first_request_asks_the_next_guide_where_one_is_gone(topology: Topology, clock: Clock) -> None:
    uri = topology.uri.replace("127.0.0.1", f"127.0.0.1:{free_port()},127.0.0.1", 1)
    store = RedisStore(uri, f"t{next(_numbers)}", topology.options | PATIENT)
    with contextlib.closing(store.client):
        assert SubjectDriver(store, clock).open().outcome is SEND


def test_a_reply_that_nobody_waited_for_is_not_taken_for_the_next_one(
    shapes: Shapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server,) = shapes.alone.servers
    client = connect(f"redis://127.0.0.1:{server.port}", PATIENT)
    with contextlib.closing(client):
        assert client.exchange("", ("ECHO", "warm")) == [b"warm"]
        server.pause()
        monkeypatch.setattr("flask_otp.redis_clients.server._reply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.exchange("", ("ECHO", "theirs"))
        monkeypatch.undo()
        threading.Timer(0.2, server.resume).start()
        assert client.exchange("", ("ECHO", "ours")) == [b"ours"]


def interrupted(connection: Any) -> Any:
    raise KeyboardInterrupt


# Processes and threads

FORKING = """
import os, sys, threading
from flask_otp.redis_clients.uri import connect

client = connect(sys.argv[1], eval(sys.argv[2]))

def echo(who):
    for number in range(40):
        word = b"%s %d" % (who, number)
        assert client.exchange(word, ("EVAL", "return ARGV[1]", 1, word, word)) == [word]

def threads(who):
    workers = [threading.Thread(target=echo, args=(b"%s%d" % (who, number),)) for number in range(4)]
    failed = []
    threading.excepthook = failed.append
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(failed)

echo(b"before")
children = []
for name in (b"one", b"two"):
    child = os.fork()
    if child == 0:
        os._exit(threads(name))
    children.append(child)
assert threads(b"parent") == 0
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def test_a_client_made_before_a_fork_serves_every_process(topology: Topology) -> None:
    options = repr(topology.options | PATIENT)
    command = [sys.executable, "-W", "error", "-c", FORKING, topology.uri, options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


# Replicas that are behind


def test_r37_with_wait_for_replicas_a_replica_that_has_stopped_lets_nothing_pass(
    topology: Topology, connect_to: Stores, clock: Clock
) -> None:
    store = connect_to(topology, wait_for_replicas=1, socket_timeout=TIMEOUT)
    ann, opened = warm(store, clock)
    replica = topology.replica_of(topology.owner(key_of(ann)))
    replica.pause()
    try:
        assert ann.holds(b"proof")
        assert TIMEOUT / 2 < seconds_to_fail(lambda: ann.right(opened), enough=TIMEOUT, tries=1) < 2 * TIMEOUT
    finally:
        replica.resume()
    # It has had its one chance: the master has consumed it.
    assert ann.right(opened) is REFUSED
    assert ann.right(ann.open()) is MATCH


def test_r07_an_attempt_that_too_few_replicas_know_of_stays_charged(
    topology: Topology, connect_to: Stores, clock: Clock
) -> None:
    ann = SubjectDriver(connect_to(topology, "charged", **PATIENT), clock)
    strict = SubjectDriver(connect_to(topology, "charged", wait_for_replicas=2, socket_timeout=0.25), clock)
    opened = ann.open()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            strict.wrong(opened)
    assert ann.right(opened) is REFUSED


def test_with_wait_for_replicas_every_verb_that_changes_something_waits(
    topology: Topology, connect_to: Stores, clock: Clock
) -> None:
    prefix = f"waits{next(_numbers)}"
    store = connect_to(topology, prefix, **PATIENT)
    strict = connect_to(topology, prefix, wait_for_replicas=2, socket_timeout=0.25)
    callers = warm_each(lambda: store, clock)
    for ann, _ in callers.values():
        ann.store = strict
    failed = {verb: type(error) for verb, error in failing(callers, threads=4).items()}
    assert failed == {verb: StoreUnavailable for verb in VERBS if verb not in QUESTIONS}


def test_to_wait_for_replicas_takes_no_further_round_trip(valkey: ValkeyServer, clock: Clock) -> None:
    with Proxy(valkey.port) as proxy:
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}", "otp", PATIENT)
        strict = RedisStore(f"redis://127.0.0.1:{proxy.port}", "otp", {"wait_for_replicas": 1})
        with contextlib.closing(store.client), contextlib.closing(strict.client):
            ann, opened = warm(store, clock)
            ann.store = strict
            ann.holds(b"proof")
            proxy.reset()
            with pytest.raises(StoreUnavailable):
                ann.wrong(opened)
            # The script's reply and that of WAIT come apart here, since there is no replica to answer.
            assert (proxy.round_trips, proxy.connections) == (1, 0)


def test_a_master_told_to_write_to_its_replicas_only_is_out_of_reach_without_them(
    shapes: Shapes, connect_to: Stores, clock: Clock
) -> None:
    if shapes.sentinel.master.ask("INFO", "SERVER")["redis_version"].startswith("6."):
        pytest.skip("scripts are exempt before Redis 7")
    ann, opened = warm(connect_to(shapes.sentinel, **PATIENT), clock)
    shapes.sentinel.master.ask("CONFIG", "SET", "min-replicas-to-write", 2)
    try:
        with pytest.raises(StoreUnavailable):
            ann.right(opened)
    finally:
        shapes.sentinel.master.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    assert ann.right(opened) is MATCH


@dataclass
class Crash:
    """A master died before its replica got the last writes. The people who made these writes, on the new master."""

    redeemed: tuple[SubjectDriver, OpenResult]
    redeemed_strictly: tuple[SubjectDriver, OpenResult]
    guessed: tuple[SubjectDriver, OpenResult]
    revoked: tuple[SubjectDriver, OpenResult]
    asked: SubjectDriver


@pytest.fixture(scope="module")
def crash(shapes: Shapes) -> Iterator[Crash]:
    trio, clock = shapes.lagging, Clock(1_790_000_000)
    store = RedisStore(trio.uri, "otp", PATIENT)
    strict = RedisStore(trio.uri, "otp", PATIENT | {"socket_timeout": 0.5, "wait_for_replicas": 1})
    people = [SubjectDriver(store, clock, subject=b"%016d" % number) for number in range(5)]
    people[1].store = strict
    with contextlib.closing(store.client), contextlib.closing(strict.client), Proxy(trio.master.port) as between:
        trio.replica.ask("REPLICAOF", "127.0.0.1", between.port)
        wait_until(trio.replica.is_replica)
        opened = [person.open(b"before") for person in people]
        people[3].prove(b"proof", b"another")
        assert trio.master.ask("WAIT", 1, 5000) == 1
        between.hang()
        assert people[0].right(opened[0]) is MATCH
        with pytest.raises(StoreUnavailable):
            people[1].right(opened[1])
        assert people[2].wrong(opened[2], 6) == [WRONG] * 5 + [REFUSED]
        people[3].revoke()
        assert people[4].open(b"new").outcome is SEND
        assert people[4].open(b"new").outcome is WAIT
        trio.master.kill()
        between.cut()
        wait_until(lambda: trio.has_replaced(trio.master))
        people[1].store = store
        pairs = list(zip(people, opened, strict=True))
        yield Crash(pairs[0], pairs[1], pairs[2], pairs[3], people[4])


def test_a_crash_can_make_a_used_code_good_again(crash: Crash) -> None:
    person, opened = crash.redeemed
    assert person.right(opened) is MATCH  # for the second time: docs/operate/redis.md says so
    assert person.right(opened) is REFUSED


def test_r06_with_wait_for_replicas_a_code_passes_once_through_a_crash(crash: Crash) -> None:
    person, opened = crash.redeemed_strictly
    assert person.right(opened) is MATCH  # for the first time: it had been 503
    assert person.right(opened) is REFUSED


def test_a_crash_can_give_attempts_back(crash: Crash) -> None:
    person, opened = crash.guessed
    assert person.wrong(opened, 6) == [WRONG] * 5 + [REFUSED]


def test_a_crash_can_undo_a_revocation(crash: Crash) -> None:
    person, opened = crash.revoked
    assert person.holds(b"proof")
    assert person.right(opened) is MATCH
    person.revoke()
    assert not person.holds(b"proof")


def test_a_crash_can_forget_a_message(crash: Crash) -> None:
    assert crash.asked.open(b"new").outcome is SEND


# URIs and options


@pytest.mark.parametrize(
    ("uri", "addresses"),
    [
        ("redis+cluster://a", [("a", 6379)]),
        ("redis+cluster://a,b:7001", [("a", 6379), ("b", 7001)]),
        ("valkey+cluster://u:p%40ss@[::1]:7000,[fe80::2%25eth0]/0", [("::1", 7000), ("fe80::2%eth0", 6379)]),
        ("redis+sentinel://a,B.example:5000/codes", [("a", 26379), ("b.example", 5000)]),
        ("valkey+sentinel://[::1]/codes/3", [("::1", 26379)]),
    ],
)
def test_the_addresses_of_a_uri_are_read_with_their_default_ports(uri: str, addresses: list[Any]) -> None:
    client = connect(uri, {})
    assert client._addresses == addresses  # type: ignore[union-attr]
    settings = settings_of(client._seed(addresses[-1]))  # type: ignore[union-attr]
    assert (settings["host"], settings["port"]) == addresses[-1]


def settings_of(server: redis.Redis) -> dict[str, Any]:
    return dict(server.connection_pool.connection_kwargs)


def test_every_server_gets_the_credentials_the_options_and_the_query() -> None:
    client = connect("redis+cluster://us%40er:p%2Fw@a,b?client_name=shop", {"protocol": 2, "socket_timeout": 3})
    found = ("found", 7)
    for server, timeout in ((client._seed(found), 1.5), (client._server(found), 3)):  # type: ignore[union-attr]
        settings = settings_of(server)
        assert (settings["host"], settings["port"]) == found
        assert (settings["username"], settings["password"]) == ("us@er", "p/w")
        assert (settings["client_name"], settings["protocol"], settings["socket_timeout"]) == ("shop", 2, timeout)


def test_a_sentinel_gets_its_own_credentials_and_the_same_network() -> None:
    options = {"sentinel_kwargs": {"username": "watch", "password": "x"}, "socket_timeout": 3}
    client = connect("redis+sentinel://user:pw@a/my%2Fcodes/4", options)
    assert isinstance(client, SentinelClient)
    assert client._service == "my/codes"
    sentinel, master = settings_of(client._seed(("a", 1))), settings_of(client._server(("m", 1)))
    assert (sentinel["username"], sentinel["password"], sentinel["socket_timeout"]) == ("watch", "x", 1.5)
    assert (master["username"], master["password"], master["socket_timeout"]) == ("user", "pw", 3)
    assert (sentinel.get("db") or 0, master["db"]) == (0, 4)
    bare = connect("redis+sentinel://user:pw@a/codes", {})
    assert settings_of(bare._seed(("a", 1))).get("password") is None  # type: ignore[union-attr]


@pytest.mark.parametrize("scheme", ["rediss+cluster", "valkeys+cluster", "rediss+sentinel", "valkeys+sentinel"])
def test_the_schemes_of_tls_use_tls_with_every_server(scheme: str) -> None:
    client = connect(f"{scheme}://a/{SERVICE if 'sentinel' in scheme else ''}", {"ssl_check_hostname": False})
    found = ("found", 7)
    for server in (client._seed(found), client._server(found)):  # type: ignore[union-attr]
        assert server.connection_pool.connection_class is redis.SSLConnection
        assert server.connection_pool.connection_kwargs["ssl_check_hostname"] is False


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("redis+cluster://", {}),
        ("redis+cluster://user:hunter2@", {}),
        ("redis+cluster://:hunter2/x@a:7000", {}),
        ("redis+cluster://:hunter2@a:port", {}),
        ("redis+cluster://:hunter2@a:99999", {}),
        ("redis+cluster://:hunter2@a:0", {}),
        ("redis+cluster://:hunter2@a,,b", {}),
        ("redis://:hunter2@a..b", {}),
        ("redis+cluster://:hunter2@a,a..b", {}),
        ("redis+cluster://:hunter2@[::1", {}),
        ("redis+cluster://:hunter2@a#b", {}),
        ("redis+cluster://:hunter2@a/3", {}),
        ("redis+cluster://:hunter2@a?db=3", {}),
        ("redis+cluster://:hunter2@a", {"db": 3}),
        ("redis+cluster://:hunter2@a", {"socket_timeouts": 1}),
        ("redis+cluster://:hunter2@a", {"sentinel_kwargs": {}}),
        ("redis+sentinel://:hunter2@a", {}),
        ("redis+sentinel://:hunter2@a/", {}),
        ("redis+sentinel://:hunter2@a/codes/zero", {}),
        ("redis+sentinel://:hunter2@a/codes/1/2", {}),
        ("redis+sentinel://:hunter2@a/codes", {"sentinel_kwargs": "hunter2"}),
        ("redis+sentinel://:hunter2@a/codes", {"sentinel_kwargs": {"passwort": "hunter2"}}),
        ("redis+unix+cluster://:hunter2@a", {}),
        ("redis://a", {"wait_for_replicas": -1}),
        ("redis://a", {"wait_for_replicas": True}),
        ("redis://a", {"wait_for_replicas": "1"}),
    ],
)
def test_r34_a_wrong_uri_or_option_stops_the_app_and_is_not_shown(uri: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="OTP_STORAGE") as caught:
        store_from_uri(uri, "otp", options)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("uri", ["redis+cluster://127.0.0.1:1,127.0.0.1:2", "redis+sentinel://127.0.0.1:1/codes"])
def test_r37_an_app_starts_without_its_servers_and_answers_503_at_once(make_app: AppFactory, uri: str) -> None:
    client = make_app(OTP_STORAGE_URI=uri).test_client()
    start = time.perf_counter()
    assert client.post("/otp/send", json={"identifier": "ann@example.com"}).status_code == 503
    assert time.perf_counter() - start < 0.5


def slowest_of_twenty(store: Store, clock: Clock, tries: int = 3) -> float:
    """Twenty threads at once have no answer; the seconds that the last of them waited to hear so.

    The best of some tries, since the machine may be busy.
    """
    slowest = []
    for _ in range(tries):
        waits: list[float] = []
        threads = [threading.Thread(target=_wait_in_vain, args=(store, clock, waits)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(waits) == 20
        slowest.append(max(waits))
        if slowest[-1] < 2 * TIMEOUT:
            break
    return min(slowest)


def _wait_in_vain(store: Store, clock: Clock, waits: list[float]) -> None:
    start = time.perf_counter()
    with pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()
    waits.append(time.perf_counter() - start)


@pytest.mark.parametrize(("scheme", "path"), [("redis+cluster", ""), ("redis+sentinel", f"/{SERVICE}")])
def test_r37_servers_that_all_hang_keep_no_thread_for_twice_the_time_out(clock: Clock, scheme: str, path: str) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)) for _ in range(6)]
        addresses = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in silent)
        options = {"socket_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 3)}
        store = RedisStore(f"{scheme}://{addresses}{path}", "otp", options)
        stack.callback(store.client.close)
        assert TIMEOUT / 2 < slowest_of_twenty(store, clock) < 2 * TIMEOUT


def test_r37_nor_does_a_cluster_that_hangs_once_it_is_known(shapes: Shapes, connect_to: Stores, clock: Clock) -> None:
    ann = SubjectDriver(connect_to(shapes.alone, socket_timeout=TIMEOUT), clock)
    opened = ann.open()
    (server,) = shapes.alone.servers
    server.pause()
    try:
        for _ in range(2):
            assert slowest_of_twenty(ann.store, clock) < 2 * TIMEOUT
    finally:
        server.resume()
    assert ann.right(opened) is MATCH


def test_r37_a_service_that_the_sentinels_do_not_know_is_an_outage(shapes: Shapes, clock: Clock) -> None:
    store = RedisStore(shapes.sentinel.uri + "x", "otp", shapes.sentinel.options)
    with contextlib.closing(store.client), pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()


def test_r37_a_wrong_password_is_an_outage_on_each(topology: Topology, clock: Clock) -> None:
    uri = topology.uri.replace("p%40ss", "hunter2")
    store = RedisStore(uri, "otp", topology.options)
    with contextlib.closing(store.client), pytest.raises(StoreUnavailable) as caught:
        SubjectDriver(store, clock).open()
    assert "hunter2" not in str(caught.value)


def test_r37_an_app_whose_own_limiter_has_lost_its_cluster_answers_503(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*args: Any, **options: Any) -> int:
        raise RedisClusterException("Redis Cluster cannot be connected")

    app = make_app()
    limiter = Limiter(lambda: "me", app=app, storage_uri="memory://")
    monkeypatch.setattr(limiter.storage, "incr", lost)
    assert app.test_client().post("/otp/send", json={"identifier": "ann@example.com"}).status_code == 503


# TLS


@pytest.fixture(scope="module")
def trusting(shapes: Shapes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options that trust our authority."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    shapes.authority.cert_pem.write_to_path(str(path))
    return PATIENT | {"ssl_ca_certs": str(path)}


@pytest.fixture(scope="module")
def sentinel_behind_tls(shapes: Shapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Sentinel by TLS, which names the TLS port of a master."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shapes.authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    sentinel, master = Sentinel(tmp_path_factory.mktemp("tls"), 1), Server(tmp_path_factory.mktemp("tls"))
    to_sentinel, to_master = TlsFront(context), TlsFront(context)
    to_sentinel.upstream, to_master.upstream = sentinel.port, master.port
    try:
        sentinel.write(to_master.port, [], [])
        for server in (sentinel, master):
            server.start()
            wait_until(server.is_up)
        yield f"rediss+sentinel://localhost:{to_sentinel.port}/{SERVICE}/2"
    finally:
        for server in (sentinel, master):
            server.kill()
        for front in (to_sentinel, to_master):
            front.close()


@pytest.fixture(params=["rediss", "rediss+cluster", "rediss+sentinel"])
def tls_uri(request: pytest.FixtureRequest, shapes: Shapes) -> str:
    if request.param == "rediss+sentinel":
        return str(request.getfixturevalue("sentinel_behind_tls"))
    return f"{request.param}://localhost:{shapes.tls.port}"


def test_tls_works_with_servers_whose_authority_is_trusted(
    tls_uri: str, trusting: dict[str, Any], clock: Clock
) -> None:
    store = RedisStore(tls_uri, f"t{next(_numbers)}", trusting)
    with contextlib.closing(store.client):
        ann = SubjectDriver(store, clock)
        opened = ann.open()
        assert (ann.right(opened), ann.right(opened)) == (MATCH, REFUSED)


def test_r37_a_server_whose_authority_is_not_trusted_is_out_of_reach(tls_uri: str, clock: Clock) -> None:
    store = RedisStore(tls_uri, "otp", PATIENT)
    with contextlib.closing(store.client), pytest.raises(StoreUnavailable):
        SubjectDriver(store, clock).open()


# A master dies


@dataclass
class Traffic:
    """What threads saw that ask for codes and redeem them, through an app and in the store, with short pauses."""

    app: Flask
    store: RedisStore
    clock: Clock
    outbox: Outbox
    passed: Counter[str] = field(default_factory=Counter)
    statuses: set[int] = field(default_factory=set)
    refused_at: list[float] = field(default_factory=list)
    slowest: float = 0.0
    failures: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        try:
            turns = count()
            act = self._over_http if number % 2 else self._in_the_store
            while not self.over.is_set():
                act(f"{number}-{next(turns)}")
                self.over.wait(0.02)
        except BaseException as error:
            self.failures.append(error)

    def _over_http(self, name: str) -> None:
        client, identifier = self.app.test_client(), f"{name}@example.com"
        sent = self._timed(lambda: client.post("/otp/send", json={"identifier": identifier}))
        self._saw(sent.status_code, 200)
        if sent.status_code != 200:
            return
        code = self.outbox.code_for(identifier)
        for attempt in (code[::-1], code, code, code):
            body = {"code": attempt, "challenge": sent.json["challenge"]}
            answer = self._timed(lambda body=body: client.post("/otp/verify", json=body))
            self._saw(answer.status_code, 200, 400)
            # A code may be the same backwards.
            self.passed[name] += answer.status_code == 200

    def _in_the_store(self, name: str) -> None:
        ann = SubjectDriver(self.store, self.clock, NO_LIMITS, subject=name.encode().rjust(16))
        with contextlib.suppress(StoreUnavailable):
            opened = self._timed(ann.open)
            for matches in (False, True, True, True):
                try:
                    outcome = self._timed(lambda matches=matches: ann.redeem(opened, matches).outcome)
                except StoreUnavailable:
                    self._saw(503)
                    continue
                self.passed[name] += outcome is MATCH

    def _timed(self, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.slowest = max(self.slowest, time.perf_counter() - start)

    def _saw(self, status: int, *usual: int) -> None:
        self.statuses.add(status)
        if status not in usual:
            self.refused_at.append(time.monotonic())


NO_NETWORK_LIMITS = {
    "OTP_IP_SEND_LIMIT": "9000/minute",
    "OTP_IP_VERIFY_LIMIT": "9000/minute",
    "OTP_SURGE_LIMIT": "9000/hour",
}


@contextlib.contextmanager
def under_way(traffic: Traffic, threads: int = 4) -> Iterator[None]:
    workers = [threading.Thread(target=traffic.run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        traffic.over.set()
        for worker in workers:
            worker.join(30)


def limits_key(app: Flask) -> str:
    """A key of the app's network limits: its server is what each of its requests needs."""
    limits = app.extensions["otp"].limits
    (item,) = limits._settings.ip_verify_limit
    return limits.storage.prefixed_key(item.key_for(*limits._ids("verify", "127.0.0.1")))


def test_r06_r37_a_master_that_dies_under_way_lets_nobody_pass_twice(
    topology: Topology, make_app: AppFactory, connect_to: Stores, clock: Clock
) -> None:
    config = {
        "OTP_STORAGE_URI": topology.uri,
        "OTP_STORAGE_OPTIONS": topology.options | {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT},
        **NO_NETWORK_LIMITS,
    }
    app, asleep = make_app(**config), make_app(**config)
    store = connect_to(topology, **config["OTP_STORAGE_OPTIONS"])
    with capture_codes(app) as outbox:
        traffic = Traffic(app, store, clock, outbox)
        waiting = [begin(each, f"{name}@example.com") for each, name in ((app, "ann"), (asleep, "bob"))]
        dying = topology.owner(limits_key(app))
        with under_way(traffic):
            time.sleep(0.5)
            assert traffic.refused_at == []
            killed_at = time.monotonic()
            dying.kill()
            wait_until(lambda: topology.has_replaced(dying))
            time.sleep(0.3)
            back_at = time.monotonic()
            finish(asleep, waiting[1])
            time.sleep(0.3)
        finish(app, waiting[0])
    assert traffic.failures == []
    assert traffic.statuses == {200, 400, 503}
    assert killed_at < min(traffic.refused_at) < max(traffic.refused_at) < back_at
    assert set(traffic.passed.values()) <= {0, 1}
    assert traffic.slowest < 2 * TIMEOUT
    print(
        f"{len(traffic.passed)} challenges, {traffic.passed.total()} passed, {len(traffic.refused_at)} x 503 over "
        f"{max(traffic.refused_at) - killed_at:.1f} s, slowest answer {traffic.slowest:.3f} s"
    )


def begin(app: Flask, identifier: str) -> tuple[Any, str, str]:
    """A challenge with one wrong code charged."""
    client = app.test_client()
    with capture_codes(app) as outbox:
        handle = client.post("/otp/send", json={"identifier": identifier}).json["challenge"]
        code = outbox.code
    wrong = "000000" if code != "000000" else "111111"
    assert client.post("/otp/verify", json={"code": wrong, "challenge": handle}).status_code == 400
    return client, handle, code


def finish(app: Flask, begun: tuple[Any, str, str]) -> None:
    """Four wrong codes are left of five, or the right one passes once: the first request is answered, none is 503."""
    client, handle, code = begun
    wrong = "000000" if code != "000000" else "111111"
    answers = [
        client.post("/otp/verify", json={"code": attempt, "challenge": handle}).status_code
        for attempt in (wrong, wrong, wrong, code, code)
    ]
    assert answers == [400, 400, 400, 200, 400]
