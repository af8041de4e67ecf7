"""Our templates, and the app's own of the same path before them, with the words of :mod:`.languages`."""

from __future__ import annotations

import os
from functools import cache, cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from flask import Flask, render_template
from jinja2 import (
    BytecodeCache,
    ChoiceLoader,
    Environment,
    PackageLoader,
    Template,
    pass_eval_context,
    select_autoescape,
)
from jinja2.bccache import Bucket
from jinja2.nodes import EvalContext
from markupsafe import Markup

from . import context_text, languages

#: Our own templates lie here.
_OURS = str(Path(__file__).parent / "templates") + os.sep


class CompiledTemplates(BytecodeCache):
    """What our templates compile to, for all apps of this process: to compile them takes 90 ms.

    An entry is found by the template's name, file and source, and by each option of the Jinja environment that the
    compiler reads. So a template that has changed is compiled again. A template of the app itself is not kept here, and
    nothing is kept for an app that changes Jinja's own filters or tests, since the compiler may call them.
    """

    #: Our templates for the environments of about ten apps that differ in their options.
    MAX_ENTRIES = 128

    def __init__(self) -> None:
        self._code: dict[tuple[Any, ...], CodeType] = {}

    def get_bucket(self, environment: Environment, name: str, filename: str | None, source: str) -> Bucket:
        entry = None
        if filename is not None and filename.startswith(_OURS) and _is_plain(environment):
            entry = (name, filename, source, *_options(environment, name))
        return _CompiledTemplate(environment, entry, self._code.get(entry) if entry else None)

    def set_bucket(self, bucket: Bucket) -> None:
        if isinstance(bucket, _CompiledTemplate) and bucket.entry and bucket.code is not None:
            if len(self._code) >= self.MAX_ENTRIES:
                self._code.clear()
            self._code[bucket.entry] = bucket.code

    def load_bytecode(self, bucket: Bucket) -> None:
        """Do nothing: :meth:`get_bucket` has done it."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Do nothing: :meth:`set_bucket` has done it."""


class _CompiledTemplate(Bucket):
    def __init__(self, environment: Environment, entry: tuple[Any, ...] | None, code: CodeType | None) -> None:
        super().__init__(environment, "", "")
        self.entry = entry
        self.code = code


_COMPILED = CompiledTemplates()


