"""E-mail addresses and phone numbers in one canonical form, so two spellings never have two budgets."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .crypto.codes import plain
from .errors import InvalidIdentifier
from .languages import N_
from .lazy import lazy

if TYPE_CHECKING:
    import email_validator
    import idna
else:
    email_validator = lazy("email_validator")
    idna = lazy("idna")

#: False if the extra "phone" is not installed.
phonenumbers = lazy("phonenumbers")

logger = logging.getLogger("flask_otp")

MAX_LENGTH = 254
_WANTED = {
    "email": N_("Please enter a valid e-mail address."),
    "phone": N_("Please enter a valid phone number with its country code."),
    "both": N_("Please enter a valid e-mail address or phone number."),
}
_WANTED_AT_HOME = _WANTED | {"phone": N_("Please enter a valid phone number.")}
#: A phone number in canonical form, including made-up ones.
CANONICAL_NUMBER = re.compile(r"\+[0-9]{6,15}")
_PHONE = re.compile(r"\+?[0-9(][0-9 ().\-/]{4,30}")
#: Full-width forms, in which Chinese, Japanese and Korean keyboards write ASCII, and the small form of the @.
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0xFE6B: "@", 0x3000: " ", 0x3002: "."}
_JOINERS = "\u200c\u200d"
#: The usual kind of address: lower case, with single marks between letters and digits. It has no other spelling, and no
#: label that IDNA reads.
_PLAIN_EMAIL = re.compile(r"[a-z0-9]+(?:[._+-][a-z0-9]+)*@((?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,63})")
#: Maximum length of such an address: no part of it can be too long then.
_PLAIN_LENGTH = 64


@dataclass(frozen=True, repr=False)
class Identifier:
    """A canonical address: ``kind`` is ``"email"`` or ``"phone"``."""

    value: str
    kind: str

    def __repr__(self) -> str:
        return f"<Identifier {mask(self.value)}>"


def parse(
    text: object, accepts: str = "both", *, country: str | None = None, special: Collection[str] = ()
) -> Identifier:
    """The canonical form of typed text.

    :param accepts: the expected kind: ``"email"``, ``"phone"`` or ``"both"``.
    :param country: the country (two letters) of numbers without a country code. ``None``: the code is required.
    :param special: special-use domains whose addresses are accepted, such as ``"local"``.
    :raises InvalidIdentifier: the text is neither one e-mail address nor one phone number.
    """
    wanted = _WANTED if country is None else _WANTED_AT_HOME
    if not isinstance(text, str) or len(text) > 4 * MAX_LENGTH:
        raise InvalidIdentifier(wanted[accepts])
    plain_email = _plain_email(text)
    if plain_email is not None:
        return Identifier(plain_email, "email")
    text = text.translate(_FULL_WIDTH)
    # White space around it is a typing error. A line break would be an attempt to add a mail header.
    text = text.strip(" \t\u00a0" + "".join({char for char in text if unicodedata.category(char) == "Cf"}))
    if "@" in text:
        return Identifier(_email(text, special), "email")
    if accepts == "email":
        raise InvalidIdentifier(wanted[accepts])
    return Identifier(_phone(text, wanted[accepts], country), "phone")


def prepare(countries: Collection[str]) -> None:
    """Import the address parsers now, so the first request does not wait for them.

    :param countries: the countries of allowed phone numbers.
    """
    _email("nobody@example.com", ())
    example_phone(frozenset(countries))


class Parser:
    """Reads the identifiers that people type, by one app's settings.

    :param test_number: returns the canonical number of a test recipient. Other parsers refuse made-up numbers.
    :param countries: the countries of allowed phone numbers. If there is only one, numbers need no country code.
    :param special: special-use domains whose addresses are accepted.
    """

    def __init__(
        self,
        test_number: Callable[[str], str | None],
        countries: Collection[str] = (),
        special: Collection[str] = (),
    ) -> None:
        self._test_number = test_number
        #: The country whose numbers need no country code, if there is only one.
        self.country = next(iter(countries)) if len(countries) == 1 else None
        self._special = special

    def parse(self, text: object, accepts: str = "both") -> Identifier:
        """Like :func:`parse`, but also accepts the made-up phone numbers of test recipients.

        :raises InvalidIdentifier: the text is not an address.
        """
        number = self._test_number(text) if isinstance(text, str) else None
        if number is not None:
            return Identifier(number, "phone")
        return parse(text, accepts, country=self.country, special=self._special)

    def named(self, text: object) -> Identifier:
        """Like :meth:`parse`, for identifiers from the app that get no message: the signed-in user, or whom to revoke.

        A number that was once an identifier is always accepted: a test recipient's after its last day, or one that
        ``phonenumbers`` no longer accepts. Otherwise its proofs could not be ended.

        :raises InvalidIdentifier: the text is neither an address nor a number with a country code.
        """
        try:
            return self.parse(text)
        except InvalidIdentifier:
            number = bare_number(text) if isinstance(text, str) else ""
            if not CANONICAL_NUMBER.fullmatch(number):
                raise
            return Identifier(number, "phone")


def bare_number(text: str) -> str:
    """The typed text without the marks that people put into phone numbers. Meaningless for other text."""
    bare = re.sub(r"[ \t().\-/]", "", plain(text[:64]))
    return "+" + bare[2:] if bare.startswith("00") else bare


def _plain_email(text: str) -> str | None:
    """The result of :func:`_email` for the usual kind of address, in a tenth of the time. ``None``: call
    :func:`_email`."""
    # Checked before lower-casing, which turns the sign for kelvin into a plain letter.
    if not text.isascii():
        return None
    address = text.strip(" \t").lower()
    if len(address) > _PLAIN_LENGTH:
        return None
    found = _PLAIN_EMAIL.fullmatch(address)
    if found is None or found[1].endswith(tuple(email_validator.SPECIAL_USE_DOMAIN_NAMES)):
        return None
    return address


def _email(text: str, special: Collection[str]) -> str:
    local, _, domain = text.rpartition("@")
    local = "".join(char for char in local if unicodedata.category(char) != "Cf")
    if not local.isascii():
        # It would need SMTPUTF8 (RFC 6531) on every server on the way, and could look like other people's addresses.
        raise InvalidIdentifier(N_("We can only send to addresses that have plain letters (a to z) before the @."))
    domain = _without_invisible(domain)
    stand_in = _stand_in(domain, special)
    try:
        valid = email_validator.validate_email(
            f"{local}@{domain if stand_in is None else stand_in[0]}",
            check_deliverability=False,
            allow_smtputf8=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
        )
    except email_validator.EmailNotValidError:
        raise InvalidIdentifier(_WANTED["email"]) from None
    address = (valid.ascii_email or "").lower()
    if stand_in is not None:
        address = address.removesuffix(_STAND_IN) + stand_in[1]
    if not address or len(address) > MAX_LENGTH:
        raise InvalidIdentifier(_WANTED["email"])
    return address


def _without_invisible(domain: str) -> str:
    """Remove format characters except joiners within a word: without those it is another domain (RFC 5892 A)."""
    return "".join(
        char
        for before, char in zip("." + domain, domain, strict=False)
        if unicodedata.category(char) != "Cf" or (char in _JOINERS and not before.isascii())
    )


#: Replaces a special-use domain while the rest of an address is checked.
_STAND_IN = "example.com"


def _stand_in(domain: str, special: Collection[str]) -> tuple[str, str] | None:
    """An ordinary domain in place of the accepted special-use one, and that one. ``None`` if there is none."""
    lower = domain.lower()
    for name in special:
        if lower == name or lower.endswith("." + name):
            return lower[: len(lower) - len(name)] + _STAND_IN, name
    return None


def _phone(text: str, wanted: str = _WANTED["phone"], country: str | None = None) -> str:
    text = plain(text).strip(" ")
    if text.startswith("00"):
        text = "+" + text[2:].lstrip(" ")
    if not _PHONE.fullmatch(text) or not (text.startswith("+") or country):
        raise InvalidIdentifier(wanted)
    if not phonenumbers:
        logger.error("a phone number was given: install flask-otp-codes[phone] to accept it")
        raise InvalidIdentifier(N_("Phone numbers are not accepted here. Please enter an e-mail address."))
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        raise InvalidIdentifier(wanted) from None
    if number.extension or not phonenumbers.is_valid_number(number) or _is_dear(number):
        raise InvalidIdentifier(wanted)
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _is_dear(number: Any) -> bool:
    """True for premium-rate, shared-cost, personal, pager and voicemail numbers, which SMS-pumping fraud favours."""
    types = phonenumbers.PhoneNumberType
    return phonenumbers.number_type(number) in (
        types.PREMIUM_RATE,
        types.SHARED_COST,
        types.PERSONAL_NUMBER,
        types.PAGER,
        types.VOICEMAIL,
    )


def phone_in(text: str, countries: Collection[str]) -> str | None:
    """The number in canonical form if messages may go to it: its real region is one of ``countries``."""
    try:
        phone = _phone(text.strip())
    except InvalidIdentifier:
        return None
    return phone if region(phone) in countries else None


def region(phone: str) -> str | None:
    """The real country of a canonical number (two letters). ``None`` if it has none, as for satellite phones."""
    code = phonenumbers.region_code_for_number(phonenumbers.parse(phone, None))
    return code if code is not None and code.isalpha() else None


def is_country(code: str) -> bool:
    """Whether there are phone numbers for this two-letter country. True if that cannot be known."""
    return not phonenumbers or code in phonenumbers.SUPPORTED_REGIONS


@lru_cache(maxsize=8)
def example_phone(countries: Collection[str]) -> str:
    """A number of the first of the ``countries``, for messages that are never sent."""
    if countries and phonenumbers:
        number = phonenumbers.example_number_for_type(min(countries), phonenumbers.PhoneNumberType.MOBILE)
        if number is not None:
            return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    return "+10000000000"


def kind(recipient: str) -> str:
    """``"email"``, ``"phone"``, or ``"other"`` for recipients that only some channel understands."""
    return "email" if "@" in recipient[1:] else "phone" if recipient.startswith(("+", "\uff0b")) else "other"


def mask(address: str) -> str:
    """Enough for the owner to recognise, too little for others: ``a***@example.com``, ``+1*******42``."""
    local, at, domain = address.rpartition("@")
    if at:
        return f"{local[:1]}***@{domain}"
    return f"{address[:2]}*******{address[-2:]}" if len(address) > 6 else "***"


def readable(address: str) -> str:
    """A canonical address as people write it, with its domain in Unicode. For display only."""
    local, at, domain = address.rpartition("@")
    return f"{local}@{'.'.join(map(_readable_label, domain.split('.')))}" if at else address


def _readable_label(label: str) -> str:
    try:
        return idna.ulabel(label) if label.startswith("xn--") else label
    except idna.IDNAError:
        return label


def ascii_domain(domain: str) -> str:
    """A host as browsers write it in ``Origin``. Text that is not a host is returned unchanged."""
    try:
        return domain if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        return domain
