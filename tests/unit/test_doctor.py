"""``flask otp doctor``: each finding on a site that has the fault, and none of it on one that has not."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_otp import OTP, doctor, identifiers, otp_required
from flask_otp.doctor import CHECKS, Finding, Level, examine, storage
from flask_otp.testing import Clock
from flask_otp.urls import hosts, is_loopback
from tests.support.apps import SECRET, START, ValkeyServer, certified, free_port
from tests.support.mail import PASSWORD, Inbox, serving

KEY = "7f3b1c9a04e85d26b1f7c0e9a3d45286cc19e07b5a42f8d3"
#: As it should be, as far as one can be without a server of one's own.
GOOD: dict[str, Any] = {
    "SECRET_KEY": KEY,
    "OTP_STORAGE_URI": "memory://",
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Lax",
    "OTP_CHANNEL_BUDGET": {"own": "1000/day"},
}
Prepare = Callable[[Flask, OTP], Any]


def build(prepare: Prepare = lambda app, otp: None, clock: Callable[[], float] | None = None, **config: Any) -> Flask:
    app = Flask("site")
    app.config.update(GOOD)
    app.config.update(config)
    otp = OTP() if clock is None else OTP(clock=clock)
    otp.channel("own")(lambda message: None)
    prepare(app, otp)
    otp.init_app(app)
    return app


def look(app: Flask, accounts: int = 1000, **environ: str) -> dict[str, list[Finding]]:
    """The findings of every check, by the check's name."""
    found: dict[str, list[Finding]] = {}
    with app.app_context():
        for finding in examine(doctor.Site(app, app.extensions["otp"], environ, accounts)):
            found.setdefault(finding.check, []).append(finding)
    return found


def levels(app: Flask, check: str, **environ: str) -> list[str]:
    return [finding.level.value for finding in look(app, **environ).get(check, [])]


