"""Surges of one network: they stop the short codes of that network only."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_otp import StoreUnavailable
from flask_otp.limits.counters import Limits
from flask_otp.limits.surge import most_of_one_network, network_share
from flask_otp.testing import Outbox
from tests.support.apps import ValkeyServer
from tests.support.at_once import at_once
from tests.support.attack_site import Caller, Stage, refused
from tests.support.listening import listening
from tests.support.simulation import START, few_networks, settings_of, spray, virtual_limits

EVIL, HOME = "203.0.113.5", "198.51.100.7"
HOUR = 3600


def code_length(caller: Caller, who: str) -> int:
    return int(caller.send(who).get_json()["code_length"])


def fail(app: Flask, stage: Stage, network: str, times: int, first: int = 0) -> None:
    """Wrong codes from one network, each at the code of another address of the attacker's own."""
    for number in range(first, first + times):
        caller = Caller(app, network=network)
        assert caller.send(f"own{number}@evil.example").status_code == 200
        caller.guess(stage.sent.code)


def test_r11_one_network_stops_its_own_short_codes_and_nobody_elses(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("flask_otp.limits.surge.time", SimpleNamespace(time=time.time, monotonic=lambda: clock.now))
    app = stage.app(OTP_SURGE_LIMIT="50/hour")
    another = stage.another(app, OTP_SURGE_LIMIT="50/hour")
    owner, neighbour, returning = Caller(app, network=HOME), Caller(app, network=EVIL), Caller(app, browser=True)
    returning.send("returning@example.com")
    assert returning.verify(stage.sent.code).status_code == 200
    owner.send("owner@example.com")
    owners = stage.sent.code
    neighbour.send("neighbour@example.com")
    neighbours = stage.sent.code
    fail(app, stage, EVIL, 4)
    assert code_length(Caller(another, network=EVIL), "early@example.com") == 6
    fail(app, stage, EVIL, 1, first=4)
    fail(app, stage, EVIL, 60, first=5)  # guesses at strong codes do not count
    # What counts networks is in the memory of each process, where the store is no Redis.
    for site in (app, another) if stage.uri.startswith("redis") else (app,):
        clock.now += 1
        assert code_length(Caller(site, network=EVIL), f"late{id(site)}@example.com") == 13
        assert code_length(Caller(site, network=HOME), f"late{id(site)}@example.org") == 6
    assert refused(neighbour.verify(neighbours))
    returning.network = EVIL
    assert code_length(returning, "returning@example.com") == 6
    assert returning.verify(stage.sent.code).status_code == 200
    assert owner.verify(owners).status_code == 200
    told = [record for record in caplog.record_tuples if "OTP_SURGE_LIMIT" in record[2]]
    text = "one network's failures reached a tenth of OTP_SURGE_LIMIT (50 per 1 hour): its codes are strong until the "
    assert told == [("flask_otp", logging.WARNING, text + "window ends")]
    assert EVIL not in caplog.text


def test_r11_nor_does_a_burst_from_one_network_however_many_are_in_flight(stage: Stage) -> None:
    app = stage.app(OTP_SURGE_LIMIT="20/hour")
    callers = [Caller(app, network=EVIL) for _ in range(60)]
    for number, caller in enumerate(callers):
        caller.send(f"own{number}@evil.example")
    wrong = "000000" if "000000" not in {message.code for message in stage.sent} else "999999"
    assert all(map(refused, at_once(*[lambda caller=caller: caller.verify(wrong) for caller in callers])))
    assert code_length(Caller(app, network=HOME), "owner@example.com") == 6


def test_it_takes_eleven_networks_one_after_the_other_to_stop_short_codes_everywhere(stage: Stage) -> None:
    app = stage.app(OTP_SURGE_LIMIT="20/hour")
    for number in range(10):
        fail(app, stage, f"203.0.113.{number}", 3, first=10 * number)
        assert code_length(Caller(app), f"new{number}@example.com") == 6
    fail(app, stage, "203.0.113.99", 1, first=990)
    assert code_length(Caller(app), "late@example.com") == 13


def test_a_networks_surge_ends_with_its_window_and_is_known_to_all_processes_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mark that there are such networks is of a period of the clock, and outlives the window of each of them."""
    settings = settings_of({"OTP_SURGE_LIMIT": "20/hour"})
    here, clock = virtual_limits(monkeypatch, settings)

    def other_process() -> Limits:
        limits = Limits(settings, {})
        monkeypatch.setattr(limits, "_own", here._own)  # with the same storage
        return limits

    elsewhere = other_process()
    clock.site = SimpleNamespace(now=START // HOUR * HOUR + 3000)
    for network in (EVIL, HOME):  # the second one comes into its surge in the next period of the clock
        here.surge.count(network)
        assert not here.is_surge(network)
        here.surge.count(network)
        assert here.is_surge(network)
        clock.site.now += 3000
        assert other_process().is_surge(network)
    assert not elsewhere.is_surge(EVIL)
    clock.site.now += 599
    assert elsewhere.is_surge(HOME)
    clock.site.now += 1
    assert not elsewhere.is_surge(HOME)


@pytest.mark.parametrize(("limit", "share", "most"), [("1/day", 1, 1), ("19/day", 1, 9), ("100/hour", 10, 50)])
def test_the_share_of_a_network(limit: str, share: int, most: int) -> None:
    (item,) = settings_of({"OTP_SURGE_LIMIT": limit}).surge_limit
    assert (network_share(item), most_of_one_network(item)) == (share, most)


def test_a_failure_of_the_app_itself_is_of_no_network(caplog: pytest.LogCaptureFixture) -> None:
    """As in ``otp.verify`` outside a request. One failure would put a network in a surge here."""
    Limits(settings_of({"OTP_SURGE_LIMIT": "10/hour"}), {}).surge.count(None)
    assert caplog.record_tuples == []


def test_while_no_network_is_in_a_surge_none_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(settings_of(), {})
    asked: list[str] = []
    get = limits.storage.get
    monkeypatch.setattr(limits.storage, "get", lambda key: asked.append(key) or get(key))
    assert not any(limits.is_surge(f"203.0.113.{number}") for number in range(50))
    assert len(asked) == 3  # of the site, and of two periods: once a second


def test_the_memory_of_networks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_otp.limits.surge._NETWORKS", 5)
    limits = Limits(settings_of({"OTP_SURGE_LIMIT": "10000/hour"}), {})
    limits.surge._any_network.is_yes()
    for number in range(50):
        limits.is_surge(f"203.0.113.{number}")
    assert len(limits.surge._networks) <= 5


@pytest.mark.server
def test_r08_guesses_in_flight_from_several_networks_stay_within_the_sum(valkey: ValkeyServer) -> None:
    """What the sum calls c: threads that compare at the same moment, in two processes."""
    threads, amount = 16, 40
    settings = settings_of({"OTP_SURGE_LIMIT": f"{amount}/hour", "OTP_STORAGE_URI": valkey.uri})
    workers = [Limits(settings, {}) for _ in range(2)]
    start, compared = threading.Barrier(threads), Counter[Any]()

    def guess(number: int) -> None:
        limits = workers[number % 2]
        start.wait()
        for network in range(30):
            while not limits.is_surge(f"203.0.113.{network}"):
                compared[number] += 1
                limits.surge.count(f"203.0.113.{network}")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(guess, range(threads)))
    for limits in workers:
        limits.storage.storage.close()
    assert amount < compared.total() <= amount + threads


def test_r08_a_day_of_a_few_networks_has_no_more_guesses_than_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    for networks in (1, 5, 10):
        site = spray(monkeypatch, few_networks(networks), days=1)
        assert sum(map(len, site.wrong.values())) == 24 * 10 * networks
        assert site.others_strong == 0
    site = spray(monkeypatch, few_networks(11), days=1)
    assert sum(map(len, site.wrong.values())) == 24 * 101
    assert site.others_strong > 0


def test_a_wrong_code_is_told_although_it_cannot_be_counted_towards_the_surge(
    app: Flask, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    client.post("/otp/send", json={"email": "ann@example.com"})
    wrong = "111111" if outbox.code == "000000" else "000000"

    def fail(*arguments: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(app.extensions["otp"].limits.surge, "note", fail)
    with listening(app) as events:
        assert client.post("/otp/verify", json={"code": wrong}).status_code == 503
    assert [event.reason for event in events if event.kind == "code_rejected"] == ["wrong"]
