"""Limits of networks, channels and the whole site: counted beside the app's own Limiter, not on top."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from flask_otp import OTP, RateLimited, StoreUnavailable, signals
from flask_otp.config.settings import Settings
from flask_otp.limits.counters import Limits
from flask_otp.networks import network_of
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory, ValkeyServer

ANN = "ann@example.com"


def reason(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.get_json() or {}).get("reason")


SENT = (200, None)
LIMITED = (429, "rate_limited")
WRONG = (400, "invalid_code")
DOWN = (503, "store_unavailable")


class Site:
    """An app whose clients may come from any address."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.count = 0

    def post(
        self,
        path: str,
        body: dict[str, str],
        address: str | None = "192.0.2.1",
        client: FlaskClient | None = None,
        **kw: Any,
    ) -> TestResponse:
        environ = {"REMOTE_ADDR": address} if address is not None else {}
        client = client or self.app.test_client()
        if address is None:
            client.environ_base.pop("REMOTE_ADDR", None)
        return client.post(f"/otp/{path}", json=body, environ_overrides=environ, **kw)

    def send(self, address: str | None = "192.0.2.1", email: str | None = None, **kw: Any) -> tuple[int, str | None]:
        """A new client asks for a code to a new address, which has reached no limit of its own."""
        self.count += 1
        return reason(self.post("send", {"email": email or f"user{self.count}@example.com"}, address, **kw))

    def guess(self, address: str | None = "192.0.2.1", **kw: Any) -> tuple[int, str | None]:
        return reason(self.post("verify", {"code": "123456", "challenge": "forged"}, address, **kw))


@pytest.fixture
def site(make_app: AppFactory) -> Callable[..., Site]:
    """``site(**config)``, with a channel that keeps the messages in ``app.extensions["sent"]``."""

    def make(otp: OTP | None = None, before: Callable[[Flask], Any] = lambda app: None, **config: Any) -> Site:
        app = Flask("site")
        app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://")
        app.config.update(config)
        before(app)
        otp = otp or OTP()
        app.extensions["sent"] = sent = Outbox()
        otp.channel("email")(sent.append)
        otp.init_app(app)
        return Site(app)

    return make


SiteFactory = Callable[..., Site]


def limiter(app: Flask, storage: str = "memory://", **options: Any) -> Limiter:
    return Limiter(get_remote_address, app=app, storage_uri=storage, **options)


# Networks


@pytest.mark.parametrize("rule", ["send", "verify"])
def test_a_network_stops_at_its_limit_and_is_told_when_to_come_back(site: SiteFactory, rule: str) -> None:
    shop = site(OTP_IP_SEND_LIMIT="3/day", OTP_IP_VERIFY_LIMIT="3/day")
    ask, passed = (shop.send, SENT) if rule == "send" else (shop.guess, WRONG)
    assert [ask() for _ in range(4)] == [passed] * 3 + [LIMITED]
    body = {"email": ANN} if rule == "send" else {"code": "123456", "challenge": "forged"}
    answer = shop.post(rule, body)
    assert 1 <= int(answer.headers["Retry-After"]) <= 86400
    assert answer.get_json()["retry_after"] == int(answer.headers["Retry-After"])
    assert answer.headers["Cache-Control"] == "no-store"
    # Neither another network nor the other rule is touched.
    assert shop.send("192.0.2.2") == SENT
    assert shop.guess("192.0.2.2") == WRONG
    assert (shop.guess() if rule == "send" else shop.send()) == (WRONG if rule == "send" else SENT)


def test_a_limited_send_sends_nothing(site: SiteFactory) -> None:
    shop = site(OTP_IP_SEND_LIMIT="1/day")
    assert [shop.send(), shop.send()] == [SENT, LIMITED]
    assert len(shop.app.extensions["sent"]) == 1


def test_resends_count_for_the_network_too(site: SiteFactory) -> None:
    shop = site(OTP_IP_SEND_LIMIT="2/day", OTP_COOLDOWN=0)
    client = shop.app.test_client()
    assert reason(shop.post("send", {"email": ANN}, client=client)) == SENT
    assert reason(shop.post("resend", {}, client=client)) == SENT
    assert reason(shop.post("resend", {}, client=client)) == LIMITED
    assert reason(shop.post("resend", {}, "192.0.2.2", client=client)) == SENT


