"""The calls: WSGI environs made beforehand, so that the time is the app's alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from werkzeug.test import EnvironBuilder

from .measure import Case
from .sites import Site

Environ = dict[str, Any]
Answer = tuple[str, bytes, list[tuple[str, str]]]


#: One count for all sites, since they share servers: nobody is met twice.
_numbers = itertools.count(1)


class Traffic:
    """Cases over one site. Each request is somebody else's, from a network of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def reference(self) -> Case:
        return self._case("200", lambda: self.post("/reference", key="nothing"))

    def floor(self, of: str) -> Case:
        return self._case("200", lambda: self.post(f"/floor/{of}", key="nothing"))

    def right(self, **more: object) -> Case:
        return self._case("200", lambda: self._verify(right=True, **more))

    def wrong(self, **more: object) -> Case:
        return self._case("400", lambda: self._verify(right=False, **more))

    def send(self, **more: object) -> Case:
        return self._case("200", lambda: self.post("/otp/send", email=self._email(), **more))

    def guard(self) -> Case:
        cookie = self.verified_cookie()
        return self._case("200", lambda: self.get("/guarded", cookie))

    def get_case(self, path: str, cookie: str = "") -> Case:
        return self._case("200", lambda: self.get(path, cookie))

    def naive_send(self, where: str = "naive") -> Case:
        return self._case("200", lambda: self.post(f"/{where}/send", email=self._email()))

    def naive_right(self, where: str = "naive") -> Case:
        return self._case("200", lambda: self._naive_verify(where, "000000"))

    def naive_wrong(self, where: str = "naive") -> Case:
        return self._case("400", lambda: self._naive_verify(where, "000001"))

    def verified_cookie(self) -> str:
        """The cookies of a browser that has verified."""
        return self._cookies(self._verify(right=True))

    def _cookies(self, verification: Environ) -> str:
        _, _, headers = call(self.site, verification)
        return "; ".join(value.partition(";")[0] for name, value in headers if name == "Set-Cookie")

    def challenge(self) -> tuple[str, str]:
        """Handle and code of a new challenge, of a new subject."""
        assert self.site.otp is not None
        with self.site.app.app_context():
            handle = self.site.otp.send(self._email()).handle
        return handle, self.site.codes.pop()

    def get(self, path: str, cookie: str = "") -> Environ:
        return self._environ(path=path, headers={"Cookie": cookie} if cookie else {})

    def _verify(self, *, right: bool, **more: object) -> Environ:
        handle, code = self.challenge()
        return self.post("/otp/verify", code=code if right else wrong_for(code), challenge=handle, **more)

    def _naive_verify(self, where: str, code: str) -> Environ:
        email = self._email()
        self.site.redis.set(f"naive:{email}", "000000", ex=300)
        return self.post(f"/{where}/verify", email=email, code=code)

    def post(self, path: str, **body: object) -> Environ:
        return self._environ(path=path, method="POST", content_type="application/json", data=json.dumps(body))

    def _environ(self, **arguments: Any) -> Environ:
        number = next(_numbers)
        network = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        builder = EnvironBuilder(environ_base={"REMOTE_ADDR": network}, **arguments)
        return dict(builder.get_environ())

    def _email(self) -> str:
        return f"person{next(_numbers):08d}@example.com"

    def _case(self, status: str, make: Callable[[], Environ]) -> Case:
        def check(answer: Answer) -> None:
            if not answer[0].startswith(status):
                raise RuntimeError(f"expected {status}, not {answer[0]}: {answer[1][:200]!r}")

        return Case(lambda count: [make() for _ in range(count)], lambda environ: call(self.site, environ), check)


def wrong_for(code: str) -> str:
    """Another code of the same kind."""
    return ("1" if code[0] != "1" else "2") + code[1:]


def call(site: Site, environ: Environ) -> Answer:
    """One request, in this thread, without a server."""
    started: list[Any] = []

    def start_response(*arguments: Any) -> None:
        started.extend(arguments)

    body = site.app(environ, start_response)  # type: ignore[arg-type]
    data = b"".join(body)
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return started[0], data, started[1]
