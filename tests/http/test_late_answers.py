"""No answer that arrives late takes away a challenge or a proof, whatever the session is kept in."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cachelib import FileSystemCache
from flask import Flask, request, session
from flask_session import Session
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.http import companions
from flask_otp.http.session.held_challenges import challenge_id
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import AppFactory
from tests.support.examples import examples
from tests.support.jar import Jar
from tests.support.visits import send, verify

HTML = {"Accept": "text/html"}
POLL = {"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}
SESSIONS = ("cookie", "permanent", "server side")


class Shop:
    """An app with a sign-in and payments, whose own views write the session too."""

    def __init__(self, make_app: AppFactory, kind: str, directory: Path) -> None:
        self.kind = kind
        self.clock = Clock()
        self.otp = OTP(clock=self.clock)
        self.app: Flask = make_app(
            self.otp,
            OTP_PURPOSES=PURPOSES,
            OTP_COOLDOWN=0,
            OTP_SEND_LIMIT="1000/hour",
            OTP_RECIPIENT_LIMIT="1000/hour",
            OTP_IP_SEND_LIMIT=None,
            OTP_IP_VERIFY_LIMIT=None,
        )
        if kind == "server side":
            self.app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(str(directory)))
            Session(self.app)
        self.app.before_request(lambda: setattr(session, "permanent", True) if kind == "permanent" else None)
        self.app.add_url_rule("/account", "account", otp_required(lambda: "ok"))
        pay = otp_required(purpose="transfer", context=lambda: {"amount": request.values["amount"]})
        self.app.add_url_rule("/pay", "pay", pay(lambda: "paid"), methods=["GET", "POST"])
        self.app.add_url_rule("/count", "count", self.count)
        self.app.add_url_rule("/leave", "leave", lambda: session.clear() or "bye")
        self.app.add_url_rule("/leave-with-a-note", "note", lambda: session.clear() or self.count())

    def __repr__(self) -> str:
        return "<Shop>"

    def count(self) -> str:
        session["count"] = session.get("count", 0) + 1
        return "counted"


@pytest.fixture(params=SESSIONS)
def shop(request: pytest.FixtureRequest, make_app: AppFactory, tmp_path: Path) -> Shop:
    return Shop(make_app, request.param, tmp_path)


@pytest.fixture
def sent(shop: Shop) -> Iterator[Outbox]:
    with capture_codes(shop.app) as outbox:
        yield outbox


class Person:
    """Someone at one browser, who remembers what they asked for and what they have verified."""

    _numbers = itertools.count(1)

    def __init__(self, shop: Shop, sent: Outbox) -> None:
        self.shop, self.sent = shop, sent
        self.jar = Jar(shop.app)
        #: Handles with their codes, by what they are for; the newest last.
        self.asked: list[tuple[str, str, str]] = []
        #: What a proof is for: the address of a page that needs it.
        self.verified: set[str] = set()

    def page_of(self, purpose: str, amount: int) -> str:
        return "/account" if purpose == "login" else f"/pay?amount={amount}"

    def send(self, purpose: str, amount: int) -> Callable[[], TestResponse]:
        """Ask for a code, with the requirement of the guard where there is one."""
        # A new address each time: what one example spends for an address would count in the next example too.
        body = {"identifier": f"a{next(self._numbers)}@example.com", "purpose": purpose}
        if purpose == "transfer":
            # Without cookies: who has paid already may pay once more.
            refused = Jar(self.shop.app).leave("GET", self.page_of(purpose, amount), headers=POLL)
            body["requirement"] = refused.get_json(force=True)["requirement"]

        def leave() -> TestResponse:
            answer = self.jar.leave("POST", "/otp/send", json=body)
            assert answer.status_code == 200, answer.text
            self.asked.append((self.page_of(purpose, amount), answer.json["challenge"], self.sent.code))  # type: ignore[index]
            return answer

        return leave

    def verify(self, purpose: str, amount: int) -> Callable[[], TestResponse]:
        """Redeem a code that was asked for before."""
        self.jar.arrive(self.send(purpose, amount)())
        page, handle, code = self.asked.pop()

        def leave() -> TestResponse:
            answer = self.jar.leave("POST", "/otp/verify", data={"challenge": handle, "code": code}, headers=HTML)
            assert answer.status_code == 303, answer.text
            self.verified.add(page)
            return answer

        return leave

    def plain(self, method: str, path: str, **options: Any) -> Callable[[], TestResponse]:
        return lambda: self.jar.leave(method, path, **options)

    def request(self, kind: str, purpose: str, amount: int) -> Callable[[], TestResponse]:
        page = self.page_of(purpose, amount)
        kinds: dict[str, Callable[[], Callable[[], TestResponse]]] = {
            "send": lambda: self.send(purpose, amount),
            "verify": lambda: self.verify(purpose, amount),
            "navigation": lambda: self.plain("GET", page, headers=HTML),
            "poll": lambda: self.plain("GET", page, headers=POLL),
            "order": lambda: self.plain(
                "POST", "/pay", data={"amount": str(amount)}, headers=HTML | {"Origin": "http://localhost"}
            ),
            "form": lambda: self.plain("GET", f"/otp/?purpose={purpose}&next=/x", headers=HTML),
            "code page": lambda: self.plain("GET", f"/otp/verify?purpose={purpose}", headers=HTML),
            "wrong code": lambda: self.plain("POST", "/otp/verify", json={"code": "x", "purpose": purpose}),
            "the app's own": lambda: self.plain("GET", "/count", headers=POLL),
        }
        return kinds[kind]()

    def has_lost_nothing(self) -> None:
        for page in self.verified:
            assert self.jar.go("GET", page, headers=HTML).status_code == 200, f"the proof for {page} is lost"
        for page, handle, code in self.asked:
            # As the code page's form does, and as a client that leaves the challenge to its cookies.
            assert any(handle in value for value in self.jar.cookies.values()), f"the challenge for {page} is lost"
            answer = self.jar.go("POST", "/otp/verify", data={"challenge": handle, "code": code}, headers=HTML)
            assert answer.status_code == 303
            assert self.jar.go("GET", page, headers=HTML).status_code == 200


KINDS = ("send", "verify", "navigation", "poll", "order", "form", "code page", "wrong code", "the app's own")
requests = st.tuples(st.sampled_from(KINDS), st.sampled_from(["login", "transfer"]), st.integers(1, 2))


@examples(20, 500)
@given(
    before=st.lists(requests, max_size=2),
    pair=st.tuples(requests, requests),
    late_first=st.booleans(),
)
def test_of_two_requests_none_takes_what_the_other_has_got(
    shop: Shop, sent: Outbox, before: list[Any], pair: tuple[Any, Any], late_first: bool
) -> None:
    sent.clear()
    person = Person(shop, sent)
    for kind, purpose, amount in before:
        person.jar.arrive(person.request(kind, purpose, amount)())
    # Both have left before either answer arrives.
    departures = [person.request(kind, purpose, amount) for kind, purpose, amount in pair]
    answers = [leave() for leave in departures]
    for answer in answers[::-1] if late_first else answers:
        person.jar.arrive(answer)
    person.has_lost_nothing()


@pytest.mark.parametrize("path", ["/account", "/pay?amount=1"])
def test_a_poll_that_is_refused_writes_nothing_and_names_what_it_needs(shop: Shop, path: str) -> None:
    answer = Jar(shop.app).go("GET", path, headers=POLL)
    assert answer.status_code == 401
    assert answer.get_json(force=True)["requirement"]
    names = [header.partition("=")[0] for header in answer.headers.getlist("Set-Cookie")]
    # Flask itself sends a permanent session again with each answer.
    assert [name for name in names if name != "session"] == []


def test_a_second_look_writes_nothing(make_app: AppFactory, tmp_path: Path) -> None:
    jar = Jar(Shop(make_app, "cookie", tmp_path).app)
    jar.go("GET", "/otp/?next=/account", headers=HTML)
    before = dict(jar.cookies)
    assert "Set-Cookie" not in jar.go("GET", "/otp/?next=/account", headers=HTML).headers
    assert jar.cookies == before


def test_a_late_answer_of_the_old_session_does_not_sign_out(shop: Shop, sent: Outbox) -> None:
    """The app's own poll left before the sign-in, writes the session, and arrives last."""
    person = Person(shop, sent)
    person.jar.go("GET", "/count", headers=POLL)
    leave = person.verify("login", 1)
    late = person.jar.leave("GET", "/count", headers=POLL)
    person.jar.arrive(leave())
    person.jar.arrive(late)
    assert person.jar.go("GET", "/account", headers=HTML).status_code == 200
    # That navigation has put it back into the session, which counts alone from now on.
    shop.clock.advance("11m")
    assert person.jar.go("GET", "/account", headers=HTML).status_code == 200


