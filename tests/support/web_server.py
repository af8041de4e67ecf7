"""A web server in a process of its own, as an operator starts it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.apps import free_port
from tests.support.servers import wait_until

#: The command, without the workers and the app.
GUNICORN = [sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:{port}"]


class WebServer:
    """Starts the command and waits until it listens. :meth:`close` ends it.

    :param command: with ``{port}`` where the port belongs, which is a free one.
    :param directory: where it runs, finds the module of the app, and writes its log.
    :param environment: variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], directory: Path, **environment: str) -> None:
        self.port = free_port()
        self.log_path = directory / f"log of {self.port}"
        paths = [str(directory), os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [part.format(port=self.port) for part in command],
                cwd=directory,
                env=os.environ | {"PYTHONPATH": ":".join(paths)} | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._listens, 60)
        except BaseException:
            self.close()
            raise

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log_path.read_text()
        return listens(self.port)

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.connect()
        return connection

    def stop(self, number: signal.Signals, seconds: float = 20) -> float:
        """How long it took to end."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(seconds)
        return time.monotonic() - start

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(signal.SIGINT, 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # also workers that did not end
        self.process.wait()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
