"""Which language is spoken: in pages, messages and errors, by request, by Flask-Babel, in queues and in threads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from gettext import NullTranslations
from html.parser import HTMLParser
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from babel.messages.frontend import CommandLineInterface
from flask import Flask, render_template, request
from flask_babel import Babel, force_locale, lazy_gettext
from markupsafe import escape
from werkzeug.test import TestResponse

import flask_otp
from flask_otp import OTP, InvalidCode, InvalidRequest, Message, errors, languages, otp_required
from flask_otp.errors import OTPError
from flask_otp.languages import LANGUAGES, N_, Text
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory

ANN, PHONE = "ann@example.com", "+4915112345678"
HTML = {"Accept": "text/html"}
SIGN_IN = {
    "en": "Sign in",
    "de": "Anmelden",
    "es": "Iniciar sesión",
    "fr": "Se connecter",
    "pt": "Entrar",
    "ar": "تسجيل الدخول",
    "hi": "साइन इन करें",
    "ja": "ログイン",
    "zh-Hans": "登录",
}


def page(app: Flask, accept: str | None = None, path: str = "/otp/") -> TestResponse:
    return app.test_client().get(path, headers=HTML | ({} if accept is None else {"Accept-Language": accept}))


def language_of(answer: TestResponse) -> str:
    """As the page says it, and as it is."""
    said = re.search(r'<html lang="([^"]*)"', answer.text)
    assert said
    assert f"<h1>{SIGN_IN[said[1]]}</h1>" in answer.text
    assert answer.headers["Content-Language"] == said[1]
    return said[1]


# The request says


@pytest.mark.parametrize("language", SIGN_IN)
def test_each_language_can_be_had(app: Flask, language: str) -> None:
    answer = page(app, language)
    assert language_of(answer) == language
    assert ('dir="rtl"' in answer.text.partition(">")[2].partition(">")[0]) is (language == "ar")


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("*", "en"),
        ("it", "en"),
        ("de-AT", "de"),
        ("de-AT, en;q=0.9", "de"),
        ("DE_at", "de"),
        ("it, ja;q=0.5, en;q=0.4", "ja"),
        ("en;q=0.4, hi;q=0.5", "hi"),
        ("en;q=0, *", "de"),
        ("en;q=0", "de"),
        ("de-AT;q=0", "en"),
        ("de;q=0, de-AT", "en"),
        ("pt-BR", "pt"),
        ("pt-PT", "pt"),
        ("zh", "zh-Hans"),
        ("zh-CN", "zh-Hans"),
        ("zh-Hans-SG", "zh-Hans"),
        ("zh-TW", "zh-Hans"),
        ("zh-TW, en;q=0.1", "en"),
        ("zh-Hant-HK, ja;q=0.1", "ja"),
        ("zh-TW, zh;q=0.9, en;q=0.8", "zh-Hans"),
        ("zh-Hans;q=0, zh-TW", "en"),
        (", ".join(f"{name};q=0" for name in SIGN_IN), "en"),
    ],
)
def test_the_best_language_for_the_header_is_spoken(app: Flask, accept: str | None, language: str) -> None:
    assert language_of(page(app, accept)) == language


NASTY = [
    "de;q=2",
    "de;q=-1",
    "de;q=nan",
    "de;q=1e400",
    "de;q=",
    "de;q=\u0661",
    ";q=1",
    ",,,;;;===",
    "-",
    "_",
    "--__--",
    "*-*",
    "de-" * 5000,
    "x-" * 20000 + "de",
    ", ".join(f"x{n};q=0.{n:05}" for n in range(3000)) + ", de",
    "../../etc/passwd",
    "%(num)s %s {}",
    "<script>",
    "\u202e",
    '"de',
    "de\t;\tq=0.5",
    "\xff\xfe",
    "en\x00",
]


@pytest.mark.parametrize("accept", NASTY, ids=range(len(NASTY)))
def test_no_header_is_too_much(app: Flask, accept: str) -> None:
    client = app.test_client()
    with capture_codes(app) as sent:
        for answer in (
            client.get("/otp/", headers=HTML, environ_base={"HTTP_ACCEPT_LANGUAGE": accept}),
            client.post("/otp/send", json={"email": ANN}, environ_base={"HTTP_ACCEPT_LANGUAGE": accept}),
        ):
            assert answer.status_code == 200
        answer = client.post("/otp/verify", json={"code": "1"}, environ_base={"HTTP_ACCEPT_LANGUAGE": accept})
    assert answer.status_code == 400
    assert sent[0].language in SIGN_IN
    assert accept not in sent[0].text


def test_the_first_of_the_offered_languages_is_the_default_and_others_are_not_spoken(make_app: AppFactory) -> None:
    app = make_app(OTP_LANGUAGES=["fr", "zh-Hans"])
    assert language_of(page(app)) == "fr"
    assert language_of(page(app, "en, de")) == "fr"
    assert language_of(page(app, "zh-CN")) == "zh-Hans"


def test_an_answer_says_that_its_language_was_chosen_only_where_it_was(make_app: AppFactory) -> None:
    for offered, chosen in ((None, True), (["de", "en"], True), (["de"], False)):
        app = make_app(OTP_LANGUAGES=offered)
        for answer in (page(app), page(app, path="/otp/nowhere"), app.test_client().post("/otp/verify", json={})):
            assert {name.strip() for name in answer.headers["Vary"].split(",")} == (
                {"Cookie", "Accept-Language"} if chosen else {"Cookie"}
            )
            assert answer.headers["Content-Language"] == ("en" if offered is None else "de")


# Errors


def detail(app: Flask, accept: str, **body: str) -> str:
    answer = app.test_client().post("/otp/verify", json=body, headers={"Accept-Language": accept})
    assert answer.status_code == 400
    problem = answer.get_json(force=True)
    assert problem["title"] == "The code is not valid"
    assert problem["reason"] == "invalid_code"
    text: str = problem["detail"]
    return text


def test_the_detail_of_a_problem_is_translated_and_what_programs_read_is_not(app: Flask) -> None:
    assert detail(app, "en", code="1", challenge="x") == "That code is not right, or no longer valid."
    assert detail(app, "de", code="1", challenge="x") == "Dieser Code ist nicht richtig oder nicht mehr gültig."


def test_an_error_speaks_the_language_of_who_is_answered_not_of_who_raised_it(app: Flask) -> None:
    with app.test_request_context(headers={"Accept-Language": "de"}):
        raised = InvalidRequest(N_("%(name)s is given twice.", name="code"))
        assert raised.detail == "code ist zweimal angegeben."
    with app.test_request_context(headers={"Accept-Language": "fr"}):
        assert raised.detail == "code est indiqué deux fois."
        assert str(raised) == "400 Bad Request: code is given twice."
    assert raised.detail == raised.description == "code is given twice."


@pytest.mark.parametrize("text", ["", "100 %", "%(name)s", "<b>Nein</b>", "Code"])
def test_an_apps_own_text_is_told_as_it_is_and_escaped(app: Flask, text: str) -> None:
    app.add_url_rule("/own", view_func=lambda: (_ for _ in ()).throw(InvalidCode(text)))
    answer = app.test_client().get("/own", headers={"Accept-Language": "hi"})
    assert answer.get_json(force=True)["detail"] == (text if text != "Code" else "कोड")
    assert "<b>" not in page(app, "hi", "/own").text.partition("</h1>")[2]


def test_werkzeugs_own_errors_are_told_in_our_words(app: Flask) -> None:
    client = app.test_client()
    for answer, words in (
        (client.get("/otp/nowhere", headers={"Accept-Language": "de"}), "Diese Seite gibt es nicht"),
        (client.put("/otp/send", headers={"Accept-Language": "de"}), "Anfragen dieser Art"),
        (client.post("/otp/send", data="x" * 5000, headers={"Accept-Language": "de"}), "mehr, als wir"),
        (client.post("/otp/send", data="x", content_type="text/x", headers={"Accept-Language": "de"}), "Senden Sie"),
    ):
        assert words in answer.get_json(force=True)["detail"]


# Messages


@pytest.fixture
def shop(make_app: AppFactory, clock: Clock) -> Flask:
    return make_app(
        OTP(clock=clock),
        OTP_CHANNELS={"email": print, "sms": print},
        OTP_SMS_COUNTRIES=["DE"],
        OTP_PURPOSES={"login": {}, "money_transfer": {}},
        OTP_SITE_NAME="Shop",
    )


def send(app: Flask, accept: str, identifier: str = ANN) -> Message:
    with capture_codes(app) as sent:
        client = app.test_client()
        answer = client.post("/otp/send", json={"identifier": identifier}, headers={"Accept-Language": accept})
        assert answer.status_code == 200
    return sent[-1]


@pytest.mark.parametrize("identifier", [ANN, PHONE])
def test_a_message_speaks_the_language_of_the_request(shop: Flask, identifier: str) -> None:
    message = send(shop, "de-CH, fr;q=0.5", identifier)
    assert message.language == "de"
    assert "Minuten" in message.text
    if identifier == ANN:
        assert message.subject == "Ihr Code für die Anmeldung bei Shop"
        assert '<html lang="de" dir="ltr"' in message.html


def test_a_resend_speaks_the_language_of_its_own_request(shop: Flask, clock: Clock) -> None:
    client = shop.test_client()
    with capture_codes(shop) as sent:
        client.post("/otp/send", json={"email": ANN}, headers={"Accept-Language": "de"})
        clock.advance("1m")
        client.post("/otp/resend", json={}, headers={"Accept-Language": "ja"})
    assert [message.language for message in sent] == ["de", "ja"]
    assert sent[0].code == sent[1].code


def test_outside_of_a_request_the_default_is_spoken(make_app: AppFactory) -> None:
    otp = OTP()
    app = make_app(otp, OTP_LANGUAGES=["es", "en"])
    with app.app_context(), capture_codes(app) as sent:
        otp.send(ANN)
    assert sent[0].language == "es"


def test_the_background_speaks_the_language_of_the_request(make_app: AppFactory) -> None:
    otp, sent, done = OTP(), [], Barrier(2, timeout=10)

    @otp.channel("email")
    def deliver(message: Message) -> None:
        sent.append(message)
        done.wait()

    app = make_app(otp, OTP_DELIVERY="background")
    app.test_client().post("/otp/send", json={"email": ANN}, headers={"Accept-Language": "hi"})
    done.wait()
    assert sent[0].language == "hi"


@pytest.fixture
def queue() -> list[dict[str, str]]:
    return []


@pytest.fixture
def queueing(queue: list[dict[str, str]]) -> OTP:
    otp = OTP()
    otp.dispatcher(queue.append)
    return otp


def work(app: Flask, otp: OTP, payload: dict[str, str]) -> Message:
    """As a worker does, without a request."""
    with app.app_context(), capture_codes(app) as sent:
        otp.deliver(payload)
    return sent[0]


def test_a_queue_carries_the_language_to_its_worker(
    make_app: AppFactory, queueing: OTP, queue: list[dict[str, str]]
) -> None:
    app = make_app(queueing)
    app.test_client().post("/otp/send", json={"email": ANN}, headers={"Accept-Language": "ar"})
    message = work(app, queueing, queue[0])
    assert message.language == "ar"
    assert 'dir="rtl"' in message.html


def test_what_is_offered_no_more_is_said_in_the_default(
    make_app: AppFactory, queueing: OTP, queue: list[dict[str, str]]
) -> None:
    app = make_app(queueing)
    app.test_client().post("/otp/send", json={"email": ANN}, headers={"Accept-Language": "ar"})
    state = app.extensions["otp"]
    state.settings = replace(state.settings, languages=("fr", "de"))
    assert work(app, queueing, queue[0]).language == "fr"


def test_threads_do_not_mix_their_languages(shop: Flask) -> None:
    start = Barrier(len(SIGN_IN))

    def visit(language: str) -> set[str]:
        start.wait()
        found = {language_of(page(shop, language)) for _ in range(20)}
        with shop.test_request_context(headers={"Accept-Language": language}):
            handled = shop.extensions["otp"]
            found |= {languages.tag_of(languages.current()) for _ in range(20)}
            assert handled is shop.extensions["otp"]
        return found

    with ThreadPoolExecutor(len(SIGN_IN)) as pool:
        assert list(pool.map(visit, SIGN_IN)) == [{language} for language in SIGN_IN]


@pytest.mark.parametrize("accept", ["de", "ar", "xx"])
def test_r05_the_language_does_not_tell_who_exists(make_app: AppFactory, clock: Clock, accept: str) -> None:
    otp = OTP(clock=clock)
    otp.recipient_loader(lambda identifier, channel: ANN if identifier == ANN else None)
    app = make_app(otp, OTP_DELIVERY="inline")
    answers = []
    for identifier in (ANN, "bob@example.com"):
        client = app.test_client()
        headers = {"Accept-Language": accept}
        asked = client.post("/otp/send", data={"identifier": identifier}, headers=HTML | headers)
        code = client.get("/otp/verify", headers=HTML | headers)
        wrong = client.post("/otp/verify", data={"code": "000000"}, headers=HTML | headers)
        names = ("Content-Language", "Vary")
        answers.append([(a.status_code, [a.headers.get(n) for n in names], a.text) for a in (asked, code, wrong)])
        # The page shows what was typed, as it was typed; the challenge has a name and a token of its own.
        random = re.compile(rf"{re.escape(identifier)}|(?<=of=)[\w-]{{8}}|[\w.-]{{80,}}")
        answers[-1] = [(s, h, random.sub("", t)) for s, h, t in answers[-1]]
    assert answers[0] == answers[1]


# Flask-Babel


def with_babel(
    make_app: AppFactory, selector: Callable[[], Any] | None, otp: OTP | None = None, **config: Any
) -> Flask:
    app = make_app(otp, **config)
    Babel(app, locale_selector=selector)
    return app


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("de", "de"),
        ("de_AT", "de"),
        ("pt_BR", "pt"),
        ("zh_Hans_CN", "zh-Hans"),
        ("zh_Hant_TW", "zh-Hans"),
        ("it", "en"),
    ],
)
def test_flask_babels_locale_decides(make_app: AppFactory, locale: str, language: str) -> None:
    app = with_babel(make_app, lambda: locale)
    assert language_of(page(app, "ja")) == language
    assert send(app, "ja").language == language


def test_without_a_selector_it_is_flask_babels_default(make_app: AppFactory) -> None:
    app = with_babel(make_app, None, BABEL_DEFAULT_LOCALE="fr")
    assert language_of(page(app, "ja")) == "fr"


@pytest.mark.parametrize("selector", [lambda: "no locale", lambda: 1 / 0], ids=["no-locale", "raises"])
def test_a_selector_that_fails_leaves_it_to_the_header(make_app: AppFactory, selector: Callable[[], Any]) -> None:
    app = with_babel(make_app, selector)
    assert language_of(page(app, "ja")) == "ja"
    assert send(app, "ja").language == "ja"


def test_a_selector_that_wants_a_request_does_not_stop_a_code_without_one(make_app: AppFactory) -> None:
    otp = OTP()
    app = with_babel(make_app, lambda: request.args.get("lang"), otp, OTP_LANGUAGES=["es", "de"])
    with app.app_context(), capture_codes(app) as sent:
        otp.send(ANN)
        with force_locale("de"):
            otp.send("bob@example.com")
    assert [message.language for message in sent] == ["es", "de"]


def test_a_package_that_is_not_flask_babel_is_left_alone(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    app.extensions["babel"] = object()
    monkeypatch.setitem(sys.modules, "flask_babel", None)
    assert language_of(page(app, "de")) == "de"


def test_neither_babel_nor_flask_babel_is_needed() -> None:
    program = """
