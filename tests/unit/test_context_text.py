"""Context values as text: nothing to tap on, nothing unseen, and no two contexts that read the same."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from typing import Any

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from linkify_it import LinkifyIt

from flask_otp.context_text import cut, show, show_name

#: What a detector of links makes of a text, with every kind of link that it knows switched on.
_DETECTOR = LinkifyIt({}, {"fuzzy_ip": True, "fuzzy_link": True, "fuzzy_email": True})


def shown(value: Any) -> str:
    found = show({"name": value})
    assert found is not None
    return found["name"]


def links(text: str) -> list[str]:
    """Links and telephone numbers that a client would find."""
    found = [match.text for match in _DETECTOR.match(text) or ()]
    for region in ("US", "DE", "GB", "JP"):
        numbers = phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.POSSIBLE)
        found += [number.raw_string for number in numbers if sum(map(str.isdigit, number.raw_string)) >= 7]
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("https://help.evil.example/x?a=b", "https[:]//help[.]evil[.]example/x?a=b"),
        ("WWW.EVIL.COM.", "WWW[.]EVIL[.]COM."),
        ("help@evil.example", "help[@]evil[.]example"),
        ("tel:2125552368", "tel[:]2_125_552_368"),
        ("1https://evil.example", "1https[:]//evil[.]example"),
        ("10.0.0.1/x", "10[.]0[.]0[.]1/x"),
        ("evil。com", "evil[。]com"),
        ("(900) 555-0100 now", "(900_) 555_-0100 now"),
        ("+1 900 555 0100", "+1_ 900_ 555_ 0100"),
        ("DE89 3704 0044 0532 0130 00", "DE89_ 3704_ 0044_ 0532_ 0130_ 00"),
        (1000000, "1_000_000"),
        ("1234567.89 EUR", "1_234_567.89 EUR"),
        ("pay 12345.67", "pay 12_345.67"),
        ("x12345.67", "x12345_[.]67"),
        ("900x555x0100~0", "900_x555_x0100_~0"),
        ("900\u2212555\uff080100", "900_\u2212555_\uff080100"),
        ("x  26.11.2026", "x \\u0020_26_[.]11_[.]2026"),
        ("https://+11.5", "https[:]//+11[.]5"),
        ("www.+evil", "www[.]+evil"),
        ("@evil.example #123456", "@evil[.]example #123456".replace("@", "[@]")),
    ],
)
def test_what_a_client_would_make_a_link_of_is_parted(value: Any, text: str) -> None:
    assert shown(value) == text
    assert not links(text)


@pytest.mark.parametrize(
    "text", ["https://evil.example/x", "www.evil.com", "evil.com", "//1.5", "10.0.0.1", "+1 900 555 0100"]
)
def test_the_detector_of_these_tests_detects(text: str) -> None:
    assert links(text)


@pytest.mark.parametrize(
    "value",
    [
        "100 EUR",
        "12.50 EUR",
        "€12.50",
        "26.11.2026",
        "2026-11-26 10:00",
        "2026-11-26T10:30",
        "ACME Ltd.",
        "1.2.3",
        "Zoë",
    ],
)
def test_what_people_confirm_reads_as_it_is(value: str) -> None:
    assert shown(value) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\u200bb", "a\\u200bb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\r\nb\x00", "a\\u000d\\u000ab\\u0000"),
        ("a\u3164b\u2800\U000e0100", "a\\u3164b\\u2800\\U000e0100"),
        ("a  b ", "a \\u0020b\\u0020"),
        ("a\u00a0b", "a\\u00a0b"),
        ("e\u0301", "e\\u0301"),
        ("p\u0430ypal", "p\\u0430ypal"),
        ("\u0430 \u0431", "\u0430 \u0431"),
        ("[.] \\u200b 5_0; x", "\\u005b.] \\u005cu200b 5\\u005f0\\u003b x"),
        ("", '""'),
        ("250.00", '"250.00"'),
        ("true", '"true"'),
        (True, "true"),
        (12.5, "12.5"),
        ({"b": [1, None]}, '{"b": [1, null]}'),
        ('{"b": 1}', '"{\\u005c"b\\u005c": 1}"'),
    ],
)
def test_the_unseen_and_the_ambiguous_are_written_out(value: Any, text: str) -> None:
    assert shown(value) == text


def read_back(text: str) -> str:
    """The text from which it was made: for one reading there is one such text."""
    bare = re.sub(r"(?<=\d)_", "", text)
    bare = re.sub(r"\[([.:@\u3002\uff0e\uff61])\]", r"\1", bare)
    return re.sub(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})", lambda match: chr(int(match[1] or match[2], 16)), bare)


WORDS = 'https:// www. evil . com @ _ [ ] : / \\ u200b 0 12 3456789 - ( ) +1 ; " 。 T1 ٣ ² 1.5 26.11.'
PIECES = st.sampled_from([*WORDS.split(" "), " ", "  ", "\n", "\u200b", "\u0430", "\u0301", "\u202e"])
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20)


@given(TEXTS)
@example("2026-11-26 10:00")
@example("\u0663_")
@example("  26.11.")
@example("\n\u0663\u0663_1")
@settings(deadline=None)
def test_each_text_has_a_reading_of_its_own_with_nothing_to_tap_on(value: str) -> None:
    text = shown(f"x{value}")  # not a JSON value
    assert read_back(text) == f"x{value}"
    assert not links(text)
    assert all(unicodedata.category(char)[0] != "C" for char in text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-20, 20) | st.floats(allow_nan=False, width=16) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "1"]), inner, max_size=2),
    max_leaves=4,
)


@given(JSON, JSON)
@example(1, True)
@example("1", 1)
@example("[1]", [1])
@example('"1"', "1")
@example({"a": 0, "1": 0}, {"1": 0, "a": 0})
@settings(deadline=None)
def test_two_values_that_differ_read_differently(one: Any, other: Any) -> None:
    # As JSON: an object has no order, and ``1`` is neither ``True`` nor ``1.0``.
    one_text, other_text = (json.dumps(value, sort_keys=True) for value in (one, other))
    assert (shown(one) == shown(other)) == (one_text == other_text)


def test_what_is_no_object_has_nothing_to_show() -> None:
    assert show(None) is show("text") is show([1]) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("amount", "Amount"),
        ("to_account", "To account"),
        ("to account", '"to account"'),
        ("Amount", '"Amount"'),
        ("受取人", "受取人"),
        ("_to", '"_to"'),
        ("evil.example", '"evil[.]example"'),
        ("a: b\n", '"a: b\\u005cn"'),
        ("", '""'),
    ],
)
def test_names_read_as_people_write_them_and_never_two_the_same(name: str, text: str) -> None:
    assert show_name(name) == text


def test_a_cut_is_marked_with_what_stands_for_the_whole() -> None:
    long = [string.ascii_lowercase * 3 + end for end in "ab"]
    cuts = [cut(text, 60) for text in long]
    assert [len(text) for text in cuts] == [60, 60]
    assert len(set(cuts)) == 2
    assert all(re.fullmatch(r"[a-z]{45}\[\.\.\.[a-p]{10}\]", text) for text in cuts)
    assert cut("x" * 60, 60) == "x" * 60
