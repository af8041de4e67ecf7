"""Senders of messages on this machine that take and answer requests as the real ones document it."""

from __future__ import annotations

import contextlib
import html
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from apprise.plugins import N_MGR

#: Nothing of these may ever be read in a log.
KEY = "5ec2e7c0ffee5ec2e7c0ffee5ec2e7c0"
ACCOUNT = "AC" + "ac0017ac0017ac0017ac0017ac0017ac"
SENDER = "15550100123"


@dataclass
class Asked:
    """One request, as a provider sees it."""

    path: str
    query: dict[str, str]
    form: dict[str, str]
    json: Any
    headers: dict[str, str]


class Provider:
    """A server on a free port that keeps what it is asked, and answers with what ``answer`` gives."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], tuple[int, Any]] = lambda asked: (200, {})
        self.headers: dict[str, str] = {}
        #: Cleared, it lets every request wait.
        self.open = threading.Event()
        self.open.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                provider.serve(self)

            do_GET = do_PUT = do_POST

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        asked = read(request)
        self.asked.append(asked)
        self.open.wait(10)
        status, body = self.answer(asked)
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        # A client that had to wait may be gone by now.
        with contextlib.suppress(OSError):
            request.send_response(status)
            for name, value in self.headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def read(request: BaseHTTPRequestHandler) -> Asked:
    parts = urlsplit(request.path)
    raw = request.rfile.read(int(request.headers.get("Content-Length") or 0)).decode()
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    return Asked(parts.path, _flat(parts.query), {} if body else _flat(raw), body, dict(request.headers.items()))


def _flat(query: str) -> dict[str, str]:
    return {name: ",".join(values) for name, values in parse_qs(query, keep_blank_values=True).items()}


@dataclass(frozen=True)
class Service:
    """What one provider wants and answers.

    ``address`` is the attribute of Apprise's class that says where it is, and ``path`` what is behind its host.
    ``read`` gives recipient and text out of a request. ``error`` is the number in the reason of a refusal.
    """

    url: str
    address: str | None
    path: str
    read: Callable[[Asked], tuple[Any, str]]
    accepted: tuple[int, Any]
    refused: tuple[int, Any]
    error: str | None
    recipient: str = "+4915112345678"
    #: Other words for the recipient, on the wire.
    wire: str = "4915112345678"
    accepts: str | None = "phone"
    secrets: tuple[str, ...] = field(default=(KEY,))


def _telegram(asked: Asked) -> tuple[Any, str]:
    assert asked.json["parse_mode"] == "HTML"
    return asked.json["chat_id"], html.unescape(asked.json["text"]).replace("\r\n", "\n")


def _slack(asked: Asked) -> tuple[Any, str]:
    (attachment,) = asked.json["attachments"]
    return asked.json["channel"], html.unescape(attachment["text"])


SERVICES = {
    "twilio": Service(
        f"twilio://{ACCOUNT}:{KEY}@+{SENDER}",
        "notify_sms_url",
        "/2010-04-01/Accounts/{sid}/Messages.json",
        lambda asked: (asked.form["To"], asked.form["Body"]),
        (201, {"sid": "SM1", "status": "queued", "error_code": None}),
        (400, {"code": 21211, "message": "Invalid 'To' Phone Number: +4915112345678", "status": 400}),
        "21211",
        secrets=(KEY, ACCOUNT),
    ),
    "vonage": Service(
        f"vonage://ac0017ac:{KEY}@{SENDER}",
        "notify_url",
        "/sms/json",
        lambda asked: (asked.form["to"], asked.form["text"]),
        (200, {"message-count": "1", "messages": [{"to": "4915112345678", "message-id": "1", "status": "0"}]}),
        (200, {"message-count": "1", "messages": [{"status": "9", "error-text": "Quota Exceeded - rejected"}]}),
        None,
    ),
    "msgbird": Service(
        f"msgbird://{KEY[:25]}/{SENDER}",
        "notify_url",
        "/messages",
        lambda asked: (asked.form["recipients"], asked.form["body"]),
        (201, {"id": "1", "recipients": {"totalCount": 1, "totalSentCount": 1}}),
        (422, {"errors": [{"code": 9, "description": "no (correct) recipients found", "parameter": "recipients"}]}),
        "422",
        secrets=(KEY[:25],),
    ),
    "plivo": Service(
        f"plivo://MA{KEY[:18].upper()}@{KEY}01234567/{SENDER}",
        "notify_url",
        "/v1/Account/{auth_id}/Message/",
        lambda asked: (asked.json["dst"], asked.json["text"]),
        (202, {"api_id": "1", "message": "message(s) queued", "message_uuid": ["1"]}),
        (400, {"api_id": "1", "error": "4915112345678 is not a valid number"}),
        "400",
    ),
    "telnyx": Service(
        f"telnyx://KEY{KEY}@{SENDER}",
        "notify_url",
        "/v2/messages",
        lambda asked: (asked.json["to"], asked.json["text"]),
        (200, {"data": {"id": "1", "to": [{"phone_number": "+4915112345678", "status": "queued"}]}}),
        (422, {"errors": [{"code": "40310", "title": "Invalid 'to' address"}]}),
        "422",
    ),
    "sinch": Service(
        f"sinch://{ACCOUNT[2:]}:{KEY}@{SENDER}",
        "notify_url",
        "/xms/v1/{spi}/batches",
        lambda asked: (",".join(asked.json["to"]), asked.json["body"]),
        (201, {"id": "1", "to": ["4915112345678"], "canceled": False, "type": "mt_text"}),
        (403, {"code": "missing_callback_url", "text": "Forbidden"}),
        None,
        secrets=(KEY, ACCOUNT[2:]),
    ),
    "clickatell": Service(
        f"clickatell://{KEY}",
        "notify_url",
        "/messages/http/send",
        lambda asked: (asked.query["to"], asked.query["content"]),
        (202, {"messages": [{"apiMessageId": "1", "accepted": True, "to": "4915112345678", "error": None}]}),
        (202, {"messages": [{"accepted": False, "to": "4915112345678", "error": {"code": 26}}], "error": None}),
        None,
    ),
    "clicksend": Service(
        f"clicksend://somebody:{KEY}@",
        "notify_url",
        "/v3/sms/send",
        lambda asked: (asked.json["messages"][0]["to"], asked.json["messages"][0]["body"]),
        (200, {"http_code": 200, "response_code": "SUCCESS", "data": {"messages": [{"status": "SUCCESS"}]}}),
        (200, {"http_code": 200, "response_code": "SUCCESS", "data": {"messages": [{"status": "INVALID_RECIPIENT"}]}}),
        None,
    ),
    "infobip": Service(
        f"infobip://{KEY}@127.0.0.1",
        "notify_url",
        "/sms/3/messages",
        lambda asked: (
            asked.json["messages"][0]["destinations"][0]["to"],
            asked.json["messages"][0]["content"]["text"],
        ),
        (200, {"messages": [{"status": {"groupId": 1, "groupName": "PENDING", "id": 26}}]}),
        (200, {"messages": [{"status": {"groupId": 5, "groupName": "REJECTED", "id": 12}}]}),
        None,
    ),
    "whatsapp": Service(
        f"whatsapp://{KEY}@106540352242922",
        "notify_url",
        "/v21.0/{phone_id}/messages",
        lambda asked: (asked.json["to"], asked.json["text"]["body"]),
        (200, {"messaging_product": "whatsapp", "contacts": [{"wa_id": "4915112345678"}], "messages": [{"id": "1"}]}),
        (400, {"error": {"message": "(#131026) Message undeliverable", "type": "OAuthException", "code": 131026}}),
        "131026",
    ),
    "signal": Service(
        f"signal://127.0.0.1:PORT/+{SENDER}",
        None,
        "/v2/send",
        lambda asked: (",".join(asked.json["recipients"]), asked.json["message"]),
        (201, {"timestamp": "1790000000000"}),
        (400, {"error": "Unregistered user +4915112345678"}),
        "400",
        secrets=(),
    ),
    "tgram": Service(
        f"tgram://123456789:{KEY}abc",
        "notify_url",
        "/bot",
        _telegram,
        (200, {"ok": True, "result": {"message_id": 1}}),
        (403, {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}),
        "403",
        recipient="987654321",
        wire="987654321",
        accepts=None,
    ),
    "slack": Service(
        f"slack://xoxb-1234567890-1234567890123-{KEY[:24]}",
        "api_url",
        "/api/{}",
        _slack,
        (200, {"ok": True, "channel": "D1", "ts": "1"}),
        (200, {"ok": False, "error": "channel_not_found"}),
        None,
        recipient="+U0G9QF9C6",
        wire="U0G9QF9C6",
        accepts=None,
        secrets=(KEY[:24],),
    ),
    "resend": Service(
        f"resend://{KEY}:codes@example.com",
        "notify_url",
        "/emails",
        lambda asked: (asked.json["to"], asked.json["text"]),
        (200, {"id": "1"}),
        (422, {"statusCode": 422, "message": "Invalid `to` field", "name": "validation_error"}),
        "422",
        recipient="ann.lee@example.com",
        wire="ann.lee@example.com",
        accepts="email",
    ),
}

#: More services that answer 2xx to every message, and tell in the body whether they took it.
TELLING_IN_THE_BODY = {
    "atalk": Service(
        f"atalk://shop@{KEY}",
        "notify_url",
        "/version1/messaging",
        lambda asked: (asked.form["to"], asked.form["message"]),
        (
            201,
            {
                "SMSMessageData": {
                    "Message": "Sent to 1/1 Total Cost: KES 0.8000",
                    "Recipients": [
                        {"statusCode": 101, "number": "+4915112345678", "status": "Success", "cost": "KES 1"}
                    ],
                }
            },
        ),
        (201, {"SMSMessageData": {"Message": "InvalidSenderId", "Recipients": []}}),
        None,
    ),
    "seven": Service(
        f"seven://{KEY}",
        "notify_url",
        "/api/sms",
        lambda asked: (asked.json["to"], asked.json["text"]),
        (
            200,
            {
                "success": "100",
                "total_price": 0.075,
                "messages": [{"id": "1", "recipient": "4915112345678", "success": True, "error": None}],
            },
        ),
        (200, {"success": "500", "total_price": 0, "messages": []}),
        None,
    ),
    "telesign": Service(
        f"telesign://0A1B2C3D-0123-4567-89AB-0123456789AB:{KEY}@",
        "notify_url",
        "/v1/messaging",
        lambda asked: (asked.form["phone_number"], asked.form["message"]),
        (
            200,
            {"reference_id": "1", "external_id": None, "status": {"code": 290, "description": "Message in progress"}},
        ),
        (200, {"reference_id": "1", "status": {"code": 230, "description": "Message blocked by TeleSign"}}),
        None,
    ),
    "bulksms": Service(
        f"bulksms://somebody:{KEY}@",
        "notify_url",
        "/v1/messages",
        lambda asked: (asked.json["to"], asked.json["body"]),
        (201, [{"id": "1", "type": "SENT", "status": {"id": "ACCEPTED.null", "type": "ACCEPTED", "subtype": None}}]),
        (
            201,
            [{"id": "1", "type": "SENT", "status": {"id": "FAILED.NOT_SENT", "type": "FAILED", "subtype": "NOT_SENT"}}],
        ),
        None,
    ),
    "bulkvs": Service(
        f"bulkvs://somebody:{KEY}@{SENDER}",
        "notify_url",
        "/api/v1.0/messageSend",
        lambda asked: (asked.json["To"], asked.json["Message"]),
        (200, {"RefId": "1", "MessageType": "SMS", "Results": [{"To": "4915112345678", "Status": "SUCCESS"}]}),
        (200, {"RefId": "1", "MessageType": "SMS", "Results": [{"To": "4915112345678", "Status": "INVALID"}]}),
        None,
    ),
    "burstsms": Service(
        f"burstsms://{KEY[:8]}:{KEY}@{SENDER}",
        "notify_url",
        "/send-sms.json",
        lambda asked: (asked.form["to"], asked.form["message"]),
        (200, {"message_id": 1, "recipients": 1, "error": {"code": "SUCCESS", "description": "OK"}}),
        (200, {"error": {"code": "RECIPIENTS_ERROR", "description": "no valid recipients"}}),
        None,
    ),
    "zulip": Service(
        f"zulip://codes@example/{KEY}",
        "notify_url",
        "/api/v1/messages",
        lambda asked: (asked.form["to"], asked.form["content"]),
        (200, {"result": "success", "msg": "", "id": 42}),
        (200, {"result": "error", "msg": "Invalid email 'ann@example.com'", "code": "BAD_REQUEST"}),
        None,
        recipient="ann@example.com",
        wire="ann@example.com",
        accepts=None,
    ),
}


@contextlib.contextmanager
def serving(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Provider, str]]:
    """A provider that accepts everything, and the URL of the service that leads to it."""
    service = (SERVICES | TELLING_IN_THE_BODY)[name]
    provider = Provider()
    provider.answer = lambda asked: service.accepted
    if service.address is not None:
        where = provider.base + service.path
        usual = getattr(N_MGR[name], service.address)
        by_mode = dict.fromkeys(usual, where) if isinstance(usual, dict) else where
        monkeypatch.setattr(N_MGR[name], service.address, by_mode)
    try:
        yield provider, service.url.replace("PORT", provider.base.rpartition(":")[2])
    finally:
        provider.close()