import sys
sys.modules["babel"] = sys.modules["flask_babel"] = None
import flask, flask_otp
app = flask.Flask("site")
app.config.update(TESTING=True, SECRET_KEY="x" * 16, OTP_STORAGE_URI="memory://")
otp = flask_otp.OTP(app)
assert "Anmelden" in app.test_client().get("/otp/", headers={"Accept-Language": "de"}).text
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


# The app's own words


@pytest.fixture
def own_words(tmp_path: Path) -> Path:
    """An app's own catalogue, as Flask-Babel has it; one of its texts is one of ours."""
    words = {"money transfer": "Überweisung", "amount": "Betrag", "Continue": "MEINS", "sms pigeon": "Brieftaube"}
    write_catalogue(tmp_path, "de", words)
    write_catalogue(tmp_path, "it", {"Continue": "MIO"})
    return tmp_path


def write_catalogue(app: Path, language: str, words: dict[str, str]) -> None:
    source = app / "translations" / language / "LC_MESSAGES" / "messages.po"
    source.parent.mkdir(parents=True)
    source.write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
        + "\n".join(f'msgid "{one}"\nmsgstr "{other}"\n' for one, other in words.items()),
        encoding="utf-8",
    )
    CommandLineInterface().run(["pybabel", "-q", "compile", "-d", str(app / "translations"), "-l", language])