class Templates:
    """The templates of one app."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._parts: dict[tuple[str, str], Template] = {}
        self._are_ours: dict[str, bool] = {}

    @cached_property
    def environment(self) -> Environment:
        """The app's own Jinja environment, and ours behind it, since the blueprint may not be mounted.

        Made when it is first wanted: the app may still set its Jinja options while it is being made.
        """
        loaders = [loader for loader in (self._app.jinja_env.loader,) if loader is not None]
        ours = self._app.jinja_env.overlay(
            loader=ChoiceLoader([*loaders, PackageLoader("flask_otp")]),
            bytecode_cache=self._app.jinja_env.bytecode_cache or _COMPILED,
        )
        # The names are our own, so "_" keeps its meaning in the app's templates, also in those that replace ours. They
        # are not among the app's globals: Flask accepts no more of those once the app has served a request.
        ours.globals = self._app.jinja_env.globals | _WORDS
        return ours

    def of_message(self, purpose: str, name: str) -> Template:
        """The template of a part of a message: that of the purpose, where there is one, else that of all."""
        found = self._parts.get((purpose, name))
        if found is None or self.environment.auto_reload:
            # Jinja remembers what there is, but looks again each time for what there is not.
            found = self.environment.select_template([f"flask_otp/{purpose}/{name}", f"flask_otp/{name}"])
            self._parts[purpose, name] = found
        return found

    def are_ours(self, purpose: str) -> bool:
        """Whether the messages of a purpose are what our own templates make of them, at each time the same.

        Not where the app has its own of any of them, has put something in the place of Jinja's own filters, may say
        the purpose in words of its own, or lets Jinja look at the files again.
        """
        environment = self.environment
        if _looks_again(environment) or not _is_plain(environment):
            return False
        if purpose not in self._are_ours:
            parts = [self.of_message(purpose, name) for name in _PARTS]
            parts += [environment.get_template(f"flask_otp/{name}") for name in _IMPORTED]
            self._are_ours[purpose] = all((part.filename or "").startswith(_OURS) for part in parts)
        return self._are_ours[purpose] and (purpose == "login" or "babel" not in self._app.extensions)

    def render_page(self, name: str, **values: Any) -> str:
        """One of our pages, in the language of the current request.

        Of ``context_values`` it gets text that is safe to show.
        """
        if "context_values" in values:
            values["context_values"] = context_text.show(values["context_values"])
        with languages.speaking():
            page = self.environment.get_template(f"flask_otp/{name}")
            return render_template(page, **values, **languages.page_attributes())


#: What a message is made of, and what that imports.
_PARTS = ("subject.txt", "email.txt", "email.html", "sms.txt")
_IMPORTED = ("_words.html", "_sentences.html")


@cache
def compile_messages() -> None:
    """Compile the templates of messages for all apps with Flask's own options, so that no first message waits for it.

    The environment of an app cannot be used: to make it now would be too early for what the app still sets.
    """
    environment = Environment(
        autoescape=select_autoescape(["html"]),
        loader=PackageLoader("flask_otp"),
        bytecode_cache=_COMPILED,
    )
    for name in (*_PARTS, *_IMPORTED):
        environment.get_template(f"flask_otp/{name}")


#: As it is before an app changes anything.
_JINJA = Environment()  # noqa: S701


def _looks_again(environment: Environment) -> bool:
    """Whether Jinja may read a template again that it has read before: then the app may put another in its place."""
    cache = environment.cache
    return environment.auto_reload or cache is None or getattr(cache, "capacity", _ALL_TEMPLATES) < _ALL_TEMPLATES


#: More than we have, for all purposes together.
_ALL_TEMPLATES = 100


def _is_plain(environment: Environment) -> bool:
    """Whether nothing that the compiler calls is the app's own."""
    return (
        environment.finalize is None
        and _JINJA.filters.items() <= environment.filters.items()
        and _JINJA.tests.items() <= environment.tests.items()
        and all(type(extension).__module__ == "jinja2.ext" for extension in environment.extensions.values())
    )


def _options(environment: Environment, name: str) -> tuple[Any, ...]:
    """Each option that changes what the template compiles to."""
    escaping = environment.autoescape
    return (
        escaping(name) if callable(escaping) else escaping,
        *(getattr(environment, option) for option in _OPTIONS),
    )


_OPTIONS = (
    "block_start_string",
    "block_end_string",
    "variable_start_string",
    "variable_end_string",
    "comment_start_string",
    "comment_end_string",
    "line_statement_prefix",
    "line_comment_prefix",
    "trim_blocks",
    "lstrip_blocks",
    "newline_sequence",
    "keep_trailing_newline",
    "optimized",
    "is_async",
    "code_generator_class",
)


@pass_eval_context
def _gettext(context: EvalContext, text: str, /, **values: Any) -> str:
    return _fill_in(context, languages.gettext(text), values)


@pass_eval_context
def _ngettext(context: EvalContext, one: str, many: str, number: int, /, **values: Any) -> str:
    return _fill_in(context, languages.ngettext(one, many, number), {"num": number} | values)


def _fill_in(context: EvalContext, text: str, values: dict[str, Any]) -> str:
    """In HTML the values are escaped, and the text is not: it is ours."""
    return (Markup(text) if context.autoescape else text) % values  # noqa: S704


_WORDS: dict[str, Any] = {
    "otp_gettext": _gettext,
    "otp_ngettext": _ngettext,
    "otp_in_the_apps_words": languages.in_the_apps_words,
    "otp_context_name": context_text.show_name,
    "otp_cut": context_text.cut,
}
