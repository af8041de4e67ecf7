"""R19, R20, R31: whatever is sent, the answer is 4xx and a problem, nothing goes out, and no attempt is won."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import TestResponse

from flask_otp import Message
from flask_otp.testing import Clock, Outbox, capture_codes

ANN = "ann@example.com"
BOB = "bob@example.com"
SEND, VERIFY, RESEND, LOGOUT = "/otp/send", "/otp/verify", "/otp/resend", "/otp/logout"
ENDPOINTS = (SEND, VERIFY, RESEND, LOGOUT)
FIELDS = {
    SEND: ("identifier", "email", "phone", "channel", "purpose", "requirement", "next"),
    VERIFY: ("code", "challenge", "purpose"),
    RESEND: ("challenge", "purpose"),
}
ALL_FIELDS = [(path, field) for path, fields in FIELDS.items() for field in fields]


def no_one(message: Message) -> None:
    """A channel that takes everything."""


def network_limits_off(**config: Any) -> dict[str, Any]:
    return {"OTP_IP_SEND_LIMIT": None, "OTP_IP_VERIFY_LIMIT": None, **config}


class Site:
    """A site with one live challenge of Ann's, cooled down, and the client that holds it."""

    def __init__(self, app: Flask, sent: Outbox, clock: Clock) -> None:
        self.app = app
        self.sent = sent
        self.client: FlaskClient = app.test_client()
        answer = self.client.post(SEND, json={"identifier": ANN})
        self.handle: str = answer.get_json()["challenge"]
        self.code = sent.code
        clock.advance("31s")
        sent.clear()

    def good(self, path: str) -> dict[str, Any]:
        """A body that would work."""
        if path == SEND:
            return {"identifier": BOB}
        return {"challenge": self.handle} | ({"code": self.wrong} if path == VERIFY else {})

    @property
    def wrong(self) -> str:
        return "".join("1" if digit == "0" else "0" for digit in self.code)

    def post(self, path: str, data: bytes, what: str = "", query: str = "") -> None:
        """Send it as this session and as a stranger; both must be refused."""
        for client in (self.client, self.app.test_client()):
            self.refused(client.post(path + query, data=data, content_type="application/json"), what=what)

    def refused(self, answer: TestResponse, status: int | None = None, what: str = "") -> None:
        told = (what, answer.status_code, answer.text)
        assert 400 <= answer.status_code < 500, told
        assert status in (None, answer.status_code), told
        assert answer.content_type == "application/problem+json", told
        assert answer.get_json(force=True)["status"] == answer.status_code
        assert not self.sent, told

    def still_works(self) -> None:
        """Nothing has used the challenge up, nor passed it."""
        assert self.client.post(VERIFY, json={"code": self.code}).status_code == 200


@pytest.fixture
def site(make_app: Callable[..., Flask], clock: Clock) -> Iterator[Site]:
    app = make_app(**network_limits_off(OTP_CHANNELS={"email": no_one}))
    with capture_codes(app) as sent:
        yield Site(app, sent, clock)


# JSON of the wrong shape

VALUES = {
    "a number": "123456",
    "a negative number": "-1",
    "a fraction": "1.5",
    "a huge number": "1e999",
    "many digits": "9" * 1000,
    "true": "true",
    "false": "false",
    "null": "null",
    "NaN": "NaN",
    "an empty list": "[]",
    "a list of one": '["ann@example.com"]',
    "a list of two": '["ann@example.com", "bob@example.com"]',
    "an empty object": "{}",
    "an object": '{"$ne": ""}',
    "an object with the name again": '{"identifier": "ann@example.com", "code": "123456"}',
    "a nested list": '[["ann@example.com"]]',
    "a list of an object": '[{"a": [null]}]',
}


def body_with(good: dict[str, Any], field: str, raw_value: str) -> bytes:
    """A good body's JSON with one member's value put in as it is."""
    others = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in good.items() if name != field]
    return f"{{{', '.join([*others, f'{json.dumps(field)}: {raw_value}'])}}}".encode()


@pytest.mark.parametrize(("path", "field"), ALL_FIELDS)
def test_r19_every_member_must_be_a_string(site: Site, path: str, field: str) -> None:
    for what, value in VALUES.items():
        site.post(path, body_with(site.good(path), field, value), what)
    site.still_works()