def code_page(person: Person, handle: str, purpose: str = "login") -> TestResponse:
    """The page of one challenge, by the address that names it."""
    known = person.shop.app.extensions["otp"].tokens.load_handle(handle)
    return person.jar.go("GET", f"/otp/verify?purpose={purpose}&of={challenge_id(known)}", headers=HTML)


@pytest.mark.parametrize("earlier", [0, 1])
def test_the_last_code_is_the_browsers_though_a_late_answer_restores_its_session(
    shop: Shop, sent: Outbox, earlier: int
) -> None:
    """The session then has an earlier challenge, or none."""
    person = Person(shop, sent)
    for _ in range(earlier):
        person.jar.arrive(person.send("login", 1)())
    late = person.plain("GET", "/count", headers=POLL)()
    person.jar.arrive(person.send("login", 1)())
    person.jar.arrive(late)
    _, handle, code = person.asked[-1]
    assert code_page(person, handle).status_code == 200
    assert person.jar.go("POST", "/otp/verify", json={"code": code}).status_code == 200


def test_a_challenge_is_found_by_its_name_in_the_session_alone(shop: Shop, sent: Outbox) -> None:
    person = Person(shop, sent)
    for purpose in ("login", "transfer"):
        person.jar.arrive(person.send(purpose, 1)())
    lose_companions(person)
    (_, login, _), (_, transfer, _) = person.asked
    assert code_page(person, login).status_code == code_page(person, transfer, "transfer").status_code == 200
    assert code_page(person, login, "transfer").status_code == 303


