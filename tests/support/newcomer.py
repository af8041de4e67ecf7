"""A newcomer, who does what a page of the docs says, word for word: writes its files, and types its commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode, urljoin

from tests.support.pages import ROOT, blocks
from tests.support.users import Forms

DISTRIBUTION = "flask-otp-codes"

#: What makes and fills a virtual environment, which a run in this interpreter leaves out.
_ENVIRONMENT = re.compile(r"(python3? -m venv |\. \.venv/|pip install ).*")
_FILE = re.compile(r"(?:# |\{# |/\* )(?P<name>[\w./-]+\.\w+)(?: #\}| \*/)?\n")


def script(page: Path, wheel: Path | None = None, fragments: bool = False) -> str:
    """All that the page says to do, in its order, for a shell.

    :param wheel: is installed in place of the name on the package index, into the page's own virtual environment.
        ``None``: everything is installed already.
    :param fragments: only the files that the page shows as fragments.
    """
    steps = ["set -e"]
    for block in blocks(page):
        named = _FILE.match(block.text)
        if block.is_fragment is not fragments:
            continue
        if block.language == "sh":
            steps += _commands(block.text, wheel)
        elif named:
            steps.append(f"mkdir -p $(dirname {named['name']})")
            steps.append(f"cat > {named['name']} << 'END OF THE FILE'\n{block.text}END OF THE FILE")
    return "\n".join(steps)


def _commands(text: str, wheel: Path | None) -> list[str]:
    lines = text.splitlines()
    if wheel is None:
        return [line for line in lines if not _ENVIRONMENT.fullmatch(line)]
    return [re.sub(rf"(?<![\w-]){DISTRIBUTION}(?![\w-])", str(wheel), line) for line in lines]


def printed(page: Path) -> str:
    """A pattern for the message that a page shows. Its group is the code."""
    [text] = [block.text for block in blocks(page) if block.text.startswith("--- to ")]
    return re.sub(r"\d{6}", lambda _: r"(\d{6})", re.escape(text.rstrip()))


def build_wheel(folder: Path) -> Path:
    """From a copy, because setuptools builds where the sources are, and the checkout must stay clean."""
    copy = folder / "project"
    shutil.copytree(ROOT / "flask_otp", copy / "flask_otp", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    return wheel


def environment(wheel: Path | None, **more: str) -> dict[str, str]:
    """Without our own settings; and, unless the page installs what it needs, with what is installed here."""
    kept = {
        name: value for name, value in os.environ.items() if not re.match("FLASK_|OTP_|PYTEST_|PYTHON|VIRTUAL_", name)
    }
    if wheel is None:
        kept |= {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "PYTHONPATH": str(ROOT)}
    return kept | {"PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | more


class Terminal:
    """The shell in which the page's commands run, and what it shows."""

    def __init__(self, commands: str, folder: Path, given: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", commands],
            cwd=folder,
            env=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(iter(self._process.stdout.readline, ""))

    @property
    def shown(self) -> str:
        return "".join(self._lines)

    def wait_for(self, pattern: str, patience: float) -> re.Match[str]:
        """The last match of ``pattern`` in what is shown."""
        end = time.monotonic() + patience
        while not (found := list(re.finditer(pattern, self.shown, re.MULTILINE))):
            assert time.monotonic() < end, self.shown
            assert self._process.poll() is None, self.shown
            time.sleep(0.05)
        return found[-1]

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def terminal(commands: str, folder: Path, given: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal(commands, folder, given)
    try:
        yield opened
    finally:
        opened.close()


class Visitor:
    """A browser that knows forms and cookies, and talks to a real server."""

    def __init__(self, base: str) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._opener.addheaders = [("Accept", "text/html")]
        self.url, self.page = base, ""

    def open(self, path: str, body: bytes | None = None) -> None:
        origin = "/".join(self.url.split("/")[:3])
        asked = urllib.request.Request(urljoin(self.url, path), body, {"Origin": origin, "Referer": self.url})
        try:
            answer = self._opener.open(asked, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self.url, self.page = answer.url, answer.read().decode()

    def submit(self, **fields: str) -> None:
        """Fill in the first form that has these fields, and send it."""
        target, values = next(form for form in Forms(self.page).found if fields.keys() <= form[1].keys())
        self.open(target or self.url, urlencode(values | fields).encode())
