"""E-mail addresses and phone numbers in one canonical form, so that two spellings never have two budgets."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from email_validator import EmailNotValidError, validate_email

from .errors import InvalidIdentifier
from .languages import N_

phonenumbers: Any
try:
    phonenumbers = import_module("phonenumbers")
except ImportError:  # the extra "phone" is not installed
    phonenumbers = None

logger = logging.getLogger("flask_otp")

MAX_LENGTH = 254
_WANTED = {
    "email": N_("Please enter a valid e-mail address."),
    "phone": N_("Please enter a valid phone number with its country code."),
    "both": N_("Please enter a valid e-mail address or phone number."),
}
_PHONE = re.compile(r"\+[0-9][0-9 ().\-/]{5,30}")


@dataclass(frozen=True, repr=False)
class Identifier:
    """A canonical address: ``kind`` is ``"email"`` or ``"phone"``."""

    value: str
    kind: str

    def __repr__(self) -> str:
        return f"<Identifier {mask(self.value)}>"


def parse(text: object, accepts: str = "both") -> Identifier:
    """The canonical form of what a person typed.

    :param accepts: what is wanted: ``"email"``, ``"phone"`` or ``"both"``.
    :raises InvalidIdentifier: it is neither one e-mail address nor one phone number with its country code.
    """
    if not isinstance(text, str) or len(text) > 4 * MAX_LENGTH:
        raise InvalidIdentifier(_WANTED[accepts])
    # The spaces around are a slip of the hand; a line break would be an attempt at a mail header.
    text = text.strip(" \t\u00a0\u3000")
    if "@" in text:
        return Identifier(_email(text), "email")
    if accepts == "email":
        raise InvalidIdentifier(_WANTED[accepts])
    return Identifier(_phone(text, accepts), "phone")


class Parser:
    """Reads what people type, as one app accepts it.

    :param test_number: gives the canonical number of a test recipient, whose made-up number no other parser takes.
    """

    def __init__(self, test_number: Callable[[str], str | None]) -> None:
        self._test_number = test_number

    def parse(self, text: object, accepts: str = "both") -> Identifier:
        """As :func:`parse`, and the made-up phone numbers of test recipients too.

        :raises InvalidIdentifier: it is no address.
        """
        number = self._test_number(text) if isinstance(text, str) else None
        return parse(text, accepts) if number is None else Identifier(number, "phone")


def _email(text: str) -> str:
    try:
        valid = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, allow_quoted_local=False, allow_domain_literal=False
        )
    except EmailNotValidError:
        raise InvalidIdentifier(_WANTED["email"]) from None
    address = (valid.ascii_email or "").lower()
    if not address or len(address) > MAX_LENGTH:
        raise InvalidIdentifier(_WANTED["email"])
    return address


def _phone(text: str, wanted: str = "phone") -> str:
    text = unicodedata.normalize("NFKC", text)
    if not _PHONE.fullmatch(text):
        raise InvalidIdentifier(_WANTED[wanted])
    if phonenumbers is None:
        logger.error("a phone number was given: install flask-otp-codes[phone] to accept it")
        raise InvalidIdentifier(N_("Phone numbers are not accepted here. Please enter an e-mail address."))
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise InvalidIdentifier(_WANTED["phone"]) from None
    if number.extension or not phonenumbers.is_valid_number(number) or _is_dear(number):
        raise InvalidIdentifier(_WANTED["phone"])
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _is_dear(number: Any) -> bool:
    """Whether it costs its caller more than a call, or is nobody's telephone: favourites of those who get a share."""
    types = phonenumbers.PhoneNumberType
    return phonenumbers.number_type(number) in (
        types.PREMIUM_RATE,
        types.SHARED_COST,
        types.PERSONAL_NUMBER,
        types.PAGER,
        types.VOICEMAIL,
    )


def phone_in(text: str, countries: Collection[str]) -> str | None:
    """The number in canonical form, if messages may go to it: its real region is one of ``countries``."""
    try:
        phone = _phone(text.strip())
    except InvalidIdentifier:
        return None
    return phone if region(phone) in countries else None


def region(phone: str) -> str | None:
    """The country that a canonical number really belongs to (two letters); ``None``: to none, as of satellites."""
    code = phonenumbers.region_code_for_number(phonenumbers.parse(phone, None))
    return code if code is not None and code.isalpha() else None


def is_country(code: str) -> bool:
    """Whether there are phone numbers of a country with these two letters; where nobody can say, there may be."""
    return phonenumbers is None or code in phonenumbers.SUPPORTED_REGIONS


@lru_cache(maxsize=8)
def example_phone(countries: Collection[str]) -> str:
    """A number of the first of the ``countries``, for what is never sent."""
    if phonenumbers is not None and countries:
        number = phonenumbers.example_number_for_type(min(countries), phonenumbers.PhoneNumberType.MOBILE)
        if number is not None:
            return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    return "+10000000000"


def kind(recipient: str) -> str:
    """``"email"``, ``"phone"``, or ``"other"`` for what only some channel understands."""
    return "email" if "@" in recipient[1:] else "phone" if recipient.startswith(("+", "\uff0b")) else "other"


def mask(address: str) -> str:
    """Enough for its owner to recognise, too little for anyone else: ``a***@example.com``, ``+1*******42``."""
    local, at, domain = address.rpartition("@")
    if at:
        return f"{local[:1]}***@{domain}"
    return f"{address[:2]}*******{address[-2:]}" if len(address) > 6 else "***"
