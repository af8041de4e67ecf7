"""A link beside the code: the same challenge, by one click where it began, harmless elsewhere (R32, R33)."""

from __future__ import annotations

import logging
import quopri
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_otp import OTP, ConfigError, Message, current_verification, otp_required
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory
from tests.support.visits import ask

ANN = "ann@example.com"
BOB = "bob@example.com"
PHONE = "+4915112345678"
BASE = "https://shop.example"
HTML = {"Accept": "text/html"}
FRIENDLY = "This link works only in the browser that asked for it"
CONFIG: dict[str, Any] = {
    "OTP_LINKS": True,
    "OTP_BASE_URL": BASE,
    "OTP_COOLDOWN": 0,
    "OTP_IP_VERIFY_LIMIT": None,
    "OTP_SEND_LIMIT": "100/hour",
    "OTP_PURPOSES": {"login": {}, "money_transfer": {}},
    "OTP_DEFAULT_NEXT": "/home",
}


@pytest.fixture
def otp(clock: Clock) -> OTP:
    return OTP(clock=clock)


def with_account(app: Flask) -> Flask:
    app.add_url_rule("/account", "account", otp_required(lambda: current_verification.identifier))
    return app


@pytest.fixture
def site(make_app: AppFactory, otp: OTP) -> Flask:
    return with_account(make_app(otp, **CONFIG))


@pytest.fixture
def sent(site: Flask) -> Iterator[Outbox]:
    with capture_codes(site) as codes:
        yield codes


def path_of(link: str) -> str:
    assert link.startswith(BASE + "/")
    return link[len(BASE) :]


def secret_of(link: str) -> str:
    return urlsplit(link).path.rpartition("/")[2]


def fields_of(page: TestResponse) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))


def click(client: FlaskClient, page: TestResponse) -> TestResponse:
    """Press the page's one button."""
    actions = re.findall(r'<form method="(\w+)" action="([^"]+)"', page.text)
    assert actions == [("post", "/otp/verify")]
    assert page.text.count("<button") == 1
    return client.post("/otp/verify", data=fields_of(page), headers=HTML)


def wrong(secret: str) -> str:
    return ("A" if secret[0] != "A" else "B") + secret[1:]


# What is sent


def test_an_email_carries_code_and_link(site: Flask, sent: Outbox) -> None:
    ask(site.test_client())
    message = sent[-1]
    assert re.fullmatch(rf"{BASE}/otp/link/[0-9A-Za-z_-]{{24}}", sent.link)
    assert re.search(rf"^    {re.escape(sent.link)}$", message.text, re.MULTILINE)
    assert f'href="{sent.link}"' in message.html
    assert sent.code in message.text
    assert secret_of(sent.link) not in repr(message)


def test_the_link_names_the_purpose_and_nobody(site: Flask, sent: Outbox) -> None:
    ask(site.test_client(), purpose="money_transfer")
    assert re.fullmatch(rf"{BASE}/otp/link/[0-9A-Za-z_-]{{24}}\?purpose=money_transfer", sent.link)


def test_r32_the_host_of_the_request_is_never_in_it(site: Flask, sent: Outbox) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"}
    site.test_client().post("/otp/send", json={"email": ANN}, headers=headers)
    assert sent.link.startswith(f"{BASE}/otp/link/")
    assert "evil" not in sent[-1].text + sent[-1].html


def test_a_text_message_carries_none(make_app: AppFactory) -> None:
    app = make_app(**CONFIG, OTP_CHANNELS={"sms": print}, OTP_SMS_COUNTRIES=["DE"])
    with capture_codes(app) as sent:
        ask(app.test_client(), PHONE)
    assert sent[-1].link is None
    assert "/link/" not in sent[-1].text
    with pytest.raises(AssertionError, match="no link"):
        _ = sent.link


