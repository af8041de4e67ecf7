"""Caches rendered messages as moulds, so Jinja does not render each message.

Rendering the three parts takes as long as the rest of a request. Two messages of one kind differ only in their code and
link, and our templates only print these. So the first message of a kind is rendered twice, the second time with other
letters in both places. The common text is kept as a mould with gaps for the next messages.

A mould is used only where it equals a rendering: the templates are all ours, all words are known beforehand, and
filling in the first message gives exactly its rendering.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, NamedTuple

from markupsafe import escape

from ..rendering import Templates

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
#: Maps each letter to another letter and each digit to another digit.
_OTHERS = str.maketrans(
    digits + ascii_lowercase + ascii_uppercase,
    digits[5:] + digits[:5] + ascii_lowercase[13:] + ascii_lowercase[:13] + ascii_uppercase[13:] + ascii_uppercase[:13],
)
#: Placeholders for the code and the link. A rendering that already contains one cannot become a mould.
_CODE, _LINK = "\0", "\x01"


class Parts(NamedTuple):
    subject: str
    text: str
    #: Empty if the message is not an e-mail.
    html: str


class Moulds:
    """Renders the parts of one app's messages."""

    #: Maximum kinds of messages: combinations of purpose, language, and minutes until the code expires.
    MAX_KEPT = 256

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        #: ``None``: this kind must be rendered each time.
        self._kept: dict[tuple[object, ...], Parts | None] = {}

    def render(self, words: dict[str, Any], *, is_email: bool, code_in_subject: bool) -> Parts:
        """The parts for these words, in the current language, which is one of the words."""
        key = self._kind_of(words, is_email, code_in_subject)
        mould = self._kept.get(key) if key else None
        if mould:
            return _filled(mould, words)

        def render(words: dict[str, Any]) -> Parts:
            return rendered(self._templates, words, is_email=is_email, code_in_subject=code_in_subject)

        parts = render(words)
        if key and key not in self._kept:
            if len(self._kept) >= self.MAX_KEPT:
                self._kept.clear()
            self._kept[key] = _mould(render, words, parts)
        return parts

    def _kind_of(self, words: dict[str, Any], is_email: bool, code_in_subject: bool) -> tuple[object, ...] | None:
        """Everything that a rendering depends on except code and link. ``None`` if it depends on more."""
        # A context is seldom the same twice, and the app's own words may change.
        if words["context_values"] is not None or not self._templates.are_ours(words["purpose"]):
            return None
        code = words["code"]
        others = [words[name] for name in ("purpose", "site_name", "minutes", "origin_host", "lang")]
        return (*others, len(code), code.isdigit(), words["link"] is None, is_email, code_in_subject)


def rendered(templates: Templates, words: dict[str, Any], *, is_email: bool, code_in_subject: bool) -> Parts:
    """Render the templates with these words."""

    # The subject gets no code, but must know whether there is one.
    typed = {"typed": bool(words["code"])}

    def render(name: str, **other: Any) -> str:
        # Not flask.render_template: the app's context processors may need a request, which a worker does not have.
        return templates.of_message(words["purpose"], name).render(words | typed | other).strip()

    return Parts(
        one_line(render("subject.txt", link=None) if code_in_subject else render("subject.txt", link=None, code=None)),
        render("email.txt" if is_email else "sms.txt"),
        render("email.html") if is_email else "",
    )


def one_line(text: str) -> str:
    """Join lines. A line break from a template, a builder or a site name could start another header."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def _mould(render: Callable[[dict[str, Any]], Parts], words: dict[str, Any], parts: Parts) -> Parts | None:
    """The common part of all messages of this kind. ``parts`` was rendered from these words."""
    code, link = words["code"].translate(_OTHERS), words["link"] and words["link"].translate(_OTHERS)
    others = render(words | {"code": code, "link": link})
    if any(gap in part for gap in (_CODE, _LINK) for part in others):
        return None
    if link:
        others = Parts(*(part.replace(gone, _LINK) for part, gone in zip(others, _links(link), strict=True)))
    mould = Parts(*(part.replace(code, _CODE) for part in others)) if code else others
    return mould if _filled(mould, words) == parts else None


def _filled(mould: Parts, words: dict[str, Any]) -> Parts:
    code, link = words["code"], words["link"]
    if link is None:
        return Parts(*[part.replace(_CODE, code) for part in mould])
    links = _links(link)
    return Parts(*[part.replace(_CODE, code).replace(_LINK, url) for part, url in zip(mould, links, strict=True)])


def _links(link: str) -> Parts:
    """The link as it appears in each part. The subject has no link."""
    return Parts(link, link, str(escape(link)))
