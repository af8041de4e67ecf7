"""The rules of a network and the surge, counted in the script of the verb: one round trip with all limits on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask_limiter import Limiter
from limits import parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from flask_otp import OTP, otp_required
from flask_otp.crypto.payloads import Client
from flask_otp.limits.counters import _drop_idle as drop_idle
from flask_otp.limits.gates import NetworkGates
from flask_otp.limits.surge import most_of_one_network, network_share
from flask_otp.stores import Attempt
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory, ValkeyServer
from tests.support.factor_site import Browser, Table, enrol, make_otp
from tests.support.proxy import Proxy

pytestmark = pytest.mark.server

ANN, NETWORK = "ann@example.com", "203.0.113.5"
#: A machine that is busy with other tests is no outage.
PATIENT = {"socket_timeout": 10, "socket_connect_timeout": 10}
Make = Callable[..., Flask]


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[Proxy]:
    with Proxy(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def make(make_app: AppFactory, proxy: Proxy) -> Iterator[Make]:
    """``make(limiter=...)``: an app on Redis with all limits on, and maybe a Flask-Limiter with these options."""
    with contextlib.ExitStack() as stack:

        def make(otp: OTP | None = None, limiter: dict[str, Any] | None = None, **config: Any) -> Flask:
            uri = f"redis://127.0.0.1:{proxy.port}"
            app = make_app(otp, OTP_STORAGE_URI=uri, OTP_STORAGE_OPTIONS=PATIENT, **config)
            state = app.extensions["otp"]
            stack.callback(state.store.close)
            if limiter is not None:
                Limiter(lambda: "app", app=app, **{"storage_uri": uri, "storage_options": PATIENT} | limiter)
            stack.callback(close, state.limits.storage)
            app.add_url_rule("/guarded", "guarded", otp_required(lambda: "in"))
            return app

        yield make


def close(storage: Any) -> None:
    if isinstance(storage, RedisStorage):
        storage.get_connection().close()


def trips(proxy: Proxy, call: Callable[[], Any], status: int) -> int:
    proxy.reset()
    assert call().status_code == status
    return proxy.round_trips


def counts(app: Flask, proxy: Proxy) -> dict[str, int]:
    """Round trips of each kind of request, once the process knows the scripts and whether there is a surge."""
    state = app.extensions["otp"]
    found: dict[str, int] = {}
    with capture_codes(app) as codes:
        for warm in (True, False):
            client = app.test_client()
            for name, status in (("send", 200), ("wrong", 400), ("right", 200), ("guard", 200)):
                calls: dict[str, Callable[[], Any]] = {
                    "send": lambda client=client, warm=warm: client.post(
                        "/otp/send", json={"email": f"{warm}@example.com"}
                    ),
                    "wrong": lambda client=client: client.post("/otp/verify", json={"code": wrong_for(codes)}),
                    "right": lambda client=client: client.post("/otp/verify", json={"code": codes.code}),
                    "guard": lambda client=client: client.get("/guarded"),
                }
                state.limits.is_surge("127.0.0.1")
                found[name] = trips(proxy, calls[name], status)
    return found


def wrong_for(codes: Outbox) -> str:
    return "000000" if codes.code != "000000" else "111111"


@pytest.mark.parametrize("limiter", [None, {}], ids=["our own storage", "the app's Limiter"])
def test_every_request_is_one_round_trip_with_all_limits_on(
    make: Make, proxy: Proxy, limiter: dict[str, Any] | None
) -> None:
    assert counts(make(limiter=limiter), proxy) == {"send": 1, "wrong": 1, "right": 1, "guard": 1}


def test_a_code_of_an_app_is_one_round_trip_too_with_all_limits_on(make: Make, proxy: Proxy, clock: Clock) -> None:
    table = Table(ANN)
    app = make(make_otp(clock, table))
    phone, recovery = enrol(app, clock)
    limits, counts = app.extensions["otp"].limits, []

    def count(call: Callable[..., Any], status: int, *arguments: Any, **options: Any) -> None:
        limits.is_surge("192.0.2.1")
        counts.append(trips(proxy, lambda: call(*arguments, **options), status))

    for turn in range(2):
        browser = Browser(app)
        count(browser.send, 200, identifier=ANN)
        count(browser.verify, 400, phone.wrong())
        count(browser.verify, 200, phone.code())
        browser = Browser(app)  # in the first one, the older proof would be ended
        count(browser.send, 200, "recovery", identifier=ANN)
        count(browser.verify, 400, "0" * 13)
        count(browser.verify, 200, recovery[turn])
        clock.advance(30)
    # The first time, the process does not know the scripts.
    assert counts[6:] == [1] * 6


@pytest.mark.parametrize(
    "limiter",
    [
        {"strategy": "moving-window"},
        {"storage_uri": "memory://", "storage_options": {}},
        {"storage_options": {**PATIENT, "db": 1}},
    ],
    ids=["moving window", "memory", "another database"],
)
def test_a_limiter_that_is_not_on_the_stores_server_counts_separately(
    make: Make, proxy: Proxy, limiter: dict[str, Any]
) -> None:
    app = make(limiter=limiter, OTP_IP_SEND_LIMIT="2/minute")
    elsewhere = limiter.get("storage_uri") == "memory://"
    assert counts(app, proxy)["send"] == (1 if elsewhere else 2)
    client = app.test_client()
    assert client.post("/otp/send", json={"email": ANN}).status_code == 429


def test_a_refused_network_does_nothing_else(make: Make) -> None:
    """Neither is an attempt counted nor a right code used up."""
    app = make(OTP_IP_VERIFY_LIMIT="2/minute", OTP_MAX_ATTEMPTS=3)
    client, neighbour = app.test_client(), app.test_client()
    with capture_codes(app) as codes:
        challenge = client.post("/otp/send", json={"email": ANN}).json["challenge"]
    body = {"code": wrong_for(codes), "challenge": challenge}
    assert [client.post("/otp/verify", json=body).status_code for _ in range(2)] == [400, 400]
    for code in (codes.code, wrong_for(codes), wrong_for(codes)):
        refused = client.post("/otp/verify", json=body | {"code": code})
        assert (refused.status_code, refused.json["reason"]) == (429, "rate_limited")
        assert 1 <= refused.json["retry_after"] <= 60
    right = neighbour.post("/otp/verify", json=body | {"code": codes.code}, environ_base={"REMOTE_ADDR": NETWORK})
    assert right.status_code == 200


def test_a_refused_network_opens_no_challenge_and_asks_no_loader(make: Make, clock: Any) -> None:
    otp, asked = OTP(clock=clock), []

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str:
        asked.append(identifier)
        return identifier

    client = make(otp, OTP_IP_SEND_LIMIT="1/minute").test_client()
    statuses = [client.post("/otp/send", json={"email": f"{n}@example.com"}).status_code for n in range(3)]
    assert statuses == [200, 429, 429]
    assert asked == ["0@example.com"]


def test_an_apps_own_limiter_and_ours_agree(make: Make, valkey: ValkeyServer) -> None:
    """Same keys, same windows: our scripts see what the library counts, and the library sees what our scripts count."""
    app = make(limiter={}, OTP_IP_SEND_LIMIT="4/minute")
    own = FixedWindowRateLimiter(RedisStorage(valkey.uri))
    item, ids = parse("4/minute"), ("flask_otp", "otp", "send", "127.0.0.1")
    client = app.test_client()
    assert client.post("/otp/send", json={"email": "a@example.com"}).status_code == 200
    assert own.get_window_stats(item, *ids).remaining == 3
    assert own.hit(item, *ids)
    assert client.post("/otp/send", json={"email": "b@example.com"}).status_code == 200
    assert own.hit(item, *ids)
    refused = client.post("/otp/send", json={"email": "c@example.com"})
    assert refused.status_code == 429
    assert not own.test(item, *ids)
    own.storage.storage.close()


def test_each_counter_ends_with_its_window(make: Make, valkey: ValkeyServer) -> None:
    """A counter without an end would refuse its network for ever."""
    app = make(OTP_IP_SEND_LIMIT="50/10 minutes", OTP_IP_VERIFY_LIMIT="50/20 minutes", OTP_SURGE_LIMIT="10/30 minutes")
    client = app.test_client()
    with capture_codes(app) as codes:
        client.post("/otp/send", json={"email": ANN})
        for _ in range(2):
            client.post("/otp/verify", json={"code": f"{(int(codes.code) + 1) % 10**6:06}"})
    lives = {"send": 600, "verify": 1200, "surge/127.0.0.1": 1800, "surge/site": 1800, "surge/networks": 3600}
    with contextlib.closing(valkey.client()) as redis:
        for counter, seconds in lives.items():
            (key,) = redis.keys(f"otp:limits:*/otp/{counter}/*")
            assert seconds - 60 < redis.ttl(key) <= seconds
        assert len(redis.keys("otp:limits:*")) == len(lives)


def test_the_surge_is_told_each_limits_failures_of_the_network_and_of_the_site(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, told = make_app().extensions["otp"].limits, list[Any]()
    monkeypatch.setattr(limits.surge, "note", lambda network, counts: told.append((network, counts)))
    NetworkGates(limits._verify, limits.surge, NETWORK, str).note_failures([1, 2, 3, 4])
    assert told == [(NETWORK, [(1, 2), (3, 4)])]


def test_r11_the_surge_is_counted_as_without_a_script(make: Make, make_app: AppFactory) -> None:
    """Failures of the network and of the site, and the mark, one after the other: on Redis and in memory."""
    limit = "20/hour;1000/day"
    found = []
    for app in (make(OTP_SURGE_LIMIT=limit), make_app(OTP_SURGE_LIMIT=limit)):
        state = app.extensions["otp"]
        surge = state.limits.surge
        shares = [(network_share(item), most_of_one_network(item)) for item in state.settings.surge_limit]
        assert shares == [(2, 10), (100, 500)]
        passed = []
        for number in range(14):
            entry = state.limits.enter_verify(NETWORK, state.store, is_short=True)
            if isinstance(state.store, RedisStore):
                fail_once(state, entry, number)
            passed.append(entry.count_failure())
        keys, _ = surge.gate(NETWORK)
        found.append(([state.limits._ask("storage.get", key) for key in keys], passed, surge.is_on(NETWORK)))
    assert found[0] == found[1]
    assert found[0] == ([14, 10, 13, 14, 14, 0], [False] * 14, True)


def fail_once(state: Any, entry: Any, number: int) -> None:
    """One wrong code by this entry's store, at a challenge of its own."""
    challenge = state.service.send(
        f"{number}@example.com",
        channel=None,
        purpose="login",
        context=b"",
        context_values=None,
        client=Client(),
        is_typed=True,
    )
    handle = state.tokens.load_handle(challenge.handle)
    attempt = Attempt(handle.challenge_id, False, b"", 0)
    entry.store.redeem(handle.subject, attempt, state.service._policies["login"], int(state.clock()))


def test_a_loader_that_fails_leaves_no_message_counted(make: Make, clock: Any) -> None:
    otp, fails = OTP(clock=clock), [True]

    @otp.recipient_loader
    def load(identifier: str, channel: str) -> str:
        if fails:
            raise LookupError("the database is away")
        return identifier

    app = make(otp, OTP_SEND_LIMIT="2/hour", OTP_COOLDOWN=0)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    for path, body in (("/otp/send", {"email": ANN}), ("/otp/resend", {})):
        fails[:] = [True]
        assert client.post(path, json=body).status_code == 500
        fails.clear()
        assert client.post(path, json=body).status_code == 200


# A server that has become a replica


def test_only_the_idle_connections_are_closed(valkey: ValkeyServer) -> None:
    """Another thread may be using one."""
    storage = RedisStorage(valkey.uri)
    pool = storage.storage.connection_pool
    busy, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    assert drop_idle(storage)
    assert (busy._sock is None, idle._sock is None) == (False, True)
    pool.disconnect()


@pytest.mark.parametrize("storage", [object(), SimpleNamespace(storage=object())], ids=["none", "another"])
def test_a_storage_without_a_pool_has_nothing_to_close(storage: Any) -> None:
    assert not drop_idle(storage)
