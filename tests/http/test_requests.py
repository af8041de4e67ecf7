"""Where a redirect may go, whose requests may change something, and who gets pages: through the real routes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from flask import Flask, request
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf
from werkzeug.test import TestResponse

from flask_otp import OTP, Message
from flask_otp.http.requests import is_navigation, own_origin
from flask_otp.testing import Clock, Outbox, capture_codes
from flask_otp.urls import is_safe_path

ANN = "ann@example.com"
HTML = {"Accept": "text/html"}
AppFactory = Callable[..., Flask]


def no_one(message: Message) -> None:
    """A channel that takes everything."""


CONFIG: dict[str, Any] = {
    "OTP_CHANNELS": {"email": no_one},
    "OTP_IP_SEND_LIMIT": None,
    "OTP_IP_VERIFY_LIMIT": None,
    "OTP_COOLDOWN": 0,
    "OTP_SEND_LIMIT": "1000/hour",
    "OTP_RECIPIENT_LIMIT": "1000/hour",
}


@pytest.fixture
def app(make_app: AppFactory) -> Flask:
    return make_app(**CONFIG)


@pytest.fixture
def sent(app: Flask) -> Iterator[Outbox]:
    with capture_codes(app) as outbox:
        yield outbox


# R30: next

ELSEWHERE = [
    "",
    "account",
    ".evil.example",
    "@evil.example",
    ":80/",
    "?x=/",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\evil.example",
    "/\\/evil.example",
    "/\\\\evil.example",
    "/a\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "/\r\n/evil.example",
    "\t//evil.example",
    "\n//evil.example",
    " //evil.example",
    " /account",
    "/account ",
    "/account\n",
    "/ /evil.example",
    "/\x00/evil.example",
    "/\x0b/evil.example",
    "/\x1f/evil.example",
    "/\x7f/evil.example",
    "/\x85/evil.example",
    "/\xa0/evil.example",
    "/\u2028/evil.example",
    "/\u200b/evil.example",
    "/\ufeff/evil.example",
    "\ufeff//evil.example",
    "/\u2044evil.example",
    "/\u2215evil.example",
    "/\uff0fevil.example",
    "\uff0f\uff0fevil.example",
    "/\uff3cevil.example",
    "/caf\xe9",
    "/account\r\nSet-Cookie: a=b",
    "/account\nLocation: //evil.example",
    "http://evil.example",
    "https://evil.example/",
    "HTTP://evil.example",
    "http:evil.example",
    "http:/evil.example",
    "http:///evil.example",
    "https:\\\\evil.example",
    "http://localhost/account",
    "http://localhost@evil.example",
    "http://localhost:pw@evil.example/",
    "http://localhost.evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "javascript://localhost/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://evil.example",
    "mailto:eve@evil.example",
    "%2f%2fevil.example",
    "%2f/evil.example",
    "%5cevil.example",
    "/" + "a" * 3000,
]

HERE = [
    "/",
    "/account",
    "/account/",
    "/account?tab=1&x=%2F#top",
    "/a//b",
    "/a/../b",
    "/..//evil.example",
    "/.//evil.example",
    "/%2f/evil.example",
    "/%2fevil.example",
    "/%5cevil.example",
    "/%09/evil.example",
    "/%0d%0aSet-Cookie:a=b",
    "/.evil.example",
    "/@evil.example",
    "/:80",
    "/;evil.example",
    "/?next=//evil.example",
    "/?u=http://evil.example/",
    "/#//evil.example",
    "/~ann/!$'()*+,=",
    "/" + "a" * 500,
]


def host_by_a_browser(location: str, base: str = "http://localhost/otp/verify") -> str | None:
    """The host that a browser goes to: it drops tabs and line breaks, and takes a backslash for a slash."""
    read = re.sub(r"[\t\r\n]", "", location.strip(" \x00\x01")).replace("\\", "/")
    return urlsplit(urljoin(base, read)).netloc


@pytest.mark.parametrize("path", ELSEWHERE)
def test_r30_a_path_that_could_lead_elsewhere_is_unsafe(path: str) -> None:
    assert not is_safe_path(path)


@pytest.mark.parametrize("path", HERE)
def test_r30_a_path_on_this_host_is_safe(path: str) -> None:
    assert is_safe_path(path)
    assert host_by_a_browser(path) == "localhost"


def test_the_model_of_a_browser_sees_the_tricks() -> None:
    for trick in ("//evil.example", "/\t/evil.example", "/\\evil.example", "\\\\evil.example", "/\n/evil.example"):
        assert host_by_a_browser(trick) == "evil.example"


def by_json(app: Flask, sent: Outbox, path: str) -> str:
    client = app.test_client()
    assert client.post("/otp/send", json={"identifier": ANN, "next": path}).status_code == 200
    return str(client.post("/otp/verify", json={"code": sent.code}).get_json()["next"])


def location(answer: TestResponse) -> str:
    assert answer.status_code == 303
    assert "a=b" not in str(answer.headers.getlist("Set-Cookie"))
    return str(answer.headers["Location"])


def by_form(app: Flask, sent: Outbox, path: str) -> str:
    client = app.test_client()
    raw = quote(path.encode("utf-8", "surrogatepass"), safe="")
    form = {"content_type": "application/x-www-form-urlencoded", "headers": HTML}
    location(client.post("/otp/send", data=f"identifier=ann%40example.com&next={raw}", **form))
    return location(client.post("/otp/verify", data={"code": sent.code}, headers=HTML))


def by_link(app: Flask, sent: Outbox, path: str) -> str:
    client = app.test_client()
    raw = quote(path.encode("utf-8", "surrogatepass"), safe="")
    assert client.get(f"/otp/?next={raw}", headers=HTML).status_code == 200
    location(client.post("/otp/send", data={"identifier": ANN}, headers=HTML))
    return location(client.post("/otp/verify", data={"code": sent.code}, headers=HTML))


@pytest.mark.parametrize("way", [by_json, by_form, by_link])
def test_r30_next_never_leads_elsewhere(app: Flask, sent: Outbox, way: Callable[[Flask, Outbox, str], str]) -> None:
    for path in ELSEWHERE:
        assert way(app, sent, path) == "/", path


@pytest.mark.parametrize("way", [by_json, by_form, by_link])
def test_r30_next_on_this_host_is_kept(app: Flask, sent: Outbox, way: Callable[[Flask, Outbox, str], str]) -> None:
    for path in HERE:
        assert way(app, sent, path) == path


def test_r30_a_bad_next_in_the_form_does_not_replace_a_good_one(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    client.get("/otp/?next=/account")
    client.post("/otp/send", data={"identifier": ANN, "next": "//evil.example"})
    assert location(client.post("/otp/verify", data={"code": sent.code})) == "/account"


def test_r32_a_forged_host_is_in_no_redirect(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    forged = {**HTML, "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    answers = [
        client.post("/otp/send", data={"identifier": ANN}, headers=forged),
        client.post("/otp/verify", data={"code": "x"}, headers=forged),
        client.post("/otp/logout", data={}, headers=forged),
    ]
    for answer in answers:
        assert "evil.example" not in answer.text + answer.headers.get("Location", "")
    assert "evil.example" not in sent[0].text + sent[0].html


# R29: origins

STATE_CHANGES = ["/otp/send", "/otp/verify", "/otp/resend", "/otp/logout"]
OWN = "http://localhost"
FOREIGN = [
    "null",
    "",
    "https://localhost",
    "http://localhost:8080",
    "http://localhost.evil.example",
    "http://evil.example",
    "http://evil.example/localhost",
    "http://sub.localhost",
    "http://localhost/",
    "http://localhost http://evil.example",
    "localhost",
    "file://",
    "http://127.0.0.1",
    "\xff",
]


def status(app: Flask, path: str, headers: dict[str, str], as_form: bool = False, **more: Any) -> int:
    body: dict[str, Any] = {"data" if as_form else "json": {"identifier": ANN} if path == "/otp/send" else {}}
    if as_form:
        body["content_type"] = "application/x-www-form-urlencoded"
    return app.test_client().post(path, headers=headers, **body, **more).status_code


@pytest.mark.parametrize("as_form", [False, True], ids=["JSON", "form"])
@pytest.mark.parametrize("path", STATE_CHANGES)
def test_r29_a_foreign_origin_is_refused(app: Flask, sent: Outbox, path: str, as_form: bool) -> None:
    for origin in FOREIGN:
        assert status(app, path, {"Origin": origin}, as_form) == 403, origin
    assert not sent


@pytest.mark.parametrize("path", STATE_CHANGES)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "nonsense", "same-origin, cross-site"])
@pytest.mark.parametrize("origin", [None, OWN, "http://evil.example"])
def test_r29_what_the_browser_calls_another_site_is_refused_whatever_its_origin(
    app: Flask, sent: Outbox, path: str, site: str, origin: str | None
) -> None:
    headers = {"Sec-Fetch-Site": site} | ({} if origin is None else {"Origin": origin})
    assert status(app, path, headers) == 403
    assert not sent


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": OWN},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": OWN},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Referer": "http://evil.example/"},
    ],
    ids=str,
)
@pytest.mark.parametrize("as_form", [False, True], ids=["JSON", "form"])
def test_r29_the_own_origin_and_no_browser_at_all_pass(
    app: Flask, sent: Outbox, headers: dict[str, str], as_form: bool
) -> None:
    assert status(app, "/otp/send", headers, as_form) in (200, 303)
    assert len(sent) == 1


def test_r29_the_port_and_the_scheme_belong_to_the_origin(app: Flask, sent: Outbox) -> None:
    base_url = "https://shop.example:8443/"
    for origin, expected in {
        "https://shop.example:8443": 200,
        "https://shop.example": 403,
        "http://shop.example:8443": 403,
        "https://shop.example:8444": 403,
    }.items():
        assert status(app, "/otp/send", {"Origin": origin}, base_url=base_url) == expected, origin


@pytest.mark.parametrize("port", ["", ":8080"])
def test_r29_the_own_origin_is_written_as_browsers_write_it(port: str) -> None:
    with Flask("site").test_request_context(headers={"Host": f"XN--bcher-KVA.Example{port}"}):
        assert own_origin() == f"http://xn--bcher-kva.example{port}"


def test_r29_behind_a_proxy_the_base_url_is_an_own_origin_too(make_app: AppFactory) -> None:
    app = make_app(**CONFIG, OTP_BASE_URL="https://Shop.example/")
    with capture_codes(app):
        for origin, expected in {
            "https://shop.example": 200,
            OWN: 200,
            "http://shop.example": 403,
            "https://shop.example.evil.example": 403,
            "null": 403,
        }.items():
            assert status(app, "/otp/send", {"Origin": origin}) == expected, origin


def test_r29_the_refusal_is_a_problem_for_clients_and_a_page_for_browsers(app: Flask, sent: Outbox) -> None:
    client = app.test_client()
    cross = {"Sec-Fetch-Site": "cross-site"}
    answer = client.post("/otp/send", json={"identifier": ANN}, headers=cross)
    assert (answer.status_code, answer.content_type) == (403, "application/problem+json")
    assert answer.get_json(force=True)["reason"] == "cross_origin"
    page = client.post("/otp/send", data={"identifier": ANN}, headers=cross | HTML)
    assert (page.status_code, page.mimetype) == (403, "text/html")
    assert page.headers["Cache-Control"] == answer.headers["Cache-Control"] == "no-store"


def test_r29_pages_can_be_linked_to_from_anywhere(app: Flask) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
    assert app.test_client().get("/otp/", headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_r29_no_method_gets_around_the_check(app: Flask, method: str) -> None:
    answer = app.test_client().open("/otp/send", method=method, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code in (403, 405)


def test_our_own_form_works_in_a_browser_that_sends_no_fetch_metadata(app: Flask, sent: Outbox) -> None:
    """No browser sends ``Sec-Fetch-Site`` over plain HTTP to another host than localhost, and old ones never do.

    By the Fetch standard a form's ``Origin`` is then ``null`` if its page's referrer policy is ``no-referrer``.
    """
    browser = app.test_client()
    page = browser.get("/otp/", base_url="http://intranet.example/", headers=HTML)
    origin = "null" if page.headers["Referrer-Policy"] == "no-referrer" else "http://intranet.example"
    answer = browser.post(
        "/otp/send",
        base_url="http://intranet.example/",
        data={"identifier": ANN},
        headers={**HTML, "Origin": origin},
    )
    assert answer.status_code == 303


def test_r36_the_pages_tell_no_other_site_where_the_browser_came_from(app: Flask) -> None:
    assert app.test_client().get("/otp/").headers["Referrer-Policy"] in ("no-referrer", "same-origin")


# Who gets pages

BROWSERS = [
    "text/html",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "application/xml, text/html;q=0.1",
    "text/html, application/json",
]
API_CLIENTS = [
    None,
    "",
    "*/*",
    "text/*",
    "application/json",
    "application/json, text/plain, */*",
    "application/problem+json",
    "text/plain",
    "text/html;q=0, */*",
    "application/xhtml+xml",
    "text/htmlx",
]


def accepting(accept: str | None) -> dict[str, str]:
    return {} if accept is None else {"Accept": accept}


@pytest.mark.parametrize("accept", BROWSERS)
def test_an_accept_that_names_html_gets_pages(app: Flask, accept: str) -> None:
    client = app.test_client()
    assert client.get("/otp/nosuch", headers=accepting(accept)).mimetype == "text/html"
    answer = client.post("/otp/send", data={"identifier": "x"}, headers=accepting(accept))
    assert (answer.status_code, answer.mimetype) == (400, "text/html")


@pytest.mark.parametrize("accept", API_CLIENTS)
def test_any_other_accept_gets_problems(app: Flask, accept: str | None) -> None:
    client = app.test_client()
    for answer in (
        client.get("/otp/nosuch", headers=accepting(accept)),
        client.post("/otp/send", json={"identifier": "x"}, headers=accepting(accept)),
        client.post("/otp/resend", headers=accepting(accept)),
    ):
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("accept", [*BROWSERS, *API_CLIENTS])
def test_json_is_always_answered_with_json(app: Flask, sent: Outbox, accept: str | None) -> None:
    answer = app.test_client().post("/otp/send", json={"identifier": ANN}, headers=accepting(accept))
    assert (answer.status_code, answer.content_type) == (200, "application/json")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [(accept, 303) for accept in BROWSERS]
    + [(None, 303), ("*/*", 303), ("application/json", 200), ("application/json, text/plain, */*", 200)],
)
def test_a_form_is_answered_with_a_redirect_unless_json_is_asked_for(
    app: Flask, sent: Outbox, accept: str | None, expected: int
) -> None:
    answer = app.test_client().post("/otp/send", data={"identifier": ANN}, headers=accepting(accept))
    assert answer.status_code == expected


# Beside Flask-WTF


def add_own_form(app: Flask) -> None:
    @app.route("/own", methods=["GET", "POST"])
    def own() -> str:
        return "done" if request.method == "POST" else generate_csrf()


def csrf_app() -> Flask:
    app = Flask("site")
    app.config.update(CONFIG, TESTING=True, SECRET_KEY="a secret that is only for tests", OTP_STORAGE_URI="memory://")
    add_own_form(app)
    return app


def csrf_first(clock: Clock) -> tuple[Flask, str]:
    app = csrf_app()
    CSRFProtect(app)
    OTP(app, clock=clock)
    return app, "/otp"


def csrf_last(clock: Clock) -> tuple[Flask, str]:
    app = csrf_app()
    OTP(app, clock=clock)
    CSRFProtect(app)
    return app, "/otp"


def csrf_last_by_init_app(clock: Clock) -> tuple[Flask, str]:
    app, csrf, otp = csrf_app(), CSRFProtect(), OTP(clock=clock)
    otp.init_app(app)
    csrf.init_app(app)
    return app, "/otp"


def csrf_first_and_mounted_by_hand(clock: Clock) -> tuple[Flask, str]:
    app = csrf_app()
    CSRFProtect(app)
    otp = OTP(app, register_blueprint=False, clock=clock)
    app.register_blueprint(otp.blueprint, url_prefix="/codes")
    return app, "/codes"


def csrf_last_and_mounted_by_hand(clock: Clock) -> tuple[Flask, str]:
    app = csrf_app()
    otp = OTP(app, register_blueprint=False, clock=clock)
    app.register_blueprint(otp.blueprint, url_prefix="/codes")
    CSRFProtect(app)
    return app, "/codes"


CsrfSite = Callable[[Clock], tuple[Flask, str]]
CSRF_SITES = [
    csrf_first,
    csrf_last,
    csrf_last_by_init_app,
    csrf_first_and_mounted_by_hand,
    csrf_last_and_mounted_by_hand,
]


@pytest.mark.parametrize("make", CSRF_SITES)
@pytest.mark.parametrize("as_form", [False, True], ids=["JSON", "form"])
def test_beside_csrf_protect_our_routes_work_from_the_first_request(
    make: CsrfSite, clock: Clock, as_form: bool
) -> None:
    app, prefix = make(clock)
    kind = "data" if as_form else "json"
    with capture_codes(app) as sent:
        client = app.test_client()
        bodies = [("send", {"identifier": ANN}), ("resend", {"purpose": "login"})]
        for name, members in bodies:
            answer = client.post(f"{prefix}/{name}", **{kind: members})
            assert answer.status_code in (200, 303), answer.text
        answer = client.post(f"{prefix}/verify", **{kind: {"code": sent.code}})
        assert answer.status_code in (200, 303), answer.text
        assert client.post(f"{prefix}/logout").status_code in (204, 303)


@pytest.mark.parametrize("make", CSRF_SITES)
def test_beside_csrf_protect_the_apps_own_forms_stay_protected(make: CsrfSite, clock: Clock) -> None:
    app, prefix = make(clock)
    client = app.test_client()
    assert client.post("/own").status_code == 400
    assert client.get(f"{prefix}/").status_code == 200
    assert client.post("/own").status_code == 400
    token = client.get("/own").text
    assert client.post("/own", data={"csrf_token": token}).text == "done"


@pytest.mark.parametrize("make", CSRF_SITES)
def test_r29_beside_csrf_protect_our_own_check_stays(make: CsrfSite, clock: Clock) -> None:
    app, prefix = make(clock)
    with capture_codes(app) as sent:
        client = app.test_client()
        client.get(f"{prefix}/")
        headers = {"Sec-Fetch-Site": "cross-site"}
        assert client.post(f"{prefix}/send", json={"identifier": ANN}, headers=headers).status_code == 403
        assert not sent


# R19: bodies


@pytest.mark.parametrize(
    ("body", "kind", "status", "detail"),
    [
        (b"{", "application/json", 400, "The body is not valid JSON."),
        (b"\xff", "application/json", 400, "The body is not valid JSON."),
        (b"[]", "application/json", 400, "The body must be a JSON object."),
        (b'{"email": 1}', "application/json", 400, "email must be a string."),
        (b'{"email": "a@b.c", "email": "a@b.c"}', "application/json", 400, "email is given twice."),
        (b"email=a%40b.c&email=a%40b.c", "application/x-www-form-urlencoded", 400, "email is given twice."),
        (b"x", "text/plain", 415, "Send application/json or a form."),
        (b"", "text/plain", 415, "Send application/json or a form."),
    ],
)
def test_r19_the_answer_says_what_is_wrong_with_a_body(
    app: Flask, body: bytes, kind: str, status: int, detail: str
) -> None:
    answer = app.test_client().post("/otp/send", data=body, content_type=kind, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.get_json()["detail"]) == (status, detail)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_named_in_other_words(app: Flask, sent: Outbox, kind: str) -> None:
    answer = app.test_client().post("/otp/send", data=b'{"email": "ann@example.com"}', content_type=kind)
    assert (answer.status_code, len(sent)) == (200, 1)


def test_r19_the_answer_says_that_no_file_and_no_query_is_expected(app: Flask) -> None:
    client, api = app.test_client(), {"Accept": "application/json"}
    upload = {"email": ANN, "picture": (io.BytesIO(b"x"), "x.png")}
    answer = client.post("/otp/send", data=upload, headers=api)
    assert (answer.status_code, answer.get_json()["detail"]) == (400, "A file is not expected here.")
    answer = client.post("/otp/send?email=a@b.c", json={"email": ANN}, headers=api)
    assert answer.get_json()["detail"] == "Put the values into the body, not into the query."


#: Of a body whose length is not told: the test client tells it all the same, but this goes before it.
CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


@pytest.mark.parametrize(("length", "status"), [(4096, 400), (4097, 413)])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain", None])
def test_r19_a_body_may_have_four_kibibytes(app: Flask, kind: str | None, length: int, status: int) -> None:
    """Whatever it is, and whether or not its length is told first."""
    expected = 415 if status == 400 and kind in ("text/plain", None) else status
    for told in (True, False):
        body = b'{"x": "' + b"x" * (length - 9) + b'"}'
        options: dict[str, Any] = {"data": body} if told else {"input_stream": io.BytesIO(body)}
        environ = {} if told else CHUNKED
        answer = app.test_client().post("/otp/send", content_type=kind, environ_overrides=environ, **options)
        assert answer.status_code == expected


def test_r19_a_body_of_unknown_length_is_not_read_to_its_end(app: Flask) -> None:
    """An upload without a ``Content-Length`` costs no more memory than a short one."""
    body = io.BytesIO(b" " * 100_000)
    answer = app.test_client().post(
        "/otp/send", content_type="application/json", environ_overrides=CHUNKED, input_stream=body
    )
    assert answer.status_code == 413
    assert body.tell() < 10_000


def test_a_query_that_has_nothing_to_do_with_us_is_none_of_our_business(app: Flask, sent: Outbox) -> None:
    assert app.test_client().post("/otp/send?campaign=1", json={"identifier": ANN}).status_code == 200
    assert len(sent) == 1


def test_a_field_of_the_pages_own_does_not_hide_what_comes_after_it(app: Flask, sent: Outbox) -> None:
    assert app.test_client().post("/otp/send", data={"a": "1", "identifier": ANN}).status_code == 303
    assert len(sent) == 1


# Who waits for a page


@pytest.mark.parametrize(
    ("accept", "mode", "site", "is_page"),
    [
        ("text/html", None, None, True),
        ("text/html", "navigate", "cross-site", True),
        ("text/html", "cors", "same-origin", True),  # Turbo
        ("text/html", "cors", "same-site", False),
        ("text/html", "no-cors", None, False),
        (None, None, None, True),  # no browser
        (None, "cors", "cross-site", False),
        ("application/json", "navigate", "same-origin", False),
        ("application/json", None, None, False),
    ],
)
def test_a_navigation_is_what_a_person_waits_for(
    accept: str | None, mode: str | None, site: str | None, is_page: bool
) -> None:
    said = {"Accept": accept, "Sec-Fetch-Mode": mode, "Sec-Fetch-Site": site}
    headers = {name: value for name, value in said.items() if value is not None}
    with Flask("site").test_request_context(headers=headers):
        assert is_navigation() is is_page


# What is wrong with a body


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/otp/send", {"email": "ann@example.com", "channel": "x" * 65}, "channel is too long."),
        ("/otp/send", {"email": "ann@example.com", "channel": "x" * 64}, "There is no such channel."),
        ("/otp/send", {"email": "ann@example.com", "channel": ""}, "channel must not be empty."),
        ("/otp/verify", {"code": "1", "trust": "perhaps"}, "trust must be true or false."),
        ("/otp/verify", {"code": "1", "purpos": "x"}, "purpos is not expected here. Did you mean purpose?"),
        ("/otp/logout", {"purpose": "login"}, "purpose is not expected here."),
    ],
)
def test_a_body_that_is_refused_is_told_what_is_wrong(app: Flask, path: str, body: dict[str, str], detail: str) -> None:
    answer = app.test_client().post(path, json=body)
    assert answer.status_code == 400
    assert answer.json["detail"] == detail


@pytest.mark.parametrize(("length", "is_good"), [(15, False), (16, True), (255, True), (256, False)])
def test_an_idempotency_key_has_sixteen_to_255_characters(app: Flask, length: int, is_good: bool) -> None:
    answer = app.test_client().post(
        "/otp/send", json={"email": "ann@example.com"}, headers={"Idempotency-Key": "k" * length}
    )
    assert answer.status_code == (200 if is_good else 400)
    if not is_good:
        assert answer.json["detail"] == "Idempotency-Key must have 16 to 255 characters."


def test_a_repetition_may_have_its_members_in_another_order(app: Flask, sent: Outbox) -> None:
    headers = {"Idempotency-Key": "k" * 16, "Content-Type": "application/json"}
    bodies = ('{"email": "ann@example.com", "purpose": "login"}', '{"purpose": "login", "email": "ann@example.com"}')
    answers = [app.test_client().post("/otp/send", data=body, headers=headers) for body in bodies]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(sent) == 1