def own_app(folder: Path, otp: OTP, templates: dict[str, str] | None = None, **config: Any) -> Flask:
    for name, source in (templates or {}).items():
        path = folder / "templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    app = Flask("site", root_path=str(folder))
    app.config.update(
        TESTING=True,
        SECRET_KEY=SECRET,
        OTP_STORAGE_URI="memory://",
        OTP_PURPOSES={"login": {}, "money-transfer": {}},
        OTP_CHANNELS={"email": print, "sms_pigeon": print},
    )
    app.config.update(config)
    otp.init_app(app)
    Babel(app, locale_selector=lambda: request.accept_languages.best_match(["de", "it", "en"]))

    @app.get("/pay")
    @otp_required(purpose="money-transfer", context=lambda: {"amount": "5 EUR", "": "100%"})
    def pay() -> str:
        return "paid"

    return app


def test_names_of_the_apps_own_are_looked_up_in_its_catalogues(own_words: Path) -> None:
    app = own_app(own_words, OTP())
    for accept, words in (
        ("de", ("„Überweisung“ bestätigen", "<dt>Betrag</dt>", "Brieftaube")),
        ("en", ("Confirm “money transfer”", "<dt>Amount</dt>", "Sms pigeon")),
    ):
        headers = HTML | {"Accept-Language": accept}
        client = app.test_client()
        client.get("/pay", headers=headers)
        shown = client.get("/otp/?purpose=money-transfer", headers=headers).text
        for word in words:
            assert word in shown
        assert "Content-Type" not in shown


