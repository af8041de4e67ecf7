"""Message parts that are filled in rather than rendered: the same as rendered ones, or not used."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_babel import Babel
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader

from flask_otp import languages
from flask_otp.delivery import moulds
from flask_otp.delivery.moulds import Moulds, Parts, rendered
from flask_otp.rendering import Templates
from flask_otp.testing import capture_codes
from tests.support.apps import AppFactory
from tests.support.examples import examples

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BASE64 = string.ascii_letters + string.digits + "-_"

Words = dict[str, Any]


class Counted:
    """The moulds of an app, and how many parts were rendered."""

    def __init__(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.templates = Templates(app)
        self.moulds = Moulds(self.templates)
        self.renderings = 0

        def counted(*args: Any, **options: Any) -> Parts:
            self.renderings += 1
            return rendered(*args, **options)

        monkeypatch.setattr(moulds, "rendered", counted)

    def parts(self, words: Words, *, is_email: bool = True, code_in_subject: bool = False) -> Parts:
        """They are the same as rendered ones, whatever way they were made."""
        options = {"is_email": is_email, "code_in_subject": code_in_subject}
        with self.app.app_context(), languages.speaking(words["lang"]):
            found = self.moulds.render(words, **options)
            assert found == rendered(self.templates, words, **options)
        return found

    def is_rendered_each_time(self, **changed: Any) -> bool:
        for code in ("123456", "654321", "999999"):
            self.parts(words(code=code, **changed))
        before = self.renderings
        self.parts(words(code="000000", **changed))
        return self.renderings > before


@pytest.fixture
def counted(make_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counted]:
    def make(**config: Any) -> Counted:
        app = make_app(OTP_LANGUAGES=languages.LANGUAGES, **config)
        return Counted(app, monkeypatch)

    return make


def words(**changed: Any) -> Words:
    given: Words = {
        "code": "123456",
        "site_name": "Shop",
        "purpose": "login",
        "minutes": 5,
        "context_values": None,
        "origin_host": "shop.example",
        "link": None,
        "lang": "en",
        "dir": "ltr",
    }
    return given | changed


def strong(letters: str) -> str:
    return f"{letters[:4]}-{letters[4:8]}-{letters[8:]}"


_digit_codes = st.integers(6, 12).flatmap(lambda length: st.text(string.digits, min_size=length, max_size=length))
_codes = _digit_codes | st.text(CROCKFORD, min_size=13, max_size=13).map(strong)
_secrets = st.text(BASE64, min_size=24, max_size=24)
_names = st.text(max_size=40) | st.sampled_from(
    ["123456", "678901", "<b>&amp;", "a\0b", "{{ code }}", "%(code)s", "\x01"]
)


@examples(60, 1000)
@given(data=st.data())
def test_what_is_filled_in_is_what_would_be_rendered(data: st.DataObject) -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY="a secret that is only for tests", OTP_LANGUAGES=languages.LANGUAGES)
    app.testing = True
    templates = Templates(app)
    cast = Moulds(templates)
    locale = data.draw(st.sampled_from(languages.LANGUAGES))
    base = data.draw(
        st.none() | st.sampled_from(["https://a.example/x?a=1&b='", "https://shop.example:8443/otp/link/"])
    )
    shared = words(
        site_name=data.draw(_names),
        purpose=data.draw(st.sampled_from(["login", "transfer", "change_of-address"])),
        minutes=data.draw(st.integers(0, 10)),
        origin_host=data.draw(st.none() | st.just("shop.example")),
        lang=languages.tag_of(locale),
        dir=data.draw(st.sampled_from(["ltr", "rtl"])),
    )
    options = {"is_email": data.draw(st.booleans()), "code_in_subject": data.draw(st.booleans())}
    token = languages._spoken.set(locale)
    try:
        for _ in range(4):
            link = None if base is None else base + data.draw(_secrets)
            message = shared | {"code": data.draw(_codes), "link": link}
            with app.app_context():
                assert cast.render(message, **options) == rendered(templates, message, **options)
    finally:
        languages._spoken.reset(token)


@pytest.mark.parametrize("locale", languages.LANGUAGES)
@pytest.mark.parametrize("code", ["123456", "123456789012", "0123-4567-89ABC"])
def test_the_second_message_of_a_kind_is_not_rendered(counted: Callable[..., Counted], locale: str, code: str) -> None:
    cast = counted()
    kind = {"lang": languages.tag_of(locale), "dir": "rtl" if locale == "ar" else "ltr"}
    for is_email in (True, False):
        cast.parts(words(code=code, link="https://shop.example/a", **kind), is_email=is_email, code_in_subject=True)
        before = cast.renderings
        other = words(code=code[::-1] if code.isdigit() else "XXXX-0000-ZZZZZ", link="https://shop.example/b", **kind)
        found = cast.parts(other, is_email=is_email, code_in_subject=True)
        assert cast.renderings == before
        assert other["code"] in found.subject
        assert other["code"] in found.text


def test_each_kind_of_message_has_a_mould_of_its_own(counted: Callable[..., Counted]) -> None:
    """Each of these changes what the parts say; `Counted.parts` compares."""
    cast = counted()
    for changed in (
        {},
        {"minutes": 4},
        {"minutes": 0},
        {"site_name": "Bank"},
        {"purpose": "transfer"},
        {"origin_host": None},
        {"lang": "de"},
        {"link": "https://shop.example/x"},
        {"code": "12345678"},
        {"code": "123456789"},
        {"code": "0123-4567-89ABC"},
    ):
        for options in ({}, {"is_email": False}, {"code_in_subject": True}):
            for _ in range(2):
                cast.parts(words(**changed), **options)


def test_moulds_are_bounded(counted: Callable[..., Counted], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moulds, "MAX_KEPT", 3)
    cast = counted()
    for minutes in (1, 2, 3, 4):
        cast.parts(words(minutes=minutes))
    assert len(cast.moulds._kept) == 1
    assert not cast.is_rendered_each_time(minutes=4)


# Where a mould might not be what a rendering is


def test_what_is_confirmed_is_rendered_each_time(counted: Callable[..., Counted]) -> None:
    assert counted().is_rendered_each_time(context_values={"amount": "5 €"})


@pytest.mark.parametrize(
    "name", ["subject.txt", "email.txt", "email.html", "sms.txt", "_words.html", "_sentences.html"]
)
def test_a_template_of_the_apps_own_is_rendered_each_time(counted: Callable[..., Counted], name: str) -> None:
    cast = counted()
    ours, _, _ = cast.app.extensions["otp"].templates.environment.loader.get_source(
        cast.templates.environment, f"flask_otp/{name}"
    )
    cast.app.jinja_env.loader = DictLoader({f"flask_otp/{name}": ours + "{# #}"})
    cast.templates = Templates(cast.app)
    cast.moulds = Moulds(cast.templates)
    assert cast.is_rendered_each_time()


def test_a_template_for_one_purpose_is_rendered_each_time_and_the_others_are_not(
    counted: Callable[..., Counted],
) -> None:
    cast = counted()
    cast.app.jinja_env.loader = DictLoader({"flask_otp/transfer/sms.txt": "{{ range(9)|random }} {{ code }}"})
    cast.templates = Templates(cast.app)
    cast.moulds = Moulds(cast.templates)
    assert not cast.is_rendered_each_time(purpose="login")
    for code in ("123456", "654321", "999999"):
        with cast.app.app_context(), languages.speaking("en"):
            before = cast.renderings
            cast.moulds.render(words(code=code, purpose="transfer"), is_email=False, code_in_subject=False)
            assert cast.renderings == before + 1


def test_while_templates_are_reloaded_nothing_is_kept(counted: Callable[..., Counted]) -> None:
    assert counted(TEMPLATES_AUTO_RELOAD=True).is_rendered_each_time()


@pytest.mark.parametrize("size", [0, 20])
def test_where_jinja_keeps_few_templates_nothing_is_kept(counted: Callable[..., Counted], size: int) -> None:
    cast = counted()
    cast.app.jinja_env.cache = cast.app.jinja_env.overlay(cache_size=size).cache
    assert cast.is_rendered_each_time()


def test_a_filter_that_the_app_replaces_counts_at_once(counted: Callable[..., Counted]) -> None:
    cast = counted()
    assert not cast.is_rendered_each_time()
    cast.app.jinja_env.filters["striptags"] = lambda text: f"<{text}>"
    assert cast.is_rendered_each_time()
    assert cast.parts(words()).subject.startswith("<")


def test_a_purpose_in_the_apps_own_words_is_rendered_each_time(counted: Callable[..., Counted]) -> None:
    cast = counted()
    assert not cast.is_rendered_each_time(purpose="transfer")
    Babel(cast.app)
    assert cast.is_rendered_each_time(purpose="transfer")
    assert not cast.is_rendered_each_time(purpose="login")


@pytest.mark.parametrize(("label", "is_rendered"), [("Transfer of money", False), (Path("money"), True)])
def test_a_label_that_may_change_is_rendered_each_time(
    counted: Callable[..., Counted], label: object, is_rendered: bool
) -> None:
    cast = counted(OTP_PURPOSES={"login": {}, "transfer": {"label": label}})
    assert cast.is_rendered_each_time(purpose="transfer") is is_rendered


@pytest.mark.parametrize("name", ["678901", "a\0b", "\x01"])
def test_a_name_that_looks_like_a_gap_is_rendered_each_time(counted: Callable[..., Counted], name: str) -> None:
    # 123456 is tried with 678901 in its place.
    assert counted().is_rendered_each_time(site_name=name)


def test_the_messages_of_an_app_are_filled_in_and_each_has_its_own_code(make_app: AppFactory) -> None:
    app = make_app(OTP_COOLDOWN=0, OTP_BASE_URL="https://shop.example", OTP_LINKS=True)
    with capture_codes(app) as codes:
        for number in range(4):
            app.test_client().post("/otp/send", json={"email": f"ann{number}@example.com"})
    assert len({message.code for message in codes}) == 4
    for message in codes:
        assert message.link is not None
        assert message.written_code in message.text
        assert message.written_code in message.html
        assert message.link in message.text
        assert f'href="{message.link}"' in message.html
        assert not any(other.code in message.text + message.html for other in codes if other is not message)


def test_control_characters_and_line_breaks_become_one_space() -> None:
    assert moulds.one_line(" a\x00\x07b\r\nBcc: c\x7fd\x9fe\u2028f  g ") == "a b Bcc: c d e f g"
