"""A code as text to read out on the telephone: digit by digit, and everything twice."""

from __future__ import annotations

from collections.abc import Mapping

from . import context_text
from .languages import N_, Text, catalogue

_DIGITS = (
    *(N_("zero"), N_("one"), N_("two"), N_("three"), N_("four")),
    *(N_("five"), N_("six"), N_("seven"), N_("eight"), N_("nine")),
)
#: Words of the international radiotelephony spelling alphabet (ICAO Annex 10), the same in every language.
_ALPHABET = (
    "Alfa Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliett Kilo Lima Mike November Oscar Papa Quebec Romeo "
    "Sierra Tango Uniform Victor Whiskey Xray Yankee Zulu"
)
_LETTERS = {word[0]: word for word in _ALPHABET.split()}

_MESSAGE = N_("This is %(site)s. Your code is: %(code)s. Once more, your code is: %(code)s.", site="", code="")
_CONFIRMING = N_("You are confirming:")
_KEEP = N_("Never pass the code on to anyone. We will never ask you for it.")


def speak(code: str, site_name: str, language: str, context_values: Mapping[str, str]) -> str:
    """
    :param code: without dashes. Empty: there is nothing to read out.
    :param language: as in ``Content-Language``.
    :param context_values: what the code confirms, as text that is safe to show.
    """
    if not code:
        return ""
    sentences = [say(_MESSAGE, language, site=site_name, code=spell(code, language))]
    if context_values:
        values = ", ".join(f"{context_text.show_name(name)}: {value}" for name, value in context_values.items())
        sentences.append(f"{say(_CONFIRMING, language)} {values}.")
    return " ".join([*sentences, say(_KEEP, language)])


def spell(code: str, language: str) -> str:
    """The code digit by digit, with short pauses. A letter is followed by its word: ``A, Alfa``."""
    parts = (f"{char}, {_LETTERS[char]}" if char in _LETTERS else say(_DIGITS[int(char)], language) for char in code)
    return ", ".join(parts)


def say(text: Text, language: str, **values: str) -> str:
    """The text in the given language, whatever the current one is. Needs no app context."""
    return catalogue(language.replace("-", "_")).gettext(text.message) % values