@pytest.mark.parametrize(
    ("label", "german", "english"),
    [
        ("A <b>big</b> transfer", "A <b>big</b> transfer", "A <b>big</b> transfer"),
        ("amount", "Betrag", "amount"),
        (lazy_gettext("amount"), "Betrag", "amount"),
    ],
    ids=["text", "text with a translation", "lazy"],
)
def test_people_read_the_label_of_a_purpose(own_words: Path, label: object, german: str, english: str) -> None:
    settings = {"OTP_SMS_COUNTRIES": ("DE",), "OTP_COOLDOWN": 0}
    app = own_app(own_words, OTP(), OTP_PURPOSES={"login": {}, "money-transfer": {"label": label}}, **settings)
    for accept, words in (("de", german), ("en", english)):
        client = app.test_client()
        with capture_codes(app) as box:
            for to, channel, part in ((ANN, "email", "subject"), (PHONE, "sms_pigeon", "text")):
                body = {"identifier": to, "purpose": "money-transfer", "channel": channel}
                answer = client.post("/otp/send", json=body, headers={"Accept-Language": accept})
                assert answer.status_code == 200, answer.text
                assert words in getattr(box[-1], part)
                assert "transfer" not in getattr(box[-1], part).replace(words, "")
        assert str(escape(words)) in box[0].html
        for page in ("/otp/?purpose=money-transfer", "/otp/verify?purpose=money-transfer"):
            shown = client.get(page, headers=HTML | {"Accept-Language": accept}).text
            assert str(escape(words)) in shown
            assert "money transfer" not in shown


