"""How many functions a request calls: printed at the end of the run, and held to nothing.

Times differ from machine to machine and from minute to minute; these counts do not. Round trips are asserted where the
stores are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from werkzeug.test import create_environ

from flask_otp import Message, otp_required
from tests.support.apps import AppFactory
from tests.support.calls import usual_calls

TIMES = 7


def test_how_many_functions_each_request_calls(
    make_app: AppFactory, record_property: Callable[[str, object], None]
) -> None:
    sent: list[Message] = []
    app = make_app(OTP_CHANNELS={"email": [sent.append]})

    @app.get("/account")
    @otp_required
    def account() -> str:
        return "private"

    def ask(number: int, **more: object) -> tuple[str, str]:
        body = {"email": f"person{number}@example.com", **more}
        with app.test_client() as client:
            answer = client.post("/otp/send", json=body, environ_base={"REMOTE_ADDR": f"192.0.2.{number}"})
        return answer.json["challenge"], sent.pop().code

    def calls(path: str, bodies: list[dict[str, object]], **more: Any) -> int:
        environs = [
            create_environ(path, method="POST", json=body, environ_base={"REMOTE_ADDR": f"198.51.100.{number}"}, **more)
            for number, body in enumerate(bodies)
        ]
        return usual_calls([partial(app, environ, lambda *_: None) for environ in environs])

    for start, kept, word in ((0, {}, ""), (100, {"session": False}, ', "session": false')):
        people = [ask(start + number) for number in range(2 * TIMES)]
        right = [{"code": code, "challenge": handle, **kept} for handle, code in people[:TIMES]]
        wrong = [
            {"code": f"{(int(code) + 1) % 10**6:06}", "challenge": handle, **kept} for handle, code in people[TIMES:]
        ]
        sends = [{"email": f"other{number}@example.com", **kept} for number in range(start, start + TIMES)]
        record_property(f"send{word}", calls("/otp/send", sends))
        record_property(f"verify, right{word}", calls("/otp/verify", right))
        record_property(f"verify, wrong{word}", calls("/otp/verify", wrong))
    client = app.test_client()
    handle, code = ask(200)
    client.post("/otp/verify", json={"code": code, "challenge": handle})
    cookies = "; ".join(f"{cookie.key}={cookie.value}" for cookie in client._cookies.values())
    environs = [create_environ("/account", headers={"Cookie": cookies}) for _ in range(TIMES)]
    record_property("guard", usual_calls([partial(app, environ, lambda *_: None) for environ in environs]))
    assert len(sent) == 2 * TIMES
