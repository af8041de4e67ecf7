"""What people read: the site, the purpose, the life of the code, the context_values, and the warning."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from babel import Locale
from flask import Flask

from flask_otp import OTP, ConfigError, DeliveryFailed, InvalidCode, Message
from flask_otp.languages import LANGUAGES
from flask_otp.stores.base import OpenResult
from flask_otp.stores.memory import MemoryStore
from flask_otp.testing import Clock, Outbox, capture_codes
from tests.support.apps import SECRET, AppFactory

ANN = "ann@example.com"
BOB = "bob@example.com"
PHONE = "+4915112345678"
BASE = "https://shop.example"
NOW = 1_790_000_000
LANGUAGES_PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "languages.md").read_text(encoding="utf-8")
LOCALES = {language: Locale.parse(language) for language in LANGUAGES}


class Site:
    """An app with an e-mail channel and a text message channel, seen from outside of any request."""

    def __init__(self, make_app: AppFactory, otp: OTP | None = None, **config: Any) -> None:
        self.clock = Clock(NOW)
        self.otp = otp or OTP(clock=self.clock)
        defaults: dict[str, Any] = {
            "OTP_CHANNELS": {"email": print, "sms": print},
            "OTP_SMS_COUNTRIES": ["DE"],
            "OTP_PURPOSES": {"login": {}, "money_transfer": {}},
            "OTP_SITE_NAME": "Shop",
        }
        self.app = make_app(self.otp, **defaults | config)

    def message(self, identifier: str = ANN, **arguments: Any) -> Message:
        """The message of one send."""
        with self.app.app_context(), capture_codes(self.app) as sent:
            self.otp.send(identifier, **arguments)
        return sent[-1]

    def strong_message(self, identifier: str = ANN, purpose: str = "login") -> Message:
        """The message after the one failure of an ``OTP_FAILURE_BUDGET`` of one a day."""
        with self.app.app_context(), capture_codes(self.app) as sent:
            handle = self.otp.send(identifier, purpose=purpose).handle
            wrong = "000000" if sent.code != "000000" else "000001"
            with pytest.raises(InvalidCode):
                self.otp.verify(wrong, challenge=handle, purpose=purpose)
            self.clock.advance("30s")
            self.otp.send(identifier, purpose=purpose)
        return sent[-1]


def flat(text: str) -> str:
    return " ".join(text.split())


def shown(html: str) -> str:
    """The text that a reader sees; the part of the preview that is not seen in the mail itself left out."""
    html = re.sub(r"<(head|style|title)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return flat(re.sub(r"<[^>]*>", " ", html))


# What every message says


@pytest.mark.parametrize("identifier", [ANN, PHONE])
@pytest.mark.parametrize(("purpose", "words"), [("login", "sign in"), ("money_transfer", "money transfer")])
def test_r44_a_message_names_site_purpose_life_and_warns(
    make_app: AppFactory, identifier: str, purpose: str, words: str
) -> None:
    message = Site(make_app).message(identifier, purpose=purpose)
    texts = [message.text] if identifier == PHONE else [message.text, shown(message.html)]
    for text in map(flat, texts):
        assert message.code in text
        assert "Shop" in text
        assert words in text
        assert "5 minutes" in text
        assert re.search(r"ignore", text, re.IGNORECASE)
        assert re.search(r"never pass (it|the code) on", text, re.IGNORECASE)


def test_a_text_message_is_this(make_app: AppFactory) -> None:
    site = Site(make_app, OTP_BASE_URL=BASE)
    for context_values, told in (
        (None, ""),
        ({"amount": "100 EUR", "to_account": "DE89"}, " Amount: 100 EUR; To account: DE89."),
    ):
        message = site.message(PHONE, context=context_values, purpose="money_transfer")
        assert message.text == (
            f'{message.code} is your code for "money transfer" at Shop.{told} Good for 5 minutes.'
            f" Not you? Ignore it. Never pass it on.\n@shop.example #{message.code}"
        )
        site.clock.advance("30s")


def test_the_message_says_what_it_is(make_app: AppFactory) -> None:
    message = Site(make_app).message(purpose="money_transfer")
    assert (message.channel, message.recipient, message.purpose) == ("email", ANN, "money_transfer")
    assert (message.site_name, message.expires_in) == ("Shop", 300)
    assert message.code not in message.subject
    assert "Shop" in message.subject
    assert "money transfer" in message.subject


#: GSM 03.38: a text of these alone has seven bits a character, and any other makes it sixteen.
GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_TWICE = "^{}\\[~]|€\f"


def segments(text: str) -> int:
    """What a text message is charged as."""
    if all(letter in GSM + GSM_TWICE for letter in text):
        length, one, each = len(text) + sum(letter in GSM_TWICE for letter in text), 160, 153
    else:
        length, one, each = len(text.encode("utf-16-be")) // 2, 70, 67
    return 1 if length <= one else -(-length // each)


def test_a_segment_is_counted_as_networks_do() -> None:
    assert [segments("a" * count) for count in (160, 161, 306, 307)] == [1, 2, 2, 3]
    assert [segments("€" + "a" * count) for count in (158, 159)] == [1, 2]
    assert [segments("я" * count) for count in (70, 71, 134, 135)] == [1, 2, 2, 3]


@pytest.mark.parametrize("row", re.findall(r"^\| (\w+) \| (\d+) \| (\d) \|$", LANGUAGES_PAGE, re.MULTILINE), ids=str)
def test_a_text_message_costs_what_the_docs_say(make_app: AppFactory, row: tuple[str, str, str]) -> None:
    name, length, count = row
    language = {locale.english_name.split()[0]: language for language, locale in LOCALES.items()}[name]
    site = Site(
        make_app,
        OTP_BASE_URL="https://shop.books.example",
        OTP_SITE_NAME="Bücher & Co Oslo",
        OTP_EXPIRES_IN="10m",
        OTP_LANGUAGES=[language],
    )
    text = site.message(PHONE).text
    assert (len(text), segments(text)) == (int(length), int(count))


def test_the_docs_count_every_language() -> None:
    assert len(re.findall(r"^\| (\w+) \| (\d+) \| (\d) \|$", LANGUAGES_PAGE, re.MULTILINE)) == len(LANGUAGES)


@pytest.mark.parametrize("purpose", ["login", "transfer"])
@pytest.mark.parametrize("life", ["60s", "5m", "10m"])
@pytest.mark.parametrize("strong", [False, True], ids=["short", "strong"])
def test_a_text_message_has_no_html_and_fits_one_segment(
    make_app: AppFactory, purpose: str, life: str, strong: bool
) -> None:
    """With a site's name and host of 34 characters together, which is all the room that the longest of these leaves."""
    name, host = "Bücher & Co Oslo", "shop.books.example"
    assert len(name + host) == 34
    site = Site(
        make_app,
        OTP_BASE_URL=f"https://{host}",
        OTP_SITE_NAME=name,
        OTP_EXPIRES_IN=life,
        OTP_FAILURE_BUDGET="1/day",
        OTP_PURPOSES={"login": {}, "transfer": {}},
    )
    message = (site.strong_message if strong else site.message)(PHONE, purpose=purpose)
    assert message.html == ""
    assert len(message.code) == (13 if strong else 6)
    assert segments(message.text) == 1, len(message.text)