def test_without_the_setting_there_is_no_link_and_no_page(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp, OTP_BASE_URL=BASE)
    with capture_codes(app) as sent:
        client = app.test_client()
        handle = ask(client)
        assert sent[-1].link is None
        assert "/link/" not in sent[-1].text + sent[-1].html
        secret = app.extensions["otp"].tokens.load_handle(handle).link
        assert client.get(f"/otp/link/{secret}").status_code == 404
        assert client.post("/otp/verify", json={"link": secret}).status_code == 400
        assert client.post("/otp/verify", json={"code": secret}).status_code == 400
        assert client.post("/otp/verify", json={"code": sent.code}).status_code == 200


def test_it_needs_a_base_url_and_a_page_to_lead_to(make_app: AppFactory) -> None:
    with pytest.raises(ConfigError, match="OTP_LINKS needs OTP_BASE_URL"):
        make_app(OTP_LINKS=True)
    with pytest.raises(ConfigError, match="OTP_LINKS must be True or False"):
        make_app(OTP_LINKS="yes", OTP_BASE_URL=BASE)
    app = make_app(OTP(register_blueprint=False), **CONFIG)
    app.add_url_rule("/", "home", lambda: "home")
    with pytest.raises(ConfigError, match=r"OTP_LINKS needs otp\.blueprint"):
        app.test_client().get("/")


def test_the_link_leads_to_where_the_pages_are(make_app: AppFactory, clock: Clock) -> None:
    otp = OTP(register_blueprint=False, clock=clock)
    app = make_app(otp, **CONFIG, APPLICATION_ROOT="/shop")
    app.register_blueprint(otp.blueprint, url_prefix="/by/hand")
    with app.app_context(), capture_codes(app) as sent:
        otp.send(ANN)  # outside of a request, as in a worker
    assert sent.link.startswith(f"{BASE}/shop/by/hand/link/")


def test_the_origin_is_the_settings_even_where_the_pages_have_a_host_of_their_own(make_app: AppFactory) -> None:
    otp = OTP(register_blueprint=False)
    app = make_app(otp, **CONFIG, SERVER_NAME="shop.example")
    app.subdomain_matching = True
    app.register_blueprint(otp.blueprint, url_prefix="/otp", subdomain="auth")
    with app.app_context(), capture_codes(app) as sent:
        otp.send(ANN)
    assert sent.link.startswith(f"{BASE}/otp/link/")


def test_a_worker_derives_the_link_as_it_does_the_code(make_app: AppFactory, otp: OTP) -> None:
    app, queue = make_app(otp, **CONFIG), []
    otp.dispatcher(queue.append)
    client = app.test_client()
    with capture_codes(app) as sent:
        handle = ask(client)
        with app.app_context():
            otp.deliver(queue[0])
    secret = app.extensions["otp"].tokens.load_handle(handle).link
    assert secret_of(sent.link) == secret
    assert secret not in repr(queue)


def test_the_apps_own_templates_go_on_without_it(make_app: AppFactory, otp: OTP, tmp_path: Any) -> None:
    (tmp_path / "flask_otp").mkdir()
    (tmp_path / "flask_otp" / "email.txt").write_text("Just {{ code }}")
    (tmp_path / "flask_otp" / "email.html").write_text("<b>{{ code }}</b> {{ link }}")
    app = make_app(otp, **CONFIG)
    app.jinja_loader.searchpath.insert(0, str(tmp_path))  # type: ignore[union-attr]
    with capture_codes(app) as sent:
        ask(app.test_client())
    assert sent[-1].text == f"Just {sent.code}"
    assert sent[-1].html == f"<b>{sent.code}</b> {sent.link}"