def test_our_words_and_the_apps_do_not_mix(own_words: Path) -> None:
    three_ways = "{{ _('Continue') }}|{% trans %}Continue{% endtrans %}|{{ gettext('Continue') }}"
    layout = three_ways + "|{% block title %}{% endblock %}"
    start = (
        '{% extends "layout.html" %}{% block title %}{{ _("Continue") }}|{{ otp_gettext("Continue") }}{% endblock %}'
    )
    app = own_app(own_words, OTP(), {"layout.html": layout, "flask_otp/send.html": start})
    app.add_url_rule("/mine", view_func=lambda: render_template("layout.html"))
    assert page(app, "de").text == "MEINS|MEINS|MEINS|MEINS|Weiter"
    assert page(app, "de", "/mine").text == "MEINS|MEINS|MEINS|"
    assert "otp_gettext" not in app.jinja_env.globals


def test_values_are_escaped_in_html_alone(tmp_path: Path) -> None:
    text = '{{ otp_gettext("The link was sent to %(destination)s.", destination="<i>%s") }}'
    otp = OTP()
    own = '{% set to %}<b>1</b>{% endset %}{{ otp_gettext("It goes to %(address)s", address=to) }} '
    app = own_app(tmp_path, otp, {"flask_otp/send.html": own + text, "flask_otp/email.txt": text})
    assert page(app, "de").text == "Es geht an <b>1</b> Der Link wurde an &lt;i&gt;%s gesendet."
    assert send(app, "de").text == "Der Link wurde an <i>%s gesendet."


