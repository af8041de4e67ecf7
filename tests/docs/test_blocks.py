"""Every code block of the documentation: a named test runs it, or it is marked ``<!-- fragment -->`` and compiled."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec

import click
import yaml

from flask_otp.cli import commands
from flask_otp.config.settings import known_keys
from tests.support.pages import DOCS, ROOT, Block, blocks

PAGES = sorted(path for path in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")] if "_build" not in path.parts)
SETUP = configparser.RawConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
EXTRAS = set(SETUP["options.extras_require"])

#: Pages whose Python is run but for the fragments, and the test that runs it. The first that fits counts.
RUN_BY = {
    "README.md": "docs/test_guides.py",
    "docs/channels/delivery.md": "docs/test_docs.py",
    "docs/channels/messages.md": "delivery/test_message_builder.py",
    "docs/channels/services.md": "docs/test_channels_page.py",  # calls: unit/test_voice.py
    "docs/channels/webhook.md": "delivery/test_sender.py",
    "docs/guides/app-factory.md": "docs/test_newcomer.py",
    "docs/guides/testing.md": "docs/test_newcomer.py",
    "docs/guides/*.md": "docs/test_examples.py",  # each names its test: test_every_page_is_run_by_a_test
    "docs/reference/hooks.md": "docs/test_guides.py",
    "docs/reference/python.md": "docs/test_guides.py",
    "docs/reference/settings.md": "docs/test_reference.py",
    "docs/reference/stores.md": "docs/test_docs.py",
    "docs/start/five-minutes.md": "docs/test_newcomer.py",
}


def of(*languages: str) -> Iterator[tuple[str, Block]]:
    """The blocks in these languages, each with its place: ``docs/guides/look.md:12``."""
    found = [(page, block) for page in PAGES for block in blocks(page) if block.language in languages]
    assert found
    return ((f"{page.relative_to(ROOT).as_posix()}:{block.line}", block) for page, block in found)


def test_python_is_run_or_is_a_fragment_that_compiles() -> None:
    for place, block in of("python"):
        check_python(place, block)


def check_python(place: str, block: Block) -> None:
    if not block.is_fragment:
        tests = [test for pattern, test in RUN_BY.items() if fnmatch(place.partition(":")[0], pattern)]
        assert tests, f"{place}: say in RUN_BY what runs its Python, or write <!-- fragment --> above the block"
        assert (ROOT / "tests" / tests[0]).exists(), place
    # As the body of a function: a fragment may have a return or an await outside of one.
    tree = ast.parse(
        "async def fragment():\n" + textwrap.indent(block.text, "    ") if block.is_fragment else block.text
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("flask_otp"):
            module = import_module(node.module or "")
            names = [alias.name for alias in node.names]
            missing = [name for name in names if not (hasattr(module, name) or find_spec(f"{node.module}.{name}"))]
            assert missing == [], place


def test_every_setting_exists() -> None:
    for place, block in of("python", "sh", "yaml"):
        named = set(re.findall(r"\b(?:FLASK_)?(OTP_[A-Z_]+)(?=[\"\]]|=)", block.text)) - {"OTP_WEBHOOK_SECRET"}
        assert named <= set(known_keys()), place


def test_commands_and_extras_exist() -> None:
    for place, block in of("sh", "console"):
        check_shell(place, block)


def check_shell(place: str, block: Block) -> None:
    shell = block.text
    if block.language == "console":
        shell = "\n".join(line[2:] for line in shell.splitlines() if line.startswith("$ "))
    assert subprocess.run(["bash", "-n"], input=shell, text=True, capture_output=True).stderr == "", place
    for line in shell.replace("\\\n", " ").splitlines():
        if called := re.search(r"\bflask (?:--app \S+ )?otp ([^|>&]+)", line):
            check_command(shlex.split(called[1], comments=True))
        for extras in re.findall(r"(?:\.|flask-otp-codes)\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= EXTRAS, place
        # A reader of these pages has no checkout.
        assert "pip install '.[" not in line or not place.startswith("docs/"), place


def check_command(words: list[str]) -> None:
    """A subcommand of ours, with options that it has."""
    command = commands.get_command(click.Context(commands), words[0])
    assert command is not None, words
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


def test_json_is_json() -> None:
    """``...`` stands for what is left out: a value, or more members."""
    for place, block in of("json", "http"):
        for body in re.findall(r"^[{\[].*", block.text, re.MULTILINE | re.DOTALL):
            whole = re.sub(r",\s*\.\.\.(?=\s*[}\]])", "", re.sub(r":\s*\.\.\.", ": null", body))
            assert is_json(whole), place


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_yaml_is_yaml() -> None:
    for place, block in of("yaml", "yml"):
        assert yaml.safe_load(block.text), place
