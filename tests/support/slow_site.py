"""A site on a real server whose answers take their time on the way back, as over a mobile network."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import ClosingIterator


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


class RoundTrip:
    """WSGI middleware: half of the round trip on the way in, half of it on the way back.

    The session is looked at between the two, so an answer may be overtaken by one that left later.

    :param has_cookies: whether the browser sends any; else it is as one that blocks them.
    """

    def __init__(self, app: Any, seconds: float, *, has_cookies: bool) -> None:
        self._app = app
        self._has_cookies = has_cookies
        self._half = seconds / 2

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(self._half)
        if not self._has_cookies:
            environ.pop("HTTP_COOKIE", None)
        with contextlib.closing(ClosingIterator(self._app(environ, start_response))) as answer:
            body = list(answer)
        time.sleep(self._half)
        return body


@contextmanager
def serving(app: Flask, *, round_trip: float = 0.0, host: str = "127.0.0.1", has_cookies: bool = True) -> Iterator[str]:
    """The app at an address of its own."""
    site: Any = RoundTrip(app, round_trip, has_cookies=has_cookies)
    server = make_server(host, 0, site, threaded=True, request_handler=_Quiet)
    server.daemon_threads = True  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