def test_the_cookie_of_a_challenge_lives_an_hour_longer_than_its_code(shop: Shop, sent: Outbox) -> None:
    """So its page can say that the code has expired."""
    person = Person(shop, sent)
    answer = person.send("login", 1)()
    assert max_age(answer, "_otp_c_") == 300 + 3600
    person.jar.arrive(answer)
    shop.clock.advance("1m")
    assert max_age(person.jar.go("POST", "/otp/resend", data={}, headers=HTML), "_otp_c_") == 240 + 3600


def max_age(answer: TestResponse, name: str) -> int | None:
    """Of the one cookie with this name that the answer sets."""
    (cookie,) = (cookie for cookie in answer.headers.getlist("Set-Cookie") if name in cookie)
    found = re.search("Max-Age=([0-9]+)", cookie)
    return int(found[1]) if found else None


def lose_companions(person: Person) -> None:
    for name in [name for name in person.jar.cookies if "_otp_" in name]:
        del person.jar.cookies[name]


def test_a_proof_that_a_late_answer_took_out_of_the_session_lasts_and_comes_back(shop: Shop, sent: Outbox) -> None:
    """Not only for the minutes in which an answer may be late, as long as the session has anything in it."""
    person = Person(shop, sent)
    late = person.plain("GET", "/count", headers=POLL)()
    person.jar.arrive(person.verify("login", 1)())
    person.jar.arrive(late)
    shop.clock.advance("11m")
    assert person.jar.go("GET", "/account", headers=POLL).status_code == 200
    assert person.jar.go("GET", "/account", headers=HTML).status_code == 200  # which puts it back
    lose_companions(person)
    assert person.jar.go("GET", "/account", headers=POLL).status_code == 200