def test_a_chat_message_is_the_short_text_even_where_its_recipient_has_an_at_sign(make_app: AppFactory) -> None:
    otp = OTP()
    otp.recipient_loader(lambda identifier, channel: "@ann")
    site = Site(make_app, otp, OTP_CHANNELS={"telegram": print}, OTP_DELIVERY="inline")
    message = site.message()
    assert message.recipient == "@ann"
    assert message.html == ""
    assert len(message.text.splitlines()) == 1


@pytest.mark.parametrize("identifier", [ANN, PHONE])
@pytest.mark.parametrize(
    ("life", "said"), [("10m", "10 minutes"), ("5m", "5 minutes"), ("119s", "1 minute"), ("60s", "1 minute")]
)
def test_the_life_that_is_named_is_never_longer_than_the_real_one(
    make_app: AppFactory, identifier: str, life: str, said: str
) -> None:
    message = Site(make_app, OTP_EXPIRES_IN=life).message(identifier)
    assert re.search(rf"\b{said}\b(?!s)", flat(message.text))


@pytest.mark.parametrize("identifier", [ANN, PHONE])
def test_a_code_that_lives_half_a_minute_is_not_said_to_live_a_whole_one(make_app: AppFactory, identifier: str) -> None:
    message = Site(make_app, OTP_EXPIRES_IN="30s").message(identifier)
    for text in (flat(message.text), shown(message.html)):
        assert not re.search(r"(?<!less than )\b(a|1) minute", text)


