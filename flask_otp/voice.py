"""Codes by telephone: TwiML for Twilio, and for providers that take the same documents.

The call asks for a key before it says the code. A voicemail box presses none, so that no code is left in one: who gets
into the box later, by its PIN or by the caller's number that it trusts, finds nothing.

What is to be said after the key is in the address that the provider asks then, sealed with ``SECRET_KEY`` and good for
as long as the code. Nothing is kept in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree as ET

from .languages import N_
from .models import Message
from .spoken import say, speak
from .state import current_state
from .urls import is_loopback

#: Each of our languages as Twilio's voices are called.
LANGUAGES = {
    "en": "en-US",
    "de": "de-DE",
    "es": "es-ES",
    "fr": "fr-FR",
    "pt": "pt-BR",
    "ar": "arb",
    "hi": "hi-IN",
    "ja": "ja-JP",
    "zh-Hans": "zh-CN",
}

#: The member of the address that carries what is to be said.
_MEMBER = "otp"
_KEY = "1"
#: Seconds that the call waits for the key, each time that it asks.
_PATIENCE = 8

_ASK = N_("This is %(site)s. To hear your code, press 1.", site="")
_OVER = N_("That code is no longer valid. Please ask for a new one.")


def twiml(message: Message, action: str, *, voice: str | None = None, language: str | None = None) -> str:
    """What a call says first: who calls, twice, and that the code comes after the key 1. Needs an app context.

    :param action: the absolute address of a view of the app that answers with :func:`twiml_after_key`. It must be
        ``https``, but for this machine.
    :param voice: one of the provider's voices, such as ``"Polly.Vicki"``; by default the provider chooses.
    :param language: what the provider calls the language; by default one of :data:`LANGUAGES`.
    :raises ValueError: ``action`` is no such address, or the message has no code.
    """
    place = urlsplit(action)
    if not (place.scheme == "https" or (place.scheme == "http" and is_loopback(place.hostname or ""))):
        raise ValueError("action must be an absolute https address")
    if not message.code:
        raise ValueError("the message has no code to say")
    state = current_state()
    values = [message.code, message.site_name, message.language, message.context_text, voice, language]
    until = int(state.clock()) + message.expires_in
    token = state.tokens.dump_call([until, *values])
    separator = "&" if place.query else "?"
    address = f"{action.partition('#')[0]}{separator}{urlencode({_MEMBER: token})}"
    response = ET.Element("Response")
    for _ in range(2):
        gather = ET.SubElement(response, "Gather", numDigits="1", timeout=str(_PATIENCE), action=address, method="POST")
        _say(gather, say(_ASK, message.language, site=message.site_name), message.language, voice, language)
    ET.SubElement(response, "Hangup")
    return _document(response)


def twiml_after_key(values: Mapping[str, str]) -> str:
    """What the call says after the key: the code. Another key, or a code that has expired, gets none.

    :param values: the members of the provider's request: Flask's ``request.values``.
    """
    state = current_state()
    call = state.tokens.load_call(values.get(_MEMBER))
    response = ET.Element("Response")
    if call is not None and values.get("Digits") == _KEY:
        until, code, site_name, spoken_in, context_text, voice, language = call
        is_over = until <= state.clock()
        text = say(_OVER, spoken_in) if is_over else speak(code, site_name, spoken_in, context_text)
        _say(response, text, spoken_in, voice, language)
    ET.SubElement(response, "Hangup")
    return _document(response)


def _say(parent: ET.Element, text: str, spoken_in: str, voice: str | None, language: str | None) -> None:
    options = {"language": language or LANGUAGES[spoken_in]} | ({"voice": voice} if voice else {})
    # XML has no place for control characters, not even in other words.
    ET.SubElement(parent, "Say", options).text = "".join(char if char.isprintable() else " " for char in text)


def _document(response: ET.Element) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(response, encoding="unicode")
