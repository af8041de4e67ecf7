"""A browser whose requests leave when they like and whose answers arrive when they like: a jar of cookies."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse


class Jar:
    """The cookies of one browser. Its requests take a copy along, as they are when they leave."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.cookies: dict[str, str] = {}

    def leave(self, method: str, path: str, **options: Any) -> TestResponse:
        """Send a request with the cookies of this moment. What its answer sets, the browser has not seen yet."""
        client = self.app.test_client()
        for name, value in self.cookies.items():
            client.set_cookie(name, value)
        return client.open(path, method=method, **options)

    def arrive(self, answer: TestResponse) -> TestResponse:
        """An answer reaches the browser."""
        for header in answer.headers.getlist("Set-Cookie"):
            for morsel in SimpleCookie(header).values():
                if morsel["max-age"] == "0" or morsel["expires"].startswith("Thu, 01 Jan 1970"):
                    self.cookies.pop(morsel.key, None)
                else:
                    self.cookies[morsel.key] = morsel.value
        return answer

    def go(self, method: str, path: str, **options: Any) -> TestResponse:
        """A request, and its answer at once."""
        return self.arrive(self.leave(method, path, **options))