def run(app: Flask, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["otp", "doctor", *args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


# The command


def test_a_good_site_passes_and_its_odds_are_told() -> None:
    code, output = run(build())
    assert code == 0
    assert "0 errors, 0 warnings, " in output
    told = " ".join(output.split())
    assert "An attacker guesses into one account with a chance of at most 1 in 3,585 a year." in told
    assert "With the stolen cookie of one known browser: 1 in 1,793; with 8 stolen cookies: 1 in 399." in told
    assert "Guesses at all 1,000,000 accounts win at most 0.88 of them a year, plus 0.0088" in told
    assert "For 'login', unknown browsers can have 50 a day (at times 99 in 24 hours) sent to one identifier" in told
    assert "One network can request 7,200 a day (at times 7,499 in 24 hours)." in told
    assert "By channel 'own', at most 1,000 a day (at times 1,999 in 24 hours) go out." in told
    assert max(map(len, output.splitlines())) <= 100


def test_r16_what_phones_can_be_sent_is_told() -> None:
    told = " ".join(run(build(_sms, **SMS, OTP_PREFIX_BUDGET={"+4915": "9/day"}))[1].split())
    assert "at most 60 messages go out within 3,600 seconds to phone numbers that differ in their last four" in told
    assert "and 200 to one country; or 5 for each code that is verified there." in told
    assert "To numbers that begin with +4915, at most 9 a day (at times 17 in 24 hours) go out." in told
    for without in (build(), build(_sms, **SMS, OTP_PUMPING_BREAKER=None)):
        assert "last four digits" not in run(without)[1]


def test_every_finding_says_what_why_how_and_where() -> None:
    code, output = run(build(SECRET_KEY="please-change-me-now", SESSION_COOKIE_SECURE=False, OTP_IP_SEND_LIMIT=None))
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == "error     SECRET_KEY looks like an example that was not replaced."
    assert [lines[place].split()[0] for place in (1, 3, 5)] == ["Why:", "Fix:", "See:"]
    assert lines[5].strip() == "See: flask_otp docs, doctor/secret-key; OWASP ASVS 5.0 V11.2.3, V11.5.1, V13.3.1; R41"
    starts = [line[:10].strip() for line in lines if line[:10].strip() in ("error", "warning", "note")]
    assert starts == sorted(starts, key=["error", "warning", "note"].index)
    assert output.count("Why:") == output.count("Fix:") == output.count("See:") == len(starts)


@pytest.mark.parametrize(
    ("config", "args", "code"),
    [
        ({}, [], 0),
        ({}, ["--strict"], 0),
        ({"SESSION_COOKIE_SECURE": False}, [], 0),
        ({"SESSION_COOKIE_SECURE": False}, ["--strict"], 1),
        ({"SESSION_COOKIE_HTTPONLY": False}, [], 1),
        ({"OTP_MAX_ANNUAL_RISK": 2.7e-4}, [], 1),
        ({"OTP_MAX_ANNUAL_RISK": 2.8e-4}, [], 0),
    ],
)
@pytest.mark.filterwarnings("ignore:with these settings")
def test_the_exit_code_is_for_ci(config: dict[str, Any], args: list[str], code: int) -> None:
    assert run(build(**config), *args)[0] == code


def test_json_has_the_same_for_programs() -> None:
    app = build(SESSION_COOKIE_HTTPONLY=False)
    code, output = run(app, "--json", "--accounts", "1000")
    found = json.loads(output)
    assert (code, found["passed"], found["counts"]["error"]) == (1, False, 1)
    first = found["findings"][0]
    assert first.keys() == {"name", "level", "what", "why", "mend", "reference", "check", "see"}
    assert (first["level"], first["check"], first["name"]) == ("error", "cookies", "cookie-httponly")
    assert first["see"] == "flask_otp docs, doctor/cookie-httponly"
    assert found["odds"]["accounts"] == 1000
    assert found["odds"]["one_account"] == pytest.approx(2.79e-4, rel=1e-3)
    assert found["odds"]["max_annual_risk"] == 0.001


@pytest.mark.parametrize("accounts", ["0", "-1", "x"])
def test_a_wrong_number_of_accounts_is_told(accounts: str) -> None:
    assert run(build(), "--accounts", accounts)[0] == 2


def test_a_check_that_fails_is_a_finding_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(site: doctor.Site) -> Iterator[Finding]:
        raise RuntimeError("redis://:hunter2@store")

    monkeypatch.setattr(doctor, "CHECKS", [*CHECKS, broken])
    code, output = run(build())
    assert code == 1
    assert "The check 'broken' failed with a RuntimeError." in output
    assert "hunter2" not in output
    assert "Traceback" not in output


def test_a_check_can_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(site: doctor.Site) -> Iterator[Finding]:
        yield Finding("own-fault", Level.WARNING, "What", "why", "mend", "R1")

    monkeypatch.setattr(doctor, "CHECKS", [own])
    assert look(build()) == {"own": [replace(next(own(None)), check="own")]}  # type: ignore[arg-type]


# SECRET_KEY


@pytest.mark.parametrize(
    ("key", "level"),
    [
        (KEY, None),
        (KEY[:32], None),
        (bytes(range(40, 72)), None),
        ("kT9v_0bQmZ4-x7LpYc2WfRjH", None),
        ("192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf", "error"),
        ('_5#y2L"F4Q8z\n\xec]/', "error"),
        (b'_5#y2L"F4Q8z\n\xec]/', "error"),
        ("set your own: python -c 'import secrets; print(secrets.token_hex())'", "error"),
        ("change-me-please-right-now", "error"),
        ("my Super-SECRET 4711 4711", "error"),
        ("insecure-0d9f8a7b6c5e4f3a2b1c", "error"),
        ("a" * 40, "error"),
        ("0123456789abcdefghij" * 2, "error"),
        ("0011001100110011001101011", "error"),
        ("4820173659205816", "error"),
        ("4f1b9c3a7d2e8056", "warning"),
        ("the quick brown fox jumps over it", "warning"),
    ],
)
def test_r41_a_weak_key_is_told_and_not_shown(key: str | bytes, level: str | None) -> None:
    app = build(SECRET_KEY=key)
    assert levels(app, "secret_key") == ([level] if level else [])
    shown = key if isinstance(key, str) else key.decode("latin-1")
    assert shown not in run(app)[1]


def test_r41_fallbacks_are_looked_at_too() -> None:
    found = look(build(SECRET_KEY_FALLBACKS=[KEY[::-1], "change-me-please-right-now"]))["secret_key"]
    assert [finding.what.split()[0] for finding in found] == ["SECRET_KEY_FALLBACKS[1]"]


@pytest.mark.parametrize("key", ["dev", "test", "secret", "Dev"])
def test_r41_the_words_of_tutorials_are_told_in_debug(key: str) -> None:
    assert levels(build(SECRET_KEY=key, DEBUG=True), "secret_key") == ["error"]


def test_r41_the_key_of_these_tests_would_not_do() -> None:
    assert levels(build(SECRET_KEY=SECRET), "secret_key") == ["error"]


# Debug, cookies, guards, proxies, addresses


def test_debug_and_testing_are_noted() -> None:
    assert levels(build(), "debug_mode") == []
    assert levels(build(DEBUG=True), "debug_mode") == ["note"]
    assert levels(build(TESTING=True), "debug_mode") == ["note"]


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({}, []),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, []),
        ({"SESSION_COOKIE_SECURE": False}, ["warning"]),
        ({"SESSION_COOKIE_HTTPONLY": False}, ["error"]),
        ({"SESSION_COOKIE_SAMESITE": None}, ["warning"]),
        ({"SESSION_COOKIE_SAMESITE": "None"}, ["warning"]),
    ],
)
def test_r49_cookie_flags(config: dict[str, Any], level: list[str]) -> None:
    assert levels(build(**config), "cookies") == level


