"""Codes by telephone: TwiML for Twilio, and for providers that accept the same documents.

The call asks for a key before it says the code. A voicemail box presses no key, so no code is left in one: an attacker
who opens the box later, with its PIN or a caller number that it trusts, finds nothing.

The text to say after the key is in the URL that the provider requests then, sealed with ``SECRET_KEY`` and valid as
long as the code. Nothing is stored in between.
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

#: The name of each of our languages in Twilio's voices.
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

#: The query parameter with the sealed text.
_MEMBER = "otp"
_KEY = "1"
#: Seconds that the call waits for the key, each time it asks.
_PATIENCE = 8

_ASK = N_("This is %(site)s. To hear your code, press 1.", site="")
_OVER = N_("That code is no longer valid. Please ask for a new one.")


def twiml(message: Message, action: str, *, voice: str | None = None, language: str | None = None) -> str:
    """The start of a call: who calls, twice, and that the code follows after the key 1. Needs an app context.

    :param action: the absolute URL of a view of the app that answers with :func:`twiml_after_key`. It must be
        ``https``, except for this machine.
    :param voice: one of the provider's voices, such as ``"Polly.Vicki"``. By default the provider chooses.
    :param language: the provider's name of the language. By default one of :data:`LANGUAGES`.
    :raises ValueError: ``action`` is not such a URL, or the message has no code.
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
    """The call after the key: it says the code, unless the key is wrong or the code has expired.

    :param values: the values of the provider's request: Flask's ``request.values``.
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
    # XML cannot contain control characters, not even escaped.
    ET.SubElement(parent, "Say", options).text = "".join(char if char.isprintable() else " " for char in text)


def _document(response: ET.Element) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>' + ET.tostring(response, encoding="unicode")