def test_each_challenge_has_its_own_and_a_resend_has_the_same(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    ask(client)
    client.post("/otp/resend", json={})
    ask(site.test_client())
    ask(client, purpose="money_transfer")
    links = [secret_of(str(message.link)) for message in sent]
    assert len(sent) == 4
    assert links[0] == links[1]
    assert len(set(links)) == 3


# The way of a link


def test_the_link_does_what_the_code_does(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    client.get(client.get("/account", headers=HTML).location)
    ask(client)
    page = client.get(path_of(sent.link), headers=HTML)
    assert page.status_code == 200
    assert "a***@example.com" in page.text
    answer = click(client, page)
    assert (answer.status_code, answer.location) == (303, "/account")
    assert client.get("/account").text == ANN


@pytest.mark.parametrize("first", ["code", "link"])
def test_using_one_ends_both(site: Flask, sent: Outbox, first: str) -> None:
    client = site.test_client()
    handle = ask(client)
    given = {"code": sent.code, "link": secret_of(sent.link)}
    other = "link" if first == "code" else "code"
    api = site.test_client(use_cookies=False)
    answer = api.post("/otp/verify", json={first: given[first], "challenge": handle})
    assert answer.status_code == 200
    for name in (other, first):
        again = api.post("/otp/verify", json={name: given[name], "challenge": handle})
        assert (again.status_code, again.get_json()["reason"]) == (400, "invalid_code")
    # In the browser too, whose session still holds the challenge.
    refused = click(client, client.get(path_of(sent.link)))
    assert refused.status_code == 400
    assert "was used, or tried too often." in refused.text
    assert client.get("/account").status_code == 401


def test_r06_of_100_codes_and_links_at_once_exactly_one_passes(site: Flask, sent: Outbox) -> None:
    handle, barrier = ask(site.test_client()), Barrier(100)
    given = [{"code": sent.code}, {"link": secret_of(sent.link)}]

    def one(index: int) -> int:
        client = site.test_client(use_cookies=False)
        barrier.wait()
        return client.post("/otp/verify", json={**given[index % 2], "challenge": handle}).status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(one, range(100)))
    assert sorted(statuses) == [200] + [400] * 99


def test_r07_links_and_codes_share_the_attempts(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    ask(client)
    link = secret_of(sent.link)
    for attempt in range(5):
        body = {"link": wrong(link)} if attempt % 2 else {"code": f"{(int(sent.code) + 1) % 10**6:06d}"}
        assert client.post("/otp/verify", json=body).status_code == 400
    for right in ({"link": link}, {"code": sent.code}):
        assert client.post("/otp/verify", json=right).status_code == 400


def test_what_cannot_be_a_link_costs_no_attempt(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    ask(client)
    link = secret_of(sent.link)
    for bad in ("", link[:-1], f"{link}A", f" {link}", f"{link}\n", sent.link, sent.code, "ü" * 24, "x" * 3000):
        assert client.post("/otp/verify", json={"link": bad}).status_code == 400
    assert client.post("/otp/verify", json={"code": link}).status_code == 400
    assert client.post("/otp/verify", json={"link": link}).status_code == 200


@pytest.mark.parametrize("bad", [1, None, True, ["x"], {"a": "b"}])
def test_r19_a_link_of_a_wrong_type_is_400(site: Flask, sent: Outbox, bad: Any) -> None:
    client = site.test_client()
    ask(client)
    assert client.post("/otp/verify", json={"link": bad}).get_json()["reason"] == "invalid_request"
    both = client.post("/otp/verify", json={"link": secret_of(sent.link), "code": sent.code})
    assert both.get_json()["reason"] == "invalid_request"
    assert client.post(f"/otp/verify?link={secret_of(sent.link)}", json={}).status_code == 400
    assert client.post("/otp/verify", json={"link": secret_of(sent.link)}).status_code == 200


def test_r05_a_link_lives_as_long_as_its_code(site: Flask, sent: Outbox, clock: Clock) -> None:
    client = site.test_client()
    ask(client)
    page = client.get(path_of(sent.link))
    clock.advance(299)
    assert client.get(path_of(sent.link)).text.count("<form") == 1
    clock.advance(1)
    over = client.get(path_of(sent.link), headers=HTML)
    assert over.status_code == 303
    page_of_code = client.get(over.location, headers=HTML).text
    assert "That code no longer works" in page_of_code
    assert "Send a new code" in page_of_code
    assert click(client, page).status_code == 400
    assert client.get("/account").status_code == 401


def test_a_link_that_is_opened_again_after_its_use_leads_on(site: Flask, sent: Outbox, clock: Clock) -> None:
    """By a second click, or by the back button. Only to this browser, and only for a minute."""
    client, other = site.test_client(), site.test_client()
    ask(client)
    link = path_of(sent.link)
    assert click(client, client.get(link)).status_code == 303
    for site_of_click in ("none", "cross-site"):
        again = client.get(link, headers=HTML | {"Sec-Fetch-Site": site_of_click})
        assert (again.status_code, again.location) == (303, "/home")
    assert FRIENDLY in client.get(f"{link}?purpose=money_transfer").text
    assert FRIENDLY in other.get(link).text
    clock.advance(61)
    assert FRIENDLY in client.get(link).text


def test_a_link_of_an_earlier_challenge_leads_to_its_own_page(site: Flask, sent: Outbox, clock: Clock) -> None:
    client = site.test_client()
    ask(client)
    old = path_of(sent.link)
    clock.advance("5m")
    ask(client)
    assert old != path_of(sent.link)
    assert "That code no longer works" in client.get(old, headers=HTML, follow_redirects=True).text
    assert click(client, client.get(path_of(sent.link))).status_code == 303
    assert FRIENDLY in site.test_client().get(path_of(sent.link)).text


def test_two_tabs_share_the_one_challenge(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    for _ in range(2):
        client.post("/otp/send", data={"identifier": ANN}, headers=HTML)
    assert sent[0].link == sent[1].link
    tabs = [client.get(path_of(sent.link)) for _ in range(2)]
    assert click(client, tabs[0]).location == "/home"
    late = click(client, tabs[1])
    assert (late.status_code, late.location) == (303, "/home")  # the first one has what the second one asks for
    assert client.get("/account").text == ANN


def test_it_is_for_its_purpose_only(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    handles = {purpose: ask(client, purpose=purpose) for purpose in ("login", "money_transfer")}
    login, transfer = (secret_of(str(message.link)) for message in sent)
    for path in (f"/otp/link/{login}?purpose=money_transfer", f"/otp/link/{transfer}"):
        assert FRIENDLY in client.get(path).text
    for secret, purpose in ((login, "money_transfer"), (transfer, "login")):
        for body in ({}, {"challenge": handles["login"]}, {"challenge": handles["money_transfer"]}):
            answer = client.post("/otp/verify", json={"link": secret, "purpose": purpose, **body})
            assert answer.status_code == 400
    assert click(client, client.get(f"/otp/link/{transfer}?purpose=money_transfer")).status_code == 303
    assert client.get("/account").status_code == 401


def test_what_is_confirmed_is_shown_on_the_links_page(make_app: AppFactory, otp: OTP) -> None:
    app = make_app(otp, **CONFIG)
    view = otp_required(purpose="money_transfer", context=lambda: {"payee": request.args["payee"]})(lambda: "done")
    app.add_url_rule("/transfer", "transfer", view)
    client = app.test_client()
    client.get("/transfer?payee=<b>Bob", headers=HTML)
    with capture_codes(app) as sent:
        ask(client, purpose="money_transfer")
        page = client.get(path_of(sent.link))
    assert "<bdi>&lt;b&gt;Bob</bdi>" in page.text
    assert click(client, page).status_code == 303
    assert client.get("/transfer?payee=<b>Bob").text == "done"
    assert client.get("/transfer?payee=Eve").status_code == 401


def test_a_rotated_key_still_opens_what_was_sent_before(make_app: AppFactory, valkey: Any, clock: Clock) -> None:
    before = make_app(OTP(clock=clock), OTP_STORAGE_URI=valkey.uri, **CONFIG)
    client = before.test_client()
    with capture_codes(before) as sent:
        handle = ask(client)
    after = make_app(
        OTP(clock=clock),
        OTP_STORAGE_URI=valkey.uri,
        **CONFIG,
        SECRET_KEY="another secret, newer than that",
        SECRET_KEY_FALLBACKS=[SECRET],
    )
    body = {"link": secret_of(sent.link), "challenge": handle}
    assert after.test_client().post("/otp/verify", json=body).status_code == 200


def test_r11_a_spent_budget_refuses_a_short_challenge_whole_and_the_next_link_works(
    make_app: AppFactory, otp: OTP
) -> None:
    app = make_app(otp, **CONFIG, OTP_FAILURE_BUDGET="2/day", OTP_MAX_ATTEMPTS=10)
    client, stranger = app.test_client(), app.test_client()
    with capture_codes(app) as sent:
        ask(client)
        early = secret_of(sent.link)
        ask(stranger)
        for _ in range(2):
            stranger.post("/otp/verify", json={"link": wrong(early)})
        assert client.post("/otp/verify", json={"link": early}).status_code == 400
        other = app.test_client()
        ask(other)
        assert len(sent.code) == 13
        assert other.post("/otp/verify", json={"link": secret_of(sent.link)}).status_code == 200


# Who opens it


def test_r33_ten_openings_by_scanners_cost_nothing(site: Flask, sent: Outbox) -> None:
    for way in ("link", "code"):
        client = site.test_client()
        ask(client)
        links = set(re.findall(r"https?://[^\s\"<>]+", sent[-1].text + sent[-1].html))
        assert links == {sent.link}
        for _ in range(10):
            for scanner in (site.test_client(), site.test_client(use_cookies=False), client):
                for method in ("GET", "HEAD"):
                    answer = scanner.open(path_of(sent.link), method=method, headers=HTML)
                    assert answer.status_code == 200
                    assert answer.headers.get("Set-Cookie") is None
        body = {"link": secret_of(sent.link)} if way == "link" else {"code": sent.code}
        # All five attempts are there still.
        for _ in range(4):
            assert client.post("/otp/verify", json={"link": wrong(secret_of(sent.link))}).status_code == 400
        assert client.post("/otp/verify", json=body).status_code == 200


def test_opening_asks_the_store_nothing(site: Flask, sent: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.test_client()
    ask(client)
    state = site.extensions["otp"]
    monkeypatch.setattr(state, "store", None)
    monkeypatch.setattr(state, "limits", None)
    assert "<form" in client.get(path_of(sent.link)).text
    assert FRIENDLY in site.test_client().get(path_of(sent.link)).text


def test_r33_another_browser_gets_no_form_that_could_use_it(site: Flask, sent: Outbox) -> None:
    client, other, third = (site.test_client() for _ in range(3))
    ask(client)
    link = sent.link
    ask(third, BOB)  # a session with a challenge of its own
    for stranger in (other, third):
        page = stranger.get(path_of(link), headers=HTML)
        assert page.status_code == 200
        assert FRIENDLY in page.text
        assert "<form" not in page.text
        assert secret_of(link) not in page.text
        assert "example.com" not in page.text
        answer = stranger.post("/otp/verify", data={"link": secret_of(link), "purpose": "login"}, headers=HTML)
        assert (answer.status_code, answer.location) in [(303, "/otp/"), (400, None)]
        assert stranger.get("/account").status_code == 401
    assert click(client, client.get(path_of(link))).location == "/home"


@pytest.mark.parametrize(
    ("purpose", "start"),
    [
        ("money_transfer", "/otp/?purpose=money_transfer"),
        ("login", "/otp/"),
        ("unknown", "/otp/"),
        ("<b>", "/otp/"),
        (None, "/otp/"),
    ],
)
def test_who_opens_it_elsewhere_may_start_again_for_the_same_purpose(
    make_app: AppFactory, purpose: str | None, start: str
) -> None:
    client = make_app(**CONFIG).test_client()
    page = client.get("/otp/link/x", query_string=None if purpose is None else {"purpose": purpose})
    assert re.findall(r'<a class="button" href="([^"]*)"', page.text) == [start]
    assert client.get(start).status_code == 200


def test_the_links_page_names_the_site(make_app: AppFactory) -> None:
    page = make_app(**CONFIG, OTP_SITE_NAME="The Shop").test_client().get("/otp/link/x").text
    assert "The Shop</title>" in page
    assert "<bdi>The Shop</bdi>" in page


@pytest.mark.parametrize("origin", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_r29_another_site_cannot_press_the_button(site: Flask, sent: Outbox, origin: dict[str, str]) -> None:
    client = site.test_client()
    ask(client)
    page = client.get(path_of(sent.link), headers=HTML | origin)  # webmail is another site: opening is all right
    answer = client.post("/otp/verify", data=fields_of(page), headers=HTML | origin)
    assert answer.status_code == 403
    assert client.get("/account").status_code == 401


def test_a_second_factors_link_is_for_who_is_signed_in(site: Flask, otp: OTP, sent: Outbox) -> None:
    user = [ANN]
    otp.identifier_loader(lambda: user[0])
    client = site.test_client()
    client.post("/otp/send", json={})
    user[0] = BOB
    assert client.post("/otp/verify", json={"link": secret_of(sent.link)}).status_code == 400
    user[0] = ANN
    assert client.post("/otp/verify", json={"link": secret_of(sent.link)}).status_code == 200


def test_r21_nobodys_link_is_right(make_app: AppFactory, otp: OTP) -> None:
    otp.recipient_loader(lambda identifier, channel: None)
    app = make_app(otp, **CONFIG, OTP_DELIVERY="inline")
    client = app.test_client()
    handle = ask(client)
    secret = app.extensions["otp"].tokens.load_handle(handle).link
    assert client.post("/otp/verify", json={"link": secret}).status_code == 400


# Where it must not be seen


def test_r36_the_page_gives_its_address_to_nobody(site: Flask, sent: Outbox) -> None:
    client = site.test_client()
    ask(client)
    for browser in (client, site.test_client()):
        headers = browser.get(path_of(sent.link)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "strict-origin"
        assert headers["X-Frame-Options"] == "DENY"
        assert "script-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/otp/link/", "/otp/link", "/otp/link/a/b"])
def test_what_is_no_link_is_404(site: Flask, path: str) -> None:
    assert site.test_client().get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["x", "%00", "%FF%C3%28", "%3Cscript%3E", "x" * 5000, "x?purpose=%3Cb%3E", "x?purpose="]
)
def test_a_made_up_link_is_answered_kindly(site: Flask, path: str) -> None:
    client = site.test_client()
    ask(client)
    page = client.get(f"/otp/link/{path}", headers=HTML)
    assert page.status_code == 200
    assert FRIENDLY in page.text
    assert "<b>" not in page.text
    assert "<script>" not in page.text
    assert client.post(f"/otp/link/{path}", headers=HTML).status_code == 404


def quoted_printable(message: Message) -> str:
    line = next(line for line in message.html.splitlines() if str(message.link) in line)
    return quopri.encodestring(line.encode()).decode()


@pytest.mark.parametrize(
    "quote",
    [
        lambda message: message.link,
        lambda message: message.text,
        lambda message: message.link.upper(),
        quoted_printable,
        lambda message: repr(quoted_printable(message).replace("\n", "\r\n").encode()),
    ],
    ids=["link", "text", "upper case", "quoted-printable", "bytes"],
)
def test_r34_no_link_comes_into_a_log(
    make_app: AppFactory, otp: OTP, caplog: pytest.LogCaptureFixture, quote: Callable[[Message], str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = []

    @otp.channel("email")
    def broken(message: Message) -> None:
        secrets.append(secret_of(str(message.link)))
        raise OSError(quote(message))

    for length in (5, *range(40, 63, 4)):
        # The longer its address, the further a line of quoted-printable has come when the secret begins.
        app = make_app(otp, **CONFIG | {"OTP_BASE_URL": f"https://{'s' * length}.example"})
        failed = app.test_client().post("/otp/send", json={"email": ANN})
        assert failed.status_code == 503
        assert "link/" not in failed.text
    assert "[redacted]" in caplog.text
    text = re.sub(r"=\s|\s|\\\\[rn]", "", caplog.text).lower()
    for secret in secrets:
        for start in range(0, 24, 6):
            assert secret[start : start + 6].lower() not in text
