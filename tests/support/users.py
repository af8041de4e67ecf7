"""An app as people use it: their browsers, which follow redirects and fill in forms, and their mailboxes."""

from __future__ import annotations

import re
import threading
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_otp.testing import Clock, Outbox, set_clock


class Example:
    """The app of one page, with its own names, and the codes that it sends."""

    def __init__(self, names: ModuleType, clock: Clock, outbox: Outbox) -> None:
        self.names: Any = names
        self.app: Flask = names.app
        self.outbox = outbox
        set_clock(self.app, clock)

    def browser(self) -> Browser:
        return Browser(self)

    def code(self, count: int) -> str:
        """The code of the newest message, once there are ``count``."""
        self.wait(count)
        assert len(self.outbox) == count
        return self.outbox.code

    def wait(self, count: int) -> None:
        """Until ``count`` messages have gone out: with a ``recipient_loader`` that happens in the background."""
        pause = threading.Event()
        for _ in range(500):
            if len(self.outbox) >= count:
                return
            pause.wait(0.01)
        raise AssertionError("no message arrived")

    def api(self) -> Any:
        return self.app.test_client(use_cookies=False)

    def prove(self, **body: Any) -> dict[str, Any]:
        """What an API client gets for a code that it asks for with ``body``."""
        before, client = len(self.outbox), self.api()
        sent = client.post("/otp/send", json=body)
        assert sent.status_code == 200, sent.text
        code = self.code(before + 1)
        verified = client.post("/otp/verify", json={"code": code, "challenge": sent.json["challenge"]})
        assert verified.status_code == 200, verified.text
        found: dict[str, Any] = verified.json
        return found


class Forms(HTMLParser):
    """The forms of a page: where each goes, and its fields with what they hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.found.append((given.get("action") or "", {}))
        elif tag == "input" and given.get("name"):
            self.found[-1][1][given["name"] or ""] = given.get("value") or ""


class Browser:
    """Follows redirects, keeps cookies, and fills in the form that is on the page, hidden fields and all."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.client = example.app.test_client()
        self.headers = {"Accept": "text/html"}

    def open(self, path: str) -> TestResponse:
        return self._follow(self.client.get(path, headers=self.headers))

    def submit(self, page: TestResponse, action: str = "", **fields: str) -> TestResponse:
        """Send the first form with these fields; ``action`` tells forms apart that have none to fill in."""
        target, values = next(
            (target, values)
            for target, values in Forms(page.text).found
            if fields.keys() <= values.keys() and action in (target, "")
        )
        answer = self.client.post(
            target or page.request.path,
            data=values | fields,
            headers={
                **self.headers,
                "Origin": "http://localhost",
                "Referer": f"http://localhost{page.request.full_path.rstrip('?')}",
            },
        )
        return self._follow(answer)

    def _follow(self, answer: TestResponse) -> TestResponse:
        """As browsers do, which may be redirected to one page twice; Werkzeug takes that for a loop."""
        for _ in range(20):
            if answer.location is None:
                return answer
            answer = self.client.get(answer.location, headers=self.headers)
        raise AssertionError(f"redirected for ever, at last to {answer.location}")

    def prove(self, page: TestResponse, **fields: str) -> TestResponse:
        """From the page that offers a code to where it leads."""
        before = len(self.example.outbox)
        page = self.submit(page, action="/otp/send", **fields)
        return self.submit(page, code=self.example.code(before + 1))

    def session(self) -> str:
        cookie = self.client.get_cookie("session")
        assert cookie is not None
        return cookie.value

    def with_session(self, value: str) -> Browser:
        self.client.set_cookie("session", value)
        return self


def at(page: TestResponse) -> str:
    """Where a browser ended up."""
    return page.request.path


def like(answer: TestResponse) -> tuple[int, list[str], str]:
    """What can be seen of an answer: with handles and tokens, which differ each time, blotted out at their length."""
    body = re.sub(r'"[\w.-]{60,}"', lambda token: "*" * len(token[0]), answer.text)
    body = re.sub(r"\bof=[\w-]{8}", "of=*", body)
    return answer.status_code, sorted(name for name, _ in answer.headers), body
