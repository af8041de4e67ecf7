"""A real service that webhooks are posted to."""

from __future__ import annotations

import base64
import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flask_otp import Message, webhooks

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class Service:
    """A real server that keeps what is posted to it, and answers as the test wants it to."""

    status: int = 204
    answer: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def read(self, number: int = -1, secrets: Any = SECRET) -> Message:
        _, headers, body = self.posts[number]
        return webhooks.read(headers, body, secrets)


@contextlib.contextmanager
def serving(service: Service, tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            service.posts.append((self.path, dict(self.headers), body))
            self.send_response(service.status)
            for name, value in service.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(service.answer)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def finish_request(self, request: Any, client_address: Any) -> None:
            # A client that does not trust us hangs up.
            with contextlib.suppress(OSError), tls.wrap_socket(request, server_side=True) if tls else request as wire:
                super().finish_request(wire, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    service.url = f"{'http' if tls is None else 'https'}://localhost:{server.server_port}/otp?team=1"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def signed(body: bytes, age: int = 0, secret: str = SECRET, message_id: str = "one") -> dict[str, str]:
    timestamp = str(int(time.time()) - age)
    signature = webhooks.sign(webhooks.read_secrets(secret), message_id, timestamp, body)
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
