"""Our templates, and the app's own of the same path before them, with the words of :mod:`.languages`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flask import Flask, render_template
from jinja2 import ChoiceLoader, Environment, PackageLoader, Template, pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

from . import languages


class Templates:
    """The templates of one app."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._parts: dict[tuple[str, str], Template] = {}

    @cached_property
    def environment(self) -> Environment:
        """The app's own Jinja environment, and ours behind it, since the blueprint may not be mounted.

        Made when it is first wanted: the app may still set its Jinja options while it is being made.
        """
        loaders = [loader for loader in (self._app.jinja_env.loader,) if loader is not None]
        ours = self._app.jinja_env.overlay(loader=ChoiceLoader([*loaders, PackageLoader("flask_otp")]))
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

    def render_page(self, name: str, **values: Any) -> str:
        """One of our pages, in the language of the current request."""
        with languages.speaking():
            page = self.environment.get_template(f"flask_otp/{name}")
            return render_template(page, **values, **languages.page_attributes())


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
}
