"""After random histories, on every store, the sentence of ``flask otp show`` agrees with what ``send`` then does."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, InvalidCode, Message, OTPError, RateLimited
from flask_otp.channels import ConsoleChannel
from flask_otp.crypto.codes import STRONG_LENGTH
from flask_otp.crypto.payloads import Client, KnownBrowser
from flask_otp.networks import network_of
from flask_otp.state import AppState
from flask_otp.stores import Store
from flask_otp.stores.redis import RedisStore
from flask_otp.stores.sql import SQLStore
from flask_otp.support.outlook import Asker, Forecast, Outlook
from flask_otp.support.view import view
from flask_otp.testing import Clock
from tests.support.apps import SECRET, START

ANN, PHONE, TESTER = "ann@example.com", "+4915112345678", "store@example.com"
NETWORKS = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
FRESH = "198.51.100.9"
#: What only the clock of the subject decides: then the sentence must be right to the second.
BY_THE_CLOCK = {"OTP_COOLDOWN", "OTP_SEND_LIMIT", "OTP_RECIPIENT_LIMIT", "OTP_FAILURE_BUDGET"}
SITES: list[dict[str, Any]] = [
    {"OTP_ON_BUDGET": "refuse"},
    {"OTP_ON_BUDGET": "refuse"},
    {"OTP_IP_SEND_LIMIT": "4/day"},
    {"OTP_CHANNEL_BUDGET": {"email": "4/day"}},
    {"OTP_DELIVER_ONLY_TO": ("@example.org",)},
    {"OTP_PREFIX_BUDGET": {"+49": "3/day"}, "who": PHONE},
    {"OTP_PUMPING_BREAKER": {"minimum": 3, "country_minimum": 3}, "who": PHONE},
    {"OTP_SMS_COUNTRIES": ("FR",), "who": PHONE},
    {"OTP_TEST_RECIPIENTS": {TESTER: ("402817", "2099-01-31")}, "who": TESTER},
    {"who": "unknown@example.com"},
]


class History:
    """One person's, on a site of its own."""

    def __init__(self, seed: int, store: Store) -> None:
        self.random = random.Random(seed)
        self.clock = Clock(START + seed * 1000)
        self.sent: list[Message] = []
        self.is_broken = False
        self.is_quick = self.random.random() < 0.8
        self.networks = self.random.sample(NETWORKS, self.random.randrange(1, 4))
        config = dict(self.random.choice([{}, {}, {}, *SITES]))
        self.who = config.pop("who", ANN)
        # Each history has a key of its own, and so no two histories share a subject.
        self.app = Flask("site")
        self.app.config.update(TESTING=True, SECRET_KEY=f"{SECRET} {seed}", OTP_STORAGE_URI="memory://")
        self.app.config.update(OTP_SMS_COUNTRIES=("DE",), OTP_IP_SEND_LIMIT=None, OTP_IP_VERIFY_LIMIT=None)
        self.app.config.update(OTP_SEND_LIMIT="3/hour;5/day", OTP_RECIPIENT_LIMIT="5/hour;9/day")
        self.app.config.update(OTP_FAILURE_BUDGET="4/2 days", OTP_DELIVERY="inline", **config)
        otp = OTP(clock=self.clock)
        otp.channel("email")(self.deliver)
        otp.channel("sms")(self.deliver)
        if self.who.startswith("unknown"):
            otp.recipient_loader(lambda identifier, channel: None)
        otp.init_app(self.app)
        self.state: AppState = self.app.extensions["otp"]
        self.state.store = store
        self.subject = self.state.tokens.keys.subject("login", self.who)
        self.known: list[KnownBrowser] = []
        self.handles: list[str] = ["made.up"]

    def deliver(self, message: Message) -> None:
        if self.is_broken:
            raise OSError
        self.sent.append(message)

    def client(self, network: str | None = None, known: tuple[KnownBrowser, ...] = ()) -> Client:
        network = network or self.random.choice(self.networks)
        return Client(network_of(network), self.random.choice((b"", b"session")), known)

    def send(self, client: Client) -> None:
        challenge = self.state.service.send(
            self.who, channel=None, purpose="login", context=b"", context_values=None, client=client, is_typed=True
        )
        self.handles.append(challenge.handle)

    def live(self) -> None:
        """Some steps of whatever people do."""
        for _ in range(self.random.randrange(25)):
            try:
                getattr(
                    self, self.random.choice(("ask", "ask", "ask", "again", "guess", "enter", "wait", "wait", "end"))
                )()
            except OTPError:
                continue

    def ask(self) -> None:
        self.is_broken = self.random.random() < 0.15
        self.send(self.client(known=tuple(self.known) if self.random.random() < 0.4 else ()))

    def again(self) -> None:
        self.state.service.resend(self.handles[-1], self.client())

    def guess(self) -> None:
        for _ in range(self.random.randrange(1, 6)):
            self.verify("000000")

    def enter(self) -> None:
        if self.sent:
            verification = self.verify(self.sent[-1].code)
            if verification is not None and len(self.known) < 3:
                now_ms = int(self.clock() * 1000) + 61_000
                self.known.append(KnownBrowser(self.subject, self.random.randbytes(8), now_ms))

    def verify(self, code: str) -> object:
        try:
            return self.state.service.verify(code, self.handles[-1], purpose=None, network=NETWORKS[0])[0]
        except InvalidCode:
            return None

    def wait(self) -> None:
        self.clock.advance(
            self.random.choice((1, 29, 30, 31, 31, 60, 60) if self.is_quick else (31, 299, 3599, 3600, 86400))
        )

    def end(self) -> None:
        if self.random.random() < 0.2:
            self.state.service.revoke(self.who)
            self.known.clear()
        elif self.random.random() < 0.2:
            self.state.store.unlock(self.subject, int(self.clock()))

    # What is told, and what happens

    def told(self, network: str | None, browser: KnownBrowser | None) -> tuple[Outlook, str]:
        """What the operator reads about such a client: the outlook, and the sentence."""
        address = self.state.identifiers.named(self.who)
        seen = view(self.state, "login", address, network=network)
        assert seen.sentence.startswith("A code can go out" if seen.outlook.can_send else "No code goes out")
        if browser is None:
            return seen.outlook, seen.sentence
        record = self.state.store.inspect(self.subject, int(self.clock()))
        forecast = Forecast(self.state, self.state.service.purpose("login"), address, record)
        asker = Asker("a browser", browser.bucket, known=True, network=network and network_of(network))
        return forecast.of(asker), seen.sentence

    def compare(self) -> str:
        """Ask for a code as a random client. Returns the reason if none went out."""
        self.is_broken = False
        network = self.random.choice([*self.networks, FRESH])
        browser = self.random.choice([None, None, None, *self.known])
        # Of a network that has not asked yet, the operator need not know the address.
        named = None if network == FRESH and self.random.random() < 0.5 else network
        client = Client(network_of(network), b"", (browser,) if browser else ())
        outlook, sentence = self.told(named, browser)
        self.expect(outlook, sentence, client)
        if outlook.reason in BY_THE_CLOCK:
            # Each request counts for its network, whose limit may then refuse the next ones.
            self.clock.advance(outlook.wait - 1)
            before, sentence = self.told(named, browser)
            assert before.wait == 1 or before.reason == "OTP_IP_SEND_LIMIT"
            self.expect(before, sentence, client)
            self.clock.advance(1)
            after, sentence = self.told(named, browser)
            assert after.reason not in BY_THE_CLOCK
            self.expect(after, sentence, client)
        return outlook.reason

    def expect(self, outlook: Outlook, sentence: str, client: Client) -> None:
        before, error = len(self.sent), None
        with self.printed() as printed:
            try:
                self.send(client)
            except RateLimited as limited:
                error = limited
        went_out = self.sent[before:] + printed
        assert len(went_out) == outlook.can_send, (sentence, outlook, error)
        if outlook.reason in BY_THE_CLOCK:
            assert error is not None
            assert error.retry_after == outlook.wait, sentence
        if went_out:
            assert bool(printed) == ("printed instead of sent" in sentence)
            if not client.known:
                assert (len(went_out[0].code) == STRONG_LENGTH) == ("a strong one" in sentence)

    @contextmanager
    def printed(self) -> Iterator[list[Message]]:
        """What is diverted to the terminal."""
        found: list[Message] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ConsoleChannel, "deliver", lambda channel, message: found.append(message))
            yield found


STEPS = [
    *[History.ask] * 3,
    *[History.wait] * 2,
    History.again,
    History.guess,
    History.enter,
    History.end,
]


def run(store: Store, seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        history = History(seed, store)
        with history.app.app_context():
            history.live()
            try:
                seen[history.compare() or "sent"] += 1
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
    return seen


def test_the_sentence_agrees_with_what_send_then_does(any_store: Store) -> None:
    # The databases decide by the same functions as the memory store does. Its first 80 histories have every reason.
    run(any_store, range(10 if isinstance(any_store, SQLStore) else 40 if isinstance(any_store, RedisStore) else 100))


@pytest.mark.long
def test_long_run_the_sentence_agrees_with_what_send_then_does(
    any_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = run(any_store, range(2000))
    assert BY_THE_CLOCK | {"sent", "unknown", "test_recipient", "countries"} <= seen.keys()
    assert {"OTP_IP_SEND_LIMIT", "OTP_CHANNEL_BUDGET", "OTP_PREFIX_BUDGET", "OTP_PUMPING_BREAKER"} <= seen.keys()
    with capsys.disabled():  # shows how often each reason came
        print(dict(seen))
