"""A connection all of whose waits end at one deadline.

A socket's own time-out is for one read, so a server that drips would hold us for as long as it likes.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from http.client import HTTPException, HTTPResponse
from typing import Any

Address = tuple[str, int]


class Wire:
    """As much of a socket as :mod:`http.client` wants.

    :param server: where to.
    :param tls: encrypts, and checks that it is ``server``; ``None``: in the clear.
    :param proxy: connects us to ``server``, and sees what goes there no better than anybody on the way.
    :param seconds: from now to the deadline. The look-up of a name has the time-outs of the system's resolver.
    :raises TimeoutError: by this and by every method: the deadline has passed.
    :raises OSError: there is no way to the server, or it is another one.
    """

    def __init__(self, server: Address, tls: ssl.SSLContext | None, proxy: Address | None, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._sock = self._connect(*(proxy or server))
        try:
            if proxy is not None:
                self._ask_proxy(server)
            if tls is not None:
                self._wait()
                self._sock = tls.wrap_socket(self._sock, server_hostname=server[0])
        except BaseException:
            self._sock.close()
            raise

    def _connect(self, host: str, port: int) -> socket.socket:
        failure = OSError("the name has no address")
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                # An equal share for each, so that one that never answers leaves time for the next.
                sock.settimeout(self._left() / (len(addresses) - index))
                sock.connect(address)
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def _ask_proxy(self, server: Address) -> None:
        name = f"[{server[0]}]" if ":" in server[0] else server[0]
        target = f"{name}:{server[1]}"
        self.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        # Read as the answer to HEAD: what follows the headers is not the proxy's any more.
        with HTTPResponse(self, method="HEAD") as response:  # type: ignore[arg-type]
            try:
                response.begin()
            except HTTPException:
                raise OSError("the proxy's answer was no HTTP") from None
        if response.status != 200:
            raise OSError(f"the proxy answered {response.status}")

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        return left

    def _wait(self) -> None:
        self._sock.settimeout(self._left())

    def sendall(self, data: bytes) -> None:
        unsent = memoryview(data)
        while unsent:
            self._wait()
            unsent = unsent[self._sock.send(unsent) :]

    def recv_into(self, buffer: Any) -> int:
        self._wait()
        return self._sock.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.recv_into(buffer)
