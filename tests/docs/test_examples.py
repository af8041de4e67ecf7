"""The pages of ``docs/guides``: each app is taken from its page, run on a real store, used as people do, attacked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from jinja2 import FileSystemLoader
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from flask_otp import FactorsUnavailable
from flask_otp.http.openapi import document
from flask_otp.testing import Clock
from tests.support.apps import ValkeyServer
from tests.support.factor_site import Phone
from tests.support.pages import DOCS, GUIDES, programs
from tests.support.users import Browser, Example, Forms, at, like

ANN, BOB, EVE = "ann@example.com", "bob@example.com", "eve@example.com"
PASSWORD = "correct horse battery"
TRANSFER = {"amount": "250", "payee": BOB}


# Every page


def pages() -> list[str]:
    """The guides that consist of one whole app."""
    found = {path.stem: programs(path) for path in GUIDES.glob("*.md")}
    return sorted(page for page, blocks in found.items() if len(blocks) == 1 and "Flask(__name__)" in blocks[0])


@pytest.mark.parametrize("page", pages())
def test_the_http_api_of_every_page_is_described(open_page: Callable[[str], Example], page: str) -> None:
    app = open_page(page).app
    with app.app_context():
        validate(document(app.extensions["otp"]))


def test_the_http_api_of_the_example_app_is_described() -> None:
    path = DOCS.parent / "example_app.py"
    names: dict[str, Any] = {"__name__": "example_app"}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    with names["app"].app_context():
        validate(document(names["app"].extensions["otp"]))


@pytest.mark.parametrize("page", pages())
def test_every_page_is_run_by_a_test(page: str) -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert re.search(rf'open_page\("{page}"\)|params=\[.*"{page}"', tests)


@pytest.mark.parametrize("page", pages())
def test_every_page_starts_by_the_commands_that_it_gives(
    load_page: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, valkey: ValkeyServer, page: str
) -> None:
    (commands,) = re.findall(r"```sh\n(.*?)```", (GUIDES / f"{page}.md").read_text("utf-8"), re.DOTALL)
    assert "flask --app app run --debug" in commands
    for key, value in re.findall(r"(FLASK_\w+)=(\S+)", commands):
        made = {"redis://localhost:6379": valkey.uri, "$(python": "5d1f0b7a9c3e8642" * 4}
        monkeypatch.setenv(key, made.get(value, value))
    monkeypatch.setenv("FLASK_DEBUG", "1")
    app = load_page(page).app
    browser = app.test_client()
    for rule in [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.arguments]:
        status = browser.get(rule.rule, headers={"Accept": "text/html"}).status_code
        # A route of ours that the page's app has not switched on is not there.
        assert status in (200, 302, 303, 400, 401) or (
            status == 404 and rule.endpoint in ("otp.app", "otp.brand_sheet", "otp.health", "otp.openapi", "otp.outbox")
        )


# authenticator


@pytest.fixture
def vault(open_page: Callable[[str], Example], clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Example:
    vault = open_page("authenticator")
    monkeypatch.setattr(vault.names, "time", SimpleNamespace(time=clock))
    with vault.app.app_context():
        ann = vault.names.db.session.scalars(vault.names.select(vault.names.User)).one()
        vault.names.db.session.add(vault.names.User(email=BOB, password=ann.password))
        vault.names.db.session.commit()
    return vault


def at_the_vault(example: Example, email: str = ANN) -> tuple[Browser, TestResponse]:
    browser = example.browser()
    return browser, browser.submit(browser.open("/"), email=email, password=PASSWORD)


def enrolled(example: Example, clock: Clock, email: str = ANN) -> tuple[Phone, list[str]]:
    """A person who has added an app, as people do it."""
    browser, page = at_the_vault(example, email)
    [key] = re.findall(r'<code class="key"[^>]*>([A-Z2-7 ]+)</code>', page.text)
    phone = Phone(f"otpauth://totp/x?secret={key.replace(' ', '')}", clock)
    page = browser.submit(page, code=phone.code(), name="phone")
    codes = re.findall(r"<li><code>([0-9A-Z-]+)</code>", page.text)
    clock.advance(30)
    return phone, codes


def test_authenticator_who_has_no_app_adds_one_and_then_needs_it(vault: Example, clock: Clock) -> None:
    phone, codes = enrolled(vault, clock)
    assert len(codes) == 10
    browser, page = at_the_vault(vault)
    assert (at(page), "We need a code from your authenticator app" in page.text) == ("/otp/", True)
    page = browser.submit(page, action="/otp/send")
    page = browser.submit(page, code=phone.code())
    assert (at(page), "1 apps, 10 recovery codes left" in page.text) == ("/", True)
    assert vault.outbox == []


def test_authenticator_a_trusted_browser_needs_the_password_alone_and_can_be_ended(
    vault: Example, clock: Clock
) -> None:
    phone, _ = enrolled(vault, clock)
    browser, page = at_the_vault(vault)
    page = browser.submit(browser.submit(page, action="/otp/send"), code=phone.code(), trust="yes")
    assert "A browser is trusted until" in page.text
    clock.advance(13 * 3600)
    browser.submit(page, action="/logout")
    page = browser.submit(browser.open("/"), email=ANN, password=PASSWORD)
    assert "Welcome, ann@example.com" in page.text
    assert at(browser.open("/transfer")) == "/otp/"
    [action] = re.findall(r'action="(/trusted/\w+/end)"', page.text)
    browser.submit(page, action=action)
    assert at(browser.open("/")) == "/otp/"


def test_authenticator_a_lost_phone_is_replaced_by_a_recovery_code(vault: Example, clock: Clock) -> None:
    _, codes = enrolled(vault, clock)
    browser, page = at_the_vault(vault)
    page = browser.submit(page, action="/otp/send")
    page = browser.submit(page, action="/otp/resend", channel="recovery")
    page = browser.submit(page, code=codes[7])
    assert (at(page), "9 recovery codes left" in page.text) == ("/", True)
    page = browser.submit(browser.open("/otp/app"), action="/otp/app/remove")
    assert at(page) == "/otp/app"
    assert "You have" not in page.text


def test_authenticator_a_password_alone_opens_and_changes_nothing(vault: Example, clock: Clock) -> None:
    """A thief knows the password, and reads the mailbox too."""
    enrolled(vault, clock)
    thief, page = at_the_vault(vault)
    assert at(page) == "/otp/"
    for path in ("/", "/transfer", "/otp/app"):
        assert at(thief.open(path)) == "/otp/"
    for path, body in (
        ("app", {"enrolment": "x", "code": "123456"}),
        ("app/remove", {"name": "phone"}),
        ("recovery", {}),
    ):
        assert thief.client.post(f"/otp/{path}", json=body).status_code == 401
    assert thief.client.post("/otp/send", json={"channel": "email"}).status_code == 400
    with vault.app.app_context():
        assert vault.names.otp.factors(ANN).totp == ("phone",)


def test_authenticator_a_used_or_guessed_or_foreign_code_does_not_pass(vault: Example, clock: Clock) -> None:
    phone, _ = enrolled(vault, clock)
    bobs, _ = enrolled(vault, clock, BOB)
    first, page = at_the_vault(vault)
    first.submit(first.submit(page, action="/otp/send"), code=phone.code())
    thief, page = at_the_vault(vault)
    page = thief.submit(page, action="/otp/send")
    for code in (phone.code(), bobs.code(), phone.wrong(), phone.pair()):
        assert at(thief.submit(page, code=code)) == "/otp/verify"
    assert at(thief.open("/")) == "/otp/"


def test_authenticator_a_dump_of_the_table_and_a_swapped_column_are_worth_nothing(vault: Example, clock: Clock) -> None:
    phone, codes = enrolled(vault, clock)
    enrolled(vault, clock, BOB)
    names = vault.names
    with vault.app.app_context():
        columns = dict(names.db.session.execute(names.select(names.User.email, names.User.otp)).all())
        assert not any(shown in columns[ANN] for shown in (phone.secret, *codes))
        names.db.session.execute(names.update(names.User).where(names.User.email == ANN).values(otp=columns[BOB]))
        names.db.session.commit()
        with pytest.raises(FactorsUnavailable):
            names.otp.factors(ANN)
    _, page = at_the_vault(vault)
    assert page.status_code == 503


@pytest.mark.server
@pytest.mark.parametrize("act", ["remove", "add"])
def test_r25_authenticator_a_browser_is_not_trusted_where_a_transaction_sees_a_snapshot(
    request: pytest.FixtureRequest,
    open_page: Callable[[str], Example],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
) -> None:
    """MariaDB and MySQL do so by default. The apps change while the request that trusts the browser is under way."""
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", request.getfixturevalue("mariadb").uri)
    vault = open_page("authenticator")
    monkeypatch.setattr(vault.names, "time", SimpleNamespace(time=clock))
    names, store = vault.names, vault.app.extensions["otp"].store
    try:
        phone, _ = enrolled(vault, clock)
        browser, page = at_the_vault(vault)
        page = browser.submit(page, action="/otp/send")
        note = store.note

        def meet(*arguments: Any) -> Any:
            monkeypatch.setattr(store, "note", note)
            with names.app.app_context():
                if act == "remove":
                    names.otp.totp.remove(ANN, "phone")
                else:
                    enrolment = names.otp.totp.begin(ANN, "tablet")
                    names.otp.totp.confirm(enrolment.token, Phone(enrolment.uri, clock).code())
            return note(*arguments)

        monkeypatch.setattr(store, "note", meet)
        browser.submit(page, code=phone.code(), trust="yes")
        assert store.note is note
        with names.app.app_context():
            assert names.otp.trusted(ANN) == ()
    finally:
        with names.app.app_context():
            names.db.session.remove()
            names.db.drop_all()
            names.db.engine.dispose()


# second-factor


@pytest.fixture
def office(open_page: Callable[[str], Example]) -> Example:
    office = open_page("second-factor")
    users = office.names.users
    users["bob"] = office.names.User("bob", BOB, users["ann"].password)
    return office


def with_password(example: Example, name: str = "ann") -> tuple[Browser, TestResponse]:
    browser = example.browser()
    return browser, browser.submit(browser.open("/"), name=name, password=PASSWORD)


def test_second_factor_password_first_then_a_code_to_the_own_address(office: Example) -> None:
    browser, page = with_password(office)
    assert at(page) == "/otp/"
    assert "a***@example.com" in page.text
    assert ANN not in page.text
    page = browser.prove(page)
    assert (at(page), "Welcome, ann" in page.text) == ("/", True)
    assert [message.recipient for message in office.outbox] == [ANN]


def test_second_factor_a_browser_gets_the_code_at_once(office: Example) -> None:
    browser = office.browser()
    meant = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    browser.headers = browser.headers | meant
    page = browser.submit(browser.open("/"), name="ann", password=PASSWORD)
    assert (at(page), "a***@example.com" in page.text) == ("/otp/verify", True)
    assert at(browser.submit(page, code=office.code(1))) == "/"


def test_second_factor_a_password_alone_opens_nothing(office: Example) -> None:
    browser, _ = with_password(office)
    assert at(browser.open("/")) == "/otp/"
    assert office.outbox == []


def test_second_factor_without_a_password_nothing_is_sent_and_nothing_shown(office: Example) -> None:
    browser = office.browser()
    for path in ("/", "/otp/", "/otp/verify", "/nowhere"):
        assert at(browser.open(path)) == "/login"
    assert office.app.test_client().post("/otp/send", json={"email": ANN}).status_code == 302
    assert office.outbox == []


def test_second_factor_an_unknown_name_is_refused_like_a_wrong_password(office: Example) -> None:
    answers = []
    for name, password in (("ann", "wrong"), ("nobody", "wrong"), ("", "nobody's password")):
        browser = office.browser()
        answers.append(browser.submit(browser.open("/login"), name=name, password=password))
    blotted = [re.sub(r'value="[\w.-]+"', "", answer.text) for answer in answers]
    assert blotted[0] == blotted[1] == blotted[2]
    assert {answer.status_code for answer in answers} == {401}


def test_second_factor_the_client_cannot_name_another_address(office: Example) -> None:
    browser, _ = with_password(office)
    for name in ("identifier", "email"):
        assert browser.client.post("/otp/send", json={name: EVE}).status_code == 400
    assert office.outbox == []
    assert browser.client.post("/otp/send", json={}).status_code == 200
    assert office.outbox[0].recipient == ANN


def test_second_factor_the_proof_of_another_user_does_not_pass(office: Example) -> None:
    bob, page = with_password(office, "bob")
    bob.submit(page, action="/otp/send")
    proof = bob.client.post("/otp/verify", json={"code": office.code(1)}).json["proof"]
    assert at(bob.open("/")) == "/"
    thief, _ = with_password(office)
    refused = thief.client.get("/", headers={"Authorization": f"Bearer {proof}"})
    assert refused.status_code == 401


def test_second_factor_changing_the_user_asks_again(office: Example) -> None:
    browser, page = with_password(office, "bob")
    assert at(browser.prove(page)) == "/"
    page = browser.submit(browser.open("/login"), name="ann", password=PASSWORD)
    assert at(page) == "/otp/"


def test_second_factor_a_code_does_not_do_for_another_users_session(office: Example) -> None:
    bob, page = with_password(office, "bob")
    bob.submit(page, action="/otp/send")
    thief, _ = with_password(office)
    with bob.client.session_transaction() as session:
        challenge = session["_otp"]["challenge"]["login"]
    answer = thief.client.post("/otp/verify", json={"code": office.code(1), "challenge": challenge})
    assert answer.status_code == 400
    assert at(thief.open("/")) == "/otp/"


def test_second_factor_logging_out_ends_it_for_every_copy_of_the_cookie(office: Example) -> None:
    browser, page = with_password(office)
    page = browser.prove(page)
    copied = browser.session()
    assert at(office.browser().with_session(copied).open("/")) == "/"
    assert at(browser.submit(page, action="/logout")) == "/login"
    assert at(browser.open("/")) == "/login"
    assert at(office.browser().with_session(copied).open("/")) == "/otp/"


def test_second_factor_a_form_of_another_site_logs_nobody_out(office: Example) -> None:
    browser, page = with_password(office)
    browser.prove(page)
    assert browser.client.post("/logout").status_code == 400
    assert at(browser.open("/")) == "/"


# passwordless


@pytest.fixture
def club(open_page: Callable[[str], Example]) -> Example:
    return open_page("passwordless")


def sign_in(browser: Browser, path: str = "/account", identifier: str = ANN) -> TestResponse:
    return browser.prove(browser.open(path), identifier=identifier)


def test_passwordless_a_code_signs_in_and_leads_back(club: Example) -> None:
    browser = club.browser()
    page = sign_in(browser)
    assert (at(page), f"Welcome, {ANN}" in page.text) == ("/account", True)


def test_passwordless_the_first_code_of_an_invited_person_makes_the_account(club: Example, clock: Clock) -> None:
    assert BOB not in club.names.users
    browser = club.browser()
    browser.submit(browser.open("/account"), identifier=BOB)
    club.wait(1)
    assert BOB not in club.names.users
    clock.advance(31)
    assert at(sign_in(club.browser(), identifier="Bob@Example.com")) == "/account"
    assert club.names.users[BOB].id == BOB


def test_passwordless_a_stranger_gets_the_same_answers_and_no_message(club: Example) -> None:
    amy = "amy@example.com"  # her masked address is ann's
    seen = []
    for who in (amy, ANN):
        api, browser = club.api(), club.browser()
        answer = api.post("/otp/send", json={"email": who}, environ_base={"REMOTE_ADDR": "192.0.2.1"})
        form = browser.submit(browser.open("/account"), identifier=who)
        wrong = browser.submit(form, code="wrong")
        # The page shows what was typed, as it was typed.
        seen.append([like(answer), *((*like(page)[:2], like(page)[2].replace(who, "who")) for page in (form, wrong))])
    assert seen[0] == seen[1]
    club.wait(2)
    assert {message.recipient for message in club.outbox} == {ANN}


def test_passwordless_a_copy_of_the_cookie_dies_with_the_log_out(club: Example) -> None:
    browser = club.browser()
    page = sign_in(browser)
    copied = browser.session()
    assert at(club.browser().with_session(copied).open("/account")) == "/account"
    browser.submit(page, action="/logout")
    assert at(browser.open("/account")) == "/otp/"
    assert at(club.browser().with_session(copied).open("/account")) == "/otp/"


def test_passwordless_log_out_everywhere_reaches_every_device_and_process(
    club: Example, open_page: Callable[[str], Example], clock: Clock
) -> None:
    phone, laptop, other = club.browser(), club.browser(), open_page("passwordless")
    page = sign_in(phone)
    clock.advance(31)
    sign_in(laptop)
    elsewhere = other.browser().with_session(laptop.session())
    assert at(elsewhere.open("/account")) == "/account"
    phone.submit(page, action="/logout-everywhere")
    assert [at(browser.open("/account")) for browser in (phone, laptop, elsewhere)] == ["/otp/"] * 3


def test_passwordless_a_forged_user_in_the_session_needs_a_proof_of_that_user(club: Example) -> None:
    browser = club.browser()
    sign_in(browser, identifier=BOB)
    with browser.client.session_transaction() as session:
        session["_user_id"] = ANN
    assert at(browser.open("/account")) == "/otp/"


# json-api


@pytest.fixture
def bank(open_page: Callable[[str], Example]) -> Example:
    return open_page("json-api")


def both(got: dict[str, Any]) -> dict[str, str]:
    return {"X-Access-Token": got["access_token"], "Authorization": f"Bearer {got['proof']}"}


def test_json_api_a_code_is_exchanged_for_a_jwt(bank: Example) -> None:
    got = bank.prove(email=ANN)
    assert bank.api().get("/balance", headers={"X-Access-Token": got["access_token"]}).json == {"balance": 100}
    assert bank.api().post("/payout", headers=both(got)).json == {"balance": 0}
    assert bank.names.users["2"].balance == 100


def test_json_api_neither_token_is_taken_for_the_other(bank: Example) -> None:
    got, api = bank.prove(email=ANN), bank.api()
    jwt, proof = got["access_token"], got["proof"]
    assert api.get("/balance", headers={"X-Access-Token": proof}).status_code == 422
    assert api.get("/balance", headers={"Authorization": f"Bearer {jwt}"}).status_code == 401
    assert api.get("/balance", headers={"Authorization": f"Bearer {proof}"}).status_code == 401
    swapped = {"X-Access-Token": proof, "Authorization": f"Bearer {jwt}"}
    assert api.post("/payout", headers=swapped).status_code == 422
    twice = {"X-Access-Token": jwt, "Authorization": f"Bearer {jwt}"}
    refused = api.post("/payout", headers=twice)
    assert (refused.status_code, refused.get_json(force=True)["reason"]) == (401, "verification_required")
    assert bank.names.users["1"].balance == 100


def test_json_api_a_stale_proof_is_asked_for_as_rfc_9470_says_and_the_request_repeated(
    bank: Example, clock: Clock
) -> None:
    got, api = bank.prove(email=ANN), bank.api()
    clock.advance("5m")
    clock.advance(1)
    refused = api.post("/payout", headers=both(got))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="insufficient_user_authentication", max_age=300'
    told = refused.get_json(force=True)
    assert told["max_age"] == 300
    assert api.post("/otp/send", json={"requirement": told["requirement"], "email": EVE}).status_code == 400
    fresh = bank.prove(requirement=told["requirement"])
    assert bank.outbox[-1].recipient == ANN
    headers = {"X-Access-Token": got["access_token"], "Authorization": f"Bearer {fresh['proof']}"}
    assert api.post("/payout", headers=headers).json == {"balance": 0}


def test_json_api_the_proof_must_be_of_the_owner_of_the_jwt(bank: Example) -> None:
    ann, bob = bank.prove(email=ANN), bank.prove(email=BOB)
    crossed = {"X-Access-Token": ann["access_token"], "Authorization": f"Bearer {bob['proof']}"}
    refused = bank.api().post("/payout", headers=crossed)
    assert (refused.status_code, refused.get_json(force=True)["reason"]) == (401, "verification_required")
    assert [user.balance for user in bank.names.users.values()] == [100, 100]


def test_json_api_a_logged_out_proof_pays_nothing_out(bank: Example) -> None:
    got, api = bank.prove(email=ANN), bank.api()
    assert api.post("/otp/logout", headers={"Authorization": f"Bearer {got['proof']}"}).status_code == 204
    assert api.post("/payout", headers=both(got)).status_code == 401


def test_json_api_a_stranger_gets_the_same_answers_and_no_message(bank: Example) -> None:
    api = bank.api()
    unknown, known = (api.post("/otp/send", json={"email": who}) for who in ("amy@example.com", ANN))
    assert like(unknown) == like(known)
    bank.wait(1)
    assert [message.recipient for message in bank.outbox] == [ANN]


def test_json_api_with_the_jwt_in_authorization_the_session_carries_the_proof(bank: Example) -> None:
    """What the page says of gateways: without the two lines, and with cookies."""
    bank.app.config.update(JWT_HEADER_NAME="Authorization", JWT_HEADER_TYPE="Bearer")
    client = bank.app.test_client()
    client.post("/otp/send", json={"email": ANN})
    got = client.post("/otp/verify", json={"code": bank.code(1)}).json
    headers = {"Authorization": f"Bearer {got['access_token']}"}
    assert bank.api().post("/payout", headers=headers).status_code == 401
    assert client.post("/payout", headers=headers).json == {"balance": 0}


# change-email


@pytest.fixture
def moving(open_page: Callable[[str], Example]) -> Example:
    return open_page("change-email")


NEW = "ann@new.example"


def ask_to_move(browser: Browser, new: str = NEW) -> TestResponse:
    """As far as the form that wants the code of the new address."""
    page = browser.submit(sign_in(browser, "/email"), email=new)
    assert at(page) == "/email/confirm"
    return page


def test_change_email_takes_a_code_of_the_new_address_and_tells_the_old_one(moving: Example) -> None:
    browser = moving.browser()
    page = ask_to_move(browser, "Ann@NEW.example")
    message = moving.outbox[-1]
    assert message.recipient == NEW
    assert "Account: ann" in message.text
    with moving.names.mail.record_messages() as notices:
        page = browser.submit(page, code=message.code)
    assert moving.names.users[0].email == NEW
    assert [(notice.recipients, NEW in (notice.body or "")) for notice in notices] == [([ANN], True)]
    assert at(page) == "/otp/"
    page = browser.prove(page, identifier=NEW)
    assert (at(page), NEW in page.text) == ("/", True)


def test_change_email_needs_a_fresh_proof_of_the_old_address(moving: Example, clock: Clock) -> None:
    browser = moving.browser()
    form = sign_in(browser, "/email")
    clock.advance(601)
    assert at(browser.open("/")) == "/"
    assert at(browser.submit(form, email=NEW)) == "/otp/"
    assert len(moving.outbox) == 1
    again = sign_in(browser, "/email")
    confirm = browser.submit(again, email=NEW)
    code = moving.outbox.code
    clock.advance(601)
    assert at(browser.submit(confirm, code=code)) == "/otp/"
    assert moving.names.users[0].email == ANN


def test_change_email_ends_all_that_the_old_address_opened(moving: Example, clock: Clock) -> None:
    """The other browser may be a thief's, who reads the old mailbox."""
    thief = moving.browser()
    assert at(sign_in(thief, "/")) == "/"
    clock.advance(31)
    browser = moving.browser()
    page = ask_to_move(browser)
    code = moving.outbox.code
    clock.advance(31)
    late = moving.api().post("/otp/send", json={"email": ANN}).json["challenge"]
    late_code = moving.outbox.code
    browser.submit(page, code=code)
    assert at(thief.open("/")) == "/otp/"
    assert moving.api().post("/otp/verify", json={"code": late_code, "challenge": late}).status_code == 400
    clock.advance(31)
    assert sign_in(thief, "/").status_code == 403