@pytest.mark.parametrize("channel", [{}, {"channel": "sms"}], ids=["resend", "switch"])
def test_what_is_no_handle_counts_for_its_network_alone(site: SiteFactory, channel: dict[str, str]) -> None:
    shop = site(OTP_IP_SEND_LIMIT="2/day")
    body = {"challenge": "made up", **channel}
    answers = [reason(shop.post("resend", body, "192.0.2.1")) for _ in range(3)]
    assert answers == [(400, "challenge_required"), (400, "challenge_required"), LIMITED]
    assert reason(shop.post("resend", body, "192.0.2.2")) == (400, "challenge_required")


def test_the_wait_is_as_long_as_the_window_that_is_full(app: Flask) -> None:
    limits = Limits(Settings.from_config({"OTP_IP_SEND_LIMIT": "1/hour;5/day"}), app.extensions)
    assert limits.wait_to_send("192.0.2.1") == 0
    limits.count_send("192.0.2.1")
    assert 3590 <= limits.wait_to_send("192.0.2.1") <= 3600
    assert limits.wait_to_send("192.0.2.2") == 0


def test_all_rates_of_one_limit_hold(site: SiteFactory) -> None:
    shop = site(OTP_IP_SEND_LIMIT="5/day;2/month")
    assert [shop.send() for _ in range(3)] == [SENT, SENT, LIMITED]


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
        ("2001:db8::1", "2001:db8::8000:0:0:1", "2001:db8:0:1::1"),
        ("2001:db8:1:2:aaaa::", "2001:0DB8:0001:0002:ffff:ffff:ffff:ffff", "2001:db8:1:3:aaaa::"),
        ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("::ffff:c000:201", "192.0.2.1", "::ffff:c000:202"),
        ("fe80::1%eth0", "fe80::2%eth1", "fe80:0:0:1::1"),
        ("192.0.2.1:17085", "192.0.2.1:443", "192.0.2.2:17085"),
        ("[2001:db8::1]:17085", "2001:db8::2", "[2001:db8:0:1::1]:17085"),
    ],
)
def test_r39_ipv4_counts_by_address_and_ipv6_by_64(site: SiteFactory, address: str, same: str, other: str) -> None:
    shop = site(OTP_IP_SEND_LIMIT="1/day")
    assert [shop.send(address), shop.send(same), shop.send(other)] == [SENT, LIMITED, SENT]


@pytest.mark.parametrize("address", [None, "", "unix:", "not an address", "@", "300.1.1.1", "192.0.2.1:5000"])
def test_r38_a_client_without_an_address_is_limited_all_the_same(site: SiteFactory, address: str | None) -> None:
    shop = site(OTP_IP_SEND_LIMIT="2/day", OTP_IP_VERIFY_LIMIT="2/day")
    assert [shop.send(address) for _ in range(3)] == [SENT, SENT, LIMITED]
    assert [shop.guess(address) for _ in range(3)] == [WRONG, WRONG, LIMITED]


@pytest.mark.parametrize("address", [None, "", "%eth0", "nonsense", "::1", "127.0.0.1", "::", "0.0.0.0"])
def test_r38_the_name_of_a_network_is_never_empty(address: str | None) -> None:
    assert network_of(address)


def test_r39_the_interface_does_not_divide_a_network() -> None:
    assert network_of("fe80::%eth0") == network_of("fe80::1%eth1") == "fe80::/64"


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP"]
)
def test_r39_headers_that_anyone_may_send_change_nothing(site: SiteFactory, header: str) -> None:
    shop = site(OTP_IP_SEND_LIMIT="2/day", OTP_IP_VERIFY_LIMIT="2/day")
    for ask, passed in ((shop.send, SENT), (shop.guess, WRONG)):
        answers = [
            ask(headers={header: f"for=198.51.100.{n}" if header == "Forwarded" else f"198.51.100.{n}"})
            for n in range(3)
        ]
        assert answers == [passed, passed, LIMITED]


def test_r39_behind_proxy_fix_the_forwarded_address_counts(site: SiteFactory) -> None:
    shop = site(OTP_IP_SEND_LIMIT="1/day")
    shop.app.wsgi_app = ProxyFix(shop.app.wsgi_app, x_for=1)  # type: ignore[method-assign]

    def forwarded(value: str) -> tuple[int, str | None]:
        return shop.send(headers={"X-Forwarded-For": value})

    assert [forwarded("198.51.100.1"), forwarded("198.51.100.2"), forwarded("203.0.113.9, 198.51.100.1")] == [
        SENT,
        SENT,
        LIMITED,
    ]


