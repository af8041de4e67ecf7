"""The reader of Redis replies: the same values as redis-py's own, however the bytes arrive."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from flask_otp.redis_clients import uri
from flask_otp.redis_clients.replies import Replies
from flask_otp.redis_clients.server import Server
from tests.support.examples import examples

REPLIES = {
    b":42\r\n": 42,
    b":-1\r\n": -1,
    b"+OK\r\n": b"OK",
    b"$0\r\n\r\n": b"",
    b"$6\r\n:1\r\n*2\r\n": b":1\r\n*2",
    b"$-1\r\n": None,
    b"*-1\r\n": None,
    b"*0\r\n": [],
    b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n+x\r\n": [1, [b"a", None], b"x"],
}


class Pieces:
    """A socket whose bytes arrive in these pieces. An exception is raised in place of a piece."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.timeout: float | None = 0.25

    def recv(self, size: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        received, rest = piece[:size], piece[size:]
        if rest:
            self.pieces.insert(0, rest)
        return received

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout


def replies(*pieces: bytes | Exception) -> tuple[Replies, Pieces]:
    reader, wire = Replies(65536), Pieces(*pieces)
    reader.on_connect(SimpleNamespace(_sock=wire, socket_timeout=0.25))
    return reader, wire


@pytest.mark.parametrize(("sent", "value"), REPLIES.items())
def test_each_kind_of_reply_is_read_wherever_it_is_cut(sent: bytes, value: Any) -> None:
    for cut in range(1, len(sent)):
        reader, _ = replies(sent[:cut], sent[cut:] + b":7\r\n")
        assert [reader.read_response(), reader.read_response()] == [value, 7]


@examples(50, 2000)
@given(st.data())
def test_many_replies_in_any_pieces_give_the_same_values(data: st.DataObject) -> None:
    sent = data.draw(st.lists(st.sampled_from(list(REPLIES)), min_size=1, max_size=6))
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8)))
    reader, _ = replies(*(stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
    assert [reader.read_response() for _ in sent] == [REPLIES[each] for each in sent]


def test_an_error_is_returned_as_redis_py_names_it_also_within_a_list() -> None:
    reader, _ = replies(b"-NOSCRIPT No matching script.\r\n*1\r\n-MOVED 12182 192.0.2.7:6379\r\n")
    assert isinstance(reader.read_response(), redis.exceptions.NoScriptError)
    [moved] = reader.read_response()
    assert (type(moved), moved.slot_id, moved.port) == (redis.exceptions.MovedError, 12182, 6379)


def test_a_server_that_is_not_ready_is_an_error_of_the_connection() -> None:
    reader, _ = replies(b"-LOADING Redis is loading the dataset in memory\r\n")
    with pytest.raises(redis.exceptions.BusyLoadingError):
        reader.read_response()


@pytest.mark.parametrize("pieces", [(), (b"$5\r\nab",), (b"*2\r\n:1\r\n",)])
def test_a_connection_that_ends_within_a_reply_is_an_error(pieces: tuple[bytes, ...]) -> None:
    reader, _ = replies(*pieces)
    with pytest.raises(redis.ConnectionError):
        reader.read_response()


def test_what_is_no_reply_is_refused_at_once() -> None:
    reader, _ = replies(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(redis.InvalidResponse):
        reader.read_response()


@pytest.mark.parametrize("nothing", [BlockingIOError(), ssl.SSLWantReadError()])
def test_an_idle_connection_has_nothing_to_read(nothing: Exception) -> None:
    reader, wire = replies(nothing)
    assert not reader.can_read()
    assert wire.timeout == 0.25


@pytest.mark.parametrize("pieces", [(b"+late\r\n",), (b"",)])
def test_a_late_reply_or_an_end_is_something_to_read(pieces: tuple[bytes, ...]) -> None:
    reader, wire = replies(*pieces)
    assert reader.can_read()
    assert wire.timeout == 0.25


def test_a_reply_that_came_with_the_one_before_is_something_to_read() -> None:
    reader, _ = replies(b":1\r\n:2\r\n", BlockingIOError())
    assert reader.read_response() == 1
    assert reader.can_read()


def test_nothing_is_left_from_before_a_connection_was_made_again() -> None:
    reader, _ = replies(b":1\r\n:2\r\n")
    assert reader.read_response() == 1
    reader.on_disconnect()
    with pytest.raises(redis.ConnectionError):
        reader._receive()
    reader.on_connect(SimpleNamespace(_sock=Pieces(b":3\r\n"), socket_timeout=1))
    assert reader.read_response() == 3


@pytest.mark.parametrize(
    ("query", "options", "hiredis", "ours"),
    [
        ("", {}, False, True),
        ("?protocol=2", {}, False, True),
        ("", {}, True, False),
        ("", {"protocol": 3}, False, False),
        ("?protocol=3", {}, False, False),
    ],
)
def test_it_reads_where_it_knows_the_protocol_and_hiredis_is_missing(
    monkeypatch: pytest.MonkeyPatch, query: str, options: dict[str, Any], hiredis: bool, ours: bool
) -> None:
    monkeypatch.setattr(uri, "HIREDIS_AVAILABLE", hiredis)
    client = uri.connect(f"redis://localhost/{query}", options)
    assert isinstance(client, Server)
    assert (client.connection_pool.connection_kwargs.get("parser_class") is Replies) is ours
