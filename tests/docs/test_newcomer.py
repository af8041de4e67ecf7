"""The pages for newcomers, done word for word: the files written, the commands typed, the forms filled in.

``pytest -n0 -s -m long tests/docs/test_newcomer.py`` does it in new virtual environments, as a newcomer does, and says
how long it took. Else everything that the pages install is there already.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.apps import free_port
from tests.support.newcomer import Visitor, build_wheel, environment, printed, script, terminal
from tests.support.pages import DOCS, GUIDES

ANN = "ann@example.com"

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=["here", pytest.param("new", marks=pytest.mark.long)])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """What is installed into a new virtual environment; ``None``: this one is used."""
    return build_wheel(tmp_path_factory.mktemp("wheel")) if request.param == "new" else None


def told(commands: str, wheel: Path | None, folder: Path) -> str:
    """What the tests of a page say."""
    given = environment(wheel, PYTEST_ADDOPTS="-W error -p no:cacheprovider")
    shell = ["bash", "-c", commands]
    done = subprocess.run(shell, cwd=folder, env=given, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def test_the_app_factory_ends_with_a_new_user_who_is_signed_in(wheel: Path | None, tmp_path: Path) -> None:
    began, port = time.monotonic(), free_port()
    given = environment(wheel, FLASK_RUN_PORT=str(port))
    with terminal(script(GUIDES / "app-factory.md", wheel), tmp_path, given) as shell:
        shell.wait_for(r"Running on", 300)
        visitor = Visitor(f"http://127.0.0.1:{port}")
        visitor.open("/account")
        assert "/otp/" in visitor.url
        visitor.submit(identifier=ANN)
        code = shell.wait_for(printed(GUIDES / "app-factory.md"), 30)[1]
        visitor.submit(code=code)
        assert visitor.url.endswith("/account")
        assert f"Welcome, {ANN}" in visitor.page
        print(f"\napp-factory.md: signed in after {time.monotonic() - began:.1f} s")
        visitor.submit()
        assert "Your account" in visitor.page
        visitor.open("/account")
        assert "/otp/" in visitor.url


def test_the_tests_of_the_testing_page_pass(wheel: Path | None, tmp_path: Path) -> None:
    assert "2 passed" in told(script(GUIDES / "testing.md", wheel), wheel, tmp_path)


@pytest.mark.long
def test_the_tests_for_the_app_factory_pass(tmp_path: Path) -> None:
    commands = script(GUIDES / "app-factory.md", None).partition("\nexport FLASK_APP")[0]
    tests = script(GUIDES / "testing.md", None, fragments=True)
    assert "1 passed" in told(f"{commands}\n{tests}\npython -m pytest", None, tmp_path)


@pytest.mark.long
def test_five_minutes_end_at_the_guarded_page(wheel: Path | None, tmp_path: Path) -> None:
    began, port = time.monotonic(), free_port()
    given = environment(wheel, FLASK_RUN_PORT=str(port))
    page = DOCS / "start" / "five-minutes.md"
    with terminal(script(page, wheel), tmp_path, given) as shell:
        shell.wait_for(r"Running on", 300)
        visitor = Visitor(f"http://127.0.0.1:{port}")
        visitor.open("/account")
        visitor.submit(identifier=ANN)
        code = shell.wait_for(printed(page), 30)[1]
        visitor.submit(code=code)
        assert visitor.page == f"Hello {ANN}"
        print(f"\nfive-minutes.md: signed in after {time.monotonic() - began:.1f} s")
        # "Type a wrong code there, five times."
        other = Visitor(f"http://127.0.0.1:{port}")
        other.open("/account")
        other.submit(identifier="bob@example.com")
        shown = shell.wait_for(r"to bob@example.com.*\n.*\n\n +(\d{6})$", 30)[1]
        for _ in range(5):
            assert "otp/verify" in other.url
            other.submit(code="000000" if shown != "000000" else "000001")
        assert "Send a new code" in other.page


def test_a_site_gets_its_own_look(wheel: Path | None, tmp_path: Path) -> None:
    began, port = time.monotonic(), free_port()
    commands = script(GUIDES / "own-look.md", wheel)
    # The app runs while its layout is written. Here it starts last.
    [start] = re.findall(r"^flask .*$", commands, re.MULTILINE)
    commands = f"{commands.replace(start, '')}\n{start}"
    with terminal(commands, tmp_path, environment(wheel, FLASK_RUN_PORT=str(port))) as shell:
        shell.wait_for(r"Running on", 300)
        visitor = Visitor(f"http://127.0.0.1:{port}")
        visitor.open("/account")
        assert (
            '<nav class="navbar bg-body-tertiary"><a class="navbar-brand ms-3" href="/">Harbour Bank</a>'
            in visitor.page
        )
        assert '<a href="https://example.com/help">Help</a>' in visitor.page
        sheet = re.search(r'<link rel="stylesheet" href="(/otp/brand\.css[^"]+)">', visitor.page)
        assert sheet
        other = Visitor(f"http://127.0.0.1:{port}")
        other.open(sheet[1])
        assert "--accent: #8a2b6d" in other.page
        visitor.submit(identifier=ANN)
        assert "navbar" in visitor.page
        visitor.submit(code=shell.wait_for(r"^ +(\d{6})$", 30)[1])
        assert visitor.page == "Your account"
        print(f"\nown-look.md: signed in after {time.monotonic() - began:.1f} s")