ROOTS = {
    "nothing": b"",
    "spaces": b"   ",
    "half an object": b'{"identifier": ',
    "an open string": b'{"identifier": "ann',
    "single quotes": b"{'identifier': 'bob@example.com'}",
    "a trailing comma": b'{"identifier": "bob@example.com",}',
    "a comment": b'{"identifier": "bob@example.com"} // hello',
    "two objects": b'{"identifier": "bob@example.com"}{"identifier": "bob@example.com"}',
    "an object and more": b'{"identifier": "bob@example.com"}\0',
    "a list": b"[]",
    "a list of an object": b'[{"identifier": "bob@example.com"}]',
    "a list of pairs": b'[["identifier", "bob@example.com"]]',
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "NaN": b"NaN",
    "a string": b'"identifier"',
    "a form": b"identifier=bob%40example.com",
    "a raw line break": b'{"identifier": "bob@\nexample.com"}',
    "no UTF-8": b'{"identifier": "bob\xff@example.com"}',
    "Latin-1": '{"identifier": "b\xf6b@example.com"}'.encode("latin-1"),
    "UTF-16": '{"identifier": "bob@example.com"}'.encode("utf-16"),
    "UTF-32": '{"identifier": "bob@example.com"}'.encode("utf-32-le"),
    "a deep list": b"[" * 4000,
    "a deep closed list": b"[" * 2000 + b"]" * 2000,
    "deep objects": b'{"a":' * 800,
    "gzip": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_r19_a_body_that_is_no_json_object_is_refused(site: Site, path: str) -> None:
    for what, data in ROOTS.items():
        if data or path != LOGOUT:  # a logout needs no body
            site.post(path, data, what)
    site.still_works()


@pytest.mark.parametrize("depth", [500, 900, 2000])
def test_deep_nesting_within_a_good_body_is_no_500(site: Site, depth: int) -> None:
    body = json.dumps({"identifier": "nobody"})[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
    site.post(SEND, body.encode()[:4096])


@pytest.mark.parametrize(("path", "field"), ALL_FIELDS)
def test_r19_a_name_given_twice_is_refused_in_json_and_in_a_form(site: Site, path: str, field: str) -> None:
    good = {**site.good(path), field: site.good(path).get(field, "x")}
    twice = json.dumps(good)[:-1] + f", {json.dumps({field: good[field]})[1:]}"
    site.post(path, twice.encode())
    escaped = json.dumps(good)[:-1] + f', "\\u{ord(field[0]):04x}{field[1:]}": "x"}}'
    site.post(path, escaped.encode())
    pairs = "&".join(f"{name}={value}" for name, value in [*good.items(), (field, good[field])])
    for client in (site.client, site.app.test_client()):
        answer = client.post(
            path,
            data=pairs,
            content_type="application/x-www-form-urlencoded",
            headers={"Accept": "application/json"},
        )
        site.refused(answer, 400)
    site.still_works()


@pytest.mark.parametrize("names", [("identifier", "email"), ("email", "phone"), ("identifier", "email", "phone")])
@pytest.mark.parametrize("same", [True, False])
def test_r19_two_names_of_the_identifier_are_refused(site: Site, names: tuple[str, ...], same: bool) -> None:
    values = [BOB if same else f"bob{number}@example.com" for number, _ in enumerate(names)]
    site.post(SEND, json.dumps(dict(zip(names, values, strict=True))).encode())


@pytest.mark.parametrize(("path", "field"), ALL_FIELDS)
def test_r19_the_query_and_the_body_do_not_mix(site: Site, path: str, field: str) -> None:
    good = site.good(path)
    for left_out in (True, False):
        body = {name: value for name, value in good.items() if not (left_out and name == field)}
        site.post(path, json.dumps(body).encode(), query=f"?{field}={good.get(field, 'x')}")
    site.still_works()


STRINGS = {
    "a lone high surrogate": "\\ud800",
    "a lone low surrogate": "a\\udfff@example.com",
    "surrogates the wrong way round": "\\udc00\\ud800",
    "NUL": "\\u0000",
    "NUL within": "login\\u0000",
    "a line break": "bob@example.com\\r\\nBcc: eve@example.com",
    "a line separator": "a\\u2028b",
    "very long": "x" * 3000,
    "astral": "\\ud83d\\ude00" * 50,
    "a format": "%s%n{0}{{7*7}}",
    "markup": "<script>alert(1)</script>",
    "a path": "../../../etc/passwd",
}


@pytest.mark.parametrize(("path", "field"), [pair for pair in ALL_FIELDS if pair[1] != "next"])
def test_r19_hostile_strings_in_every_member_are_refused(site: Site, path: str, field: str) -> None:
    for what, text in STRINGS.items():
        site.post(path, body_with(site.good(path), field, f'"{text}"'), what)
    site.still_works()


def test_a_hostile_next_is_dropped(site: Site) -> None:
    for text in STRINGS.values():
        body = body_with({"identifier": ANN}, "next", f'"{text}"')
        assert site.client.post(SEND, data=body, content_type="application/json").status_code == 200
    assert site.client.post(VERIFY, json={"code": site.code}).get_json()["next"] == "/"


@pytest.mark.parametrize("page", ["/otp/", "/otp/verify"])
def test_hostile_strings_in_the_queries_of_the_pages_are_no_500(site: Site, page: str) -> None:
    for what, text in STRINGS.items():
        raw = json.loads(f'"{text}"').encode("utf-8", "surrogatepass")
        quoted = "".join(f"%{byte:02x}" for byte in raw)
        assert site.client.get(f"{page}?next={quoted}").status_code == 200, what
        for accept in ("application/json", "text/html"):
            answer = site.client.get(f"{page}?purpose={quoted}", headers={"Accept": accept})
            assert answer.status_code == 400, what


# Bodies of the wrong type

TYPES = [
    None,
    "",
    "text/plain",
    "text/plain; charset=utf-8",
    "text/json",
    "text/html",
    "application/xml",
    "application/octet-stream",
    "application/jsonp",
    "application/json-patch+json",
    "application/problem+json",
    "application/x-ndjson",
    "text/plain; application/json",
    "multipart/mixed; boundary=x",
    "json",
    "*/*",
]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_r29_json_of_another_type_is_refused(site: Site, path: str) -> None:
    data = json.dumps(site.good(path) if path != LOGOUT else {"x": "y"}).encode()
    for content_type in TYPES:
        for client in (site.client, site.app.test_client()):
            site.refused(client.post(path, data=data, content_type=content_type), 415, str(content_type))
    site.still_works()


MULTIPART = {
    "no boundary": ("multipart/form-data", b"--x\r\n"),
    "another boundary": ("multipart/form-data; boundary=y", b"--x\r\n\r\n--x--\r\n"),
    "no end": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="identifier"\r\n\r\nbob',
    ),
    "no headers": ("multipart/form-data; boundary=x", b"--x\r\n\r\nbob@example.com\r\n--x--\r\n"),
    "no name": (
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nbob@example.com\r\n--x--\r\n",
    ),
    "a strange charset": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="identifier"\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n'
        b"bob\xff@example.com\r\n--x--\r\n",
    ),
    "not closed": ("multipart/form-data; boundary=x", b"--x"),
    "nothing": ("multipart/form-data; boundary=x", b""),
    "a long boundary": (f"multipart/form-data; boundary={'x' * 2000}", b"--x\r\n"),
}