def _misplaced(app: Flask, otp: OTP) -> None:
    otp_required(app.route("/account")(lambda: "account"))


@pytest.mark.parametrize(
    ("prepare", "config", "words"),
    [
        (_misplaced, {}, "put it below @app.route"),
        (lambda app, otp: None, {"OTP_CHANNEL_BUDGET": {"pigeon": "5/day"}}, "there is no channel 'pigeon'"),
        (
            lambda app, otp: app.register_blueprint(otp.blueprint, name="codes", url_prefix="/codes"),
            {},
            "mounted as 'codes'",
        ),
    ],
)
def test_what_would_stop_the_first_request_is_found_before_it(
    prepare: Prepare, config: dict[str, Any], words: str
) -> None:
    found = look(build(prepare, **config))["guards"]
    assert [finding.level for finding in found] == [Level.ERROR]
    assert words in found[0].what


def test_r39_no_proxy_fix_is_noted_and_one_is_not() -> None:
    assert levels(build(), "proxies") == ["note"]
    for hops, expected in ((1, []), (2, ["note"])):
        app = build()
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops)  # type: ignore[method-assign]
        assert levels(app, "proxies") == expected


def test_r39_a_proxy_fix_under_other_middleware_is_found() -> None:
    class Middleware:
        def __init__(self, app: Any) -> None:
            self.app = app

    app = build()
    app.wsgi_app = Middleware(ProxyFix(app.wsgi_app))  # type: ignore[method-assign, assignment]
    assert levels(app, "proxies") == []


