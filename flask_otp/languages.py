"""The language of pages, messages and errors: which one it is, and how a text is said in it.

Texts are written in English where they are used, and translated when they are shown, never earlier: an error may be
raised for one person and shown to another. The catalogues are gettext's, under ``translations/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations
from importlib import import_module
from importlib.resources import files
from typing import Any

from flask import current_app, has_app_context, has_request_context, request
from werkzeug.wrappers import Response

from .site import current_site

#: English comes first and needs no catalogue: it is the fallback.
LANGUAGES = ("en", "de", "es", "fr", "pt", "ar", "hi", "ja", "zh_Hans")
_RIGHT_TO_LEFT = ("ar",)
#: The regions, and the script, of traditional Chinese. Our ``zh`` catalogue is simplified.
_TRADITIONAL = frozenset({"hant", "tw", "hk", "mo"})

_spoken: ContextVar[str | None] = ContextVar("flask_otp_language", default=None)


class Text(str):
    """An English text, which :func:`gettext` can still say in another language when it has values filled in."""

    __slots__ = ("message", "values")

    message: str
    values: dict[str, object]


def N_(message: str, **values: object) -> Text:
    """Mark a text for the catalogues. It is English for now; its ``%(name)s`` are filled in with ``values``."""
    text = Text(message % values)
    text.message, text.values = message, values
    return text


def gettext(text: str) -> str:
    """The text in the current language; unchanged, if no catalogue has it."""
    message, values = (text.message, text.values) if isinstance(text, Text) else (text, None)
    # The empty one is the catalogue's own header.
    said = catalogue(current()).gettext(message) if message else ""
    return said if values is None else said % values


def ngettext(one: str, many: str, number: int) -> str:
    """The text for ``number``, in the current language. The caller fills in its ``%(num)s``."""
    return catalogue(current()).ngettext(one, many, number)


def in_the_apps_words(text: str) -> str:
    """The app's own name for something, such as a purpose: translated by its Flask-Babel catalogue where it has one."""
    babel = _flask_babel()
    return str(babel.gettext(text)) if babel is not None and text else text


@cache
def catalogue(language: str) -> NullTranslations:
    """The catalogue of one of :data:`LANGUAGES`, read when it is first wanted."""
    if language == LANGUAGES[0]:
        return NullTranslations()
    with files("flask_otp").joinpath(f"translations/{language}/LC_MESSAGES/flask_otp.mo").open("rb") as file:
        return GNUTranslations(file)


def current() -> str:
    """The language to speak: one of those that ``OTP_LANGUAGES`` offers.

    That of a :func:`speaking` block; else that of Flask-Babel's locale, where the app has it; else of the request's
    ``Accept-Language``; else the first on offer.
    """
    spoken = _spoken.get()
    if spoken is not None:
        return spoken
    offered = _offered()
    if len(offered) == 1:
        return offered[0]
    locale = _babel_locale()
    if locale is not None:
        return choose([locale], offered) or offered[0]
    return _negotiated(tuple(request.accept_languages), tuple(offered)) if has_request_context() else offered[0]


def current_locale() -> str:
    """What to pass to :func:`speaking` later, without a request: as exact as Flask-Babel knows it."""
    return _babel_locale() or current()


@contextmanager
def speaking(locale: str | None = None) -> Iterator[None]:
    """Use the language of ``locale`` in the block, in Flask-Babel too.

    ``None``: the current language, chosen once for the whole block.
    """
    offered = _offered()
    token = _spoken.set(current() if locale is None else choose([locale], offered) or offered[0])
    try:
        with nullcontext() if locale is None else _babel_speaking(locale):
            yield
    finally:
        _spoken.reset(token)


def negotiate(accepted: Iterable[tuple[str, float]], offered: Sequence[str]) -> str:
    """The best language on offer for an ``Accept-Language`` (RFC 9110 12.5.4), best first with their qualities.

    If the client refuses all that is offered, it is the first one: an answer in a foreign language is better than none.
    """
    accepted = list(accepted)
    refused = {tag.lower() for tag, quality in accepted if quality == 0}
    left = [name for name in offered if refused.isdisjoint((tag_of(name).lower(), _subtags(name)[0]))] or offered
    return choose([tag for tag, quality in accepted if quality > 0], left) or left[0]


#: Browsers say the same with each request.
_negotiated = lru_cache(256)(negotiate)


def choose(tags: Iterable[str], offered: Sequence[str]) -> str | None:
    """The language on offer for the first of the tags that has one: ``de`` for ``de-AT``, ``zh_Hans`` for ``zh-CN``."""
    known = {_subtags(name)[0]: name for name in offered}
    # A reader of traditional Chinese prefers simplified Chinese to nothing, but not to another of their languages.
    wanted = sorted(map(_subtags, tags), key=lambda subtags: not _TRADITIONAL.isdisjoint(subtags))
    return next((known[subtags[0]] for subtags in wanted if subtags[0] in known), None)


def tag_of(language: str) -> str:
    """As HTML and HTTP write it (BCP 47): ``zh-Hans``."""
    return language.replace("_", "-")


def page_attributes() -> dict[str, str]:
    """``lang`` and ``dir`` of a page in the current language."""
    language = current()
    return {"lang": tag_of(language), "dir": "rtl" if language in _RIGHT_TO_LEFT else "ltr"}


def tell_language(response: Response) -> None:
    """Name the current language in the headers, and that it was chosen."""
    response.headers["Content-Language"] = tag_of(current())
    if len(_offered()) > 1:
        response.vary.add("Accept-Language")


def _subtags(tag: str) -> list[str]:
    return tag.lower().replace("_", "-").split("-")


def _offered() -> Sequence[str]:
    site = current_site()
    return LANGUAGES[:1] if site is None else site.languages


def _flask_babel() -> Any:
    """Flask-Babel, where it is set up on the app; it is the app that imports it."""
    if not has_app_context() or "babel" not in current_app.extensions:
        return None
    try:
        return import_module("flask_babel")
    except ImportError:  # another extension of that name
        return None


def _babel_locale() -> str | None:
    babel = _flask_babel()
    if babel is None:
        return None
    try:
        locale = babel.get_locale()
    except Exception:
        # The app's selector may need a request, or return no locale. A code goes out all the same.
        return None
    return None if locale is None else str(locale)


def _babel_speaking(locale: str) -> AbstractContextManager[None]:
    babel = _flask_babel()
    context: AbstractContextManager[None] = nullcontext() if babel is None else babel.force_locale(locale)
    return context
