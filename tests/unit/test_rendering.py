"""Our templates are compiled once a process, and for each app as its own Jinja environment has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jinja2 import Environment

from flask_otp import rendering
from flask_otp.rendering import CompiledTemplates, Templates

PAGE = "flask_otp/verify.html"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each template that is compiled; nothing has been yet."""
    names: list[str] = []
    compiling = Environment.compile

    def compile_and_note(self: Environment, source: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return compiling(self, source, name, *args, **kwargs)

    monkeypatch.setattr(Environment, "compile", compile_and_note)
    monkeypatch.setattr(rendering, "_COMPILED", CompiledTemplates())
    return names


def new_app(tmp_path: Path, **options: Any) -> Flask:
    app = Flask("site", root_path=str(tmp_path))
    app.jinja_options = options
    return app


def test_a_second_app_of_a_process_compiles_nothing(tmp_path: Path, compiled: list[str]) -> None:
    first, second = (Templates(new_app(tmp_path)).environment.get_template(PAGE) for _ in "ab")
    assert compiled == [PAGE]
    assert first is not second


def _own_filter(app: Flask) -> None:
    app.jinja_env.filters["upper"] = str.lower


def _own_test(app: Flask) -> None:
    app.jinja_env.tests["defined"] = bool


def _no_escaping(app: Flask) -> None:
    app.jinja_env.autoescape = False


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"trim_blocks": True}, lambda app: None),
        ({"comment_start_string": "{!", "comment_end_string": "!}"}, lambda app: None),
        ({"finalize": str}, lambda app: None),
        ({"enable_async": True}, lambda app: None),
        ({}, _own_filter),
        ({}, _own_test),
        ({}, _no_escaping),
    ],
    ids=["trim_blocks", "comments", "finalize", "async", "filter", "test", "autoescape"],
)
def test_an_app_with_other_options_gets_templates_of_its_own(
    tmp_path: Path, compiled: list[str], options: dict[str, Any], change: Callable[[Flask], None]
) -> None:
    Templates(new_app(tmp_path)).environment.get_template(PAGE)
    other = new_app(tmp_path, **options)
    change(other)
    Templates(other).environment.get_template(PAGE)
    Templates(new_app(tmp_path)).environment.get_template(PAGE)
    assert compiled == [PAGE, PAGE]


def test_an_apps_own_template_takes_the_place_of_ours_in_that_app_only(tmp_path: Path, compiled: list[str]) -> None:
    ours = Templates(new_app(tmp_path / "ours")).environment.get_template(PAGE)
    own = tmp_path / "own" / "templates" / PAGE
    own.parent.mkdir(parents=True)
    app = new_app(tmp_path / "own")
    app.config["TEMPLATES_AUTO_RELOAD"] = True
    templates = Templates(app)
    for time, text in enumerate(("one", "another")):
        own.write_text(text)
        os.utime(own, (time, time))
        assert templates.environment.get_template(PAGE).render() == text
    assert compiled == [PAGE, PAGE, PAGE]
    own.unlink()
    assert templates.environment.get_template(PAGE).filename == ours.filename


def test_a_template_of_ours_that_has_changed_is_compiled_again(
    tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "templates" / "word.txt"
    text.parent.mkdir()
    monkeypatch.setattr(rendering, "_OURS", str(tmp_path))
    for word in ("one", "two", "two"):
        text.write_text(word)
        assert Templates(new_app(tmp_path)).environment.get_template("word.txt").render() == word
    assert compiled == ["word.txt", "word.txt"]


def test_only_so_much_is_kept(tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompiledTemplates, "MAX_ENTRIES", 3)
    for number in range(1, 8):
        app = new_app(tmp_path, comment_start_string="{#" + "#" * number)
        Templates(app).environment.get_template(PAGE)
        assert len(rendering._COMPILED._code) <= 3


FIRST = """
import flask, flask_otp, jinja2
app = flask.Flask("site")
app.config.update(SECRET_KEY="x" * 16, OTP_STORAGE_URI="memory://", TESTING=True)
otp = flask_otp.OTP(app)
otp.channel("email")(print)
otp.channel("sms", accepts="email")(print)
jinja2.Environment.compile = None
answer = app.test_client().post("/otp/send", json={"email": "ann@example.com"})
assert answer.status_code == 200, answer.text
"""


def test_the_first_message_of_a_process_waits_for_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FIRST], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