@pytest.mark.parametrize("purpose", ["login", "change_email"])
def test_change_email_takes_no_code_that_was_asked_for_elsewhere(moving: Example, purpose: str, clock: Clock) -> None:
    """A code to a mailbox of the thief's own, asked for at the public route, and typed into Ann's open session."""
    browser = moving.browser()
    page = ask_to_move(browser)
    clock.advance(31)
    assert browser.client.post("/otp/send", json={"email": EVE, "purpose": purpose}).status_code == 200
    page = browser.submit(page, code=moving.outbox.code_for(EVE))
    assert (page.status_code, "not right" in page.text) == (400, True)
    assert moving.names.users[0].email == ANN


def test_change_email_takes_no_code_that_was_sent_for_another_account(moving: Example, clock: Clock) -> None:
    eve = moving.browser()
    page = eve.submit(sign_in(eve, "/email", BOB), email=EVE)
    code = moving.outbox.code
    with eve.client.session_transaction() as session:
        challenge = session["_otp"]["challenge"]["change_email"]
    ann = moving.browser()
    page = ask_to_move(ann)
    with ann.client.session_transaction() as session:
        kept = session["_otp"]
        session["_otp"] = kept | {"challenge": {"change_email": challenge}}
    assert ann.submit(page, code=code).status_code == 400
    assert moving.names.users[0].email == ANN


