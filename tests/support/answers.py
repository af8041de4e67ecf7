"""What can be seen of an answer."""

from __future__ import annotations

import re
from typing import Any

from werkzeug.test import TestResponse


def like_any(answer: TestResponse) -> tuple[Any, ...]:
    """All that could tell one answer from another, for numbers of one length."""
    headers = {name: value for name, value in answer.headers.items() if name != "Set-Cookie"}
    body = {**answer.json, "challenge": len(answer.json["challenge"]), "destination": len(answer.json["destination"])}
    return answer.status_code, headers, body


def place(answer: TestResponse | str | None) -> str | None:
    """Where an answer leads, without what tells one tab from another: the challenge or form, and the requirement."""
    location = answer if isinstance(answer, str) or answer is None else answer.location
    return None if location is None else re.sub(r"(?<=[?&])(of|requirement)=[\w.-]+(&|$)", "", location).rstrip("?&")