@pytest.mark.parametrize(
    ("address", "headers", "fixed", "told"),
    [
        ("10.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, False, 1),
        ("", {"X-Forwarded-For": "192.0.2.1"}, False, 1),
        ("fd00::1", {"X-Forwarded-For": "192.0.2.1"}, False, 1),
        ("10.0.0.1", {}, False, 0),
        ("10.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, True, 0),
        # Any client may send the header; a visitor from afar is no proxy of ours.
        ("93.184.215.14", {"X-Forwarded-For": "192.0.2.1"}, False, 0),
    ],
)
def test_r39_a_proxy_that_nobody_mentioned_is_logged_once(
    caplog: pytest.LogCaptureFixture, address: str, headers: dict[str, str], fixed: bool, told: int
) -> None:
    app = build(TESTING=True)
    if fixed:
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "flask_otp"):
        for number in range(3):
            body = {"identifier": f"user{number}@example.com"}
            environ = {"REMOTE_ADDR": address}
            app.test_client().post("/otp/send", json=body, headers=headers, environ_overrides=environ)
    assert sum("no ProxyFix" in record.getMessage() for record in caplog.records) == told


def _sms(app: Flask, otp: OTP) -> None:
    otp.channel("sms")(lambda message: None)


SMS: dict[str, Any] = {
    "OTP_CHANNEL_BUDGET": {"own": "9/day", "sms": "9/day"},
    "OTP_SMS_COUNTRIES": ("DE",),
    "OTP_BASE_URL": "https://shop.example",
}


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({}, "base_url", []),
        ({}, "sms_countries", []),
        ({}, "channel_budgets", []),
        ({"OTP_BASE_URL": None}, "base_url", ["warning"]),
        ({"OTP_BASE_URL": "http://shop.example"}, "base_url", ["warning"]),
        ({"OTP_BASE_URL": "http://localhost:5000"}, "base_url", []),
        ({"OTP_SMS_COUNTRIES": ()}, "sms_countries", ["error"]),
        ({"OTP_CHANNEL_BUDGET": {"own": "9/day"}}, "channel_budgets", ["warning"]),
        ({}, "prefix_budgets", []),
        ({"OTP_SMS_COUNTRIES": ("DE", "FR")}, "prefix_budgets", ["note"]),
        ({"OTP_SMS_COUNTRIES": ("DE", "FR"), "OTP_PREFIX_BUDGET": {"+33": "9/day"}}, "prefix_budgets", []),
        ({}, "pumping_breaker", []),
        ({"OTP_PUMPING_BREAKER": None}, "pumping_breaker", ["warning"]),
    ],
)
def test_r16_what_text_messages_need(change: dict[str, Any], check: str, level: list[str]) -> None:
    assert levels(build(_sms, **SMS | change), check) == level


def test_without_the_extra_for_phones_text_messages_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(build(_sms, **SMS), "phone_extra") == []
    monkeypatch.setattr(identifiers, "phonenumbers", None)
    assert levels(build(_sms, **SMS), "phone_extra") == ["error"]


def test_a_site_without_text_messages_needs_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "phonenumbers", None)
    found = look(build(OTP_PUMPING_BREAKER=None))
    assert (
        not {"base_url", "phone_extra", "sms_countries", "channel_budgets", "prefix_budgets", "pumping_breaker"}
        & found.keys()
    )


# The odds


@pytest.mark.filterwarnings("ignore:with these settings")
def test_r52_odds_above_the_bound_are_an_error_that_names_the_purpose() -> None:
    app = build(OTP_PURPOSES={"login": {}, "transfer": {"failure_budget": "15/hour"}})
    (finding,) = look(app)["risk"]
    assert finding.level is Level.ERROR
    assert "1 in 8 a year" in finding.what
    assert "'transfer'" in finding.why
    assert "risk" not in look(build())


def test_r52_workers_with_memories_of_their_own_multiply_the_odds() -> None:
    assert levels(build(), "risk", WEB_CONCURRENCY="3") == []
    assert levels(build(), "risk", WEB_CONCURRENCY="4") == ["error"]


def test_spraying_that_wins_accounts_is_a_warning() -> None:
    lax = build(OTP_SURGE_LIMIT="1000/hour")
    with lax.app_context():
        state = lax.extensions["otp"]
        assert not any(f.check == "spraying" for f in examine(doctor.Site(lax, state, {}, 3000)))
        assert any(f.check == "spraying" for f in examine(doctor.Site(lax, state, {}, 10_000)))


