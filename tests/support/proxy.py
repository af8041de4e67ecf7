"""A TCP proxy on the loopback that counts round trips and breaks connections in the ways that networks do."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType


class Proxy:
    """Stands between a client and a server at ``127.0.0.1:port``.

    A round trip is a burst of bytes from the client that was followed by bytes from the server, on one connection.

    ::

        with Proxy(server_port) as proxy:
            client = connect(proxy.port)
            proxy.reset()
            client.ping()
            assert proxy.round_trips == 1
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._delay = 0.0
        self._loss: _Loss | None = None
        self.round_trips = 0
        self.connections = 0
        self.port = 0
        self.listen()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reset(self) -> None:
        """Count from nought again."""
        with self._lock:
            self.round_trips = self.connections = 0

    def listen(self) -> None:
        """Take connections, as it does from the start, at the same port as ever."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def refuse(self) -> None:
        """Refuse connections, like a port where no server listens, until :meth:`listen`."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def delay(self, seconds: float) -> None:
        """Hold each reply back for so long; 0 ends it."""
        self._delay = seconds

    def hang(self) -> None:
        """Take bytes and connections, and pass nothing on, until :meth:`resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Break the connections that there are. New ones work."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def forget(self, how: str = "silence") -> None:
        """Forget the connections that there are, as a balancer or a firewall does. New ones work.

        :param how: what comes of the client's next bytes: ``"silence"`` or ``"reset"``.
        """
        with self._lock:
            for pair in self._pairs:
                pair.forgotten = how

    def lead_to(self, upstream: int) -> None:
        """New connections go to another server. Old ones stay."""
        self._upstream = upstream

    def lose_reply(self, how: str = "cut") -> None:
        """Let the next request reach the server, and lose its reply.

        :param how: ``"cut"`` breaks the connection in place of the reply, ``"silence"`` leaves it open.
        """
        self._loss = _Loss(how, re.compile(b""), once=True)

    def lose_replies(self, to: re.Pattern[bytes], how: str | Callable[[], object] = "cut") -> None:
        """Let requests reach the server and lose the replies, until :meth:`keep_replies`.

        :param to: only where this is found in the request or in its reply.
        :param how: as for :meth:`lose_reply`; or a function that is called before the connection is broken.
        """
        self._loss = _Loss(how, to, once=False)

    def keep_replies(self) -> None:
        self._loss = None

    def close(self) -> None:
        self._flowing.set()
        self._delay = 0
        self.refuse()
        for thread in self._threads:
            thread.join(5)

    def _start(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, name="proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            with self._lock:
                self.connections += 1
                self._open |= {client, server}
                self._pairs.add(pair)
            self._start(self._pump, pair, client, server)
            self._start(self._pump, pair, server, client)

    def _pump(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if pair.forgotten == "reset":
                    # With this, closing sends a reset.
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    source.close()
                    break
                if pair.forgotten:
                    continue
                from_client = source is pair.client
                if self._delay and not from_client:
                    time.sleep(self._delay)
                if not self._passes(pair, data, from_client=from_client):
                    continue
                target.sendall(data)
        self._end(pair)

    def _passes(self, pair: _Pair, data: bytes, *, from_client: bool) -> bool:
        """Count, and tell whether the bytes may go on."""
        with self._lock:
            if from_client:
                pair.request = pair.request + data if pair.waiting else data
                pair.waiting = True
                return True
            if pair.lost:
                return False
            loss, seen = self._loss, pair.request + data
            if not pair.waiting:  # a further piece of a reply, as pg8000 asks for them
                loss, seen = (None if loss is None or loss.once else loss), data
            else:
                pair.waiting = False
                self.round_trips += 1
            if loss is None or not loss.to.search(seen):
                return True
            self._lose(pair, loss)
            return False

    def _lose(self, pair: _Pair, loss: _Loss) -> None:
        pair.lost = True
        if loss.once:
            self._loss = None
        if loss.how == "silence":
            return
        if callable(loss.how):
            loss.how()
        for sock in (pair.client, pair.server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _end(self, pair: _Pair) -> None:
        """Both pumps come here: the first wakes the other one, the second closes."""
        with self._lock:
            for sock in (pair.client, pair.server):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            pair.ended += 1
            if pair.ended == 2:
                self._open -= {pair.client, pair.server}
                self._pairs.discard(pair)
                pair.client.close()
                pair.server.close()


class _Pair:
    """Two ends of one connection, and where its conversation is."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.request = b""
        self.waiting = False
        self.lost = False
        self.forgotten = ""
        self.ended = 0


@dataclass(frozen=True)
class _Loss:
    """Which replies get lost, and how."""

    how: str | Callable[[], object]
    to: re.Pattern[bytes]
    once: bool
