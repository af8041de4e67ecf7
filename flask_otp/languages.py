"""The language of pages, messages and errors, and the translation of texts.

Texts are written in English where they are used, and translated only when they are shown: an error may be raised for
one person and shown to another. The catalogues are gettext's, under ``translations/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations
from importlib import import_module
from importlib.resources import files
from types import NoneType
from typing import Any

from flask import current_app, has_app_context, has_request_context, request
from werkzeug.wrappers import Response

from .site import current_site

#: English is first and needs no catalogue: it is the fallback.
LANGUAGES = ("en", "de", "es", "fr", "pt", "ar", "hi", "ja", "zh_Hans")
_RIGHT_TO_LEFT = ("ar",)
#: Regions and script of traditional Chinese. Our ``zh`` catalogue is simplified Chinese.
_TRADITIONAL = frozenset({"hant", "tw", "hk", "mo"})

_spoken: ContextVar[str | None] = ContextVar("flask_otp_language", default=None)


class Text(str):
    """An English text that :func:`gettext` can still translate after values were filled in."""

    __slots__ = ("message", "values")

    message: str
    values: dict[str, object]


def N_(message: str, **values: object) -> Text:
    """Mark a text for the catalogues. It stays English for now. ``values`` fill in its ``%(name)s``."""
    text = Text(message % values)
    text.message, text.values = message, values
    return text


def gettext(text: str) -> str:
    """The text in the current language, unchanged if no catalogue has it."""
    message, values = (text.message, text.values) if isinstance(text, Text) else (text, None)
    # The empty text is the catalogue's header.
    said = catalogue(current()).gettext(message) if message else ""
    return said if values is None else said % values


def ngettext(one: str, many: str, number: int) -> str:
    """The text for ``number`` in the current language. The caller fills in ``%(num)s``."""
    return catalogue(current()).ngettext(one, many, number)


def in_the_apps_words(text: str) -> str:
    """The app's own name for something, such as a purpose, translated by its Flask-Babel catalogue if there is one."""
    babel = _flask_babel()
    return str(babel.gettext(text)) if babel is not None and text else text


def purpose_in_words(purpose: str) -> str:
    """What people read for a purpose: its label, otherwise its name. Both in the app's own words, on one line."""
    label = _label_of(purpose)
    if label is None:
        return in_the_apps_words(purpose.replace("_", " ").replace("-", " "))
    words = in_the_apps_words(label) if isinstance(label, str) else str(label)
    return " ".join(words.split())


def is_always_called_the_same(purpose: str) -> bool:
    """Whether :func:`purpose_in_words` returns the same text each time."""
    return isinstance(_label_of(purpose), (str, NoneType)) and _flask_babel() is None


def _label_of(purpose: str) -> object:
    site = current_site()
    return None if site is None else site.label_of(purpose)


@cache
def catalogue(language: str) -> NullTranslations:
    """The catalogue of one of :data:`LANGUAGES`, read on first use."""
    if language == LANGUAGES[0]:
        return NullTranslations()
    with files("flask_otp").joinpath(f"translations/{language}/LC_MESSAGES/flask_otp.mo").open("rb") as file:
        return GNUTranslations(file)


def current() -> str:
    """The current language, one of those in ``OTP_LANGUAGES``.

    In this order: the language of a :func:`speaking` block, the Flask-Babel locale if the app has it, the request's
    ``Accept-Language``, the first offered language.
    """
    spoken = _spoken.get()
    return _chosen(_offered()) if spoken is None else spoken


def _chosen(offered: Sequence[str]) -> str:
    if len(offered) == 1:
        return offered[0]
    locale = _babel_locale()
    if locale is not None:
        return choose([locale], offered) or offered[0]
    return _negotiated(tuple(request.accept_languages), tuple(offered)) if has_request_context() else offered[0]


def current_locale() -> str:
    """The locale to pass to :func:`speaking` later, without a request. As exact as Flask-Babel knows it."""
    return _babel_locale() or current()


@contextmanager
def speaking(locale: str | None = None) -> Iterator[None]:
    """Use the language of ``locale`` in the block, also for Flask-Babel.

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
    """The best offered language for an ``Accept-Language`` header (RFC 9110 12.5.4), best first with their qualities.

    If the client refuses all offered languages, the first one is used: a foreign language is better than no answer.
    """
    accepted = list(accepted)
    refused = {tag.lower() for tag, quality in accepted if quality == 0}
    left = [name for name in offered if refused.isdisjoint((tag_of(name).lower(), _subtags(name)[0]))] or offered
    return choose([tag for tag, quality in accepted if quality > 0], left) or left[0]


#: Cached, because browsers send the same header with each request.
_negotiated = lru_cache(256)(negotiate)


def choose(tags: Iterable[str], offered: Sequence[str]) -> str | None:
    """The offered language for the first tag that has one: ``de`` for ``de-AT``, ``zh_Hans`` for ``zh-CN``."""
    known = {_subtags(name)[0]: name for name in offered}
    # Readers of traditional Chinese prefer simplified Chinese to nothing, but not to another of their languages.
    wanted = sorted(map(_subtags, tags), key=lambda subtags: not _TRADITIONAL.isdisjoint(subtags))
    return next((known[subtags[0]] for subtags in wanted if subtags[0] in known), None)


def tag_of(language: str) -> str:
    """The tag for HTML and HTTP (BCP 47): ``zh-Hans``."""
    return language.replace("_", "-")


def page_attributes() -> dict[str, str]:
    """``lang`` and ``dir`` of a page in the current language."""
    language = current()
    return {"lang": tag_of(language), "dir": "rtl" if language in _RIGHT_TO_LEFT else "ltr"}


def tell_language(response: Response) -> None:
    """Name the current language in the headers, and that it was negotiated."""
    language, is_chosen = spoken()
    response.headers["Content-Language"] = language
    if is_chosen:
        response.vary.add("Accept-Language")


def spoken() -> tuple[str, bool]:
    """The current language as HTTP writes it, and whether it was chosen among several."""
    offered = _offered()
    return tag_of(_spoken.get() or _chosen(offered)), len(offered) > 1


def _subtags(tag: str) -> list[str]:
    return tag.lower().replace("_", "-").split("-")


def _offered() -> Sequence[str]:
    site = current_site()
    return LANGUAGES[:1] if site is None else site.languages


def _flask_babel() -> Any:
    """Flask-Babel, if the app has imported it and set it up."""
    if not has_app_context() or "babel" not in current_app.extensions:
        return None
    try:
        return import_module("flask_babel")
    except ImportError:  # another extension with this name
        return None


def _babel_locale() -> str | None:
    babel = _flask_babel()
    if babel is None:
        return None
    try:
        locale = babel.get_locale()
    except Exception:
        # The app's selector may need a request, or return no locale. The code is sent anyway.
        return None
    return None if locale is None else str(locale)


def _babel_speaking(locale: str) -> AbstractContextManager[None]:
    babel = _flask_babel()
    context: AbstractContextManager[None] = nullcontext() if babel is None else babel.force_locale(locale)
    return context
