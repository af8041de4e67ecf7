"""The calls: WSGI environs made beforehand. Only the app's own time is measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from werkzeug.test import EnvironBuilder

from .measure import Case

Environ = dict[str, Any]
#: Its path and its body, as arguments of :func:`environ`.
Request = dict[str, Any]

#: One count for all sites, since they share servers: no address is used twice.
_numbers = itertools.count(1)


class Answer(NamedTuple):
    status: str
    body: bytes
    headers: list[tuple[str, str]]

    @property
    def cookies(self) -> str:
        values = [value.partition(";")[0] for name, value in self.headers if name.lower() == "set-cookie"]
        return "; ".join(value for value in values if not value.endswith("="))


@dataclass(frozen=True)
class Way:
    """How a person logs in by e-mail.

    :param send: the request for a code, by address.
    :param verify: the request with the code, by address, for the answer that ``send`` got.
    :param join: the request that makes the account, by address, if there must be one.
    :param keeps_cookies: the client sends the cookies of the first answer with the second request.
    """

    send: Callable[[str], Request]
    verify: Callable[[str, str, Answer], Request]
    join: Callable[[str], Request] | None = None
    keeps_cookies: bool = False


@dataclass(frozen=True)
class Traffic:
    """Cases over one site. Each request is another person's, from a network of their own.

    :param call: answers a request.
    :param codes: what the site has sent, the newest last.
    """

    call: Callable[[Environ], Answer]
    way: Way
    codes: Any

    def send(self) -> Case:
        return self._case(lambda: self.ask(new_email()))

    def verify(self, *, right: bool = True) -> Case:
        return self._case(lambda: self.enter(right=right), ("200", "302") if right else ("400",))

    def open(self, path: str, cookie: str = "", **body: object) -> Case:
        return self._case(lambda: environ(path, cookie, **({"json": body} if body else {})))

    def ask(self, email: str) -> Environ:
        """The request for a code."""
        if self.way.join is not None:
            self.call(environ(**self.way.join(email)))
        return environ(**self.way.send(email))

    def enter(self, *, right: bool = True) -> Environ:
        """The request with the code, of a person who has just asked for one."""
        request_with, code = self.sent()
        return request_with(code if right else wrong_for(code))

    def sent(self) -> tuple[Callable[[str], Environ], str]:
        """Ask for a code: what makes the request with a code, and the code."""
        email = new_email()
        asked = self.ask(email)
        sent, network = self.call(asked), {"REMOTE_ADDR": asked["REMOTE_ADDR"]}
        cookie = sent.cookies if self.way.keeps_cookies else ""
        return lambda code: environ(cookie=cookie, **self.way.verify(email, code, sent)) | network, self.codes.pop()

    def _case(self, make: Callable[[], Environ], statuses: tuple[str, ...] = ("200", "302")) -> Case:
        def check(answer: Answer) -> None:
            # Django answers a wrong form with 200.
            if not answer.status.startswith(statuses) or b"errorlist" in answer.body:
                raise RuntimeError(f"expected {statuses}, not {answer.status}: {answer.body[:200]!r}")

        return Case(lambda count: [make() for _ in range(count)], self.call, check)


def post(path: str, **body: object) -> Request:
    return {"path": path, "json": body}


def new_email() -> str:
    return f"person{next(_numbers):08d}@example.com"


def environ(path: str, cookie: str = "", **body: Any) -> Environ:
    """A GET, or a POST if there is a body, which is ``json`` or the ``data`` of a form."""
    number = next(_numbers)
    network = {"REMOTE_ADDR": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}
    headers = [("Cookie", cookie)] if cookie else None
    method = "POST" if body else "GET"
    return dict(EnvironBuilder(path, method=method, headers=headers, environ_base=network, **body).get_environ())


def call(app: Callable[..., Any], request: Environ) -> Answer:
    """One request, in this thread, without a server."""
    started: list[Any] = []
    body = app(request, lambda *arguments: started.extend(arguments))
    data = b"".join(body)
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return Answer(started[0], data, started[1])


def wrong_for(code: str) -> str:
    """Another code of the same kind."""
    return ("1" if code[0] != "1" else "2") + code[1:]
