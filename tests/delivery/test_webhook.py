"""The webhook channel against real servers: what is posted, who may read it, and what a bad server can do to us."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import Any

import pytest
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from flask_otp import OTP, ConfigError, InvalidWebhook, Message, RecipientRefused, WebhookChannel, webhooks
from flask_otp.channels.base import channel_from_function
from flask_otp.channels.deadline import Deadline
from flask_otp.testing import Clock
from tests.support.apps import AppFactory, certified
from tests.support.talks import talking
from tests.support.webhook_service import SECRET, Service, serving, signed

pytestmark = pytest.mark.server

OLD_SECRET = "this one is text, and long enough"
ANN, PHONE = "ann@example.com", "+4915112345678"
MESSAGE = Message("sms", PHONE, "123456", "login", "Shöp", "Your code", "123456 is your code\r\n", "<p>", 300, id="one")
#: What a busy machine may need on top of a time-out of a second.
SLACK = 4
#: On Python 3.10, http.client leaves the answer of a proxy that refuses open until it is collected.
OLD_HTTP_CLIENT = sys.version_info < (3, 11)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as service:
        yield service


def channel(url: str, **options: Any) -> WebhookChannel:
    return WebhookChannel(url, **{"secret": SECRET, "timeout": "5s"} | options)


# What arrives


def test_a_message_arrives_over_tls_as_it_is_signed(trusted: ssl.SSLContext) -> None:
    with serving(Service(), trusted) as service:
        channel(service.url).deliver(MESSAGE)
    [(path, headers, body)] = service.posts
    assert path == "/otp?team=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == "one"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < SLACK
    assert json.loads(body) == asdict(MESSAGE)
    assert service.read() == MESSAGE


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("="), OLD_SECRET])
def test_the_specifications_own_library_accepts_it(service: Service, secret: str) -> None:
    channel(service.url, secret=secret).deliver(MESSAGE)
    _, headers, body = service.posts[0]
    # It takes text for base64, so a text of one's own must be written as such.
    told = secret if secret.startswith("whsec_") else "whsec_" + base64.b64encode(secret.encode()).decode()
    assert Webhook(told).verify(body, headers) == asdict(MESSAGE)
    with pytest.raises(WebhookVerificationError):
        Webhook(told).verify(body.replace(b"123456", b"654321"), headers)


def test_during_a_rotation_every_secret_signs_and_any_reads(service: Service) -> None:
    channel(service.url, secret=[SECRET, OLD_SECRET]).deliver(MESSAGE)
    assert len(service.posts[0][1]["webhook-signature"].split()) == 2
    for secrets in (SECRET, OLD_SECRET, [OLD_SECRET, SECRET], ["another secret of enough bytes", OLD_SECRET]):
        assert service.read(secrets=secrets) == MESSAGE
    assert Webhook(SECRET).verify(service.posts[0][2], service.posts[0][1])


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(service: Service, status: int) -> None:
    service.status = status
    channel(service.url).deliver(MESSAGE)


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 410, 429, 500, 503])
def test_everything_else_raises_and_quotes_nothing(service: Service, status: int) -> None:
    service.status, service.answer = status, b"no such number: +4915112345678, 123456"
    with pytest.raises(OSError, match=f"^the webhook was answered with {status}$"):
        channel(service.url).deliver(MESSAGE)
    assert len(service.posts) == 1


def test_a_recipient_that_the_service_does_not_take_is_not_held_against_it(service: Service) -> None:
    service.status, service.answer = 422, b"no such number: +4915112345678"
    with pytest.raises(RecipientRefused, match=r"^the webhook was answered with 422$"):
        channel(service.url).deliver(MESSAGE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_the_code_does_not_travel_on(service: Service, status: int) -> None:
    with serving(Service(status)) as first:
        first.headers["Location"] = service.url
        with pytest.raises(OSError, match=str(status)):
            channel(first.url).deliver(MESSAGE)
    assert len(first.posts) == 1
    assert service.posts == []


@pytest.mark.parametrize("name", ["recipient", "code", "purpose", "site_name", "subject", "text", "html"])
def test_no_field_can_become_a_header_or_another_request(service: Service, name: str) -> None:
    odd = "a\r\nX-Evil: 1\r\n\r\nPOST / HTTP/1.1\r\n\0\u2028\ud800\"'\\"
    values: dict[str, Any] = {name: odd}
    message = replace(MESSAGE, **values)
    channel(service.url).deliver(message)
    assert len(service.posts) == 1
    assert "X-Evil" not in service.posts[0][1]
    assert service.read() == message


def test_an_id_with_a_line_break_is_not_sent(service: Service) -> None:
    with pytest.raises(ValueError, match="header"):
        channel(service.url).deliver(replace(MESSAGE, id="one\r\nX-Evil: 1"))
    assert service.posts == []


# Each message has an id of its own


def test_the_id_is_the_same_for_a_message_that_is_tried_again_and_another_for_a_resend(
    make_app: AppFactory, clock: Clock, service: Service
) -> None:
    otp = OTP(clock=clock)
    payloads: list[dict[str, str]] = []
    otp.dispatcher(payloads.append)
    hook = channel(service.url)
    app = make_app(otp, OTP_CHANNELS={"email": [hook, hook]})
    with app.app_context():
        handle = otp.send(ANN).handle
        clock.advance("30s")
        otp.resend(handle)
        service.status = 500
        for payload in payloads:
            with pytest.raises(Exception, match="could not be sent"):
                otp.deliver(payload)
        service.status = 200
        for payload in payloads:
            otp.deliver(payload)
    messages = [service.read(number) for number in range(6)]
    assert len({message.code for message in messages}) == 1
    first, second = messages[0].id, messages[2].id
    assert first != second
    assert [message.id for message in messages] == [first, first, second, second, first, second]


def test_the_id_tells_nothing(make_app: AppFactory, clock: Clock, service: Service) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp, OTP_CHANNELS={"email": channel(service.url)}, OTP_COOLDOWN="0s", OTP_SEND_LIMIT="100/day")
    with app.app_context():
        handle = otp.send(ANN).handle
        for _ in range(19):
            otp.resend(handle)
    ids = {service.read(number).id for number in range(20)}
    assert len(ids) == 20
    # The same code to the same person at the same second: nothing but chance is in them.
    assert all(len(base64.urlsafe_b64decode(one + "==")) == 16 for one in ids)


def test_a_message_made_by_hand_has_an_id_of_its_own_at_each_try(service: Service) -> None:
    for _ in range(2):
        channel(service.url).deliver(replace(MESSAGE, id=""))
    assert service.read(0).id
    assert service.read(0).id != service.read(1).id


# Reading


BODY = json.dumps(asdict(MESSAGE)).encode()


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_headers_are_read_in_any_case(change: Callable[[str], str]) -> None:
    assert webhooks.read({change(name): value for name, value in signed(BODY).items()}, BODY, SECRET) == MESSAGE


def test_what_the_specifications_own_library_signed_is_read() -> None:
    headers = signed(BODY)
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), timezone.utc)
    headers["webhook-signature"] = Webhook(SECRET).sign("one", at, BODY.decode())
    assert webhooks.read(headers, BODY, SECRET) == MESSAGE


def tampered() -> Iterator[tuple[Mapping[str, str], bytes]]:
    headers = signed(BODY)
    signature = headers["webhook-signature"]
    for name in headers:
        yield {key: value for key, value in headers.items() if key != name}, BODY
        yield headers | {name: ""}, BODY
    yield headers | {"webhook-id": "two"}, BODY
    yield headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, BODY
    for other in (
        f"v1a,{signature[3:]}",
        signature[3:],
        signature.lower(),
        "v1,",
        "v1",
        ",",
        "\xff\u2603",
        signature[:-2],
    ):
        yield headers | {"webhook-signature": other}, BODY
    yield headers, BODY.replace(b"123456", b"654321")
    yield headers, BODY + b" "
    yield headers, b""
    yield signed(BODY, secret=OLD_SECRET), BODY
    # The id cannot be moved into the time, nor the time into the body.
    yield signed(BODY, message_id=""), BODY
    for timestamp in ("", "soon", "-1", "1e9", "\u0661\u0662", " 1", "9" * 5000):
        hashed = webhooks.sign(webhooks.read_secrets(SECRET), "one", timestamp, BODY)
        yield {"webhook-id": "one", "webhook-timestamp": timestamp, "webhook-signature": hashed}, BODY


@pytest.mark.parametrize(("headers", "body"), list(tampered()))
def test_a_changed_or_foreign_request_is_refused(headers: Mapping[str, str], body: bytes) -> None:
    with pytest.raises(InvalidWebhook) as caught:
        webhooks.read(headers, body, SECRET)
    assert caught.value.get_response().status_code == 400
    assert "123456" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"null", b"{}", b"\xff", b"[" * 100_000, b'{"channel": "sms"}'],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_signed_but_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidWebhook):
        webhooks.read(signed(body), body, SECRET)


def test_one_signature_of_several_is_enough() -> None:
    headers = signed(BODY)
    headers["webhook-signature"] = f"v1a,abc v1,{base64.b64encode(bytes(32)).decode()} {headers['webhook-signature']}"
    assert webhooks.read(headers, BODY, SECRET) == MESSAGE


def test_what_a_newer_sender_adds_is_passed_over_and_what_an_older_one_lacks_is_not_missed() -> None:
    body = json.dumps({key: value for key, value in asdict(MESSAGE).items() if key not in ("id", "link")} | {"new": 1})
    assert webhooks.read(signed(body.encode()), body.encode(), SECRET) == MESSAGE


@pytest.mark.parametrize(("age", "tolerance", "fits"), [(299, 300, True), (302, 300, False), (-298, 300, True)])
def test_a_replay_is_refused_once_it_is_too_old_or_too_far_ahead(age: int, tolerance: int, fits: bool) -> None:
    with contextlib.nullcontext() if fits else pytest.raises(InvalidWebhook):
        webhooks.read(signed(BODY, age), BODY, SECRET, tolerance)
    sent = int(time.time()) - age
    for now, holds in ((sent + 60, True), (sent + 61, False), (sent - 60, True), (sent - 61, False)):
        with contextlib.nullcontext() if holds else pytest.raises(InvalidWebhook):
            webhooks.read(signed(BODY, int(time.time()) - sent), BODY, SECRET, 60, now=now)


# Invalid secrets and addresses


@pytest.mark.parametrize(
    "secret",
    [
        *("", "hunter2", "x" * 23, "whsec_", "whsec_hunter2hunter2hunter2hunter2!", "whsec_" + "aaaa" * 7),
        *(None, 7, b"x" * 32, [], [None], {SECRET}, [SECRET, "hunter2"]),
    ],
    ids=str,
)
def test_a_secret_that_is_too_weak_or_none_stops_the_app_and_is_not_told(secret: Any) -> None:
    for use in (
        lambda: WebhookChannel("https://sender.example.com/otp", secret=secret),
        lambda: webhooks.read({}, b"", secret),
    ):
        with pytest.raises(ConfigError, match="secret") as caught:
            use()
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://sender.example.com/key",
        "http://10.0.0.1/key",
        "http://localhost.example.com/key",
        "http://0x7f.1/key",
        "ftp://sender.example.com/key",
        "//sender.example.com/key",
        "sender.example.com/key",
        "https:///key",
        "https://user:key@sender.example.com/",
        "https://sender.example.com/key#part",
        "https://sender.example.com:0/key",
        "https://sender.example.com:99999/key",
        "https://[::1/key",
        "https://sender.example.com/a key",
        "https://sender.example.com/\r\nX: key",
        "https://sénder.example.com/key",
        "",
        None,
    ],
)
def test_an_address_that_would_not_do_stops_the_app_and_is_not_told(url: Any) -> None:
    with pytest.raises(ConfigError, match="url must") as caught:
        WebhookChannel(url, secret=SECRET)
    assert "key" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost/", "http://127.0.0.1:8000/otp", "http://127.8.9.1", "http://[::1]:8000/"]
)
def test_http_is_for_this_machine(url: str) -> None:
    assert WebhookChannel(url, secret=SECRET)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": "2m"}, "timeout"),
        ({"timeout": 0.5}, "timeout"),
        ({"accepts": "post"}, "accepts"),
        ({"proxy": "https://proxy.example.com"}, "proxy"),
        ({"proxy": "http://user:key@proxy.example.com"}, "proxy"),
        ({"proxy": ""}, "proxy"),
    ],
    ids=str,
)
def test_other_arguments_are_checked_too(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        WebhookChannel("https://sender.example.com", secret=SECRET, **options)
    assert "key" not in str(caught.value)


def test_a_proxy_must_not_see_the_code() -> None:
    with pytest.raises(ConfigError, match="https"):
        WebhookChannel("http://localhost/", secret=SECRET, proxy="http://proxy.example.com:3128")


def test_neither_secret_nor_address_is_in_its_repr() -> None:
    assert "key" not in repr(WebhookChannel("https://sender.example.com/key", secret="key" * 8))


# Which recipients it takes


@pytest.mark.parametrize(
    ("name", "options", "accepts"),
    [
        ("sms", {}, "phone"),
        ("whatsapp", {}, "phone"),
        ("email", {}, "email"),
        ("pager", {}, None),
        ("pager", {"accepts": "phone"}, "phone"),
        ("sms", {"accepts": "email"}, "email"),
    ],
)
def test_what_it_accepts_is_told_by_its_name_or_by_the_app(
    name: str, options: dict[str, str], accepts: str | None
) -> None:
    hook = WebhookChannel("https://sender.example.com", secret=SECRET, **options)
    assert channel_from_function(name, hook, None).accepts == accepts


def test_one_webhook_serves_under_several_names(make_app: AppFactory, service: Service) -> None:
    otp, hook = OTP(), channel(service.url)
    otp.channel("whatsapp")(hook)
    app = make_app(otp, OTP_CHANNELS={"email": hook, "sms": hook}, OTP_SMS_COUNTRIES=["DE"])
    with app.app_context():
        for identifier, name in ((ANN, None), (PHONE, None), ("+4915112345679", "whatsapp")):
            otp.send(identifier, channel=name)
    assert [service.read(number).channel for number in range(3)] == ["email", "sms", "whatsapp"]
    assert [service.read(number).recipient for number in range(2)] == [ANN, PHONE]


# Whom it trusts


def test_a_certificate_of_another_authority_is_refused(authority: trustme.CA) -> None:
    with serving(Service(), certified(authority)) as service, pytest.raises(ssl.SSLCertVerificationError):
        channel(service.url).deliver(MESSAGE)
    assert service.posts == []


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(authority: trustme.CA) -> None:
    other = certified(authority, "sender.example.com")
    with serving(Service(), other) as service, pytest.raises(ssl.SSLCertVerificationError):
        channel(service.url).deliver(MESSAGE)
    assert service.posts == []


def test_the_environments_proxies_are_not_used(
    trusted: ssl.SSLContext, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    channel(service.url).deliver(MESSAGE)
    with serving(Service(), trusted) as encrypted:
        channel(encrypted.url).deliver(MESSAGE)
    assert service.read() == encrypted.read()


def relay(asked: list[bytes], seen: list[bytes]) -> Callable[[socket.socket], None]:
    def talk(client: socket.socket) -> None:
        asked.append(client.recv(4096))
        host, _, port = asked[0].split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
            back = threading.Thread(target=copy, args=(server, client, []))
            back.start()
            copy(client, server, seen)
            server.shutdown(socket.SHUT_WR)
            back.join()

    def copy(source: socket.socket, target: socket.socket, kept: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept.append(data)
                target.sendall(data)

    return talk


def test_a_proxy_that_is_asked_for_makes_the_connection_and_sees_nothing_of_it(trusted: ssl.SSLContext) -> None:
    asked: list[bytes] = []
    seen: list[bytes] = []
    with serving(Service(), trusted) as service, talking(relay(asked, seen)) as port:
        channel(service.url, proxy=f"http://127.0.0.1:{port}").deliver(MESSAGE)
    host = service.url.split("/")[2].encode()
    assert asked[0].startswith(b"CONNECT %s HTTP/1." % host)
    assert service.read() == MESSAGE
    assert seen
    assert b"webhook-id" not in b"".join(seen)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 302 No\r\n\r\n", b"123456\r\n", b""])
@pytest.mark.usefixtures("trusted")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning" if OLD_HTTP_CLIENT else "error")
def test_a_proxy_that_refuses_is_a_failure(answer: bytes) -> None:
    def refuse(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(answer)

    with talking(refuse) as port, pytest.raises(OSError) as caught:
        channel("https://localhost:1/", proxy=f"http://127.0.0.1:{port}").deliver(MESSAGE)
    assert "123456" not in str(caught.value)
    if OLD_HTTP_CLIENT:
        del caught
        gc.collect()


# What a bad server can do


def takes(url: str) -> float:
    """How long it takes a channel of one second to give up."""
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        Deadline(1).run(lambda: channel(url, timeout="1s").deliver(MESSAGE))
    return time.monotonic() - started


def hang(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def drip(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        sock.sendall(b"x")
        time.sleep(0.1)


def drip_a_handshake(sock: socket.socket) -> None:
    sock.sendall(b"\x16\x03\x03\x3f\xff")
    while True:
        sock.sendall(b"\0")
        time.sleep(0.1)


@contextlib.contextmanager
def full() -> Iterator[tuple[str, int]]:
    """An address that never answers, because its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


