"""The same visit to two sites that differ in one thing: whether the visitor has an account there.

Everything that can be seen of an answer is kept. Only random values are blotted out: their length is kept, and their
alphabet is checked. Tokens and session cookies are opened as far as possible without the key, and their contents are
compared too.
"""

from __future__ import annotations

import gc
import re
import sys
import zlib
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from types import FrameType
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from flask_otp import OTP, otp_required
from flask_otp.delivery.background import Background
from flask_otp.testing import Clock, Outbox
from tests.support.apps import SECRET, START

#: Of one shape: the masked forms are the same, and need not be blotted out.
EMAILS = {True: "ann@example.com", False: "amy@example.com"}
PHONES = {True: "+4915112345642", False: "+4915198765442"}

_PART = "[A-Za-z0-9_-]"
#: payload.signature, as the extension signs, or one part alone, as it seals; and with a time between them, as Flask's
#: session is signed.
_TOKEN = re.compile(rf"\b({_PART}{{40,}})(?:\.({_PART}{{43}}))?(?![.]?{_PART})")
_SESSION = re.compile(rf"session=(\.?)({_PART}+)\.({_PART}{{6}})\.({_PART}{{27}});")
_RANDOM = re.compile(rf"{_PART}{{22,}}")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def blot(text: str) -> str:
    return _RANDOM.sub(lambda found: "*" * len(found[0]), text)


def _open_token(found: re.Match[str]) -> str:
    """What a token shows without the key: layout and plain members, or version and length if it is sealed."""
    data = _decode(found[1])
    if found[2] is None:
        return f"<{len(found[1])} sealed, of version {data[0]}>"
    # Ids are random, and may be no text.
    plain = re.sub(rb"[^ -~]", b"?", data[data.find(b"[") :]).decode()
    return f"<{len(found[1])} {blot(plain)}, signed>".replace('"', "'")


def _open_session(found: re.Match[str]) -> str:
    # Compared unpacked: random contents give a packed session a random length.
    data = _decode(found[2])
    inside = (zlib.decompress(data) if found[1] else data).decode()
    return f"session={len(inside)} {blot(_TOKEN.sub(_open_token, inside))} at {found[3]};"


#: What is random at one length (names in cookies and addresses, the secret of a form), and the real time.
_NAME = re.compile(
    r"(?<=session_otp_[cpr]_)[\w-]{8}|(?<=[?&;]of=)[\w-]{8}|(?<=name=\"form\" value=\")[\w-]{24}|(?<=Expires=)[^;]+"
)


def show(answer: TestResponse, who: str) -> list[str]:
    """All of an answer: status, each header in its place, and the body."""
    lines = [answer.status, *(f"{name}: {value}" for name, value in answer.headers), answer.text]
    _name, _, rest = who.partition("@")
    lines = [_NAME.sub("<name>", line) for line in lines]
    return [
        _TOKEN.sub(_open_token, _SESSION.sub(_open_session, line)).replace(who, f"<who>@{rest}" if rest else "<who>")
        for line in lines
    ]


class Work:
    """Within the ``with``: every call of a function in this thread, and every line of our own, is counted."""

    #: Not counted. The timer of the limits library and the sweep of the memory store run only now and then. What counts
    #: messages to phones takes as many round trips for a decoy, but other steps: in its tuples, in its counters, and in
    #: the clock that they read.
    _ELSEWHERE = re.compile(
        r"/threading|_weakrefset|/limits/|memory\.py:(_sweep|_begin_round|<genexpr>)"
        r"|/(charges|pumping)\.py|<string>:|/collections/|flask_otp/testing/"
    )

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self._before: Any = None

    def __enter__(self) -> Counter[str]:
        gc.disable()  # which calls back whenever it likes
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self.done

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)
        gc.enable()

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        name = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
        if self._ELSEWHERE.search(name):
            return None
        self.done[name] += 1
        if "flask_otp" not in name:
            return None

        def count_line(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
            if event == "line":
                self.done[f"{name}:{frame.f_lineno}"] += 1
            return count_line

        return count_line


class Side:
    """One of the two sites, and its visitor.

    :param deliver: what the channels do with a message, if they do not just keep it.
    :param counting: whether the work is counted, which takes five times as long.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        is_known: bool,
        as_form: bool = False,
        deliver: Callable[[Any], None] | None = None,
        counting: bool = False,
        **config: Any,
    ) -> None:
        clock.now = START
        self.clock = clock
        self.as_form = as_form
        self.is_known = is_known
        self.counting = counting
        self.who = EMAILS[is_known]
        self.otp = OTP(clock=clock)
        #: Who has an account, and where their messages go.
        self.accounts = {EMAILS[True]: EMAILS[True], PHONES[True]: PHONES[True]}
        self.otp.recipient_loader(lambda identifier, channel: self.accounts.get(identifier))
        self.sent = Outbox()
        self.otp.channel("email")(deliver or self.sent.append)
        self.otp.channel("sms")(deliver or self.sent.append)
        self.app = self._make_app(config)
        self.client = self.app.test_client()
        self.seen: list[list[str]] = []
        self.work: list[Counter[str]] = []

    def _make_app(self, config: dict[str, Any]) -> Flask:
        app = Flask("site")
        app.config.update(TESTING=True, SECRET_KEY=SECRET, OTP_STORAGE_URI="memory://", OTP_SMS_COUNTRIES=["DE"])
        app.config.update(config)
        self.otp.init_app(app)
        guard = otp_required(purpose="transfer", context=lambda: {"amount": "500 EUR"})
        if "OTP_PURPOSES" in config:
            app.add_url_rule("/transfer", "transfer", guard(lambda: "done"))
        # With one worker there is one end to wait for. Without a pause that end comes soon.
        app.extensions["otp"].delivery._background = Background(app, workers=1, pause=0)
        return app

    def ask(self, path: str, **body: str) -> TestResponse:
        """POST what there is a body for, and everything else that has none; and write down all that can be seen."""
        sent: dict[str, Any] = {"data": body} if self.as_form else {"json": body}
        return self._note(lambda headers: self.client.post(f"/otp/{path}", headers=headers, **sent))

    def look(self, path: str) -> TestResponse:
        return self._note(lambda headers: self.client.get(path, headers=headers))

    def _note(self, request: Callable[[dict[str, str]], TestResponse]) -> TestResponse:
        with Work() if self.counting else nullcontext(Counter[str]()) as work:
            answer = request({"Accept": "text/html"} if self.as_form else {})
        self.app.extensions["otp"].delivery._background.wait(10)
        self.seen.append(show(answer, self.who))
        self.work.append(work)
        return answer

    def send(self, **body: str) -> TestResponse:
        return self.ask("send", identifier=self.who, **body)

    @property
    def code(self) -> str:
        """What would be right for the session's challenge: with the server's key anyone can tell."""
        with self.client.session_transaction() as session:
            (token,) = session["_otp"]["challenge"].values()
        handle = self.app.extensions["otp"].tokens.load_handle(token)
        assert handle is not None
        return str(handle.code)

    def guess(self, times: int = 1) -> TestResponse:
        """Wrong ones of the right kind."""
        code = self.code
        for number in range(times):
            answer = self.ask("verify", code=f"{(int(code) + 1 + number) % 10**6:06}" if len(code) == 6 else "A" * 13)
        return answer