@pytest.mark.parametrize("path", [SEND, VERIFY])
def test_broken_multipart_is_refused(site: Site, path: str) -> None:
    for what, (content_type, data) in MULTIPART.items():
        api, page = (
            site.client.post(path, data=data, content_type=content_type, headers={"Accept": accept})
            for accept in ("application/json", "text/html")
        )
        site.refused(api, what=what)
        assert page.status_code == 400, what
    site.still_works()


@pytest.mark.parametrize("path", ENDPOINTS)
def test_r19_a_file_is_refused(site: Site, path: str) -> None:
    good = {} if path == LOGOUT else site.good(path)
    for field in ("identifier", "code", "challenge", "upload"):
        body = {**good, field: (io.BytesIO(site.code.encode()), "a.txt")}
        site.refused(site.client.post(path, data=body, headers={"Accept": "application/json"}), 400, field)
    site.still_works()


@pytest.mark.parametrize("quoted", ["%ff", "a%20%ff@example.com", "%ed%a0%80", "%00", "bob%0d%0a@example.com", "%"])
def test_hostile_bytes_in_a_form_are_refused_and_can_be_shown_again(site: Site, quoted: str) -> None:
    for accept in ("application/json", "text/html"):
        answer = site.client.post(
            SEND,
            data=f"identifier={quoted}",
            content_type="application/x-www-form-urlencoded",
            headers={"Accept": accept},
        )
        assert answer.status_code == 400
        answer.data.decode("utf-8")
    assert not site.sent


