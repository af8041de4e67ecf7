"""Whole flows on real Redis: each request of a flow goes to the other of two machines than the one before.

The store suite shows that each verb does what it does in memory. These show that a site does so, and that its machines
share nothing but Redis.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from flask import Flask, request
from werkzeug.test import Client, TestResponse

from flask_otp import OTP, Message, current_verification, otp_required
from flask_otp.limits import surge
from flask_otp.signals import code_verified
from flask_otp.testing import Outbox
from tests.support.at_once import at_once
from tests.support.attack_site import OWNER, Caller, Stage, refused

pytestmark = [pytest.mark.server, pytest.mark.parametrize("stage", ["redis"], indirect=True)]

HTML = {"Accept": "text/html", "Origin": "http://localhost"}
PURPOSES: dict[str, Any] = {"login": {}, "transfer": {}}


class Machines:
    """Two machines of one site, and before them what sends each request to another one than the last."""

    def __init__(self, stage: Stage, prepare: Callable[[OTP], object] = id, **config: Any) -> None:
        self.otps = [OTP(clock=stage.clock) for _ in range(2)]
        for otp in self.otps:
            prepare(otp)
        config = {"OTP_PURPOSES": PURPOSES, "OTP_DEFAULT_NEXT": "/home"} | config
        self.apps = [stage.app(otp, **config) for otp in self.otps]
        self.orders: list[dict[str, str]] = []
        for app, otp in zip(self.apps, self.otps, strict=True):
            self._add_views(app, otp)
        self._next = itertools.cycle(self.apps)

    def _add_views(self, app: Flask, otp: OTP) -> None:
        app.add_url_rule("/account", "account", otp_required(lambda: current_verification.identifier))
        app.add_url_rule("/leave", "leave", lambda: str(otp.forget(purpose="login")), methods=["POST"])

        app.add_url_rule("/last", "last", otp_required(purpose="transfer")(lambda: "the last transfers"))

        @app.post("/transfer")
        @otp_required(purpose="transfer", once=True, context=lambda: {"payee": request.form.get("payee", "")})
        def transfer() -> str:
            self.orders.append(request.form.to_dict())
            return "done"

        @app.post("/spend")
        @otp_required(once=True)
        def spend() -> str:
            return "spent"

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return next(self._next)(environ, start_response)

    def test_client(self, use_cookies: bool = True) -> Client:
        return Client(self, TestResponse, use_cookies=use_cookies)

    def revoke(self, who: str = OWNER) -> None:
        app = next(self._next)
        with app.app_context():
            app.extensions["otp"].service.revoke(who)


@pytest.fixture
def site(stage: Stage) -> Machines:
    return Machines(stage)


def caller(site: Machines, **options: Any) -> Caller:
    return Caller(site, **options)  # type: ignore[arg-type]


def browser(site: Machines) -> Caller:
    return caller(site, browser=True)


def signed_in(site: Machines, sent: Outbox, who: str = OWNER, **body: str) -> tuple[Caller, str]:
    """A browser that is, and its proof."""
    client = browser(site)
    return client, sign_in(client, sent, who, **body)


def sign_in(client: Caller, sent: Outbox, who: str = OWNER, **body: str) -> str:
    assert client.send(who, **body).status_code == 200
    answer = client.verify(sent.code)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["proof"])


def account(site: Machines, proof: str) -> int:
    """What each of the machines answers to the proof."""
    client = site.test_client()
    statuses = {client.get("/account", headers={"Authorization": f"Bearer {proof}"}).status_code for _ in site.apps}
    assert len(statuses) == 1
    return statuses.pop()


def length(answer: TestResponse) -> int:
    return int(answer.get_json()["code_length"])


# Asking, typing, being let in


def test_a_client_without_cookies_asks_types_and_is_let_in(site: Machines, stage: Stage) -> None:
    client = caller(site)
    proof = sign_in(client, stage.sent)
    assert account(site, proof) == 200
    assert refused(client.verify(stage.sent.code))


def test_a_browser_goes_round_the_pages_and_back(site: Machines, stage: Stage) -> None:
    client = site.test_client()
    ask = client.get("/account", headers=HTML).location
    assert client.get(ask, headers=HTML).status_code == 200
    answer = client.post("/otp/send", data={"identifier": OWNER}, headers=HTML)
    assert client.get(answer.location, headers=HTML).status_code == 200
    wrong = client.post("/otp/verify", data={"code": f"{(int(stage.sent.code) + 1) % 10**6:06}"}, headers=HTML)
    assert wrong.status_code == 400
    answer = client.post("/otp/verify", data={"code": stage.sent.code}, headers=HTML)
    assert (answer.status_code, answer.location) == (303, "/account")
    assert client.get(answer.location, headers=HTML).text == OWNER


def test_an_idempotency_key_is_one_challenge_on_both_machines(site: Machines, stage: Stage) -> None:
    keyed = {"headers": {"Idempotency-Key": "a key of sixteen"}}
    client = site.test_client(use_cookies=False)
    answers = [client.post("/otp/send", json={"email": OWNER}, **keyed) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(stage.sent) == 1
    other = [client.post("/otp/send", json={"email": "bob@example.com"}, **keyed).status_code for _ in site.apps]
    assert other == [422] * 2
    body = {"challenge": answers[-1].get_json()["challenge"], "code": stage.sent.code}
    assert client.post("/otp/verify", json=body).status_code == 200


def test_a_code_ends_on_its_second_and_a_resend_gives_it_no_time(site: Machines, stage: Stage) -> None:
    client = caller(site)
    client.send()
    stage.clock.advance(299)
    assert client.post("resend", challenge=client.handle).status_code == 200
    assert stage.sent[0].code == stage.sent[1].code
    stage.clock.advance(1)
    assert refused(client.verify(stage.sent.code))


def test_a_resend_gives_no_attempt_back(site: Machines, stage: Stage) -> None:
    client = caller(site)
    client.send()
    client.guess(stage.sent.code, 3)
    assert client.post("resend", challenge=client.handle).status_code == 200
    client.guess(stage.sent.code, 2)
    assert refused(client.verify(stage.sent.code))


def test_a_double_click_sends_one_message(stage: Stage) -> None:
    site = Machines(stage, OTP_COOLDOWN="30s")
    client = browser(site)
    first = client.send().get_json()["challenge"]
    answers = at_once(*[client.send for _ in range(4)])
    assert {answer.status_code for answer in answers} == {200}
    assert len(stage.sent) == 1
    assert client.post("verify", code=stage.sent.code, challenge=first).status_code == 200


def test_a_code_of_one_purpose_is_worth_nothing_for_another_and_a_spent_budget_is_its_own(stage: Stage) -> None:
    site = Machines(stage, OTP_FAILURE_BUDGET="3/30 days")
    client, other = caller(site), caller(site)
    client.send(purpose="login")
    other.send(purpose="transfer")
    assert (
        client.post("verify", code=stage.sent[0].code, challenge=client.handle, purpose="transfer").status_code == 400
    )
    other.guess(stage.sent[1].code, 3)
    assert [length(caller(site).send(purpose=purpose)) for purpose in PURPOSES] == [6, 13]


def test_a_link_does_what_the_code_does_and_one_ends_the_other(stage: Stage) -> None:
    site = Machines(stage, OTP_LINKS=True, OTP_BASE_URL="http://localhost")
    client = browser(site)
    client.send()
    code, link = stage.sent.code, stage.sent.link.removeprefix("http://localhost")
    page = client.client.get(link, headers=HTML)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    verified: list[object] = []

    def hear(sender: object, **arguments: object) -> None:
        verified.append(sender)

    # Not the statuses: a browser that has just been verified is sent on, whichever of its requests did it.
    with code_verified.connected_to(hear):
        answers = at_once(
            *[lambda: client.client.post("/otp/verify", data=fields, headers=HTML)] * 5,
            *[lambda: caller(site).post("verify", code=code, challenge=client.handle)] * 5,
        )
    assert len(answers) == 10
    assert len(verified) == 1
    assert refused(client.verify(code))


def test_what_was_sent_before_a_key_was_rotated_still_works(stage: Stage) -> None:
    before = Machines(stage)
    client, proof = signed_in(before, stage.sent)
    client.send()
    old = before.apps[0].config["SECRET_KEY"]
    after = Machines(stage, SECRET_KEY="another key of a good length", SECRET_KEY_FALLBACKS=[old])
    assert account(after, proof) == 200
    assert caller(after).post("verify", code=stage.sent.code, challenge=client.handle).status_code == 200


def test_a_test_recipient_has_one_code_and_a_budget_like_anybody(stage: Stage) -> None:
    testers = {OWNER: ("864201", "2100-01-01")}
    site = Machines(stage, OTP_TEST_RECIPIENTS=testers, OTP_FAILURE_BUDGET="2/30 days")
    client = caller(site)
    client.send()
    assert client.verify("864201").status_code == 200
    client.send()
    for code in ("000000", "111111"):
        assert refused(client.verify(code))
    assert refused(client.verify("864201"))
    assert stage.sent == []


# Once


def test_of_twenty_requests_at_once_on_one_proof_one_passes(site: Machines, stage: Stage) -> None:
    _, proof = signed_in(site, stage.sent)
    headers = {"Authorization": f"Bearer {proof}"}
    assert account(site, proof) == 200
    answers = at_once(*[lambda: site.test_client().post("/spend", headers=headers)] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    assert account(site, proof) == 401


def test_a_form_that_waited_for_its_code_is_carried_out_once(site: Machines, stage: Stage) -> None:
    client = site.test_client()
    ask = client.post("/transfer", data={"payee": "Bob"}, headers=HTML).location
    assert client.get(ask, headers=HTML).status_code == 200
    client.post("/otp/send", data={"identifier": OWNER, "purpose": "transfer"}, headers=HTML)
    answer = client.post("/otp/verify", data={"code": stage.sent.code, "purpose": "transfer"}, headers=HTML)
    page = client.get(answer.location, headers=HTML)
    [action] = re.findall(r'<form method="post" action="([^"]+)"', page.text)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    cookie = client.get_cookie("session")
    assert cookie is not None

    def click() -> TestResponse:
        tab = site.test_client()
        tab.set_cookie("session", cookie.value)
        return tab.post(action, data=fields, headers=HTML)

    assert sorted(answer.status_code for answer in at_once(*[click] * 10)) == [200] + [303] * 9
    assert site.orders == [{"payee": "Bob"}]


# Ending it


def test_a_log_out_ends_the_proof_the_open_code_and_a_saved_cookie(site: Machines, stage: Stage) -> None:
    client, proof = signed_in(site, stage.sent)
    client.send()
    saved = client.client.get_cookie("session")
    assert saved is not None
    assert client.client.post("/otp/logout").status_code == 204
    thief = site.test_client()
    thief.set_cookie("session", saved.value)
    assert [thief.get("/account").status_code, account(site, proof)] == [401, 401]
    assert refused(caller(site).post("verify", code=stage.sent.code, challenge=client.handle))


def test_to_forget_one_purpose_leaves_the_other(site: Machines, stage: Stage) -> None:
    client, login = signed_in(site, stage.sent)
    transfer = sign_in(client, stage.sent, purpose="transfer")
    assert client.client.post("/leave").status_code == 200
    assert account(site, login) == 401
    headers = {"Authorization": f"Bearer {transfer}"}
    answers = [site.test_client().get("/last", headers=headers) for _ in site.apps]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_revoking_ends_everybodys_proofs_codes_and_known_browsers(stage: Stage) -> None:
    site = Machines(stage, OTP_RECIPIENT_LIMIT="3/hour")
    known, proof = signed_in(site, stage.sent)
    other = caller(site)
    other.send()
    stage.clock.advance(1)
    site.revoke()
    assert account(site, proof) == 401
    assert refused(other.verify(stage.sent.code))
    statuses = [caller(site).send().status_code for _ in range(3)]
    assert statuses[-1] == 429
    assert known.send().status_code == 429


def test_within_the_lag_a_machine_trusts_a_proof_and_no_longer(stage: Stage) -> None:
    site = Machines(stage, OTP_REVOCATION_LAG="30s")
    _, proof = signed_in(site, stage.sent)
    assert account(site, proof) == 200
    site.revoke()
    stage.clock.advance(30)
    assert account(site, proof) == 401


# Limits


def test_a_cooldown_holds_on_every_machine_and_ends_when_it_says(stage: Stage) -> None:
    site = Machines(stage, OTP_COOLDOWN="30s")
    network = "192.0.2.1"
    assert caller(site, network=network).send().status_code == 200
    answer = caller(site, network=network).send()
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "30")
    assert caller(site, network="198.51.100.1").send().status_code == 200
    stage.clock.advance(30)
    assert caller(site, network=network).send().status_code == 200


def test_a_networks_send_limit_holds_and_ends_when_it_says(stage: Stage) -> None:
    site = Machines(stage, OTP_SEND_LIMIT="3/hour")
    statuses = [caller(site, network="192.0.2.1").send() for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429]
    stage.clock.advance(int(statuses[-1].headers["Retry-After"]) - 1)
    assert caller(site, network="192.0.2.1").send().status_code == 429
    stage.clock.advance(1)
    assert caller(site, network="192.0.2.1").send().status_code == 200


def test_strangers_on_many_networks_exhaust_a_recipient_but_no_known_browser(stage: Stage) -> None:
    site = Machines(stage, OTP_RECIPIENT_LIMIT="3/hour", OTP_SEND_LIMIT="3/hour")
    known, _ = signed_in(site, stage.sent)
    assert [caller(site).send().status_code for _ in range(3)] == [200, 200, 429]
    assert [known.send().status_code for _ in range(4)] == [200, 200, 200, 429]
    assert caller(site).send("someone-else@example.com").status_code == 200


def test_a_network_asks_for_so_many_people_and_types_so_many_codes(stage: Stage) -> None:
    site = Machines(stage, OTP_IP_SEND_LIMIT="3/hour", OTP_IP_VERIFY_LIMIT="3/hour")
    clients = [caller(site, network="192.0.2.1") for _ in range(4)]
    assert [one.send(f"p{number}@example.com").status_code for number, one in enumerate(clients)] == [200] * 3 + [429]
    answers = [clients[0].verify("000000").status_code for _ in range(4)]
    assert answers == [400] * 3 + [429]
    assert caller(site).send().status_code == 200


def test_when_the_budget_is_spent_codes_are_long_and_the_owner_gets_in(stage: Stage) -> None:
    site = Machines(stage, OTP_FAILURE_BUDGET="3/30 days")
    known, _ = signed_in(site, stage.sent)
    crook, early = caller(site), caller(site)
    early.send()
    short = stage.sent.code
    crook.send()
    crook.guess(stage.sent.code, 3)
    assert refused(early.verify(short))
    owner = caller(site)
    assert length(owner.send()) == 13
    assert owner.verify(stage.sent.code).status_code == 200
    assert length(known.send()) == 6
    assert known.verify(stage.sent.code).status_code == 200


def test_in_a_surge_strangers_get_long_codes_from_every_machine(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surge, "time", SimpleNamespace(monotonic=stage.clock, time=stage.clock))
    site = Machines(stage, OTP_SURGE_LIMIT="10/hour")
    known, _ = signed_in(site, stage.sent)
    for number in range(11):
        crook = caller(site)
        crook.send(f"victim{number}@example.com")
        crook.guess(stage.sent.code)
    stage.clock.advance(1)  # each machine asks once a second
    assert [length(caller(site).send()) for _ in site.apps] == [13, 13]
    assert [length(known.send()) for _ in site.apps] == [6, 6]


def german(number: int) -> str:
    return f"+491511234{number:04}"


SMS: dict[str, Any] = {"OTP_CHANNELS": {"sms": print}, "OTP_SMS_COUNTRIES": ["DE"]}


def test_an_hour_of_pumping_gets_so_many_text_messages_on_all_machines(stage: Stage) -> None:
    site = Machines(stage, **SMS)
    stage.clock.now -= (stage.clock.now + crc32(b"sms/+491511234")) % 3600  # a window of that range begins
    for first in range(0, 60, 20):
        at_once(*[lambda number=number: caller(site).send(german(number)) for number in range(first, first + 20)])
    assert len(stage.sent) == 30


def test_a_prefix_has_one_budget_on_all_machines(stage: Stage) -> None:
    site = Machines(stage, OTP_PREFIX_BUDGET={"+49": "5/day"}, OTP_PUMPING_BREAKER=None, **SMS)
    assert {caller(site).send(german(number)).status_code for number in range(8)} == {200}
    assert len(stage.sent) == 5


# What was not delivered


class Gateway:
    """A channel that can be broken."""

    def __init__(self) -> None:
        self.sent = Outbox()
        self.broken = False

    def __call__(self, message: Message) -> None:
        if self.broken:
            raise OSError("no line")
        self.sent.append(message)


def over(stage: Stage, gateway: Gateway, prepare: Callable[[OTP], object] = id, **config: Any) -> Machines:
    """Machines that send by it."""

    def prepare_all(otp: OTP) -> None:
        otp.channel("email")(gateway)
        prepare(otp)

    site = Machines(stage, prepare_all, **config)
    for app in site.apps:
        app.extensions["otp"].delivery.transport.intercept = None
    return site


def test_a_failed_delivery_gives_the_count_back_but_not_the_cooldown(stage: Stage) -> None:
    gateway = Gateway()
    site = over(stage, gateway, OTP_SEND_LIMIT="1/day", OTP_RECIPIENT_LIMIT="1/day", OTP_COOLDOWN="30s")
    client = caller(site)
    gateway.broken = True
    assert client.send().status_code == 503
    assert client.send().status_code == 429
    gateway.broken = False
    stage.clock.advance(30)
    assert client.send().status_code == 200
    stage.clock.advance(30)
    assert caller(site, network=client.network).send().status_code == 429
    assert client.verify(gateway.sent.code).status_code == 200


def test_a_failed_resend_leaves_the_code_that_went_out(stage: Stage) -> None:
    gateway = Gateway()
    site = over(stage, gateway)
    client = caller(site)
    client.send()
    gateway.broken = True
    assert client.post("resend", challenge=client.handle).status_code == 503
    assert client.verify(gateway.sent.code).status_code == 200


def test_any_machine_delivers_what_another_queued_and_none_does_twice(stage: Stage) -> None:
    gateway, queue = Gateway(), []
    site = over(stage, gateway, lambda otp: otp.dispatcher(queue.append))
    client = caller(site)
    client.send()
    for app, otp in zip(site.apps, site.otps, strict=True):
        with app.app_context():
            otp.deliver(queue[0])
    assert len(gateway.sent) == 1
    client.post("resend", challenge=client.handle)
    assert client.verify(gateway.sent.code).status_code == 200
    with site.apps[0].app_context():
        site.otps[0].deliver(queue[1])  # its code is used
    assert len(gateway.sent) == 1


def test_nobody_is_asked_for_and_answered_as_somebody_is(stage: Stage) -> None:
    answers = []
    for who in (OWNER, "nobody@example.com"):
        site = Machines(
            stage,
            lambda otp: otp.recipient_loader(lambda identifier, channel: identifier if identifier == OWNER else None),
            OTP_FAILURE_BUDGET="3/30 days",
            OTP_SEND_LIMIT="2/hour",
            OTP_DELIVERY="inline",
        )
        client = caller(site, network="192.0.2.1" if who == OWNER else "198.51.100.1")
        seen = [client.send(who).status_code, *(client.verify(f"{number:06}").status_code for number in range(3))]
        answer = client.send(who)
        answers.append([*seen, answer.status_code, length(answer), client.send(who).status_code])
    assert answers[0] == answers[1]
    assert {message.recipient for message in stage.sent} == {OWNER}