def test_an_older_proof_that_is_used_does_not_take_the_place_of_the_sessions(shop: Shop, sent: Outbox) -> None:
    person = Person(shop, sent)
    for amount in (1, 2):
        person.jar.arrive(person.verify("transfer", amount)())
    assert person.jar.go("GET", "/pay?amount=1", headers=HTML).status_code == 200
    lose_companions(person)
    assert person.jar.go("GET", "/pay?amount=2", headers=POLL).status_code == 200


def test_a_proof_that_leaves_the_session_for_another_gets_a_cookie_of_its_own(shop: Shop, sent: Outbox) -> None:
    person = Person(shop, sent)
    person.jar.arrive(person.verify("transfer", 1)())
    lose_companions(person)
    person.jar.arrive(person.verify("transfer", 2)())
    for amount in (1, 2):
        assert person.jar.go("GET", f"/pay?amount={amount}", headers=POLL).status_code == 200


def test_a_proof_that_replaces_another_leaves_no_cookie_of_it(shop: Shop, sent: Outbox) -> None:
    person = Person(shop, sent)
    for _ in range(2):
        person.jar.arrive(person.verify("login", 1)())
    assert len([name for name in person.jar.cookies if "_otp_p_" in name]) == 1


def test_the_requirement_of_another_act_stays(shop: Shop, sent: Outbox) -> None:
    person = Person(shop, sent)
    person.jar.go("GET", "/pay?amount=2", headers=HTML)
    for amount in (1, 2):
        assert "Please check" in person.jar.go("GET", "/otp/?purpose=transfer", headers=HTML).text
        person.jar.arrive(person.verify("transfer", amount)())
    assert "Please check" not in person.jar.go("GET", "/otp/?purpose=transfer", headers=HTML).text


@pytest.mark.parametrize("page", ["/leave", "/leave-with-a-note"])
def test_an_app_that_clears_its_session_means_our_cookies_too(shop: Shop, sent: Outbox, page: str) -> None:
    person = Person(shop, sent)
    person.jar.arrive(person.verify("login", 1)())
    person.jar.arrive(person.send("transfer", 1)())
    person.jar.go("GET", page, headers=HTML)
    assert [name for name in person.jar.cookies if "_otp_" in name] == []
    assert person.jar.go("GET", "/account", headers=POLL).status_code == 401


def test_a_session_that_was_cleared_and_written_again_has_none_of_the_old_proofs(shop: Shop, sent: Outbox) -> None:
    """As in a log-in view: nothing of the previous user."""

    @shop.app.get("/again")
    def again() -> str:
        session.clear()
        shop.otp.send("bob@example.com")
        return "sent"

    person = Person(shop, sent)
    person.jar.arrive(person.verify("login", 1)())
    person.jar.go("GET", "/again", headers=HTML)
    assert person.jar.go("GET", "/account", headers=POLL).status_code == 401
    answer = person.jar.go("POST", "/otp/verify", json={"code": sent.code})
    assert answer.status_code == 200


def test_the_cookie_of_a_proof_outlives_the_browser_only_if_the_session_does(shop: Shop, sent: Outbox) -> None:
    """Flask-Session's sessions do, as they come."""
    life = max_age(Person(shop, sent).verify("login", 1)(), "_otp_p_")
    assert life == (None if shop.kind == "cookie" else 12 * 3600)


