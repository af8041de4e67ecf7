"""What the pages under ``docs/`` say is run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flask_otp import Message, ProviderDown, RecipientRefused
from tests.support.apps import free_port

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.server
@pytest.mark.parametrize(
    ("part", "passing"),
    [
        ("r05", 1),
        pytest.param("test", 182, marks=pytest.mark.long),
    ],
    ids=["what counts most", "the whole suite"],
)
def test_the_store_of_the_docs_passes_the_suite(tmp_path: Path, part: str, passing: int) -> None:
    """As its author would do it: two files, in a directory of their own, and pytest."""
    text = (DOCS / "reference" / "stores.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name
        (tmp_path / name[1]).write_text(block, encoding="utf-8")
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-k", part]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "."], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^(\d+) passed(, \d+ deselected)? in", result.stdout, re.MULTILINE)
    assert passed, result.stdout
    assert int(passed[1]) >= passing


@pytest.mark.server
@pytest.mark.parametrize(
    ("status", "error"),
    [(201, None), (400, RecipientRefused), (401, ProviderDown), (503, ProviderDown), (None, ProviderDown)],
)
def test_the_gateway_of_the_docs_tells_whose_failure_it_is(
    monkeypatch: pytest.MonkeyPatch, status: int | None, error: type[Exception] | None
) -> None:
    """Ask a server that answers with ``status``. With ``None``, no server listens at the address."""
    asked: list[tuple[str | None, Any]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.headers["Authorization"], body))
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    names: dict[str, Any] = {}
    [program] = re.findall(
        r"```python\n(import .*?)```", (DOCS / "channels" / "delivery.md").read_text(encoding="utf-8"), re.DOTALL
    )
    exec(compile(program, "delivery.md", "exec"), names)
    message = Message("sms", "+15550100", "123456", "login", "site", "", "Your code: 123456", "", 300)
    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        port = server.server_port if status else free_port()
        monkeypatch.setenv("SMS_URL", f"http://127.0.0.1:{port}/messages")
        monkeypatch.setenv("SMS_TOKEN", "token")
        thread = threading.Thread(target=server.handle_request if status else lambda: None)
        thread.start()
        with pytest.raises(error) if error else nullcontext():
            names["first_gateway"](message)
        thread.join()
    sent = ("Bearer token", {"to": message.recipient, "text": message.text})
    assert asked == ([sent] if status else [])


def headings(page: Path) -> set[str]:
    """The anchors of a page where it is read in the repository: as GitHub makes them, with ``_``."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_links_lead_somewhere() -> None:
    for page in (*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")):
        for target, anchor in re.findall(
            r"\]\((?!https?:|mailto:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")
        ):
            place = page.parent / target if target else page
            assert place.exists(), f"{page}: {target}"
            # An anchor with a dot is a name of Python, which only the built site has.
            assert not anchor or "." in anchor or anchor in headings(place), f"{page}: {target}#{anchor}"
