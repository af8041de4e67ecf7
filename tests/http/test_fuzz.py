"""Whatever comes in where something is parsed: no crash, no way past, and what is canonical stays as it is."""

from __future__ import annotations

import json
import string
from urllib.parse import urljoin, urlsplit

import pytest
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st

from flask_otp import OTP, InvalidIdentifier, identifiers
from flask_otp.config import parsers
from flask_otp.crypto import codes
from flask_otp.testing import capture_codes
from flask_otp.urls import is_safe_path
from tests.support.examples import examples

fuzzed = examples(30, 500)

#: Text near to what is parsed, where the traps are, and text of any kind.
_SPICE = ["", " ", "\t", "\n", "\r\n", "\0", "\u200b", "\u202e", "\ufeff", *',;<>"\\/', "//", "%0a"]
_MAIL = ["ann", "ANN", "\u00e4nn", "@", "example", ".", "com", "b\u00fccher", "xn--", "+", "\uff0e"]
_PHONE = ["+", "\uff0b", "1", "44", "\u0664", "\uff17", "415", "5550100", "-", "(", ")", "ext. 5", "00"]
_PATH = ["a", "?", "#", "@", ":", "http:", "javascript:", "evil.example", ".", "..", "%2f", "%5c", "\uff0f"]
_KINDS = ["application/json", "application/json; charset=utf-7", "text/plain", "", "multipart/form-data"]
near_mails = st.lists(st.sampled_from([*_SPICE, *_MAIL])).map("".join)
near_phones = st.lists(st.sampled_from([*_SPICE, *_PHONE])).map("".join)
any_text = st.one_of(near_mails, near_phones, st.text(max_size=300))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


# Identifiers


@fuzzed
@given(any_text, st.sampled_from(["email", "phone", "both"]))
@example("ann@example.com\n", "email")
@example("+14155550100;ext=5", "phone")
@example("@", "both")
def test_an_identifier_is_refused_or_one_canonical_address(text: str, accepts: str) -> None:
    try:
        address = identifiers.parse(text, accepts)
    except InvalidIdentifier:
        return
    # Canonical: to parse it again changes nothing. Otherwise two spellings would have two failure budgets.
    assert identifiers.parse(address.value) == address
    assert identifiers.parse(address.value.upper()) == address
    # One recipient, on one line, whatever a mail header or a gateway's form makes of it.
    assert address.value.isascii()
    assert address.value.isprintable()
    assert not set(address.value) & set(' ,;<>()[]:\\"/?\r\n')
    assert address.value.count("@") == (address.kind == "email")
    assert accepts in ("both", address.kind)


_LABEL = st.sampled_from(["a", "ann", "9", "a-b", "a--b", "-a", "b-", "xn--bcher-kva", "x" * 40, "ab--cd", "Ann", ""])
_TLD = st.sampled_from(["com", "COM", "c", "de1", "arpa", "local", "test", "nolocal", "localhost", "xn--p1ai", ""])


@examples(60, 1000)
@given(
    st.lists(_LABEL, min_size=1, max_size=4),
    st.lists(st.sampled_from(["", ".", "..", "+", "-", "_", "_.", "!"]), min_size=4, max_size=4),
    st.lists(_LABEL, max_size=3),
    _TLD,
)
@example(["ann"], [""] * 4, ["example"], "com")
def test_the_short_way_for_plain_addresses_is_the_long_way(
    names: list[str], marks: list[str], domain: list[str], tld: str
) -> None:
    text = "".join(name + mark for name, mark in zip(names, marks, strict=False)) + "@" + ".".join([*domain, tld])
    short = identifiers._plain_email(text)
    try:
        long = identifiers._email(text, ())
    except InvalidIdentifier:
        long = None
    assert short in (None, long)
    assert short == long or text != "ann@example.com"


@fuzzed
@given(any_json)
def test_only_text_is_an_identifier(value: object) -> None:
    if not isinstance(value, str):
        with pytest.raises(InvalidIdentifier):
            identifiers.parse(value)


@fuzzed
@given(any_text)
def test_a_mask_shows_little_of_anything(text: str) -> None:
    masked = identifiers.mask(text)
    local = text.rpartition("@")[0]
    assert "***" in masked
    assert len(local.strip("*\r\n")) < 2 or local not in masked


# Codes


@fuzzed
@given(st.text(max_size=80), st.integers(6, 12))
@example("\u0661\u0662\u0663\u0664\u0665\u0666", 6)
@example("\uff11\uff12\uff13 \uff14\uff15\uff16", 6)
def test_a_typed_code_is_refused_or_so_many_digits(typed: str, length: int) -> None:
    read = codes.normalise(typed, strong=False, length=length)
    if read is not None:
        assert len(read) == length
        assert set(read) <= set(string.digits)
        assert codes.normalise(read, strong=False, length=length) == read


@fuzzed
@given(st.text(max_size=80))
@example("\u0131ABCDEFGHJKMN")
@example("\ufb01ABCDEFGHJKMN")
def test_a_typed_strong_code_is_refused_or_thirteen_of_the_alphabet(typed: str) -> None:
    read = codes.normalise(typed, strong=True, length=6)
    if read is not None:
        assert len(read) == codes.STRONG_LENGTH
        assert set(read) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
        assert codes.normalise(read, strong=True, length=6) == read