@pytest.mark.parametrize("rule", ["send", "verify"])
def test_none_switches_one_of_the_limits_off(site: SiteFactory, rule: str) -> None:
    limits = {"OTP_IP_SEND_LIMIT": "1/day", "OTP_IP_VERIFY_LIMIT": "1/day"} | {f"OTP_IP_{rule.upper()}_LIMIT": None}
    shop = site(**limits)
    sends, guesses = [shop.send() for _ in range(30)], [shop.guess() for _ in range(30)]
    assert (LIMITED in sends, LIMITED in guesses) == (rule == "verify", rule == "send")


def test_outside_of_a_request_no_network_is_counted(site: SiteFactory) -> None:
    otp = OTP()
    with site(otp, OTP_IP_SEND_LIMIT="1/day").app.app_context():
        for number in range(3):
            otp.send(f"user{number}@example.com")


def test_limits_are_counted_at_the_storage_of_the_codes(site: SiteFactory, valkey: ValkeyServer) -> None:
    one, other = (site(OTP_STORAGE_URI=valkey.uri, OTP_IP_SEND_LIMIT="2/day") for _ in range(2))
    assert [one.send("192.0.2.1", "a@example.com"), other.send("192.0.2.1", "b@example.com")] == [SENT, SENT]
    assert one.send("192.0.2.1", "c@example.com") == LIMITED
    with valkey.client() as client:
        keys = [key for key in client.keys("*") if b"192.0.2.1" in key]
        assert keys
        assert all(key.startswith(b"otp:limits:") for key in keys)
        assert all(client.ttl(key) > 0 for key in client.keys("*"))


def test_apps_that_share_a_storage_with_other_prefixes_share_no_count(site: SiteFactory, valkey: ValkeyServer) -> None:
    limits = {"OTP_STORAGE_URI": valkey.uri, "OTP_IP_SEND_LIMIT": "1/day", "OTP_CHANNEL_BUDGET": {"email": "1/day"}}
    one, other = site(**limits), site(**limits, OTP_KEY_PREFIX="shop")
    assert [one.send(), other.send(), one.send(), other.send()] == [SENT, SENT, LIMITED, LIMITED]


def test_apps_that_share_a_limiter_storage_with_other_prefixes_share_no_count(
    site: SiteFactory, valkey: ValkeyServer
) -> None:
    def make(prefix: str) -> Site:
        return site(before=lambda app: limiter(app, valkey.uri), OTP_KEY_PREFIX=prefix, OTP_IP_SEND_LIMIT="1/day")

    one, other = make("one"), make("two")
    assert [one.send(), other.send(), one.send(), other.send()] == [SENT, SENT, LIMITED, LIMITED]


def test_threads_never_count_on_each_others_address(site: SiteFactory) -> None:
    shop = site(OTP_IP_VERIFY_LIMIT="20/day")
    start = threading.Barrier(8)

    def visitor(number: int) -> list[tuple[int, str | None]]:
        start.wait(20)
        return [shop.guess(f"198.51.100.{number}") for _ in range(21)]

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(visitor, range(8)):
            assert answers == [WRONG] * 20 + [LIMITED]


# The app's own Limiter


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
def test_the_apps_limiter_counts_for_us_whichever_came_first(
    site: SiteFactory, valkey: ValkeyServer, made: str, strategy: str
) -> None:
    def add(app: Flask) -> None:
        limiter(app, valkey.uri, strategy=strategy)

    shop = site(before=add if made == "before" else lambda app: None, OTP_IP_SEND_LIMIT="2/day")
    if made == "after":
        add(shop.app)
    assert [shop.send() for _ in range(3)] == [SENT, SENT, LIMITED]
    with valkey.client() as client:
        ours = [key.decode() for key in client.keys("*192.0.2.1*")]
        assert len(ours) >= 1
        assert all("flask_otp" in key for key in ours)


@pytest.mark.parametrize("made", ["before", "after", "no OTP at all"])
@pytest.mark.parametrize("from_config", [True, False])
def test_the_apps_default_limit_counts_once_on_its_own_routes(site: SiteFactory, made: str, from_config: bool) -> None:
    def add(app: Flask) -> None:
        if from_config:
            app.config["RATELIMIT_DEFAULT"] = "4/day"
        limiter(app, default_limits=[] if from_config else ["4/day"])
        app.add_url_rule("/", view_func=lambda: "home")

    if made == "no OTP at all":
        app = Flask("site")
        add(app)
    else:
        app = site(before=add if made == "before" else lambda app: None).app
        if made == "after":
            add(app)
        Site(app).send()
    client = app.test_client()
    assert [client.get("/").status_code for _ in range(5)] == [200] * 4 + [429]


