"""What hides in a text or behind an error."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256

from flask import Flask

from flask_otp.testing import capture_codes


def layers(text: str, depth: int = 5) -> Iterator[bytes]:
    """The text, and whatever in it is base64, maybe compressed, down to the bottom."""
    yield text.encode()
    if depth:
        for run in re.findall(r"[A-Za-z0-9_-]{6,}", text):
            data = base64.urlsafe_b64decode(run + "=" * (-len(run) % 4)) if len(run) % 4 != 1 else b""
            for inner in (data, _inflated(data)):
                yield inner
                yield from layers(inner.decode("latin-1"), depth - 1) if inner else ()


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return b""


def chain(error: BaseException) -> Iterator[BaseException]:
    for inner in (error.__cause__, error.__context__):
        if inner is not None:
            yield from chain(inner)
    yield error


class Dump:
    """All bytes of a store, to be searched for codes and digests in the forms in which they might be there."""

    def __init__(self, chunks: list[bytes]) -> None:
        readings = list(chunks)
        for chunk in chunks:
            for run in re.findall(rb"[0-9a-fA-F]{16,}", chunk):
                readings += [
                    bytes.fromhex(run[start : start + (len(run) - start) // 2 * 2].decode()) for start in (0, 1)
                ]
            for run in re.findall(rb"[A-Za-z0-9_+/-]{12,}", chunk):
                text = run.replace(b"+", b"-").replace(b"/", b"_")
                for start in range(4):
                    part = text[start:]
                    readings.append(base64.urlsafe_b64decode(part[: len(part) // 4 * 4]))
        #: Every 8 bytes in a row. A digest is found by its first eight bytes, even if the rest was cut off.
        self.windows = {chunk[at : at + 8] for chunk in readings for at in range(len(chunk) - 7)}
        self.digits = {match for chunk in chunks for match in re.findall(rb"(?=([0-9]{6}))", chunk)}
        self.everything = b"\0".join(chunks)

    def finds(self, salts: list[bytes], numbers: Iterable[int]) -> list[str]:
        """Which codes show, as they are or as SHA-256 of themselves after one of the salts."""
        windows, digits, found = self.windows, self.digits, []
        for number in numbers:
            code = b"%06d" % number
            if code in digits:
                found.append(code.decode())
            for salt in salts:
                if sha256(salt + code).digest()[:8] in windows:
                    found.append(code.decode())
        return found


def issue(app: Flask, identifier: str) -> tuple[bytes, str]:
    """Sign another person in, then send a code and try a wrong one. Returns the challenge's id and the code."""
    tokens = app.extensions["otp"].tokens
    with capture_codes(app) as codes:
        client = app.test_client()
        handle = client.post("/otp/send", json={"identifier": "carol@example.com"}).json["challenge"]
        assert client.post("/otp/verify", json={"code": codes.code, "challenge": handle}).status_code == 200
        client = app.test_client()
        handle = client.post("/otp/send", json={"identifier": identifier}).json["challenge"]
        wrong = "000000" if codes.code != "000000" else "111111"
        assert client.post("/otp/verify", json={"code": wrong, "challenge": handle}).status_code == 400
        return tokens.load_handle(handle).challenge_id, codes.code