@pytest.mark.parametrize("key", ["OTP_IP_SEND_LIMIT", "OTP_IP_VERIFY_LIMIT"])
def test_limits_that_are_off_are_told(key: str) -> None:
    assert levels(build(), "limits_off") == []
    (finding,) = look(build(**{key: None}))["limits_off"]
    assert key in finding.what


# The store


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, "note"),
        ({"WEB_CONCURRENCY": "1"}, "note"),
        ({"WEB_CONCURRENCY": "4"}, "error"),
        ({"GUNICORN_CMD_ARGS": "--bind :80 --workers=2"}, "error"),
        ({"GUNICORN_CMD_ARGS": "-w 2"}, "error"),
        ({"GUNICORN_CMD_ARGS": "--bind :80 -w2"}, "error"),
        ({"GUNICORN_CMD_ARGS": "-w 4 --workers 1"}, "note"),
        ({"GUNICORN_CMD_ARGS": "-w 1", "WEB_CONCURRENCY": "4"}, "note"),
        ({"WEB_CONCURRENCY": "auto"}, "note"),
    ],
)
def test_r40_memory_with_several_workers_is_an_error(environ: dict[str, str], level: str) -> None:
    assert levels(build(), "memory_store", **environ) == [level]


@pytest.mark.filterwarnings("ignore:OTP_STORAGE_URI is not set")
def test_r40_memory_that_nobody_asked_for_is_a_warning() -> None:
    assert levels(build(OTP_STORAGE_URI=None), "memory_store") == ["warning"]


@pytest.fixture
def configured(valkey: ValkeyServer) -> Iterator[Callable[..., None]]:
    """``configured(maxmemory_policy=...)`` sets the real server; afterwards it is as it was."""
    client = valkey.client()
    before: dict[str, str] = {}

    def configure(**values: str) -> None:
        for name, value in values.items():
            name = name.replace("_", "-")
            before.setdefault(name, client.config_get(name)[name])  # type: ignore[index]
            client.config_set(name, value)

    yield configure
    for name, value in before.items():
        client.config_set(name, value)
    client.close()


def over(valkey: ValkeyServer, clock: Callable[[], float] | None = None, **config: Any) -> Flask:
    return build(clock=clock, OTP_STORAGE_URI=valkey.uri, **config)


def test_a_good_redis_gives_no_finding(valkey: ValkeyServer, configured: Callable[..., None]) -> None:
    configured(maxmemory_policy="noeviction", appendonly="yes", appendfsync="everysec")
    app = over(valkey)
    found = look(app, WEB_CONCURRENCY="8")
    checks = {"store_answers", "memory_store", "limits_in_memory", "eviction", "persistence", "clock", "store_tls"}
    assert not checks & found.keys()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl", "volatile-lfu"])
def test_r50_every_policy_that_can_evict_is_told(
    valkey: ValkeyServer, configured: Callable[..., None], policy: str
) -> None:
    configured(maxmemory_policy=policy)
    app = over(valkey)
    (finding,) = look(app)["eviction"]
    assert finding.level is Level.WARNING
    assert policy in finding.what
    assert "until it is set" in finding.why
    configured(maxmemory="100mb")
    assert "maxmemory is set." in look(app)["eviction"][0].why


@pytest.mark.parametrize(
    ("config", "expected", "words"),
    [
        ({"appendonly": "no", "save": ""}, ["warning"], "nothing on disk"),
        ({"appendonly": "no", "save": "60 1"}, ["note"], "snapshots only"),
        ({"appendonly": "yes", "appendfsync": "no"}, ["note"], "appendfsync no"),
        ({"appendonly": "yes", "appendfsync": "always"}, [], ""),
    ],
)
def test_r50_what_a_restart_would_forget_is_told(
    valkey: ValkeyServer, configured: Callable[..., None], config: dict[str, str], expected: list[str], words: str
) -> None:
    configured(**config)
    app = over(valkey)
    found = look(app).get("persistence", [])
    assert [finding.level.value for finding in found] == expected
    assert all(words in finding.what for finding in found)


