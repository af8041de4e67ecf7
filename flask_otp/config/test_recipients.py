"""Test recipients: nothing is sent to them, and their code is fixed until a day that must be named.

For the people who review an app before a store takes it, and for tests from end to end. All limits hold for them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import NamedTuple

from .. import identifiers
from ..errors import InvalidIdentifier
from ..identifiers import Identifier

_NUMBER = re.compile(r"\+[0-9]{6,15}")
_WANTED = 'must be a dict such as {"+15550100": ("000000", "2027-01-31")}: an address, its code, its last day'


class Tester(NamedTuple):
    code: str
    #: When it is an address like any other, in seconds since 1970: the end of its last day, UTC.
    until: int


def test_recipients(value: object) -> dict[str, Tester]:
    """The value of ``OTP_TEST_RECIPIENTS``, by canonical address."""
    if not isinstance(value, Mapping):
        raise ValueError(_WANTED)
    return {_address(address): _tester(entry) for address, entry in value.items()}


class Testers:
    """The test recipients of one app."""

    def __init__(self, entries: Mapping[str, Tester], clock: Callable[[], float]) -> None:
        self._entries = entries
        self.clock = clock

    def find(self, recipient: str | None) -> Tester | None:
        """The entry of this recipient, while it holds."""
        tester = self._entries.get(recipient) if recipient is not None else None
        return tester if tester is not None and self.clock() < tester.until else None

    def parse(self, text: object, accepts: str = "both") -> Identifier:
        """As :func:`identifiers.parse`, and the made-up phone numbers of test recipients too.

        :raises InvalidIdentifier: it is no address.
        """
        number = _bare(text) if self._entries and isinstance(text, str) else ""
        return Identifier(number, "phone") if self.find(number) else identifiers.parse(text, accepts)


def _bare(number: str) -> str:
    return re.sub(r"[ \t().\-/]", "", unicodedata.normalize("NFKC", number[:64]))


def _address(address: object) -> str:
    number = _bare(address) if isinstance(address, str) else ""
    if _NUMBER.fullmatch(number):
        return number
    try:
        return identifiers.parse(address, "email").value
    except InvalidIdentifier:
        raise ValueError(_WANTED) from None


def _tester(entry: object) -> Tester:
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
    return Tester(code, int(end.timestamp()))