def test_a_server_that_forgets_a_session_ends_its_proofs(make_app: AppFactory, tmp_path: Path) -> None:
    shop = Shop(make_app, "server side", tmp_path)
    with capture_codes(shop.app) as sent:
        person = Person(shop, sent)
        person.jar.arrive(person.verify("login", 1)())
    shop.app.config["SESSION_CACHELIB"].clear()
    # Soon after the verification that may be a late answer's doing.
    assert person.jar.go("GET", "/account", headers=POLL).status_code == 200
    shop.clock.advance("10m")
    assert person.jar.go("GET", "/account", headers=POLL).status_code == 401


def test_logging_out_ends_what_the_session_has_lost(shop: Shop, sent: Outbox) -> None:
    person = Person(shop, sent)
    person.jar.arrive(person.send("login", 1)())
    _, handle, code = person.asked[-1]
    for purpose, amount in (("login", 1), ("transfer", 1), ("transfer", 2)):
        person.jar.arrive(person.verify(purpose, amount)())
    saved = dict(person.jar.cookies)
    person.jar.cookies.pop("session")
    assert person.jar.go("POST", "/otp/logout").status_code == 204
    assert [name for name in person.jar.cookies if "_otp_" in name] == []
    person.jar.cookies = saved
    for page in ("/account", "/pay?amount=1", "/pay?amount=2"):
        assert person.jar.go("GET", page, headers=POLL).status_code == 401
    assert person.jar.go("POST", "/otp/verify", json={"challenge": handle, "code": code}).status_code == 400


def test_r49_companion_cookies_are_few_and_have_the_sessions_attributes(make_app: AppFactory, tmp_path: Path) -> None:
    shop = Shop(make_app, "cookie", tmp_path)
    shop.app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_PATH="/")
    with capture_codes(shop.app) as sent:
        person = Person(shop, sent)
        for number in range(12):
            answer = person.jar.leave("POST", "/otp/send", json={"email": f"b{number}@example.com"})
            person.jar.arrive(answer)
        ours = [header for header in answer.headers.getlist("Set-Cookie") if "_otp_c_" in header]
        assert "Secure; HttpOnly; Path=/; SameSite=Strict" in ours[-1]
        challenges = [value for name, value in person.jar.cookies.items() if "_otp_c_" in name]
        assert 3 <= len(challenges) <= 6
        assert sum(map(len, challenges)) <= 1200
        person.jar.arrive(person.verify("login", 1)())
        for amount in range(12):
            person.jar.arrive(person.verify("transfer", amount)())
        assert sum(len(value) for name, value in person.jar.cookies.items() if "_otp_p_" in name) <= 1500
        # A new payment displaces only proofs of older payments: the user stays signed in.
        assert person.jar.go("GET", "/account", headers=POLL).status_code == 200


@pytest.mark.parametrize("value", ["", "x", "..", "-1..x", "zz..x", "1.o", "1..", "é", "1." + "o." * 500, "9" * 4000])
def test_a_companion_cookie_with_nonsense_is_ignored(make_app: AppFactory, tmp_path: Path, value: str) -> None:
    shop = Shop(make_app, "cookie", tmp_path)
    jar = Jar(shop.app)
    jar.cookies = {f"session_otp_{kind}_AAAAAAAA": value for kind in "cpr"}
    assert jar.go("GET", "/account", headers=POLL).status_code == 401
    assert jar.go("GET", "/otp/verify?of=AAAAAAAA", headers=HTML).status_code == 303
    assert jar.go("GET", "/otp/repeat", headers=HTML).status_code == 303
    assert jar.go("POST", "/otp/logout").status_code == 204


@pytest.mark.parametrize("value", ["f" * 400 + "..", "-" + "f" * 400 + ".."])
def test_a_time_that_we_never_wrote_is_ignored_by_the_page_that_sends_a_browser_on(app: Flask, value: str) -> None:
    with capture_codes(app) as codes:
        client = app.test_client()
        send(client)
        verify(client, codes[-1].code)
    # Named after where the page leads to. A site on a neighbouring host can set it too.
    name = "session_otp_o_" + companions.id_of(hashlib.sha256(b"login /").digest())
    client.set_cookie(name, value)
    assert client.get("/otp/", headers=HTML).location == "/"