def test_a_redis_whose_config_may_not_be_read_is_asked_otherwise(
    valkey: ValkeyServer, configured: Callable[..., None]
) -> None:
    configured(maxmemory_policy="allkeys-lru")
    client = valkey.client()
    client.acl_setuser("tenant", enabled=True, passwords=["+hunter2"], keys=["*"], commands=["+@all", "-config"])
    uri = f"redis://tenant:hunter2@127.0.0.1:{valkey.port}"
    app = build(OTP_STORAGE_URI=uri)
    try:
        found = look(app)
        assert "allkeys-lru" in found["eviction"][0].what
        assert "does not say" in found["persistence"][0].what
        output = run(app)[1] + run(app, "--json")[1]
        assert "hunter2" not in output
        assert "127.0.0.1" not in output
    finally:
        app.extensions["otp"].store.close()
        client.acl_deluser("tenant")
        client.close()


def test_of_several_servers_each_is_asked(
    valkey: ValkeyServer, configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    second = ValkeyServer(tmp_path)
    second.start()
    clients: list[redis.Redis] = [valkey.client(), second.client()]
    try:
        clients[1].config_set("maxmemory-policy", "volatile-ttl")
        app = over(valkey)
        monkeypatch.setattr(app.extensions["otp"].store, "servers", lambda: clients)
        assert "1 of the store's 2 servers may evict keys" in look(app)["eviction"][0].what
    finally:
        for client in clients:
            client.close()
        second.stop()


def test_a_store_that_is_down_is_told_once_and_quickly() -> None:
    app = build(OTP_STORAGE_URI=f"redis://:hunter2@127.0.0.1:{free_port()}")
    code, output = run(app)
    assert code == 1
    assert output.count("error  ") == 1
    assert "The store does not answer." in output
    assert "hunter2" not in output


def test_a_clock_that_is_wrong_is_told(valkey: ValkeyServer) -> None:
    app = over(valkey)
    assert "clock" not in look(app)
    app = over(valkey, Clock(START - 10**8))
    (finding,) = look(app)["clock"]
    assert "seconds apart" in finding.what


@pytest.mark.parametrize("seconds", [-7, 7])
def test_clocks_may_differ_by_five_seconds(valkey: ValkeyServer, seconds: int) -> None:
    client = valkey.client()
    theirs = Clock(float(client.time()[0]) + seconds / 2)  # type: ignore[index]
    app = over(valkey, theirs)
    assert "clock" not in look(app)
    theirs.now = float(client.time()[0]) + seconds  # type: ignore[index]
    assert "clock" in look(app)
    client.close()


def test_r38_limits_in_the_memory_of_each_worker_are_told(valkey: ValkeyServer) -> None:
    def limited(app: Flask, otp: OTP) -> None:
        Limiter(get_remote_address, app=app, storage_uri="memory://")

    app = build(limited, OTP_STORAGE_URI=valkey.uri)
    assert levels(app, "limits_in_memory") == ["warning"]
    app.extensions["otp"].store.close()
    assert levels(build(limited), "limits_in_memory") == []


def test_statistics_that_no_other_process_can_read_are_told() -> None:
    assert levels(build(OTP_STATS=True), "statistics") == ["warning"]
    assert levels(build(), "statistics") == []
    assert levels(build(OTP_STATS=True, OTP_STORAGE_URI="redis://localhost:6379"), "statistics") == []


def test_r40_a_database_keeps_the_codes_but_not_the_limits(tmp_path: Path) -> None:
    app = build(OTP_STORAGE_URI=f"sqlite:///{tmp_path / 'otp.db'}")
    found = look(app, WEB_CONCURRENCY="4")
    app.extensions["otp"].store.close()
    assert {check for check, findings in found.items() if findings[0].level is not Level.NOTE} == {"limits_in_memory"}
    assert str(tmp_path) not in str(found)


@pytest.mark.parametrize(
    ("uri", "options", "fault"),
    [
        ("memory://", {}, None),
        ("redis://localhost:6379", {}, None),
        ("redis://:pw@127.0.0.1/0", {}, None),
        ("redis://[::1]:6379", {}, None),
        ("redis+unix:///run/redis.sock", {}, None),
        ("rediss://store.example:6379", {}, None),
        ("valkeys://store.example", {}, None),
        ("redis://store.example:6379", {}, "not encrypted"),
        ("valkey://10.0.0.7", {}, "not encrypted"),
        ("redis+sentinel://localhost,store.example:26379/main", {}, "not encrypted"),
        ("rediss+cluster://a.example,b.example", {}, None),
        ("rediss://store.example?ssl_cert_reqs=none", {}, "not checked"),
        ("rediss://store.example", {"ssl_cert_reqs": None}, "not checked"),
        ("rediss://store.example", {"ssl_cert_reqs": ssl.CERT_NONE}, "not checked"),
        ("sqlite:////var/lib/app.db", {}, None),
        ("postgresql://db.example/app", {}, "may not be encrypted"),
        ("postgresql://db.example/app?sslmode=require", {}, "may not be encrypted"),
        ("postgresql://db.example/app?sslmode=verify-full", {}, None),
        ("postgresql://user@/app?host=db1.example:5432&host=db2.example", {}, "may not be encrypted"),
        ("postgresql://user@/app?host=/run/postgresql", {}, None),
        ("mysql://db.example/app", {"connect_args": {"ssl_ca": "/ca.pem"}}, None),
        ("mysql://db.example/app", {"connect_args": {"ssl_disabled": True}}, "is not encrypted"),
        ("mysql://db.example/app?ssl_disabled=true", {}, "is not encrypted"),
        ("mysql://db.example/app", {"connect_args": {"ssl_disabled": False}}, "may not be encrypted"),
        ("postgresql+pg8000://db.example/app", {"connect_args": {"ssl_context": False}}, "is not encrypted"),
        ("postgresql+pg8000://db.example/app", {"connect_args": {"ssl_context": object()}}, None),
    ],
)
def test_the_way_to_a_store_elsewhere_must_be_encrypted(uri: str, options: dict[str, Any], fault: str | None) -> None:
    app = build()
    state = app.extensions["otp"]
    state = state
    state.settings = replace(state.settings, storage_uri=uri, storage_options=options)
    found = list(storage.store_tls(doctor.Site(app, state, {}, 1)))
    assert [fault in finding.what for finding in found] == ([True] if fault else [])  # type: ignore[operator]


def test_hosts_are_found_in_any_uri() -> None:
    assert hosts("redis://user:p@ss@a.example:1,b.example:2/0?x=1") == ["a.example", "b.example"]
    assert hosts("memory://") == [""]
    assert [is_loopback(host) for host in ("localhost", "127.8.8.8", "::1", "", "a.example", "10.0.0.1")] == (
        [True] * 4 + [False] * 2
    )


# Channels


def no_channel(**config: Any) -> Flask:
    app = Flask("site")
    app.config.update(GOOD | {"OTP_CHANNEL_BUDGET": {}} | config)
    OTP(app)
    return app


def mailing(**config: Any) -> Flask:
    return no_channel(**{"MAIL_SERVER": "localhost", "MAIL_DEFAULT_SENDER": "codes@shop.example"} | config)


def test_no_channel_at_all_is_an_error_and_the_console_a_warning() -> None:
    assert levels(no_channel(), "channels") == ["error"]
    assert levels(no_channel(DEBUG=True), "channels") == ["warning"]
    assert levels(build(), "channels") == []


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({}, []),
        ({"MAIL_DEFAULT_SENDER": None}, ["error"]),
        ({"MAIL_DEFAULT_SENDER": ("codes@shop.example", "Shop")}, ["error"]),
        ({"MAIL_SERVER": "mail.invalid"}, ["error"]),
        ({"MAIL_SERVER": "mail.invalid", "MAIL_USE_TLS": True}, []),
        ({"MAIL_SERVER": "mail.invalid", "MAIL_USE_SSL": True}, []),
        ({"MAIL_SUPPRESS_SEND": True}, ["note"]),
        ({"TESTING": True}, ["note"]),
    ],
)
def test_mail_settings(config: dict[str, Any], level: list[str]) -> None:
    assert levels(mailing(MAIL_PORT=free_port(), **config), "mail_settings") == level


