"""The apps of the pages: taken from their page, and run on a real store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import ModuleType

import pytest
from werkzeug import security

from flask_otp.testing import Clock, capture_codes
from tests.support.apps import ValkeyServer
from tests.support.pages import GUIDES, programs
from tests.support.users import Example


@pytest.fixture
def load_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """The code of a page as a module, which a dataclass wants to be in."""
    loaded: list[ModuleType] = []

    def load(page: str) -> ModuleType:
        (source,) = programs(GUIDES / f"{page}.md")
        # Not the page's bare name, which may be that of a package.
        names = ModuleType(f"page_{page.replace('-', '_')}")
        monkeypatch.setitem(sys.modules, names.__name__, names)
        exec(compile(source, f"{page}.md", "exec"), vars(names))
        loaded.append(names)
        return names

    yield load
    for names in loaded:
        sessions = names.app.config.get("SESSION_REDIS") if "app" in vars(names) else None
        if sessions is not None:
            sessions.close()


@pytest.fixture
def open_page(
    load_page: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, valkey: ValkeyServer, clock: Clock
) -> Iterator[Callable[[str], Example]]:
    """``open_page("transfer")``: its app, with the environment that the page asks for."""
    environment = {
        "SECRET_KEY": "5d1f0b7a9c3e8642" * 4,
        "TESTING": "true",
        "OTP_STORAGE_URI": valkey.uri,
        "OTP_STORAGE_OPTIONS": '{"socket_timeout": 10, "socket_connect_timeout": 10}',
        "RQ_URL": valkey.uri,
        "MAIL_SERVER": "localhost",
        "MAIL_DEFAULT_SENDER": "site@example.com",
    }
    for key, value in environment.items():
        monkeypatch.setenv(f"FLASK_{key}", value)
    # A twentieth of a second for each password is well spent on a site, but not in a hundred tests.
    quick = partial(security.generate_password_hash, method="pbkdf2:sha256:1")
    monkeypatch.setattr(security, "generate_password_hash", quick)
    stack = ExitStack()

    def make(page: str) -> Example:
        names = load_page(page)
        return Example(names, clock, stack.enter_context(capture_codes(names.app)))

    with stack:
        yield make