@pytest.mark.parametrize(("moment", "said"), [(1, "5 minutes"), (2, "4 minutes")])
def test_a_second_that_ends_before_the_message_is_written_costs_no_minute(
    make_app: AppFactory, moment: int, said: str
) -> None:
    clock = Clock(NOW)
    otp = OTP(clock=clock)
    app = make_app(otp)

    class Slow(MemoryStore):
        def open(self, *arguments: Any, **options: Any) -> OpenResult:
            opened = super().open(*arguments, **options)
            clock.advance(moment)
            return opened

    app.extensions["otp"].store = Slow()
    with capture_codes(app) as sent:
        app.test_client().post("/otp/send", json={"email": ANN})
    assert said in sent[0].text


def test_a_message_sent_again_names_the_life_that_is_left(make_app: AppFactory) -> None:
    clock = Clock(NOW)
    site = Site(make_app, OTP(clock=clock))
    client = site.app.test_client()
    with capture_codes(site.app) as sent:
        client.post("/otp/send", json={"email": ANN})
        clock.advance("3m")
        client.post("/otp/resend", json={})
    assert [message.expires_in for message in sent] == [300, 120]
    assert "2 minutes" in sent[1].text
    assert sent[0].code == sent[1].code


@pytest.mark.parametrize("identifier", [ANN, PHONE])
def test_a_strong_code_is_shown_in_three_groups(make_app: AppFactory, identifier: str) -> None:
    clock = Clock(NOW)
    site = Site(make_app, OTP(clock=clock), OTP_FAILURE_BUDGET="1/30 days", OTP_BASE_URL=BASE)
    with capture_codes(site.app) as sent:
        client = site.app.test_client()
        client.post("/otp/send", json={"identifier": identifier})
        client.post("/otp/verify", json={"code": "000000" if sent.code != "000000" else "000001"})
        clock.advance("30s")
        client.post("/otp/send", json={"identifier": identifier})
    message = sent[-1]
    written = f"{message.code[:4]}-{message.code[4:8]}-{message.code[8:]}"
    assert len(message.code) == 13
    assert written in message.text
    if identifier == ANN:
        assert written in message.html
    else:
        assert message.text.splitlines()[-1] == f"@shop.example #{written}"


@pytest.mark.parametrize("name", ["Shop", "The Cooperative of Booksellers & Stationers of Upper Northumberland " * 2])
def test_a_plain_mail_has_short_lines_and_says_what_the_other_says(make_app: AppFactory, name: str) -> None:
    context_values = {"amount": "100 EUR", "payee": "Bob"}
    site = Site(make_app, OTP_BASE_URL=BASE, OTP_SITE_NAME=name.strip(), OTP_LINKS=True)
    message = site.message(context=context_values, purpose="money_transfer")
    lines = [line for line in message.text.splitlines() if "https:" not in line]
    assert max(map(len, lines)) < 78
    assert lines.count(f"    {message.code}") == 1
    assert f"    {message.link}" in message.text.splitlines()
    assert "\n\n\n" not in message.text
    # All of the one is in the other; the link is behind its words there, and the name at the end is in the first.
    everything = flat(unescape(re.sub(r"<[^>]*>", "", message.html)))
    for sentence in re.split(r"(?<=[.:])\s|\n\n", message.text.replace(str(message.link), "")):
        assert flat(sentence).rstrip(":") in everything
    for shape in (message.text, everything):
        assert 0 < shape.index("Bob") < shape.index(message.code)  # what is confirmed, before the code for it


# The origin line of text messages, and the origin in mails