def test_the_apps_own_limit_on_our_routes_answers_in_our_manner(site: SiteFactory) -> None:
    shop = site(before=lambda app: limiter(app, default_limits=["1/day"]))
    assert shop.send() == SENT
    answer = shop.post("send", {"email": ANN})
    assert reason(answer) == LIMITED
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["type"] == "urn:flask-otp:rate_limited"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Cache-Control"] == "no-store"
    client = shop.app.test_client()
    for _ in range(2):
        page = client.get("/otp/", headers={"Accept": "text/html"}, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert (page.status_code, page.mimetype) == (429, "text/html")


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize(
    "hole",
    [
        {"RATELIMIT_ENABLED": False},
        {"RATELIMIT_SWALLOW_ERRORS": True},
        {"RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True},
        {"RATELIMIT_KEY_FUNC": lambda: ""},
    ],
    ids=lambda hole: next(iter(hole)),
)
def test_r38_no_setting_of_the_limiter_opens_our_doors(site: SiteFactory, hole: dict[str, Any], made: str) -> None:
    def add(app: Flask) -> None:
        limiter(app)

    shop = site(
        before=add if made == "before" else lambda app: None,
        OTP_IP_SEND_LIMIT="2/day",
        OTP_IP_VERIFY_LIMIT="2/day",
        **hole,
    )
    if made == "after":
        add(shop.app)
    assert [shop.send() for _ in range(3)] == [SENT, SENT, LIMITED]
    assert [shop.guess() for _ in range(3)] == [WRONG, WRONG, LIMITED]


def test_r38_a_limiter_that_is_switched_off_later_does_not_switch_us_off(site: SiteFactory) -> None:
    made: list[Limiter] = []
    shop = site(before=lambda app: made.append(limiter(app)), OTP_IP_SEND_LIMIT="2/day")
    made[0].enabled = False
    assert [shop.send() for _ in range(3)] == [SENT, SENT, LIMITED]


@pytest.mark.parametrize(
    "options",
    [{}, {"swallow_errors": True}, {"in_memory_fallback_enabled": True}, {"in_memory_fallback": ["1000/minute"]}],
    ids=str,
)
def test_r37_with_the_limiters_storage_down_nothing_is_sent_and_nothing_passes(
    site: SiteFactory, tmp_path: Path, options: dict[str, Any]
) -> None:
    server = ValkeyServer(tmp_path)  # never started
    shop = site(before=lambda app: limiter(app, server.uri, **options))
    for path, body in (("send", {"email": ANN}), ("verify", {"code": "123456", "challenge": "forged"})):
        for _ in range(2):
            answer = shop.post(path, body)
            assert reason(answer) == DOWN
            assert int(answer.headers["Retry-After"]) > 0
    assert shop.app.extensions["sent"] == []


@pytest.mark.server
def test_r37_a_limiter_that_has_fallen_back_to_memory_does_not_count_for_us(site: SiteFactory, tmp_path: Path) -> None:
    """Each worker would have its own count."""
    server = ValkeyServer(tmp_path)
    server.start()
    try:

        def add(app: Flask) -> None:
            limiter(app, server.uri, in_memory_fallback_enabled=True, default_limits=["1000/day"])
            app.add_url_rule("/", view_func=lambda: "home")

        shop = site(before=add)
        assert shop.send() == SENT
        server.stop()
        assert shop.app.test_client().get("/").status_code == 200  # the app's limiter is in memory now
        assert shop.send() == DOWN
        assert shop.guess() == DOWN
    finally:
        server.stop()
    assert len(shop.app.extensions["sent"]) == 1


def test_r37_with_our_own_storage_down_the_limits_answer_503(site: SiteFactory, tmp_path: Path) -> None:
    shop = site(OTP_STORAGE_URI=ValkeyServer(tmp_path).uri)
    assert [shop.send(), shop.guess()] == [DOWN, DOWN]


def hooks(app: Flask) -> dict[str, dict[Any, Any]]:
    """What runs for requests to the app's own routes: everything that is not bound to our blueprint."""
    names = (
        "before_request_funcs",
        "after_request_funcs",
        "teardown_request_funcs",
        "url_value_preprocessors",
        "url_default_functions",
        "error_handler_spec",
    )
    found = {
        name: {scope: list(value) for scope, value in getattr(app, name).items() if scope != "otp" and value}
        for name in names
    }
    found["teardown_appcontext_funcs"] = {None: list(app.teardown_appcontext_funcs)}
    return found


@pytest.mark.parametrize("with_limiter", [True, False])
def test_after_the_first_request_nothing_of_ours_runs_for_the_apps_other_routes(
    site: SiteFactory, with_limiter: bool
) -> None:
    def build(otp: bool) -> Flask:
        def add(app: Flask) -> None:
            if with_limiter:
                limiter(app, default_limits=["100/day"], headers_enabled=True)
            app.add_url_rule("/", view_func=lambda: "home")

        if otp:
            return site(before=add).app
        app = Flask("site")
        app.config.update(TESTING=True, SECRET_KEY=SECRET)
        add(app)
        return app

    def counts(app: Flask) -> Any:
        return {
            name: {
                scope: [getattr(hook, "__qualname__", type(hook).__name__) for hook in listed]
                for scope, listed in value.items()
            }
            for name, value in hooks(app).items()
        }

    ours, theirs = build(True), build(False)
    for app in (ours, theirs):
        app.test_client().get("/")
    found, wanted = counts(ours), counts(theirs)
    # But for one look at the session: an app that clears it means our companion cookies too.
    assert found["after_request_funcs"][None].pop(0) == "finish"
    found["after_request_funcs"] = {scope: listed for scope, listed in found["after_request_funcs"].items() if listed}
    assert found == wanted
    answers = [app.test_client().get("/") for app in (ours, theirs)]
    assert answers[0].data == answers[1].data
    varying = ("X-RateLimit-Reset", "Retry-After", "Date")
    seen = [{name: value for name, value in answer.headers.items() if name not in varying} for answer in answers]
    assert seen[0] == seen[1]


# Channels


def test_a_spent_channel_budget_is_429_and_the_subjects_count_is_given_back(
    site: SiteFactory, clock: Clock, valkey: ValkeyServer
) -> None:
    config = {"OTP_STORAGE_URI": valkey.uri, "OTP_SEND_LIMIT": "1/day"}
    full = site(OTP(clock=clock), OTP_CHANNEL_BUDGET={"email": "1/day"}, **config)
    assert full.send() == SENT
    answer = full.post("send", {"email": ANN})
    assert reason(answer) == LIMITED
    assert int(answer.headers["Retry-After"]) > 0
    assert len(full.app.extensions["sent"]) == 1
    clock.advance("30s")
    roomy = site(OTP(clock=clock), **config)  # another worker, after the owner raised the budget
    assert roomy.send(email=ANN) == SENT


def test_a_spent_channel_budget_leaves_no_code_behind(site: SiteFactory) -> None:
    otp = OTP()
    with site(otp, OTP_CHANNEL_BUDGET={"email": "1/day"}).app.app_context():
        otp.send("bob@example.com")
        with pytest.raises(RateLimited):
            otp.send(ANN)


def test_a_budget_of_one_channel_is_not_spent_by_another(site: SiteFactory) -> None:
    otp = OTP()
    otp.channel("pager")(lambda message: None)
    shop = site(otp, OTP_CHANNEL_BUDGET={"pager": "1/day"})

    def send(channel: str, email: str) -> tuple[int, str | None]:
        return reason(shop.post("send", {"email": email, "channel": channel}))

    assert [send("email", f"{n}@example.com") for n in "abc"] == [SENT] * 3
    assert [send("pager", f"{n}@example.com") for n in "de"] == [SENT, LIMITED]


# What concerns a subject holds without any limiter


def test_r38_subject_limits_hold_with_every_limiter_off(site: SiteFactory, clock: Clock) -> None:
    shop = site(
        OTP(clock=clock),
        before=limiter,
        RATELIMIT_ENABLED=False,
        OTP_IP_SEND_LIMIT=None,
        OTP_IP_VERIFY_LIMIT=None,
        OTP_SEND_LIMIT="2/day",
        OTP_FAILURE_BUDGET="3/30 days",
    )
    client = shop.app.test_client()
    handle = shop.post("send", {"email": ANN}, client=client).get_json()["challenge"]
    assert shop.send(email=ANN) == LIMITED  # cooldown
    code = shop.app.extensions["sent"].code
    wrong = "000000" if code != "000000" else "000001"
    for _ in range(3):
        assert reason(shop.post("verify", {"code": wrong, "challenge": handle})) == WRONG
    assert reason(shop.post("verify", {"code": code, "challenge": handle})) == WRONG
    clock.advance("30s")
    assert shop.send(email=ANN) == SENT
    assert len(shop.app.extensions["sent"].code) == 13
    clock.advance("30s")
    assert shop.send(email=ANN) == LIMITED


# Surge


class Workers:
    """Processes of one site: each step is done by one that has not looked at the counts before.

    Each failure is on a network of its own, where none is named.
    """

    def __init__(self, site: SiteFactory, uri: str, **config: Any) -> None:
        self._site, self._config = site, {"OTP_STORAGE_URI": uri, **config}
        self.clock = Clock(1_790_000_000)
        self.surges = self.networks = 0

    def __call__(self) -> Site:
        shop = self._site(OTP(clock=self.clock), **self._config)
        shop.app.extensions["heard"] = hear = lambda sender, **_: self._hear()
        signals.surge.connect(hear, shop.app)
        return shop

    def _hear(self) -> None:
        self.surges += 1

    def fail(self, email: str, network: str | None = None) -> None:
        shop = self()
        client = shop.app.test_client()
        self.networks += 1
        network = network or f"203.0.113.{self.networks}"
        assert reason(shop.post("send", {"email": email}, network, client)) == SENT
        code = shop.app.extensions["sent"].code
        wrong = ("0" if code[0] != "0" else "1") + code[1:]
        assert reason(shop.post("verify", {"code": wrong}, network, client)) == WRONG

    def code_length(self, email: str, client: FlaskClient | None = None) -> int:
        shop = self()
        if client is not None:
            client.application = shop.app
        answer = shop.post("send", {"email": email}, client=client)
        assert reason(answer) == SENT
        length = len(shop.app.extensions["sent"].code)
        assert answer.get_json()["code_length"] == length
        return length


def test_above_the_surge_limit_new_codes_are_strong_and_it_is_signalled_once(
    site: SiteFactory, valkey: ValkeyServer
) -> None:
    workers = Workers(site, valkey.uri, OTP_SURGE_LIMIT="3/day")
    for number in range(3):
        workers.fail(f"victim{number}@example.com")
    assert workers.surges == 0
    assert workers.code_length("first@example.com") == 6  # the limit is reached, and not passed
    workers.fail("victim3@example.com")
    assert workers.surges == 1
    assert workers.code_length("second@example.com") == 13
    for number in range(4, 7):
        workers.fail(f"victim{number}@example.com")
    assert workers.surges == 1


def test_a_surge_within_one_worker_is_seen_at_once_and_signalled_once(site: SiteFactory) -> None:
    shop, heard = site(OTP_SURGE_LIMIT="3/day"), []
    sent = shop.app.extensions["sent"]
    lengths = []
    hear = lambda sender, event: heard.append((sender, event.outcome))  # noqa: E731 - must stay alive
    with signals.surge.connected_to(hear, shop.app):
        for number in range(6):
            client, network = shop.app.test_client(), f"203.0.113.{number}"
            shop.post("send", {"email": f"victim{number}@example.com"}, network, client)
            lengths.append(len(sent.code))
            wrong = ("0" if sent.code[0] != "0" else "1") + sent.code[1:]
            shop.post("verify", {"code": wrong}, network, client)
    assert lengths == [6, 6, 6, 6, 13, 13]
    assert heard == [(shop.app, "begun")]


def test_r11_a_surge_ends_the_short_codes_that_strangers_asked_for_before_it(site: SiteFactory) -> None:
    shop = site(OTP_SURGE_LIMIT="1/day")
    early = shop.app.test_client()
    shop.post("send", {"email": ANN}, client=early)
    code = shop.app.extensions["sent"].code
    for number in range(2):
        client, network = shop.app.test_client(), f"203.0.113.{number}"
        shop.post("send", {"email": f"victim{number}@example.com"}, network, client)
        sent = shop.app.extensions["sent"].code
        shop.post("verify", {"code": ("0" if sent[0] != "0" else "1") + sent[1:]}, network, client)
    assert reason(shop.post("verify", {"code": code}, client=early)) == WRONG


def test_parallel_failures_signal_one_surge(site: SiteFactory) -> None:
    shop, heard, start = site(OTP_SURGE_LIMIT="10/day"), [], threading.Barrier(8)
    clients = [shop.app.test_client() for _ in range(24)]
    for number, client in enumerate(clients):
        shop.post("send", {"email": f"victim{number}@example.com"}, f"198.51.100.{number}", client)
    codes = {message.recipient: message.code for message in shop.app.extensions["sent"]}

    def fail(worker: int) -> None:
        start.wait(20)
        for number in range(worker, 24, 8):
            code = codes[f"victim{number}@example.com"]
            wrong = ("0" if code[0] != "0" else "1") + code[1:]
            shop.post("verify", {"code": wrong}, f"198.51.100.{number}", clients[number])

    hear = lambda sender, **_: heard.append(sender)  # noqa: E731
    with signals.surge.connected_to(hear, shop.app), ThreadPoolExecutor(8) as pool:
        list(pool.map(fail, range(8)))
    assert len(heard) == 1


def test_r11_during_a_surge_a_known_browser_still_gets_short_codes(site: SiteFactory, valkey: ValkeyServer) -> None:
    workers = Workers(site, valkey.uri, OTP_SURGE_LIMIT="1/day")
    shop = workers()
    browser = shop.app.test_client()
    shop.post("send", {"email": ANN}, client=browser)
    assert reason(shop.post("verify", {"code": shop.app.extensions["sent"].code}, client=browser)) == SENT
    for number in range(2):
        workers.fail(f"victim{number}@example.com")
    workers.clock.advance("30s")
    assert workers.code_length(ANN, browser) == 6
    assert workers.code_length("bob@example.com", browser) == 13  # known for Ann only
    assert workers.code_length("eve@example.com") == 13


def test_a_surge_ends_with_its_window(site: SiteFactory, valkey: ValkeyServer) -> None:
    workers = Workers(site, valkey.uri, OTP_SURGE_LIMIT="1/day")
    for number in range(2):
        workers.fail(f"victim{number}@example.com")
    assert workers.code_length("bob@example.com") == 13
    with valkey.client() as client:
        surge_keys = list(client.keys("*surge*"))
        assert len(surge_keys) == 4  # of the site, of two networks, and that there are such
        assert all(0 < client.ttl(key) <= (2 if b"networks" in key else 1) * 86400 for key in surge_keys)
        client.delete(*surge_keys)  # as its time to live does
    assert workers.code_length("eve@example.com") == 6


def test_capture_codes_does_not_lift_the_limits(make_app: AppFactory) -> None:
    shop = Site(make_app(OTP_IP_SEND_LIMIT="1/day"))
    with capture_codes(shop.app) as sent:
        assert [shop.send(), shop.send()] == [SENT, LIMITED]
    assert len(sent) == 1


def test_a_thread_that_was_held_up_does_not_take_a_surge_back() -> None:
    limits = Limits(Settings.from_config({"OTP_SURGE_LIMIT": "1/hour"}), {})
    counted, go_on = threading.Event(), threading.Event()
    count = limits.storage.incr

    def hold_up(*args: Any) -> int:
        number: int = count(*args)
        if threading.current_thread() is slow:
            counted.set()
            assert go_on.wait(10)
        return number

    limits.storage.incr = hold_up
    slow = threading.Thread(target=limits.surge.count, args=[None])
    slow.start()
    assert counted.wait(10)
    assert not limits.is_surge()
    assert limits.surge.count(None)
    go_on.set()
    slow.join()
    assert limits.is_surge()


def test_a_thread_that_asked_before_a_surge_does_not_take_it_back() -> None:
    limits = Limits(Settings.from_config({"OTP_SURGE_LIMIT": "1/hour"}), {})
    limits.surge.count(None)
    ask = limits.storage.get

    def while_asking(key: str) -> int:
        number: int = ask(key)
        limits.storage.get = ask
        limits.surge.count(None)
        return number

    limits.storage.get = while_asking
    assert limits.is_surge()
    assert limits.is_surge()


# The counts themselves


def make_limits(**config: Any) -> Limits:
    return Limits(Settings.from_config(config), {})


def test_a_new_release_goes_on_with_the_counts_of_the_last() -> None:
    limits = make_limits(
        OTP_KEY_PREFIX="shop",
        OTP_SURGE_LIMIT="1/hour",
        OTP_IP_SEND_LIMIT="2/day",
        OTP_IP_VERIFY_LIMIT="3/day",
        OTP_CHANNEL_BUDGET={"sms": "4/day"},
        OTP_PREFIX_BUDGET={"+49": "5/day", "+43": "6/day"},
    )
    limits.count_send(network_of(None))
    limits.count_verify("192.0.2.1")
    limits.count_channel("sms")
    limits.count_prefix("+49")
    limits.count_prefix("+43", is_decoy=True)
    limits.tally("block", 1, 60)
    limits.surge.count(None)
    assert set(limits.storage.storage) == {
        "LIMITER/flask_otp/shop/send/unknown/2/1/day",
        "LIMITER/flask_otp/shop/verify/192.0.2.1/3/1/day",
        "LIMITER/flask_otp/shop/channel/sms/4/1/day",
        "LIMITER/flask_otp/shop/prefix/+49/5/1/day",
        "LIMITER/flask_otp/shop/nobody/+43/6/1/day",
        "LIMITER/flask_otp/shop/tally/block",
        "LIMITER/flask_otp/shop/surge/site/1/1/hour",
    }


def test_only_the_scheme_says_where_is_counted() -> None:
    limits = make_limits(OTP_STORAGE_URI="redis://127.0.0.1:1/0?client_name=a://b")
    assert isinstance(limits.storage, RedisStorage)


def test_who_is_limited_is_told_when_the_window_ends_and_so_is_the_log(caplog: pytest.LogCaptureFixture) -> None:
    limits = make_limits(OTP_IP_SEND_LIMIT="1/day")
    limits.count_send("192.0.2.1")
    with pytest.raises(RateLimited) as caught:
        limits.count_send("192.0.2.1")
    assert 86300 < (caught.value.retry_after or 0) <= 86400
    assert caplog.record_tuples == [("flask_otp", logging.WARNING, "the send limit of 1 per 1 day is reached")]


def test_a_window_that_ends_meanwhile_is_to_be_waited_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = make_limits(OTP_IP_SEND_LIMIT="1/day")
    limits.count_send("192.0.2.1")
    monkeypatch.setattr("flask_otp.limits.counters.time", SimpleNamespace(time=lambda: time.time() + 86400))
    with pytest.raises(RateLimited) as caught:
        limits.count_send("192.0.2.1")
    assert caught.value.retry_after == 1


def test_all_rates_of_a_prefixs_budget_hold_and_what_is_pretended_spends_none_of_it() -> None:
    limits = make_limits(OTP_PREFIX_BUDGET={"+49": "5/day;2/month", "+43": "1/day"})
    assert [limits.count_prefix("+49", is_decoy=True) for _ in range(3)] == [True, True, False]
    assert [limits.count_prefix("+49") for _ in range(3)] == [True, True, False]
    assert limits.count_prefix("+43")


def test_a_tally_goes_up_and_down_and_ends_with_its_life() -> None:
    limits = make_limits()
    assert [limits.tally("block", amount, 60) for amount in (3, -1, 0)] == [3, 2, 2]
    assert limits.tally("country", 1, 60) == 1
    (key,) = (key for key in limits.storage.storage if key.endswith("block"))
    assert 0 < limits.storage.get_expiry(key) - time.time() <= 60


def test_whether_there_is_a_surge_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = make_limits(OTP_SURGE_LIMIT="1/hour"), make_limits(OTP_SURGE_LIMIT="1/hour")
    # Two processes with one storage.
    monkeypatch.setattr(elsewhere, "_own", here._own)
    now = 100.0
    monkeypatch.setattr("flask_otp.limits.surge.time", SimpleNamespace(monotonic=lambda: now))
    assert not here.is_surge()
    assert [elsewhere.surge.count(None) for _ in range(3)] == [False, True, False]
    now = 100.9
    assert not here.is_surge()
    now = 101.0
    assert here.is_surge()
    here.storage.reset()
    now = 101.9
    assert here.is_surge()
    now = 102.0
    assert not here.is_surge()


@pytest.mark.parametrize("failures", [LookupError, (EOFError, LookupError)])
def test_r37_whatever_a_storage_fails_with_is_503(failures: Any) -> None:
    class Broken(MemoryStorage):
        base_exceptions = failures

        def incr(self, key: str, expiry: float, amount: int = 1) -> int:
            raise KeyError(key)

    strategy = FixedWindowRateLimiter(Broken())
    lent = SimpleNamespace(limiter=strategy, storage=strategy.storage)
    with pytest.raises(StoreUnavailable):
        Limits(Settings.from_config({}), {"limiter": [lent]}).count_send("192.0.2.1")