@fuzzed
@given(st.integers(0, 2**256 - 1), st.data())
def test_a_strong_code_is_read_as_it_was_written_however_it_is_typed(number: int, data: st.DataObject) -> None:
    code = codes.encode_strong(number)
    twins = {"0": "0Oo", "1": "1IiLl"}
    typed = "".join(
        data.draw(st.sampled_from(twins.get(letter, letter + letter.lower())))
        + data.draw(st.sampled_from(["", "", "-", " ", "\u2013"]))
        for letter in code
    )
    assert codes.normalise(typed, strong=True, length=6) == code
    assert codes.normalise(codes.display(code), strong=True, length=6) == code


# Durations and limits


@fuzzed
@given(any_json | st.from_regex(r"\s*[0-9]{1,12}\s*[smhdw]?\s*", fullmatch=True))
@example("5m\n")
@example(True)
@example(float("nan"))
def test_a_duration_is_refused_or_whole_seconds(value: object) -> None:
    try:
        parsed = parsers.seconds(value)
    except ValueError:
        return
    assert type(parsed) is int
    assert parsed >= 0
    assert parsers.seconds(parsed) == parsed


@fuzzed
@given(any_json | st.from_regex(r"[0-9]{1,4} ?(/|per) ?[0-9]{0,3} ?(second|minute|hour|day|month)s?", fullmatch=True))
def test_a_limit_is_refused_or_counts_something(value: object) -> None:
    try:
        rates = parsers.rates(value)
    except ValueError:
        return
    assert rates
    assert all(rate.amount >= 1 and rate.period >= 1 for rate in rates)


# Where to go next


@fuzzed
@given(st.lists(st.sampled_from([*_SPICE, *_PATH])).map("".join))
@example("/\t/evil.example")
@example("/%09/evil.example")
@example("/\\evil.example")
@example("///evil.example")
def test_a_path_that_is_let_through_stays_on_this_host(path: str) -> None:
    if not is_safe_path(path):
        return
    # As Python reads it, and as browsers do: without tabs and newlines, with a backslash for a slash.
    for read in (path, path.translate({9: None, 10: None, 13: None}).replace("\\", "/")):
        there = urlsplit(urljoin("https://site.example/otp/verify", read))
        assert (there.scheme, there.netloc) == ("https", "site.example")


# Bodies


@pytest.fixture(scope="module")
def site() -> Flask:
    app = Flask("site")
    app.config.update(
        TESTING=True, SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://", OTP_IP_SEND_LIMIT=None, OTP_IP_VERIFY_LIMIT=None
    )
    OTP(app)
    return app


@pytest.fixture(scope="module")
def handle(site: Flask) -> str:
    with capture_codes(site):
        answer = site.test_client().post("/otp/send", json={"email": "ann@example.com"})
    return str(answer.json["challenge"])


_ROUTES = ("send", "verify", "resend", "logout")
_NAMES = ("identifier", "email", "phone", "channel", "purpose", "requirement", "next", "code", "link", "challenge")
bodies = st.one_of(
    any_json.map(json.dumps),
    st.dictionaries(st.sampled_from(_NAMES), any_json, max_size=4).map(json.dumps),
    st.lists(st.tuples(st.sampled_from(_NAMES), any_json)).map(
        lambda pairs: "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
    ),
    st.text(max_size=200),
    st.binary(max_size=200),
)


@fuzzed
@given(
    st.sampled_from(_ROUTES),
    bodies,
    st.sampled_from([*_KINDS, "application/x-www-form-urlencoded"]),
    st.sampled_from(["", "text/html", "*/*", "text/html;q=x"]),
)
@example("send", '{"email": ["ann@example.com"]}', "application/json", "")
@example("send", "[" * 3000, "application/json", "")
@example("verify", '{"code": 1e999}', "application/json", "")
def test_any_body_has_a_clear_answer_and_never_a_500(
    site: Flask, route: str, body: str | bytes, kind: str, accept: str
) -> None:
    with capture_codes(site) as sent:
        answer = site.test_client().post(
            f"/otp/{route}",
            data=body,
            headers={"Content-Type": kind, "Accept": accept},
        )
    assert answer.status_code < 500
    if sent:
        # Nothing goes to anything but what was asked for, in so many words.
        assert (route, answer.status_code) in (("send", 200), ("send", 303))
        assert len(sent) == 1


@fuzzed
@given(st.text(max_size=300) | st.text("._-" + string.ascii_letters + string.digits, max_size=300))
def test_no_text_is_a_token(site: Flask, text: str) -> None:
    tokens = site.extensions["otp"].tokens
    assert [load(text) for load in (tokens.load_handle, tokens.load_proof, tokens.load_delivery)] == [None] * 3
    assert tokens.load_requirement(text) is None
    assert tokens.load_known(text) == []


@fuzzed
@given(st.data())
def test_a_token_that_was_changed_is_none(site: Flask, handle: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(handle) - 1))
    letter = data.draw(st.sampled_from([letter for letter in "AZaz09-_." if letter != handle[place]]))
    tokens = site.extensions["otp"].tokens
    assert tokens.load_handle(handle) is not None
    assert tokens.load_handle(handle[:place] + letter + handle[place + 1 :]) is None
    assert tokens.load_handle(handle[:place]) is None
    assert tokens.load_proof(handle) is None


@fuzzed
@given(any_json)
def test_no_json_value_is_a_token(site: Flask, value: object) -> None:
    tokens = site.extensions["otp"].tokens
    if not isinstance(value, str):
        assert tokens.load_handle(value) is None
        assert tokens.load_delivery(value) is None