@pytest.mark.parametrize(
    ("base", "host"),
    [
        (BASE, "shop.example"),
        ("https://shop.example/", "shop.example"),
        ("https://Shop.Example:8443", "shop.example"),
        ("http://localhost:5000", "localhost"),
    ],
)
def test_r45_the_last_line_of_a_text_message_is_the_origin_and_the_code(
    make_app: AppFactory, base: str, host: str
) -> None:
    message = Site(make_app, OTP_BASE_URL=base).message(PHONE)
    assert message.text.splitlines()[-1] == f"@{host} #{message.code}"
    assert message.text.endswith(message.code)


@pytest.mark.parametrize("identifier", [ANN, PHONE])
@pytest.mark.parametrize("base", [None, BASE])
def test_r32_no_header_of_a_request_gets_into_a_message(
    make_app: AppFactory, identifier: str, base: str | None
) -> None:
    forged = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Server": "evil.example",
        "X-Original-URL": "https://evil.example/",
        "Forwarded": "host=evil.example",
        "User-Agent": "evil.example",
        "Accept-Language": "evil",
    }
    site = Site(make_app, OTP_BASE_URL=base)
    with capture_codes(site.app) as sent:
        site.app.test_client().post("/otp/send", json={"identifier": identifier}, headers=forged)
    [message] = sent
    everything = message.subject + message.text + message.html
    assert "evil" not in everything
    assert ("shop.example" in everything) is (base is not None)
    if base is None:
        assert not re.search(r"^@", message.text, re.MULTILINE)


def test_a_message_needs_no_request_and_no_context_processor_of_the_app(make_app: AppFactory) -> None:
    site = Site(make_app)

    @site.app.context_processor
    def wants_a_request() -> dict[str, Any]:
        from flask import request

        return {"path": request.path}

    message = site.message()
    assert message.code in message.text


# The context_values of a context

NASTY = "<script>alert(1)</script> & \"quotes\" 'too' {{ 7*7 }} {% raw %}"


def test_context_values_are_shown_in_order_in_every_form(make_app: AppFactory) -> None:
    context_values = {"amount": "100 EUR", "to_account": "DE89 3704"}
    site = Site(make_app)
    mail = site.message(context=context_values)
    text = site.message(PHONE, context=context_values).text
    for shape in (flat(mail.text), shown(mail.html), text):
        assert re.search(r"Amount:? 100 EUR.*To account:? DE89 3704", shape)


def test_r31_context_values_are_escaped_in_html_and_plain_in_text(make_app: AppFactory) -> None:
    message = Site(make_app).message(context={"payee": NASTY, "<b>name</b>": "x"})
    assert "<script" not in message.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in message.html
    assert "<b>name</b>" not in message.html
    assert NASTY in message.text
    assert "{{ 7*7 }} {% raw %}" in message.html


BREAKS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("mark", BREAKS, ids=ascii)
@pytest.mark.parametrize("identifier", [ANN, PHONE])
def test_r31_a_fact_cannot_fake_another_line(make_app: AppFactory, identifier: str, mark: str) -> None:
    site = Site(make_app, OTP_BASE_URL=BASE)
    plain = site.message(identifier, context={"payee": "Bob @evil.example #111111", "x": "y"})
    other = site.message(identifier.replace("ann", "bob").replace("678", "679"), context={
        f"payee{mark}@evil.example #222222": "x", "x": f"Bob{mark}@evil.example #111111{mark}{mark}",
    })  # fmt: skip
    assert len(other.text.splitlines()) == len(plain.text.splitlines())
    assert not re.search(r"^\s*@evil", other.text, re.MULTILINE)
    if identifier == PHONE:
        assert other.text.splitlines()[-1] == f"@shop.example #{other.code}"


def test_r31_nor_does_a_long_fact_come_to_a_line_of_its_own(make_app: AppFactory) -> None:
    site = Site(make_app, OTP_BASE_URL=BASE)
    for length in range(60, 80, 4):
        text = site.message(context={"payee": "x" * length + " 999999 @evil.example #999999"}).text
        assert not re.search(r"^\s*(999999|@evil)", text, re.MULTILINE)
        site.clock.advance("1h")