def reach(**config: Any) -> list[str]:
    return [finding.what for finding in look(mailing(OTP_EMAIL_TIMEOUT=2, **config)).get("channels_reachable", [])]


@pytest.mark.server
def test_a_mail_server_is_reached_and_nothing_is_sent() -> None:
    with serving(auth=True) as inbox:
        assert reach(MAIL_PORT=inbox.port, MAIL_USERNAME="shop", MAIL_PASSWORD=PASSWORD) == []
        assert inbox.logins == [(b"shop", PASSWORD.encode())]
        assert (inbox.connections, inbox.envelopes) == (1, [])


@pytest.mark.server
def test_a_mail_server_with_a_trusted_certificate_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = certified(authority)
    with serving(starttls=context) as upgraded, serving(implicit=context) as encrypted:
        kinds = ((upgraded, "MAIL_USE_TLS"), (encrypted, "MAIL_USE_SSL"))
        for inbox, kind in kinds:
            assert "a certificate that is not trusted" in reach(MAIL_PORT=inbox.port, **{kind: True})[0]
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        for inbox, kind in kinds:
            assert reach(MAIL_PORT=inbox.port, **{kind: True}) == []
            assert inbox.envelopes == []


@pytest.mark.server
def test_a_mail_server_without_tls_where_tls_is_asked_for_is_told() -> None:
    with serving() as inbox:
        assert "does not offer TLS or authentication" in reach(MAIL_PORT=inbox.port, MAIL_USE_TLS=True)[0]