def test_whatever_a_server_does_the_whole_delivery_has_one_deadline(trusted: ssl.SSLContext) -> None:
    def hang_in_tls(sock: socket.socket) -> None:
        with trusted.wrap_socket(sock, server_side=True) as encrypted:
            hang(encrypted)

    def drip_in_tls(sock: socket.socket) -> None:
        with trusted.wrap_socket(sock, server_side=True) as encrypted:
            drip(encrypted)

    servers = [("http", hang), ("http", drip), ("https", hang), ("https", drip_a_handshake)]
    servers += [("https", hang_in_tls), ("https", drip_in_tls)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(servers) + 1) as pool:
        ports = [stack.enter_context(talking(talk)) for _, talk in servers]
        urls = [f"{scheme}://localhost:{port}/" for (scheme, _), port in zip(servers, ports, strict=True)]
        urls.append("http://{}:{}/".format(*stack.enter_context(full())))
        times = list(pool.map(takes, urls))
    assert all(0.9 < seconds < 1 + SLACK for seconds in times), times


def test_a_slow_name_lookup_posts_nothing_late(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    real, release, has_ended = socket.getaddrinfo, threading.Event(), threading.Event()

    def lookup(*args: Any, **kwargs: Any) -> Any:
        release.wait(30)
        return real(*args, **kwargs)

    def deliver() -> None:
        try:
            channel(service.url).deliver(MESSAGE)
        finally:
            has_ended.set()

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(TimeoutError):
        Deadline(0.1).run(deliver)
    release.set()
    assert has_ended.wait(30)
    assert service.posts == []


def test_an_endless_answer_is_not_read() -> None:
    sent = []

    def flood(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(sock.send(bytes(65536)))

    with talking(flood) as port:
        channel(f"http://localhost:{port}/").deliver(MESSAGE)
    assert sum(sent) < 64 << 20


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"123456 +4915112345678\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200,
    ],
    ids=lambda answer: repr(answer[:30]),
)
def test_what_is_no_answer_is_a_failure_and_nothing_is_posted_again(answer: bytes) -> None:
    got = []

    def talk(sock: socket.socket) -> None:
        got.append(sock.recv(65536))
        sock.sendall(answer)

    with talking(talk) as port, pytest.raises(OSError) as caught:
        channel(f"http://localhost:{port}/").deliver(MESSAGE)
    assert len(got) == 1
    assert "123456" not in str(caught.value)