def test_in_a_worker_the_apps_own_words_are_in_the_language_of_the_request(
    own_words: Path, queueing: OTP, queue: list[dict[str, str]]
) -> None:
    app = own_app(own_words, queueing, {"flask_otp/email.txt": "{{ _('Continue') }}|{{ otp_gettext('Continue') }}"})
    app.test_client().post("/otp/send", json={"email": ANN}, headers={"Accept-Language": "de-AT"})
    assert work(app, queueing, queue[0]).text == "MEINS|Weiter"
    app.test_client().post("/otp/send", json={"email": "bob@example.com"}, headers={"Accept-Language": "en"})
    assert work(app, queueing, queue[1]).text == "Continue|Continue"
    # One that the app speaks, and we do not.
    app.test_client().post("/otp/send", json={"email": "cleo@example.com"}, headers={"Accept-Language": "it"})
    assert work(app, queueing, queue[2]).text == "MIO|Continue"


# Nothing is left in English


class Brackets(NullTranslations):
    """A language in which each text is itself, in brackets."""

    def gettext(self, message: str) -> str:
        return f"[{message}]"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"[{msgid1 if n == 1 else msgid2}]"


@pytest.fixture
def brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "catalogue", lambda language: Brackets())


class Shown(HTMLParser):
    """What a person reads or hears of a page."""

    HEARD = ("alt", "aria-label", "content-text", "data-ready", "data-wait", "label", "placeholder", "title")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.skipping = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.skipping = tag if tag in ("style", "script") else ""
        self.texts += [value for name, value in attrs if name in self.HEARD and value]

    def handle_endtag(self, tag: str) -> None:
        self.skipping = ""

    def handle_data(self, data: str) -> None:
        if not self.skipping:
            self.texts.append(data)


def bare(text: str) -> str:
    """What is in no bracket, and neither an address nor the line that browsers look for in a text message."""
    text = re.sub(r"https?://\S+|^@\S+ #\S+$", "", text, flags=re.MULTILINE)
    while (shorter := re.sub(r"\[[^\[\]]*\]", "", text)) != text:
        text = shorter
    return " ".join(re.findall(r"[A-Za-z]+", text))


def check_html(html: str) -> None:
    assert "[" in html
    assert bare("".join(Shown(html).texts)) == ""


FACTS = {"1": "2"}


@pytest.fixture
def numbered(make_app: AppFactory, clock: Clock) -> Flask:
    """An app whose own names have no letters, with every page and message there is."""
    app = make_app(
        OTP(clock=clock),
        OTP_CHANNELS={"email": print, "sms": print, "voice": print},
        OTP_SMS_COUNTRIES=["DE"],
        OTP_PURPOSES={"login": {}, "p1": {}},
        OTP_SITE_NAME="«7»",
        OTP_BASE_URL="https://shop.example",
        OTP_LINKS=True,
        OTP_FAILURE_BUDGET="1/30 days",
    )

    @app.post("/pay")
    @otp_required(purpose="p1", context=lambda: dict(request.form))
    def pay() -> str:
        return "paid"

    @app.post("/plain")
    @otp_required(purpose="login")
    def plain() -> str:
        return "done"

    return app


def kinds_of_error() -> list[type[OTPError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OTPError)]


FORM = HTML | {"Sec-Fetch-Site": "same-origin"}


def walk(app: Flask, sent: Outbox, clock: Clock, path: str, purpose: str) -> Iterator[str]:
    """Every page on the way from a refused form to its confirmation."""
    client = app.test_client()
    query = "" if purpose == "login" else f"?purpose={purpose}"
    client.post(path, data=FACTS, headers=FORM)
    yield client.get(f"/otp/{query}", headers=HTML).text
    yield client.post("/otp/send", data={"purpose": purpose, "identifier": "7"}, headers=FORM).text
    client.post("/otp/send", data={"purpose": purpose, "identifier": ANN}, headers=FORM)
    yield client.get(f"/otp/verify{query}", headers=HTML).text
    yield client.post("/otp/resend", data={"purpose": purpose}, headers=FORM).text
    yield client.post("/otp/verify", data={"purpose": purpose, "link": "7"}, headers=FORM).text
    yield client.post("/otp/verify", data={"purpose": purpose, "code": "000000"}, headers=FORM).text
    for visitor in (client, app.test_client()):
        yield visitor.get(str(sent.link).removeprefix("https://shop.example"), headers=HTML).text
    clock.advance("290s")
    yield client.get(f"/otp/verify{query}", headers=HTML).text
    clock.advance("6m")
    client.post("/otp/send", data={"purpose": purpose, "identifier": ANN}, headers=FORM)
    yield client.get(f"/otp/verify{query}", headers=HTML).text
    client.post("/otp/verify", data={"purpose": purpose, "code": sent.code}, headers=FORM)
    yield client.get(f"/otp/repeat{query}", headers=HTML).text