def test_change_email_to_an_address_that_is_taken_is_refused_after_the_code_only(moving: Example) -> None:
    browser = moving.browser()
    page = ask_to_move(browser, BOB)
    assert BOB not in page.text
    assert browser.submit(page, code=moving.outbox.code).status_code == 409
    assert [user.email for user in moving.names.users] == [ANN, BOB]


def test_change_email_that_cannot_be_told_to_the_owner_does_not_happen(
    moving: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = moving.browser()
    page = ask_to_move(browser)

    def refuse(message: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(moving.names.mail, "send", refuse)
    with pytest.raises(ConnectionRefusedError):
        browser.submit(page, code=moving.outbox.code)
    assert moving.names.users[0].email == ANN
    assert at(browser.open("/")) == "/"


# password-reset


@pytest.fixture
def forgetful(open_page: Callable[[str], Example]) -> Example:
    example = open_page("password-reset")
    users = example.names.users
    users[BOB] = example.names.User(BOB, users[ANN].password)
    return example


CHANGED = "a staple was the horse"


def log_in(example: Example, email: str = ANN, password: str = PASSWORD) -> tuple[Browser, TestResponse]:
    browser = example.browser()
    return browser, browser.submit(browser.open("/login"), email=email, password=password)


def test_password_reset_by_a_code_to_the_mailbox(forgetful: Example) -> None:
    browser = forgetful.browser()
    page = sign_in(browser, "/reset")
    assert at(page) == "/reset"
    assert at(browser.submit(page, password=CHANGED)) == "/login"
    assert at(log_in(forgetful, password=CHANGED)[1]) == "/"
    assert log_in(forgetful)[1].status_code == 401


def test_password_reset_is_good_for_one_change(forgetful: Example) -> None:
    browser = forgetful.browser()
    page = sign_in(browser, "/reset")
    copied = forgetful.browser().with_session(browser.session())
    browser.submit(page, password=CHANGED)
    assert at(copied.open("/reset")) == "/otp/"
    page = browser.submit(page, password="the thief's own words")
    assert at(page) == "/otp/"
    assert log_in(forgetful, password="the thief's own words")[1].status_code == 401


def test_password_reset_of_two_requests_at_once_one_passes(forgetful: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes while the first is at work, before it has revoked anything."""
    browser = forgetful.browser()
    page = sign_in(browser, "/reset")
    copied, seen = forgetful.browser().with_session(browser.session()), []
    revoke = forgetful.names.otp.revoke

    def second(identifier: str) -> None:
        monkeypatch.setattr(forgetful.names.otp, "revoke", revoke)
        seen.append(at(copied.submit(page, password="the thief's own words")))
        revoke(identifier)

    monkeypatch.setattr(forgetful.names.otp, "revoke", second)
    assert at(browser.submit(page, password=CHANGED)) == "/login"
    assert seen == ["/otp/"]
    assert at(log_in(forgetful, password=CHANGED)[1]) == "/"


def test_password_reset_a_slip_of_the_hand_does_not_cost_the_code(forgetful: Example) -> None:
    browser = forgetful.browser()
    page = browser.submit(sign_in(browser, "/reset"), password="short")
    assert (page.status_code, "twelve" in page.text) == (400, True)
    assert at(browser.submit(page, password=CHANGED)) == "/login"


def test_password_reset_ends_the_sessions_and_codes_of_everybody_else(forgetful: Example, clock: Clock) -> None:
    thief, page = log_in(forgetful)
    assert at(page) == "/"
    asked = forgetful.api().post("/otp/send", json={"email": ANN, "purpose": "reset"}).json["challenge"]
    code = forgetful.code(1)
    clock.advance(31)
    browser = forgetful.browser()
    browser.submit(sign_in(browser, "/reset"), password=CHANGED)
    assert at(thief.open("/")) == "/login"
    assert forgetful.api().post("/otp/verify", json={"code": code, "challenge": asked}).status_code == 400


def test_password_reset_changes_only_the_password_of_the_proved_account(forgetful: Example) -> None:
    browser = forgetful.browser()
    page = sign_in(browser, "/reset", BOB)
    values = Forms(page.text).found[0][1] | {"password": CHANGED, "email": ANN, "identifier": ANN}
    browser.client.post("/reset?email=ann@example.com", data=values)
    assert at(log_in(forgetful, BOB, CHANGED)[1]) == "/"
    assert at(log_in(forgetful)[1]) == "/"


def test_password_reset_a_proof_ends_after_ten_minutes(forgetful: Example, clock: Clock) -> None:
    browser = forgetful.browser()
    page = sign_in(browser, "/reset")
    clock.advance(600)
    assert at(browser.submit(page, password=CHANGED)) == "/otp/"
    assert at(log_in(forgetful)[1]) == "/"


def test_password_reset_a_stranger_gets_the_same_answers_and_no_message(forgetful: Example) -> None:
    seen = []
    for who in ("amy@example.com", ANN):
        browser = forgetful.browser()
        form = browser.submit(browser.open("/reset"), identifier=who)
        refused = log_in(forgetful, who, "wrong password")[1]
        blotted = re.sub(r'value="[\w.-]+"', "", refused.text)
        pages = [like(page) for page in (form, browser.submit(form, code="000000"))]
        # The page shows what was typed, as it was typed.
        seen.append([(*page[:2], page[2].replace(who, "who")) for page in pages] + [refused.status_code, blotted])
    assert seen[0] == seen[1]
    forgetful.wait(1)
    assert [message.recipient for message in forgetful.outbox] == [ANN]


def test_password_reset_is_the_only_purpose_that_can_be_asked_for(forgetful: Example) -> None:
    assert forgetful.api().post("/otp/send", json={"email": ANN}).status_code == 400
    assert forgetful.outbox == []


# server-side-sessions


@pytest.fixture
def shop(open_page: Callable[[str], Example]) -> Example:
    return open_page("server-side-sessions")


def kept_sessions(shop: Example) -> int:
    return len(list(shop.app.config["SESSION_REDIS"].scan_iter("shop_session:*")))


def test_server_side_sessions_the_basket_stays_and_the_cookie_is_an_id(shop: Example) -> None:
    browser = shop.browser()
    for article in ("tea " * 2000, "cup"):
        browser.submit(browser.open("/"), article=article)
    page = sign_in(browser, "/checkout")
    assert (at(page), f"2 articles for {ANN}" in page.text) == ("/checkout", True)
    assert len(browser.session()) < 100


def test_server_side_sessions_an_id_that_was_planted_is_nobodys_after_the_verification(shop: Example) -> None:
    thief = shop.browser()
    thief.open("/")
    victim = shop.browser().with_session(thief.session())
    victim.submit(victim.open("/"), article="tea")
    assert victim.session() == thief.session()
    assert at(sign_in(victim, "/checkout")) == "/checkout"
    assert victim.session() != thief.session()
    assert at(thief.open("/checkout")) == "/otp/"
    assert "tea" not in thief.open("/").text


def test_server_side_sessions_logging_out_leaves_nothing_for_a_copy_of_the_cookie(shop: Example) -> None:
    browser = shop.browser()
    page = sign_in(browser, "/checkout")
    copied = browser.session()
    assert kept_sessions(shop) == 1
    browser.submit(page, action="/logout")
    assert browser.client.get_cookie("session") is None or browser.session() != copied
    assert at(shop.browser().with_session(copied).open("/checkout")) == "/otp/"


def test_server_side_sessions_the_old_record_is_gone(shop: Example) -> None:
    browser = shop.browser()
    browser.open("/")
    before = browser.session()
    sign_in(browser, "/checkout")
    assert shop.app.config["SESSION_REDIS"].exists(f"shop_session:{before}") == 0


# transfer


@pytest.fixture
def ledger(open_page: Callable[[str], Example]) -> Example:
    return open_page("transfer")


def order_transfer(browser: Browser, identifier: str = ANN, **fields: str) -> tuple[TestResponse, TestResponse]:
    """The form, and the page that offers the code after it was sent."""
    form = sign_in(browser, "/transfer", identifier)
    return form, browser.submit(form, **TRANSFER | fields)


def balances(ledger: Example) -> list[int]:
    return [int(balance) for balance in ledger.names.balances.values()]


def test_transfer_page_and_message_say_what_is_confirmed(ledger: Example) -> None:
    browser = ledger.browser()
    _, page = order_transfer(browser, amount=" 250.0", payee="Bob@example.com ")
    assert at(page) == "/otp/"
    page = browser.submit(page, action="/otp/send")
    code = ledger.code(2)
    assert len(code) == 8
    confirm = browser.submit(page, code=code)
    assert at(confirm) == "/otp/repeat"
    for shown in (page.text, confirm.text, ledger.outbox[1].html, ledger.outbox[1].text):
        assert "250.00 EUR" in shown
        assert "bob[@]example[.]com" in shown
    assert balances(ledger) == [1000, 50]
    assert "250.00 EUR went to" in browser.submit(confirm).text
    assert balances(ledger) == [750, 300]


def test_transfer_passes_once(ledger: Example) -> None:
    browser = ledger.browser()
    _, page = order_transfer(browser)
    browser.prove(page)
    form = browser.open("/transfer")  # Flask-WTF's token is a new one since the verification
    copied = ledger.browser().with_session(browser.session())
    browser.submit(form, **TRANSFER)
    assert at(browser.submit(form, **TRANSFER)) == "/otp/"
    assert at(copied.submit(copied.open("/transfer"), **TRANSFER)) == "/otp/"
    assert balances(ledger) == [750, 300]


@pytest.mark.parametrize("changed", [{"amount": "250.01"}, {"amount": "2500"}, {"payee": ANN}])
def test_transfer_of_something_else_is_not_what_was_confirmed(ledger: Example, changed: dict[str, str]) -> None:
    browser = ledger.browser()
    _, page = order_transfer(browser)
    browser.prove(page)
    assert at(browser.submit(browser.open("/transfer"), **TRANSFER | changed)) == "/otp/"
    assert balances(ledger) == [1000, 50]


def test_transfer_must_be_confirmed_by_the_signed_in_user(ledger: Example) -> None:
    """Bob confirms the same order with his own mailbox, and shows the proof in Ann's session."""
    ann, bob = ledger.browser(), ledger.browser()
    form, page = order_transfer(ann)
    refused = ann.client.post(
        "/transfer", data=Forms(form.text).found[0][1] | TRANSFER, headers={"Accept": "application/json"}
    )
    asked = refused.get_json(force=True)["requirement"]
    assert bob.client.post("/otp/send", json={"requirement": asked, "email": BOB}).status_code == 400
    _, page = order_transfer(bob, BOB)
    bob.submit(page, action="/otp/send")
    proof = bob.client.post("/otp/verify", json={"code": ledger.code(3), "purpose": "transfer"}).json["proof"]
    data = Forms(form.text).found[0][1] | TRANSFER
    answer = ann.client.post("/transfer", data=data, headers={"Authorization": f"Bearer {proof}"})
    assert answer.status_code == 401
    assert balances(ledger) == [1000, 50]


def test_transfer_needs_more_than_being_signed_in(ledger: Example) -> None:
    browser = ledger.browser()
    form = sign_in(browser, "/transfer")
    data = Forms(form.text).found[0][1] | TRANSFER
    assert browser.client.post("/transfer", data=data).status_code == 401
    assert ledger.app.test_client().get("/transfer").status_code == 401
    assert balances(ledger) == [1000, 50]


@pytest.mark.parametrize(
    "field",
    [{"amount": "-5"}, {"amount": "NaN"}, {"amount": "0.001"}, {"payee": EVE}, {"amount": "x"}, {"amount": "0.00"}],
)
def test_transfer_of_nonsense_is_400_and_asks_for_no_code(ledger: Example, field: dict[str, str]) -> None:
    browser = ledger.browser()
    _, page = order_transfer(browser, **field)
    assert page.status_code == 400
    assert len(ledger.outbox) == 1


def test_transfer_of_more_than_there_is_is_refused_after_all(ledger: Example) -> None:
    browser = ledger.browser()
    _, page = order_transfer(browser, amount="5000")
    browser.prove(page)
    assert browser.submit(browser.open("/transfer"), amount="5000", payee=BOB).status_code == 409
    assert balances(ledger) == [1000, 50]


# own-look


def test_r36_the_layout_of_the_page_holds_the_form(open_page: Callable[[str], Example], tmp_path: Path) -> None:
    text = (DOCS / "guides" / "own-look.md").read_text("utf-8")
    for name, source in re.findall(r"```html\+jinja\n\{# (\S+) #\}\n(.*?)```", text, re.DOTALL):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    example = open_page("own-look")
    example.app.jinja_loader = FileSystemLoader(tmp_path / "templates")
    browser = example.browser()
    page = browser.open("/account")
    assert "navbar" in page.text
    assert "Send me a code" in page.text
    assert '<a href="https://example.com/help">Help</a>' in page.text
    assert "brand.css?v=" in page.text
    browser.submit(page, identifier=ANN)
    assert "#8a2b6d" in example.outbox[0].html