# In an app


def test_without_a_time_of_its_own_the_apps_holds(make_app: AppFactory, caplog: pytest.LogCaptureFixture) -> None:
    with talking(hang) as port:
        hook = channel(f"http://localhost:{port}/", timeout=None)
        app = make_app(OTP_CHANNELS={"email": hook}, OTP_CHANNEL_TIMEOUT="1s")
        started = time.monotonic()
        assert app.test_client().post("/otp/send", json={"email": ANN}).status_code == 503
        assert time.monotonic() - started < 1 + SLACK
    assert "TimeoutError" in caplog.text


def test_the_doctor_reaches_it_and_posts_nothing(trusted: ssl.SSLContext) -> None:
    with serving(Service(), trusted) as service:
        assert channel(service.url).probe() is True
    assert service.posts == []
    with pytest.raises(OSError):
        channel(service.url).probe()


def test_a_code_posted_to_a_webhook_verifies(make_app: AppFactory, service: Service) -> None:
    client = make_app(OTP_CHANNELS={"email": channel(service.url)}).test_client()
    assert client.post("/otp/send", json={"email": ANN}).status_code == 200
    message = service.read()
    assert (message.recipient, message.channel, message.expires_in) == (ANN, "email", 300)
    assert message.code in message.text
    assert client.post("/otp/verify", json={"code": message.code}).status_code == 200
