"""What the README says is run: its Python as one program, and its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, request

from flask_otp.testing import capture_codes

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def is_test(block: str) -> bool:
    """Whether it is a file of an app's tests, as its first line says."""
    return block.startswith(("# conftest.py", "# test_"))


class _Anything:
    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The README's Python, with what it takes for granted: a request, a blueprint, the app's users."""
    admin = Blueprint("admin", __name__, url_prefix="/admin")
    admin.add_url_rule("/health", "health", lambda: "well")
    admin.add_url_rule("/", "index", lambda: "secret")
    namespace: dict[str, Any] = {
        "__name__": "readme",
        "request": request,
        "admin": admin,
        "sms_gateway": _Anything(),
        "find_user": lambda identifier: type("User", (), {"email": identifier}),
        "login_user": lambda user: None,
    }
    source = [block for block in blocks("python") if not is_test(block)]
    source[0] = source[0].replace("otp = OTP(app)", "app.config.update(SETTINGS)\notp = OTP(app)")
    namespace["SETTINGS"] = {
        "TESTING": True,
        "OTP_PURPOSES": {"login": {}, "transfer": {}},
        "MAIL_SERVER": "localhost",
        "MAIL_DEFAULT_SENDER": "codes@example.com",
    }
    for block in source:
        exec(compile(block, "README.md", "exec"), namespace)
    namespace["app"].register_blueprint(admin)
    app: Flask = namespace["app"]
    return app


def test_the_python_examples_run(site: Flask) -> None:
    client = site.test_client()
    browser = {"Accept": "text/html"}
    with capture_codes(site) as outbox:
        assert client.get("/account", headers=browser).headers["Location"] == "/otp/?next=/account"
        client.post("/otp/send", data={"identifier": "ann@example.com"}, headers=browser)
        _wait_for(outbox, 1)
        client.post("/otp/verify", data={"code": outbox.code}, headers=browser)
        assert client.get("/account", headers=browser).text == "Hello ann@example.com"
        assert client.get("/settings").status_code == 200
        assert client.get("/admin/").text == "secret"
        client.post("/otp/logout")
        assert client.get("/settings").status_code == 401
        assert client.get("/admin/").status_code == 401
        assert client.get("/admin/health").text == "well"
        assert client.post("/transfer", data={"amount": "5", "payee": "Bob"}).status_code == 401
        assert client.post("/invite", data={"email": "bob@example.com"}).text == "We sent a code to b***@example.com"
        _wait_for(outbox, 2)
        assert client.post("/join", data={"code": outbox.code}).text == "Welcome bob@example.com"


def _wait_for(outbox: list[Any], count: int) -> None:
    """The README's recipient_loader makes deliveries go out in the background."""
    arrived = threading.Event()
    for _ in range(500):
        if len(outbox) >= count:
            return
        arrived.wait(0.01)
    raise AssertionError("no message arrived")


def test_r42_r43_r44_it_says_what_codes_are_not_good_for() -> None:
    text = " ".join(README.split())
    for words in ("not phishing-resistant", "no second factor at any assurance level", "restricted", "SECRET_KEY"):
        assert words in text


def test_it_never_tells_to_install_the_other_package() -> None:
    assert not re.search(r"install[^\n`]*\bflask[-_]otp\b(?!-codes)", README)


def test_the_quick_start_prints_its_code_in_debug(tmp_path: Path) -> None:
    """As a newcomer does it: saved, run in debug, an address typed, the code read in the terminal."""
    (tmp_path / "app.py").write_text(blocks("python")[0], encoding="utf-8")
    program = """
import re
from app import app
client, browser = app.test_client(), {"Accept": "text/html"}
form = client.get("/account", headers=browser).headers["Location"]
client.get(form, headers=browser)
assert client.post("/otp/send", data={"identifier": "ann@example.com"}, headers=browser).status_code == 303
code = input()
assert client.post("/otp/verify", data={"code": code}, headers=browser).headers["Location"] == "/account"
print(client.get("/account").text)
"""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "FLASK_DEBUG": "1", "PYTHONSAFEPATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    shown = ""
    while not (code := re.search(r"^\s+(\d{6})$", shown, re.MULTILINE)):
        line = process.stderr.readline()
        assert line, shown
        shown += line
    answer, errors = process.communicate(code[1] + "\n", timeout=30)
    assert answer.strip() == "Hello ann@example.com", errors


@pytest.mark.server
def test_the_tests_for_an_app_pass(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("python")[0], encoding="utf-8")
    for block in filter(is_test, blocks("python")):
        (tmp_path / block.split()[1]).write_text(block, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir=."]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "2 passed" in result.stdout, result.stdout + result.stderr
