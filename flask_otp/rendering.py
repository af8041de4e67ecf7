"""Renders our templates, or the app's own at the same paths, in the language of :mod:`.languages`."""

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

from . import assets, context_text, languages
from .site import current_site

#: The folder of our own templates.
_OURS = str(Path(__file__).parent / "templates") + os.sep


class CompiledTemplates(BytecodeCache):
    """Compiled code of our templates, shared by all apps of this process, because compiling them takes 90 ms.

    An entry is found by the template's name, file and source, and by each option of the Jinja environment that the
    compiler reads. So a changed template is compiled again. The app's own templates are not cached here, and nothing is
    cached for an app that changes Jinja's own filters or tests, because the compiler may call them.
    """

    #: Enough for our templates in about ten apps with different options.
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
        """Do nothing: :meth:`get_bucket` has loaded it."""

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
        """The app's own Jinja environment, followed by ours, because the blueprint may not be mounted.

        Created on first use: the app may still set its Jinja options while it is being set up.
        """
        loaders = [loader for loader in (self._app.jinja_env.loader,) if loader is not None]
        ours = self._app.jinja_env.overlay(
            loader=ChoiceLoader([*loaders, PackageLoader("flask_otp")]),
            bytecode_cache=self._app.jinja_env.bytecode_cache or _COMPILED,
        )
        # The names are our own, so "_" keeps its meaning in the app's templates, also in those that replace ours. They
        # are not app globals: Flask accepts no new ones once the app has served a request.
        ours.globals = self._app.jinja_env.globals | _WORDS
        return ours

    def of_message(self, purpose: str, name: str) -> Template:
        """The template of a message part: the purpose's own if there is one, otherwise the common one."""
        found = self._parts.get((purpose, name))
        if found is None or self.environment.auto_reload:
            # Jinja remembers existing templates, but searches for missing ones each time.
            found = self.environment.select_template([f"flask_otp/{purpose}/{name}", f"flask_otp/{name}"])
            self._parts[purpose, name] = found
        return found

    def are_ours(self, purpose: str) -> bool:
        """Whether a purpose's messages come from our own templates, and so always look the same.

        Not if the app has its own version of one, has replaced one of Jinja's filters, may use its own words for the
        purpose, or lets Jinja reload templates.
        """
        environment = self.environment
        if _looks_again(environment) or not _is_plain(environment):
            return False
        if purpose not in self._are_ours:
            parts = [self.of_message(purpose, name) for name in _PARTS]
            parts += [environment.get_template(f"flask_otp/{name}") for name in _IMPORTED]
            self._are_ours[purpose] = all((part.filename or "").startswith(_OURS) for part in parts)
        return self._are_ours[purpose] and (purpose == "login" or languages.is_always_called_the_same(purpose))

    def render_page(self, name: str, **values: Any) -> str:
        """Render one of our pages in the language of the current request.

        The template gets ``context_values`` as text that is safe to show.
        """
        if "context_values" in values:
            values["context_values"] = context_text.show(values["context_values"])
        with languages.speaking():
            page = self.environment.get_template(f"flask_otp/{name}")
            return render_template(page, **values, **languages.page_attributes())


#: The templates of messages, and those that they import.
_PARTS = ("subject.txt", "email.txt", "email.html", "sms.txt")
_IMPORTED = ("_words.html", "_sentences.html")


@cache
def compile_messages() -> None:
    """Compile the templates of messages for all apps with Flask's default options, so no first message waits for it.

    An app's environment cannot be used, because the app may still change its settings.
    """
    environment = Environment(
        autoescape=select_autoescape(["html"]),
        loader=PackageLoader("flask_otp"),
        bytecode_cache=_COMPILED,
    )
    for name in (*_PARTS, *_IMPORTED):
        environment.get_template(f"flask_otp/{name}")


#: The environment before an app changes anything.
_JINJA = Environment()  # noqa: S701


def _looks_again(environment: Environment) -> bool:
    """Whether Jinja may reload a template that it has loaded before, which the app may then replace."""
    cache = environment.cache
    return environment.auto_reload or cache is None or getattr(cache, "capacity", _ALL_TEMPLATES) < _ALL_TEMPLATES


#: More than we have, for all purposes together.
_ALL_TEMPLATES = 100


def _is_plain(environment: Environment) -> bool:
    """Whether the compiler calls nothing of the app's own."""
    return (
        environment.finalize is None
        and _JINJA.filters.items() <= environment.filters.items()
        and _JINJA.tests.items() <= environment.tests.items()
        and all(type(extension).__module__ == "jinja2.ext" for extension in environment.extensions.values())
    )


def _options(environment: Environment, name: str) -> tuple[Any, ...]:
    """All options that change the compiled code of the template."""
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
    """In HTML, the values are escaped, and our own text is not."""
    return (Markup(text) if context.autoescape else text) % values  # noqa: S704


def _brand() -> Any:
    site = current_site()
    return None if site is None else site.brand


def _mail_brand() -> Any:
    site = current_site()
    return None if site is None else site.brand_in_mail()


_WORDS: dict[str, Any] = {
    "otp_gettext": _gettext,
    "otp_ngettext": _ngettext,
    "otp_in_the_apps_words": languages.in_the_apps_words,
    "otp_purpose": languages.purpose_in_words,
    "otp_asset": assets.address,
    "otp_brand_sheet": assets.brand_address,
    "otp_brand": _brand,
    "otp_mail_brand": _mail_brand,
    "otp_context_name": context_text.show_name,
    "otp_cut": context_text.cut,
}
