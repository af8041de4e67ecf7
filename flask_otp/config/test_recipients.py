"""Test recipients: nothing is sent to them, and they have a fixed code until a given day.

For app-store reviewers and end-to-end tests. All limits apply to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from typing import NamedTuple

from .. import identifiers
from ..errors import InvalidIdentifier

_WANTED = 'must be a dict such as {"+15550100": ("000000", "2027-01-31")}: an address, its code, its last day'


class TestRecipient(NamedTuple):
    #: One code for each code length that a purpose has.
    codes: tuple[str, ...]
    #: When it becomes an ordinary address, in seconds since 1970: the end of its last day, UTC.
    until: int

    def code(self, length: int) -> str | None:
        """The fixed code of this length. :func:`check_lengths` has made sure that it exists."""
        return next((code for code in self.codes if len(code) == length), None)


def test_recipients(value: object) -> dict[str, TestRecipient]:
    """Parse ``OTP_TEST_RECIPIENTS``. The keys are canonical addresses."""
    if not isinstance(value, Mapping):
        raise ValueError(_WANTED)
    return {_address(address): _entry(entry) for address, entry in value.items()}


def check_lengths(entries: Mapping[str, TestRecipient], lengths: Mapping[str, int]) -> None:
    """
    :param lengths: the length of each purpose's codes.
    :raises ValueError: no fixed code has a purpose's length, which would reveal who is a test recipient.
    """
    for entry in entries.values():
        for purpose, length in lengths.items():
            if entry.code(length) is None:
                raise ValueError(
                    f"has no fixed code of {length} digits, which the purpose {purpose!r} needs: give one for each "
                    'length, as in ("402817", "40281799")'
                )


class TestRecipients:
    """The test recipients of one app."""

    #: Tells pytest that this is not a test class.
    __test__ = False

    def __init__(self, entries: Mapping[str, TestRecipient], clock: Callable[[], float]) -> None:
        self._entries = entries
        self._clock = clock

    def find(self, recipient: str | None) -> TestRecipient | None:
        """The entry of this recipient, while it is valid."""
        entry = self._entries.get(recipient) if recipient is not None else None
        return entry if entry is not None and self._clock() < entry.until else None

    def number(self, text: str) -> str | None:
        """The made-up phone number of a test recipient, if the text is one."""
        number = identifiers.bare_number(text) if self._entries else ""
        return number if self.find(number) else None


def _address(address: object) -> str:
    number = identifiers.bare_number(address) if isinstance(address, str) else ""
    if identifiers.CANONICAL_NUMBER.fullmatch(number):
        return number
    try:
        return identifiers.parse(address, "email").value
    except InvalidIdentifier:
        raise ValueError(_WANTED) from None


def _entry(entry: object) -> TestRecipient:
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise ValueError(_WANTED)
    given, day = entry
    fixed = (given,) if isinstance(given, str) else given
    if not isinstance(fixed, (tuple, list)) or not fixed or not all(map(_is_code, fixed)):
        raise ValueError(f"{_WANTED}. The code is text of 6 to 12 digits, or a list with one for each length in use")
    if isinstance(day, str):
        try:
            day = date.fromisoformat(day)
        except ValueError:
            raise ValueError(_WANTED) from None
    if type(day) is not date:
        raise ValueError(_WANTED)
    # Added as a number, because there is no date after 9999-12-31.
    end = int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()) + 86400
    return TestRecipient(tuple(fixed), end)


def _is_code(code: object) -> bool:
    return isinstance(code, str) and re.fullmatch("[0-9]{6,12}", code) is not None
