"""Test recipients: nothing is sent to them, and their code is fixed until a day that must be named.

For the people who review an app before a store takes it, and for tests from end to end. All limits hold for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import NamedTuple

from .. import identifiers
from ..crypto.codes import plain
from ..errors import InvalidIdentifier

_NUMBER = re.compile(r"\+[0-9]{6,15}")
_WANTED = 'must be a dict such as {"+15550100": ("000000", "2027-01-31")}: an address, its code, its last day'


class TestRecipient(NamedTuple):
    code: str
    #: When it is an address like any other, in seconds since 1970: the end of its last day, UTC.
    until: int


def test_recipients(value: object) -> dict[str, TestRecipient]:
    """The value of ``OTP_TEST_RECIPIENTS``, by canonical address."""
    if not isinstance(value, Mapping):
        raise ValueError(_WANTED)
    return {_address(address): _entry(entry) for address, entry in value.items()}


class TestRecipients:
    """The test recipients of one app."""

    #: Not a class of tests, whatever pytest makes of the name.
    __test__ = False

    def __init__(self, entries: Mapping[str, TestRecipient], clock: Callable[[], float]) -> None:
        self._entries = entries
        self._clock = clock

    def find(self, recipient: str | None) -> TestRecipient | None:
        """The entry of this recipient, while it holds."""
        entry = self._entries.get(recipient) if recipient is not None else None
        return entry if entry is not None and self._clock() < entry.until else None

    def number(self, text: str) -> str | None:
        """The made-up phone number of a test recipient, if that is what a person typed."""
        number = _bare(text) if self._entries else ""
        return number if self.find(number) else None


def _bare(number: str) -> str:
    bare = re.sub(r"[ \t().\-/]", "", plain(number[:64]))
    return "+" + bare[2:] if bare.startswith("00") else bare


def _address(address: object) -> str:
    number = _bare(address) if isinstance(address, str) else ""
    if _NUMBER.fullmatch(number):
        return number
    try:
        return identifiers.parse(address, "email").value
    except InvalidIdentifier:
        raise ValueError(_WANTED) from None


def _entry(entry: object) -> TestRecipient:
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise ValueError(_WANTED)
    code, day = entry
    if not isinstance(code, str) or not re.fullmatch("[0-9]{6,12}", code):
        raise ValueError(f"{_WANTED}. The code is text of 6 to 12 digits")
    if isinstance(day, str):
        try:
            day = date.fromisoformat(day)
        except ValueError:
            raise ValueError(_WANTED) from None
    if type(day) is not date:
        raise ValueError(_WANTED)
    end = datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(days=1)
    return TestRecipient(code, int(end.timestamp()))