# Bodies that are too large


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("size", [4097, 1_000_000])
def test_a_body_over_4_kib_is_413(site: Site, path: str, size: int) -> None:
    good = json.dumps({} if path == LOGOUT else site.good(path)).encode()
    padded = good + b" " * (size - len(good))
    site.refused(site.client.post(path, data=padded, content_type="application/json"), 413)
    form = b"x=" + b"y" * (size - 2)
    answer = site.client.post(
        path, data=form, content_type="application/x-www-form-urlencoded", headers={"Accept": "application/json"}
    )
    site.refused(answer, 413)
    site.still_works()


def test_a_body_of_exactly_4_kib_is_read(site: Site) -> None:
    good = json.dumps({"identifier": BOB}).encode()
    answer = site.client.post(SEND, data=good + b" " * (4096 - len(good)), content_type="application/json")
    assert answer.status_code == 200


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "", "0x10", "4 096", "99999999999999999999"])
def test_a_strange_content_length_is_no_500(site: Site, length: str) -> None:
    answer = site.client.post(
        SEND,
        input_stream=io.BytesIO(b'{"identifier": "bob@example.com"}'),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": length},
    )
    site.refused(answer)


class QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address(site: Site) -> Iterator[tuple[str, int]]:
    """The site on a real server, since the test client cannot send a body without a length."""
    server = make_server("127.0.0.1", 0, site.app, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def post_in_chunks(address: tuple[str, int], path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    headers = {"Content-Type": content_type, "Accept": "application/json", "Transfer-Encoding": "chunked"}
    chunks = (body[start : start + 1000] for start in range(0, len(body), 1000))
    try:
        connection.request("POST", path, chunks, headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.server
def test_a_body_without_a_content_length_is_read(site: Site, address: tuple[str, int]) -> None:
    status, _ = post_in_chunks(address, SEND, b'{"identifier": "bob@example.com"}', "application/json")
    assert status == 200
    assert site.sent.code_for(BOB)


@pytest.mark.server
@pytest.mark.parametrize("size", [4097, 20_000])
def test_a_large_json_body_without_a_content_length_is_413_and_not_cut(
    site: Site, address: tuple[str, int], size: int
) -> None:
    good = b'{"identifier": "bob@example.com"}'
    status, answer = post_in_chunks(address, SEND, good + b" " * (size - len(good)), "application/json")
    assert (status, site.sent) == (413, []), answer


@pytest.mark.server
def test_a_large_form_without_a_content_length_is_413_and_not_cut(site: Site, address: tuple[str, int]) -> None:
    end = "identifier=bob@example.com"
    cut_here = f"x={'y' * (4096 - len(end) - 3)}&{end}"
    assert len(cut_here) == 4096
    for more in (".evil.example", ".evil.example" + "&x=y" * 5000):
        body = (cut_here + more).encode()
        status, answer = post_in_chunks(address, SEND, body, "application/x-www-form-urlencoded")
        assert (status, site.sent) == (413, []), answer


# Addresses

ADDRESSES = {
    "nothing": "",
    "spaces": "   ",
    "a word": "ann",
    "no local part": "@example.com",
    "no domain": "ann@",
    "two at signs": "ann@bob@example.com",
    "only an at sign": "@",
    "a comma": "ann@example.com, bob@example.com",
    "a comma without space": "ann@example.com,bob@example.com",
    "a semicolon": "ann@example.com;bob@example.com",
    "a space": "ann@example.com bob@example.com",
    "a pipe": "ann@example.com|bob@example.com",
    "an encoded line break": "ann%0d%0aBcc:bob@bob@example.com",
    "a query": "ann@example.com?cc=bob@example.com",
    "a line feed": "ann@example.com\nBcc: bob@example.com",
    "CR LF": "ann@example.com\r\nBcc: bob@example.com",
    "a trailing line feed": "ann@example.com\n",
    "a leading line feed": "\nann@example.com",
    "a lone CR": "ann\r@example.com",
    "a tab within": "ann\t@example.com",
    "a tab in the domain": "ann@exam\tple.com",
    "NUL": "ann@example.com\0",
    "NUL within": "ann\0@example.com",
    "DEL": "ann\x7f@example.com",
    "NEL": "ann@example.com\x85",
    "a line separator": "ann@example.com\u2028",
    "a paragraph separator": "ann\u2029@example.com",
    "a vertical tab": "\vann@example.com",
    "an escape": "ann\x1b[2J@example.com",
    "a quoted local part": '"ann"@example.com',
    "a quoted at sign": '"ann@example.com"@example.org',
    "a quoted space": '"ann bob"@example.com',
    "a comment": "ann(comment)@example.com",
    "a comment at the end": "ann@example.com(comment)",
    "an IPv4 literal": "ann@[127.0.0.1]",
    "an IPv6 literal": "ann@[IPv6:::1]",
    "a bare IP": "ann@127.0.0.1",
    "a full-width IP": "ann@\uff11\uff12\uff17.0.0.1",
    "a display name": "Ann <ann@example.com>",
    "angle brackets": "<ann@example.com>",
    "an open bracket": "<ann@example.com",
    "mailto": "mailto:ann@example.com",
    "localhost": "ann@localhost",
    "no dot": "ann@example",
    "a trailing dot": "ann@example.com.",
    "two dots": "ann..bob@example.com",
    "a leading dot": ".ann@example.com",
    "a dot before the at sign": "ann.@example.com",
    "an empty label": "ann@example..com",
    "a leading hyphen": "ann@-example.com",
    "an underscore": "ann@exam_ple.com",
    "a slash in the domain": "ann@example.com/x",
    "a port": "ann@example.com:25",
    "a source route": "@example.org:ann@example.com",
    "a bang path": "example.org!ann",
    "a percent in the domain": "ann@example%2ecom",
    "a backslash": "ann\\@example.com",
    "a dotless i": "m\u0131ke@example.com",
    "a Cyrillic a": "\u0430nn@example.com",
    "sharp s": "\xdf@example.com",
    "a combining accent": "a\u0301nn@example.com",
    "a broken IDNA label": "ann@xn--a.com",
    "a symbol in the domain": "ann@\u2603\ufe0f\u200d.com",
    "a long domain": "ann@" + "a." * 130 + "com",
    "a long label": "ann@" + "a" * 64 + ".com",
    "255 characters": "a" * 60 + "@" + ".".join(["b" * 60] * 3) + ".example.com",
    "3,000 characters": "a" * 3000 + "@example.com",
    "3,000 at signs": "@" * 3000,
    "3,000 dots": "ann@" + "." * 3000,
    "only a plus": "+",
    "a short number": "+44740",
    "a long number": "+44" + "7" * 29,
    "letters in a number": "+44 7400 ABCDEF",
    "an extension": "+447400123456;ext=5",
    "two numbers": "+447400123456,+447400123457",
    "a number and a line feed": "+447400123456\n",
    "an unassigned country": "+999123456789",
}


def test_r31_what_is_no_single_address_is_refused(site: Site) -> None:
    for what, address in ADDRESSES.items():
        answer = site.client.post(SEND, json={"identifier": address})
        site.refused(answer, 400, what)
        assert answer.get_json(force=True)["reason"] == "invalid_identifier", what


def test_r31_what_is_no_single_address_is_told_beside_the_field(site: Site) -> None:
    for what, address in ADDRESSES.items():
        page = site.client.post(SEND, data={"identifier": address}, headers={"Accept": "text/html"})
        assert page.status_code == 400, what
        assert 'id="identifier-error"' in page.text, what
        assert not site.sent, what


SPELLINGS = {
    "capitals": "Bob@Example.COM",
    "spaces around": "  bob@example.com ",
    "no-break and ideographic spaces": "\xa0bob@example.com\u3000",
    "a full-width domain": "bob@\uff45xample.com",
    "an ideographic full stop": "bob@example\u3002com",
    "a full-width full stop": "bob@example\uff0ecom",
    "the Kelvin sign for a k": "bob@e\u2179ample.com",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_r20_every_spelling_goes_to_one_address_and_has_one_budget(site: Site, spelling: str) -> None:
    answer = site.app.test_client().post(SEND, json={"identifier": spelling})
    assert answer.status_code == 200, answer.text
    assert [message.recipient for message in site.sent] == [BOB]
    assert site.app.test_client().post(SEND, json={"identifier": BOB}).status_code == 429


@pytest.mark.parametrize(
    ("typed", "recipient"),
    [
        ("ann@b\xfccher.example", "ann@xn--bcher-kva.example"),
        ("ann@B\xdcCHER.example", "ann@xn--bcher-kva.example"),
        ("ann@bu\u0308cher.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
    ],
)
def test_r20_a_domain_of_another_script_is_sent_to_in_its_ascii_form(site: Site, typed: str, recipient: str) -> None:
    answer = site.app.test_client().post(SEND, json={"identifier": typed})
    assert answer.status_code == 200
    assert [message.recipient for message in site.sent] == [recipient]


# Codes

GOOD_CODES: dict[str, Callable[[str], str]] = {
    "as sent": str,
    "with a space": lambda code: f"{code[:3]} {code[3:]}",
    "with spaces around": lambda code: f"  {code}  ",
    "with a dash": lambda code: f"{code[:3]}-{code[3:]}",
    "with an en dash": lambda code: f"{code[:3]}\u2013{code[3:]}",
    "with a no-break space": lambda code: f"{code[:3]}\xa0{code[3:]}",
    "pasted with a line break": lambda code: f"{code}\r\n",
    "full-width": lambda code: "".join(chr(ord(digit) + 0xFEE0) for digit in code),
}


@pytest.mark.parametrize("spell", GOOD_CODES.values(), ids=GOOD_CODES)
def test_r20_a_code_may_be_typed_with_spaces_dashes_and_full_width_digits(
    site: Site, spell: Callable[[str], str]
) -> None:
    assert site.client.post(VERIFY, json={"code": spell(site.code)}).status_code == 200


BAD_CODES: dict[str, Callable[[str], Any]] = {
    "nothing": lambda code: "",
    "spaces": lambda code: "      ",
    "with underscores": lambda code: f"{code[:2]}_{code[2:4]}_{code[4:]}",
    "with a plus": lambda code: f"+{code}",
    "with a comma": lambda code: f"{code[:3]},{code[3:]}",
    "with a point": lambda code: f"{code}.0",
    "with a zero in front": lambda code: f"0{code}",
    "with a digit behind": lambda code: f"{code}0",
    "without the last digit": lambda code: code[:-1],
    "twice": lambda code: f"{code} {code}",
    "a list of codes as text": lambda code: f"{code},000000",
    "a wildcard": lambda code: "******",
    "a pattern": lambda code: "[0-9]{6}",
    "a quote": lambda code: f"{code}' OR '1'='1",
    "NUL": lambda code: f"{code}\0",
    "a surrogate": lambda code: f"{code}\ud800",
    "hexadecimal": lambda code: hex(int(code)),
    "much too long": lambda code: code + " " * 3000,
    "a list": lambda code: [code],
    "a list of many": lambda code: [f"{number:06d}" for number in range(300)] + [code],
    "an object": lambda code: {"code": code},
    "a number": int,
    "true": lambda code: True,
    "null": lambda code: None,
}


def test_r18_the_right_code_in_a_wrong_form_never_passes(site: Site) -> None:
    for what, spell in BAD_CODES.items():
        answer = site.client.post(VERIFY, json={"code": spell(site.code)})
        site.refused(answer, 400, what)
        assert answer.get_json(force=True)["reason"] in ("invalid_code", "invalid_request"), what
    site.still_works()


TRICKS: dict[str, Callable[[Site], dict[str, Any]]] = {
    "a list": lambda site: {"json": {"code": [site.code]}},
    "twice in JSON": lambda site: {"data": f'{{"code": "{site.wrong}", "code": "{site.code}"}}'},
    "twice in a form": lambda site: {"data": f"code={site.code}&code={site.wrong}", "content_type": "form"},
    "in the query": lambda site: {"json": {}, "query_string": {"code": site.code}},
    "in query and body": lambda site: {"json": {"code": site.code}, "query_string": {"code": site.wrong}},
    "as text": lambda site: {"data": json.dumps({"code": site.code}), "content_type": "text/plain"},
    "a name with brackets": lambda site: {"data": f"code[]={site.code}", "content_type": "form"},
    "another purpose": lambda site: {"json": {"code": site.code, "purpose": "nosuch"}},
    "too large": lambda site: {"json": {"code": site.code, "x": "y" * 5000}},
    "a forged handle": lambda site: {"json": {"code": site.code, "challenge": site.handle + "x"}},
}


def try_trick(site: Site, trick: Callable[[Site], dict[str, Any]]) -> None:
    request = {"content_type": "application/json", "headers": {"Accept": "application/json"}, **trick(site)}
    if request["content_type"] == "form":
        request["content_type"] = "application/x-www-form-urlencoded"
    site.refused(site.client.post(VERIFY, **request))


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_r07_no_trick_passes_and_none_gives_an_attempt_back(
    site: Site, trick: Callable[[Site], dict[str, Any]]
) -> None:
    for _ in range(4):
        assert site.client.post(VERIFY, json={"code": site.wrong}).status_code == 400
        try_trick(site, trick)
    assert site.client.post(VERIFY, json={"code": site.wrong}).status_code == 400
    try_trick(site, trick)
    site.refused(site.client.post(VERIFY, json={"code": site.code}), 400)


def test_r07_every_way_to_write_a_wrong_code_costs_an_attempt(site: Site) -> None:
    for spell in list(GOOD_CODES.values())[-5:]:
        site.refused(site.client.post(VERIFY, json={"code": spell(site.wrong)}), 400)
    site.refused(site.client.post(VERIFY, json={"code": site.code}), 400)


def test_r07_a_form_and_json_share_the_attempts(site: Site) -> None:
    for turn in range(5):
        body: dict[str, Any] = {"data" if turn % 2 else "json": {"code": site.wrong, "challenge": site.handle}}
        answer = site.app.test_client().post(VERIFY, headers={"Accept": "application/json"}, **body)
        site.refused(answer, 400)
    site.refused(site.client.post(VERIFY, json={"code": site.code}), 400)


# Headers

HEADERS = [
    {"Accept": ";;;"},
    {"Accept": "text/html;q=abc"},
    {"Accept": "text/html;q=-1, */*;q=99"},
    {"Accept": "\xff\xfe"},
    {"Accept": "a/b," * 2000},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer \xff"},
    {"Authorization": "Bearer " + "x" * 5000},
    {"Authorization": "Basic !!!"},
    {"Cookie": "session=x; otp_known=y"},
    {"Cookie": "session=.eJw.x.y; otp_known=\xff"},
    {"Cookie": "otp_known=" + "x" * 5000},
    {"Content-Encoding": "gzip"},
    {"X-Forwarded-For": "\x7f"},
    {"Referer": "http://[::1"},
]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_hostile_headers_are_no_500(site: Site, path: str) -> None:
    good = {} if path == LOGOUT else site.good(path)
    for headers in HEADERS:
        client = site.app.test_client(use_cookies=False)
        assert client.post(path, json=good, headers=headers).status_code < 500, headers
        assert client.get("/otp/", headers=headers).status_code == 200, headers


@pytest.mark.parametrize("remote", [None, "", "unknown", "\xff", "1.2.3.4:80", "fe80::1%eth0", "unix:"])
def test_r39_a_strange_remote_address_is_no_500_and_is_limited(
    make_app: Callable[..., Flask], site: Site, remote: str | None
) -> None:
    app = make_app(OTP_IP_SEND_LIMIT="1/minute", OTP_CHANNELS={"email": no_one})
    with capture_codes(app):
        codes = [
            app.test_client()
            .post(SEND, json={"identifier": f"{name}@example.com"}, environ_overrides={"REMOTE_ADDR": remote})
            .status_code
            for name in ("ann", "bob")
        ]
    assert codes == [200, 429]
