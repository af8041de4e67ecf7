"""``docs/channels/webhook.md``: its app and services are run as they stand; the provider answers as it documents."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from werkzeug.serving import make_server

from flask_otp import Message, webhooks
from tests.support.apps import SECRET as APP_SECRET
from tests.support.apps import ValkeyServer
from tests.support.webhook_service import SECRET, Service, signed
from tests.support.webhook_service import serving as serving_service

pytestmark = pytest.mark.server

PAGE = (Path(__file__).parents[2] / "docs" / "channels" / "webhook.md").read_text("utf-8")
NUMBER = "+918123456789"
#: https://api.textlocal.in/docs: a status, and errors with a code; with HTTP's status 200 either way.
TAKEN = {"status": "success", "messages": [{"id": "1151346216", "recipient": 918123456789}]}
REFUSED = {"status": "failure", "errors": [{"code": 7, "message": "Insufficient credits for +918123456789"}]}


class Textlocal(Service):
    """Answers as Textlocal documents, and holds its answer back while it is told to."""

    def answers(self, answer: dict[str, Any]) -> None:
        self.status, self.answer = 200, json.dumps(answer).encode()
        self.headers = {"Content-Length": str(len(self.answer)), "Content-Type": "application/json"}

    @property
    def sent(self) -> list[dict[str, str]]:
        forms = [parse_qs(body.decode(), strict_parsing=True) for _, _, body in self.posts]
        return [{name: "|".join(values) for name, values in form.items()} for form in forms]


@pytest.fixture
def textlocal() -> Iterator[Textlocal]:
    textlocal = Textlocal()
    textlocal.answers(TAKEN)
    with serving_service(textlocal):
        yield textlocal


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/otp"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, valkey: ValkeyServer, textlocal: Textlocal) -> pytest.MonkeyPatch:
    values = {
        "OTP_WEBHOOK_SECRET": SECRET,
        "SENDER_REDIS_URL": valkey.uri,
        "TEXTLOCAL_URL": textlocal.url,
        "TEXTLOCAL_KEY": "the key",
        "TEXTLOCAL_SENDER": "TXTLCL",
        "FLASK_SECRET_KEY": APP_SECRET,
        "FLASK_OTP_STORAGE_URI": valkey.uri,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


Load = Callable[[str], Any]


@pytest.fixture
def load(environment: pytest.MonkeyPatch) -> Iterator[Load]:
    """``load("sender.py")``: the app of the page's file of this name."""
    found = {re.match(r"# (\S+)", block)[1]: block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}  # type: ignore[index]
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Any:
            names: dict[str, Any] = {"__name__": name.removesuffix(".py")}
            exec(compile(found[name], f"webhook.md: {name}", "exec"), names)
            if "seen" in names:
                stack.callback(names["seen"].close)
            return names["app"]

        yield make


@pytest.fixture
def sender(load: Load) -> Any:
    return load("sender.py")