@pytest.mark.parametrize(
    "letter", ["\u202e", "\u2066", "\u200e", "\u061c", "\x00", "\x1b", "\x7f", "\ufeff"], ids=ascii
)
def test_a_fact_cannot_reverse_or_hide_what_follows(make_app: AppFactory, letter: str) -> None:
    message = Site(make_app).message(context={"payee": f"Bob{letter}ecila"})
    assert letter not in message.text + message.html
    assert f"Bob\\u{ord(letter):04x}ecila" in message.text


def test_long_context_values_are_cut_in_a_text_message_but_the_code_and_the_origin_are_not(
    make_app: AppFactory,
) -> None:
    message = Site(make_app, OTP_BASE_URL=BASE).message(PHONE, context={"n" * 100: "v" * 300})
    assert len(message.text) < 400
    assert message.text.startswith(message.code)
    assert message.text.splitlines()[-1] == f"@shop.example #{message.code}"
    assert "Never pass it on" in message.text


@pytest.mark.parametrize("context", [None, "text", 7, ["a", "b"], {}, True])
def test_a_context_that_is_no_object_shows_no_context_values(make_app: AppFactory, context: Any) -> None:
    assert "confirming" not in Site(make_app).message(context=context).text


def test_context_values_of_any_json_type_are_shown(make_app: AppFactory) -> None:
    text = Site(make_app).message(context={"amount": 12.5, "express": True, "nothing": None, "items": ["a", "b"]}).text
    assert re.search(r"Amount: 12\.5\n", text)
    assert "Items: " in text


# The site's name


def test_r31_a_site_name_is_escaped_in_html_and_plain_elsewhere(make_app: AppFactory) -> None:
    name = '<b>Tom</b> & "Jerry\'s" {{ 7*7 }}'
    site = Site(make_app, OTP_SITE_NAME=name)
    message = site.message()
    assert message.site_name == name
    assert name in message.subject
    assert name in flat(message.text)
    assert name in site.message(PHONE).text
    assert "<b>" not in message.html
    assert "&lt;b&gt;Tom&lt;/b&gt; &amp;" in message.html


@pytest.mark.parametrize("name", ["Shop\nBcc: eve@evil.example", "Shop\r", "", "   ", "\x00", 7, "a\u2028b"], ids=ascii)
def test_r31_a_site_name_that_is_not_one_line_stops_the_app(make_app: AppFactory, name: Any) -> None:
    with pytest.raises(ConfigError, match="OTP_SITE_NAME"):
        make_app(OTP_SITE_NAME=name)


def test_without_a_site_name_the_app_names_itself(make_app: AppFactory) -> None:
    assert Site(make_app, OTP_SITE_NAME=None).message().site_name == "site"


# Templates of the app


def with_templates(folder: Path, templates: dict[str, str], **config: Any) -> tuple[Flask, OTP, Outbox]:
    (folder / "flask_otp").mkdir(exist_ok=True)
    for name, source in templates.items():
        (folder / "flask_otp" / name).write_text(source, encoding="utf-8")
    app = Flask("site", template_folder=str(folder))
    app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://", OTP_SMS_COUNTRIES=["DE"])
    app.config.update(config)
    otp, sent = OTP(app), Outbox()
    otp.channel("email")(sent.append)
    otp.channel("sms")(sent.append)
    return app, otp, sent


def test_the_apps_own_templates_of_the_same_path_come_first(tmp_path: Path) -> None:
    app, otp, sent = with_templates(
        tmp_path,
        {
            "subject.txt": "Ihr Code\nfür {{ site_name }}\n",
            "email.txt": "Text {{ code }} {{ minutes }} {{ purpose }} {{ context_values.a }}",
            "email.html": "<p>{{ code }} {{ context_values.a }}</p>",
            "sms.txt": "Kurz {{ code }}",
        },
    )
    with app.app_context():
        otp.send(ANN, context={"a": "<i>"})
        otp.send(PHONE)
    mail, short = sent
    assert mail.subject == "Ihr Code für site"  # one line, whatever the template has
    assert mail.text == f"Text {mail.code} 5 login <i>"
    assert mail.html == f"<p>{mail.code} &lt;i&gt;</p>"
    assert short.text == f"Kurz {short.code}"


