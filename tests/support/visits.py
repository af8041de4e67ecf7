"""What a client asks of the routes under ``/otp``, for tests that look at the answers."""

from __future__ import annotations

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

ANN = "ann@example.com"


def send(client: FlaskClient, identifier: str = ANN, **members: str) -> TestResponse:
    return client.post("/otp/send", json={"identifier": identifier, **members})


def ask(client: FlaskClient, identifier: str = ANN, **members: str) -> str:
    """The handle of a new challenge."""
    answer = send(client, identifier, **members)
    assert answer.status_code == 200, answer.text
    return str(answer.get_json()["challenge"])


def verify(client: FlaskClient, code: str, **members: str) -> TestResponse:
    return client.post("/otp/verify", json={"code": code, **members})


def wrong(code: str) -> str:
    """Another code of as many digits."""
    return f"{(int(code) + 1) % 10 ** len(code):0{len(code)}d}"


def bearer(proof: str) -> dict[str, str]:
    """The header of a client without cookies."""
    return {"Authorization": f"Bearer {proof}"}