@pytest.mark.parametrize("name", ["sender.py", "other.py"])
def test_a_code_goes_from_the_app_by_the_service_to_the_person(
    environment: pytest.MonkeyPatch, load: Load, textlocal: Textlocal, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with serving(load(name)) as url:
        environment.setenv("SENDER_URL", url)
        client = load("app.py").test_client()
        assert client.post("/otp/send", json={"phone": NUMBER}).status_code == 200
    if name == "sender.py":
        [form] = textlocal.sent
        assert {key: form[key] for key in ("apikey", "sender", "numbers")} == {
            "apikey": "the key",
            "sender": "TXTLCL",
            "numbers": "918123456789",
        }
        text = form["message"]
    else:
        text = capsys.readouterr().out
        assert NUMBER in text
    code = re.findall(r"\b[0-9]{6}\b", text)[0]
    assert client.post("/otp/verify", json={"code": code}).status_code == 200


def test_who_is_refused_by_the_provider_is_told(
    environment: pytest.MonkeyPatch, load: Load, sender: Any, textlocal: Textlocal, caplog: pytest.LogCaptureFixture
) -> None:
    textlocal.answers(REFUSED)
    with serving(sender) as url:
        environment.setenv("SENDER_URL", url)
        client = load("app.py").test_client()
        assert client.post("/otp/send", json={"phone": NUMBER}).status_code == 503
    assert "Textlocal refused: [7]" in caplog.text
    assert NUMBER[1:] not in caplog.text


def post(sender: Any, message_id: str = "one", body: bytes | None = None, **options: Any) -> int:
    body = message() if body is None else body
    headers = signed(body, message_id=message_id, **options)
    status: int = sender.test_client().post("/otp", data=body, headers=headers).status_code
    return status


def message(recipient: str = NUMBER) -> bytes:
    fields = Message("sms", recipient, "123456", "login", "Shop", "Your code", "123456 & more", "", 300)
    return json.dumps(vars(fields)).encode()


def test_each_message_goes_out_once_however_often_it_is_posted(sender: Any, textlocal: Textlocal) -> None:
    assert [post(sender) for _ in range(3)] == [204, 204, 204]
    assert len(textlocal.posts) == 1
    assert post(sender, "two") == 204
    assert [form["message"] for form in textlocal.sent] == ["123456 & more"] * 2


def test_an_overheard_request_does_nothing_when_it_is_sent_again(sender: Any, textlocal: Textlocal) -> None:
    body = message()
    client, headers = sender.test_client(), signed(body)
    assert {client.post("/otp", data=body, headers=headers).status_code for _ in range(5)} == {204}
    assert len(textlocal.posts) == 1
    old = signed(body, age=301)
    assert client.post("/otp", data=body, headers=old).status_code == 400


def test_of_ten_at_once_one_goes_out(sender: Any, textlocal: Textlocal) -> None:
    barrier, answers = threading.Barrier(10), []

    def run() -> None:
        barrier.wait()
        answers.append(post(sender))

    threads = [threading.Thread(target=run) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(textlocal.posts) == 1
    assert set(answers) <= {204, 409}
    assert 204 in answers


def test_what_the_provider_refused_may_be_tried_again(sender: Any, textlocal: Textlocal) -> None:
    textlocal.answers(REFUSED)
    assert post(sender) == 502
    textlocal.status = 500
    assert post(sender) == 502
    textlocal.answers(TAKEN)
    assert post(sender) == 204
    assert len(textlocal.posts) == 3


def test_what_a_service_that_died_had_begun_is_not_lost(
    sender: Any, textlocal: Textlocal, valkey: ValkeyServer
) -> None:
    with contextlib.closing(valkey.client()) as client:
        client.set("sender:one", "busy", ex=30)
        assert post(sender) == 409
        client.delete("sender:one")  # half a minute has passed
        assert post(sender) == 204
        assert 570 < int(client.ttl("sender:one")) <= 600
    assert len(textlocal.posts) == 1


@pytest.mark.parametrize(
    "recipient", ["+918123456789,+918987654321", "918123456789", "+91 8123", "", "+918123456789\n"]
)
def test_it_sends_to_one_number_only(sender: Any, textlocal: Textlocal, recipient: str) -> None:
    assert post(sender, body=message(recipient)) == 422
    assert textlocal.posts == []


def test_what_is_not_from_the_app_is_refused(sender: Any, textlocal: Textlocal) -> None:
    assert post(sender, secret="whsec_" + "b" * 44) == 400
    assert sender.test_client().post("/otp", data=message()).status_code == 400
    assert sender.test_client().post("/otp", data=bytes(100_001)).status_code == 413
    assert textlocal.posts == []


def test_the_secret_is_changed_as_the_page_says(environment: pytest.MonkeyPatch, load: Load) -> None:
    (command,) = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "token_bytes" in block]
    made: list[str] = []
    (program,) = re.findall(r"-c '(.*)'", command)
    exec(program, {"print": made.append})
    assert len(webhooks.read_secrets(made[0])[0]) == 32
    environment.setenv("OTP_WEBHOOK_SECRET", f"{made[0]} {SECRET}")
    both = load("sender.py")
    assert post(both, "one") == post(both, "two", secret=made[0]) == 204
    environment.setenv("OTP_WEBHOOK_SECRET", made[0])
    assert (post(load("sender.py"), "three"), post(load("sender.py"), "four", secret=made[0])) == (400, 204)
