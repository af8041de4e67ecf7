"""The context of a code as text for people, in messages and on pages.

Anyone can have a message sent whose context contains their words. So the text has nothing that a mail program or a
phone turns into a link, nothing invisible, and only one reading: different contexts never look the same.

``[.]``, ``[:]`` and ``[@]`` stand for the plain character, and ``_`` after a digit splits what could be a telephone
number. ``\\u200b`` stands for the character with this number. A plain character that could be taken for one of these
forms is written by its number too.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

#: Unicode categories without a visible shape. Of the spaces (Zs), all but the ordinary one.
_SHAPELESS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
#: The same among letters, marks and symbols: joiners, fillers, blanks, variation selectors.
_BLANKS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: Scripts with letters that look like Latin ones. Mixed within one word, they are a deception.
_LOOK_ALIKE = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC")
_WORD = re.compile(r"\w+")

#: The colon of a scheme, as in ``https:`` or ``tel:``, before any text. The colon of ``T10:30`` in a time does not
#: count.
_SCHEME = re.compile(r"((?<![^\W_])[A-Za-z][A-Za-z0-9+.\-]*):(?=\S)|:(?=//)")
_AT = re.compile(r"@(?=\S)")
#: Possible host names: words with dots between them. Browsers treat ``。`` and similar characters as dots.
_DOTTED = re.compile(r"[\w\-]+(?:[.\u3002\uff0e\uff61][\w\-]+)+")
_DOT = re.compile("[.\u3002\uff0e\uff61]")
#: Text that is a link with any host, and the dots in it that are not split yet.
_LINK_START = re.compile(r"(?:(?<=//)|(?<![^\W_])(?=(?i:www)[.\u3002\uff0e\uff61]))\S+")
_BARE_DOT = re.compile(r"(?<!\[)[.\u3002\uff0e\uff61](?=\S)")
_DATE = (
    r"(?<![\d+\-./()])(?:(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:[0-2]\d|3[01])"
    r"|(?:[0-2]?\d|3[01])[./](?:[0-2]?\d|3[01])[./](?:19|20)\d\d)(?![\d\-./()])"
)
_A_DATE = re.compile(_DATE)
#: Seven or more digits, with what people (or :func:`_part_host`) write between a telephone number's digits.
_PUNCTUATION = r" .\-/()\[\]x~\u2010-\u2015\u2053\u2212\u223c\u30fc\uff08\uff09\uff0d\uff0f\uff3b\uff3d\uff5e"
_NUMBER = re.compile(rf"{_DATE}|\d(?:[{_PUNCTUATION}]{{0,4}}\d){{6,}}")
_DECIMAL = re.compile(r"\d+(?:\.\d{1,3})?")
_LONG_RUN = re.compile(r"\d{7,}")
_GROUP_END = re.compile(r"(?<=\d)(?=(?:\d{3})+$)")
_RUN_END = re.compile(r"(?<=\d)(?=[^\d_])")


#: A name as programs write it. It is shown with spaces and an upper-case first letter.
_PROGRAM_NAME = re.compile(r"[^\W_]+(?:_[^\W_]+)*")
_MARK = 10


def show(context_values: Any) -> dict[str, str] | None:
    """Each value of a context as text, by its name. ``None`` if the context is not an object, and so has no names.

    A string is shown unchanged, or in quotes if it could be taken for another JSON value. Other values are shown as
    JSON.
    """
    if not isinstance(context_values, dict):
        return None
    return {name: _without_links(_visible(_words(value))) for name, value in context_values.items()}


def show_name(name: str) -> str:
    """The name of a value: ``to_account`` as ``To account``. A name that no program would use is shown in quotes."""
    first = name[:1].upper()
    is_program_name = _PROGRAM_NAME.fullmatch(name) and first.lower() == name[:1] and _visible(name) == name
    if is_program_name:
        return first + name[1:].replace("_", " ")
    return _without_links(_visible(json.dumps(name, ensure_ascii=False)))


def cut(text: str, length: int) -> str:
    """The text, or its beginning with ``[...`` and letters derived from the whole: different texts stay different."""
    if len(text) <= length:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_MARK]
    # Letters only: ten digits would be a telephone number.
    letters = digest.translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
    return f"{text[: length - _MARK - 5]}[...{letters}]"


def _words(value: Any) -> str:
    as_json = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if not isinstance(value, str):
        return as_json
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return value or as_json
    return as_json


def _visible(text: str) -> str:
    """The text with a number for each character that is invisible or could be taken for one of our forms."""
    foreign = {place for word in _WORD.finditer(text) for place in _look_alikes(word)}
    shown, is_behind_number = "", False
    for place, char in enumerate(text):
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        if place in foreign or _is_hidden(char, before, after) or _is_a_form(char, after, shown):
            shown += f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
            is_behind_number = shown[-1].isdecimal()
        else:
            # A digit of the text must not merge with the digits that stand for a character.
            shown += f"_{char}" if is_behind_number and char.isdecimal() else char
            is_behind_number = False
    return shown


def _is_hidden(char: str, before: str, after: str) -> bool:
    if char == " ":
        return before in ("", " ") or not after  # at an edge, or one of several spaces
    if unicodedata.category(char) in _SHAPELESS or _BLANKS.match(char):
        return True
    # In another normal form, the same text would look like this one.
    return unicodedata.normalize("NFC", before + char) != before + char


def _is_a_form(char: str, after: str, shown: str) -> bool:
    if char == "_":
        return shown[-1:].isdigit()
    if char == ";":
        return after == " "  # separates the values in a text message
    return char == "\\" or (char == "[" and after in (".", ":", "@", "\u3002", "\uff0e", "\uff61"))


def _look_alikes(word: re.Match[str]) -> Iterator[int]:
    scripts = [unicodedata.name(char, "").partition(" ")[0] for char in word[0]]
    if "LATIN" in scripts:
        yield from (word.start() + place for place, script in enumerate(scripts) if script in _LOOK_ALIKE)


def _without_links(text: str) -> str:
    text = _SCHEME.sub(lambda match: f"{match[1] or ''}[:]", text)
    text = _AT.sub("[@]", text)
    text = _DOTTED.sub(_part_host, text)
    text = _LINK_START.sub(lambda match: _BARE_DOT.sub(r"[\g<0>]", match[0]), text)
    return _NUMBER.sub(_part_number, text)


def _part_host(match: re.Match[str]) -> str:
    labels = _DOT.split(match[0])
    # "12.50", "1.2.3" and "26.11.2026" are not hosts, but four numbers are an address.
    is_place = match.string[: match.start()].endswith(("/", "]"))
    is_number = all(label.isdecimal() for label in labels) and len(labels) != 4 and not is_place
    return match[0] if is_number else _DOT.sub(r"[\g<0>]", match[0])


def _part_number(match: re.Match[str]) -> str:
    text = match[0]
    if _A_DATE.fullmatch(text):
        return text
    if _DECIMAL.fullmatch(text):
        whole, point, fraction = text.partition(".")
        return _GROUP_END.sub("_", whole) + point + fraction
    text = _LONG_RUN.sub(lambda run: _GROUP_END.sub("_", run[0]), text)
    return _RUN_END.sub("_", text)