@pytest.mark.server
def test_a_refused_password_is_told_and_neither_it_nor_the_account_is_shown() -> None:
    with serving(Inbox(login_ok=False), auth=True) as inbox:
        app = mailing(MAIL_PORT=inbox.port, MAIL_USERNAME="shop@shop.example", MAIL_PASSWORD=PASSWORD)
        output = run(app)[1]
    assert "rejects the user name or password" in output
    assert PASSWORD not in output
    assert "shop.example" not in output


def test_a_mail_server_that_is_not_there_is_told() -> None:
    assert "is unreachable (ConnectionRefusedError)" in reach(MAIL_PORT=free_port())[0]


@pytest.mark.server
def test_a_mail_server_that_says_nothing_does_not_hold_the_doctor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        thread.start()
        told = reach(MAIL_PORT=listener.getsockname()[1], MAIL_SERVER="127.0.0.1")
        thread.join()
        accepted[0].close()
    assert "did not answer in time (TimeoutError)" in told[0]


def test_a_channel_of_the_apps_own_is_not_tried_but_noted() -> None:
    assert levels(build(), "channels_reachable") == ["note"]


@pytest.mark.parametrize(("days", "level"), [(-1, "note"), (1, "warning"), (366, "warning"), (368, "error")])
def test_r34_test_recipients_are_told_with_their_end_and_without_their_address(days: int, level: str) -> None:
    day = date(2027, 1, 1) + timedelta(days=days)
    now = datetime(2027, 1, 1, 12, tzinfo=timezone.utc).timestamp()
    app = build(clock=lambda: now, OTP_TEST_RECIPIENTS={"+15550100": ("918273", str(day))})
    [finding] = look(app)["test_recipients"]
    assert finding.level.value == level
    assert "+15550100" not in str(finding)
    assert str(day) in finding.what
    assert "918273" not in str(finding)
