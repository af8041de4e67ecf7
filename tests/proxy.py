"""A TCP proxy on the loopback that counts round trips and breaks connections in the ways that networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
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
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._lose: str | None = None
        self._closed = False
        self.round_trips = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

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

    def lose_reply(self, how: str = "cut") -> None:
        """Let the next request reach the server, and lose its reply.

        :param how: ``"cut"`` breaks the connection in place of the reply, ``"silence"`` leaves it open.
        """
        self._lose = how

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, name="proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
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
            with self._lock:
                self.connections += 1
                self._open |= {client, server}
            pair = _Pair(client, server)
            self._start(self._pump, pair, client, server)
            self._start(self._pump, pair, server, client)

    def _pump(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if not self._passes(pair, from_client=source is pair.client):
                    continue
                target.sendall(data)
        self._end(pair)

    def _passes(self, pair: _Pair, *, from_client: bool) -> bool:
        """Count, and tell whether the bytes may go on."""
        with self._lock:
            if from_client:
                pair.waiting = True
                return True
            if not pair.waiting:
                return pair.lost is None
            pair.waiting = False
            self.round_trips += 1
            if self._lose is None:
                return True
            pair.lost, self._lose = self._lose, None
            if pair.lost == "cut":
                for sock in (pair.client, pair.server):
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
            return False

    def _end(self, pair: _Pair) -> None:
        """Both pumps come here: the first wakes the other one, the second closes."""
        with self._lock:
            for sock in (pair.client, pair.server):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            pair.ended += 1
            if pair.ended == 2:
                self._open -= {pair.client, pair.server}
                pair.client.close()
                pair.server.close()


class _Pair:
    """Two ends of one connection, and where its conversation is."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.waiting = False
        self.lost: str | None = None
        self.ended = 0