@pytest.mark.usefixtures("brackets")
@pytest.mark.parametrize(("path", "purpose"), [("/plain", "login"), ("/pay", "p1")])
def test_no_page_has_a_text_that_cannot_be_translated(numbered: Flask, clock: Clock, path: str, purpose: str) -> None:
    with capture_codes(numbered) as sent:
        pages = list(walk(numbered, sent, clock, path, purpose))
    assert len(set(pages)) == len(pages) == 11
    for html in pages:
        check_html(html.replace("p1", "1"))


@pytest.mark.usefixtures("brackets")
def test_no_page_of_an_error_has_a_text_that_cannot_be_translated(numbered: Flask) -> None:
    for kind in kinds_of_error():
        for retry_after in (20, 200, 20000):
            error = kind()
            error.retry_after = retry_after
            with numbered.test_request_context(headers=HTML | {"Accept-Language": "de"}):
                check_html(numbered.extensions["otp"].render_error(error).get_data(as_text=True))
    client = numbered.test_client()
    headers = FORM | {"Accept-Language": "de"}
    for answer in (
        client.get("/otp/nowhere", headers=headers),
        client.put("/otp/send", headers=headers),
        client.post("/otp/send", data={"identifier": "7" * 5000}, headers=headers),
        client.post("/otp/send", data="7", content_type="text/x", headers=headers),
        client.post("/otp/send", data={"identifier": ANN}, headers=headers | {"Sec-Fetch-Site": "cross-site"}),
    ):
        assert answer.status_code >= 400
        check_html(answer.text)


@pytest.mark.usefixtures("brackets")
@pytest.mark.parametrize("purpose", ["login", "p1"])
@pytest.mark.parametrize("life", ["5m", "30s"])
@pytest.mark.parametrize("context_values", [None, FACTS])
def test_no_message_has_a_text_that_cannot_be_translated(
    make_app: AppFactory, purpose: str, life: str, context_values: dict[str, str] | None
) -> None:
    otp = OTP()
    app = make_app(
        otp,
        OTP_CHANNELS={"email": print, "sms": print},
        OTP_SMS_COUNTRIES=["DE"],
        OTP_PURPOSES={"login": {}, "p1": {}},
        OTP_SITE_NAME="«7»",
        OTP_BASE_URL="https://shop.example",
        OTP_LINKS=True,
        OTP_EXPIRES_IN=life,
    )
    with app.app_context(), capture_codes(app) as sent:
        for identifier in (ANN, PHONE):
            otp.send(identifier, purpose=purpose, context=context_values)
    for message in sent:
        check_html(message.html) if message.html else None
        for text in (message.subject, message.text):
            assert "[" in text
            assert bare(text.replace("p1", "1")) == ""


def test_all_that_an_api_client_reads_is_marked() -> None:
    """Whatever is raised with a text of its own has marked it for the catalogues."""
    folder = Path(flask_otp.__file__).parent
    sources = [path for path in folder.rglob("*.py") if "testing" not in path.parts and "doctor" not in path.parts]
    names = "InvalidRequest|InvalidIdentifier|InvalidCode|ChallengeRequired|RateLimited|DeliveryFailed|StoreUnavailable"
    for kind in kinds_of_error():
        assert isinstance(kind.description, Text), kind
    unmarked = rf"\b(?:{names}|CrossOrigin|InvalidSignature)\(\s*f?\""
    for path in sources:
        assert not re.findall(unmarked, path.read_text(encoding="utf-8")), path


def test_the_names_of_the_languages_are_as_html_writes_them() -> None:
    assert [languages.tag_of(name) for name in LANGUAGES] == list(SIGN_IN)
