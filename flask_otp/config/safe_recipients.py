"""``OTP_DELIVER_ONLY_TO``: the only addresses that a test environment may send messages to."""

from __future__ import annotations

from .. import identifiers
from ..errors import InvalidIdentifier
from ..identifiers import Parser

_WANTED = 'must be a list such as ("@example.com", "ann@example.org", "+4915112345678")'


def safe_recipients(value: object) -> frozenset[str] | None:
    """Parse ``OTP_DELIVER_ONLY_TO`` into canonical form. ``None``: messages may go to any address."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError(_WANTED)
    return frozenset(map(_entry, value))


def _entry(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    local, at, domain = text.rpartition("@")
    if at and domain and "@" not in local:
        return f"{local.lower()}@{identifiers.ascii_domain(domain).lower()}"
    number = identifiers.bare_number(text)
    if at or not identifiers.CANONICAL_NUMBER.fullmatch(number):
        raise ValueError(_WANTED)
    return number


def may_go_to(allowed: frozenset[str], recipient: str, parser: Parser) -> bool:
    """Whether a message may go to this recipient. A domain allows exactly its own addresses, not those of subdomains.

    A recipient that cannot be parsed as one address is refused.
    """
    if recipient in allowed and not recipient.startswith("@"):
        return True
    try:
        address = parser.parse(recipient, "email").value
    except InvalidIdentifier:
        return False
    return address in allowed or f"@{address.rpartition('@')[2]}" in allowed