@pytest.mark.parametrize("name", ["subject.txt", "email.txt", "email.html", "sms.txt"])
def test_a_template_of_one_purpose_is_for_that_purpose_only(tmp_path: Path, name: str) -> None:
    """It comes before the app's general one, which comes before ours."""
    app, otp, sent = with_templates(tmp_path, {name: "general"}, OTP_PURPOSES={"login": {}, "wire": {}})
    (tmp_path / "flask_otp" / "wire").mkdir()
    (tmp_path / "flask_otp" / "wire" / name).write_text("wire", encoding="utf-8")
    to = PHONE if name == "sms.txt" else ANN
    part = {"subject.txt": "subject", "email.html": "html"}.get(name, "text")
    with app.app_context():
        otp.send(to, purpose="wire")
        otp.send(to)
    assert [getattr(message, part) for message in sent] == ["wire", "general"]


def test_a_template_that_is_written_later_is_found_where_templates_are_reloaded(tmp_path: Path) -> None:
    for reloads, subjects in ((True, ["general", "wire"]), (False, ["general", "general"])):
        config = {"OTP_PURPOSES": {"wire": {}}, "TEMPLATES_AUTO_RELOAD": reloads}
        app, otp, sent = with_templates(tmp_path, {"subject.txt": "general"}, **config)
        (tmp_path / "flask_otp" / "wire").mkdir(exist_ok=True)
        own = tmp_path / "flask_otp" / "wire" / "subject.txt"
        with app.app_context():
            otp.send(ANN, purpose="wire")
            own.write_text("wire", encoding="utf-8")
            otp.send(PHONE, purpose="wire")
        own.unlink()
        assert [message.subject for message in sent] == subjects


def test_a_subject_has_no_code_to_show_unless_configured(tmp_path: Path) -> None:
    template = {"subject.txt": "{{ code or 'none' }} {{ link or 'none' }}"}
    config = {"OTP_LINKS": True, "OTP_BASE_URL": BASE}
    subjects = []
    for shown in (False, True):
        app, otp, sent = with_templates(tmp_path, template, **config, OTP_CODE_IN_SUBJECT=shown)
        with app.app_context():
            otp.send(ANN)
        subjects.append(sent[-1].subject.replace(sent.code, "CODE"))
    assert subjects == ["none none", "CODE none"]


@pytest.mark.parametrize("purpose", ["login", "money_transfer"])
def test_a_subject_with_the_code_begins_with_it_as_it_is_written(make_app: AppFactory, purpose: str) -> None:
    site = Site(make_app, OTP_CODE_IN_SUBJECT=True, OTP_FAILURE_BUDGET="1/day")
    for message in (site.message(BOB, purpose=purpose), site.strong_message(purpose=purpose)):
        assert message.subject.startswith(f"{message.written_code} is your code to ")
        assert message.subject.endswith("Shop")
        assert message.written_code not in repr(message)


def test_one_template_may_be_replaced_and_the_others_stay(tmp_path: Path) -> None:
    app, otp, sent = with_templates(tmp_path, {"subject.txt": "Hallo"})
    with app.app_context():
        otp.send(ANN)
    assert sent[0].subject == "Hallo"
    assert "Never pass the code on" in flat(sent[0].text)


def test_a_template_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    app, otp, sent = with_templates(tmp_path, {"email.txt": "{{ 1 / 0 }}"})
    with app.app_context(), pytest.raises(DeliveryFailed):
        otp.send(ANN)
    assert sent == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ code }}\n{{ 1 / 0 }}", "ZeroDivisionError (email.txt, line 2): division by zero"),
        ("{{ code }}\n{{ shop.name }}", "UndefinedError (email.txt, line 2): 'shop' is undefined"),
        ("{{ code }}\n\n{{ url_for('shop') }}", "BuildError (email.txt, line 3): Could not build url"),
        ("{{ code }", "TemplateSyntaxError (email.txt, line 1): unexpected '}'"),
    ],
)
def test_the_log_names_the_template_and_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, said: str
) -> None:
    """And not the line of Jinja or Flask that raised the error."""
    app, otp, _ = with_templates(tmp_path, {"email.txt": source}, SERVER_NAME="shop.example")
    with app.app_context(), pytest.raises(DeliveryFailed):
        otp.send(ANN)
    assert f"a template failed: {said}" in caplog.text
