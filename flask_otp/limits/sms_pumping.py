"""SMS pumping: an attacker requests codes to numbers that earn a share of each message, and never verifies one.

For each message to a phone number, and for each code that comes back, two ranges are counted in the limits' storage:
the number without its last four digits, and its country. If hardly any code comes back, no more messages are sent, and
the response looks the same. ``docs/protection/sms-pumping.md`` says what this stops and what it does not.
"""

from __future__ import annotations

import logging
from typing import NamedTuple
from zlib import crc32

from .. import identifiers, signals
from ..config.settings import Settings
from ..crypto.payloads import Handle
from ..errors import StoreUnavailable
from ..events import Events
from .counters import Limits

logger = logging.getLogger("flask_otp")

# One counter holds both numbers, so one step both counts and returns them. Redis scripts use doubles, which have 53
# bits.
_SENT = 1
_VERIFIED = 1 << 26

#: Digits at the end of a number that are not part of its range.
_OWN_DIGITS = 4

#: The range that decoys are counted on.
_NOBODY = "+ZZ"


class Range(NamedTuple):
    """Phone numbers that are counted together within one window."""

    #: A number without its last digits, or a two-letter country code.
    name: str
    #: Messages that go out even if no code comes back: in total, and up to this time of the window. Without the second,
    #: a range that tripped could never show that it works again.
    minimum: int
    allowance: int
    #: Name of the range's counter.
    key: str


class Tally(NamedTuple):
    """Messages sent to a range, and codes that came back."""

    sent: int
    verified: int

    @classmethod
    def of(cls, count: int) -> Tally:
        # Negative after messages are taken back that a server has forgotten.
        verified, sent = divmod(count + _VERIFIED // 2, _VERIFIED)
        return cls(sent - _VERIFIED // 2, verified)


class SmsPumping:
    """Withholds messages to ranges of phone numbers where hardly any code is verified or whose limit is reached."""

    def __init__(self, events: Events, settings: Settings, limits: Limits) -> None:
        self._events = events
        self._rule = settings.pumping_breaker
        # The narrowest prefix first: a message that its limit withholds does not count towards wider prefixes.
        self._prefixes = sorted(settings.prefix_budget, key=len, reverse=True)
        self._limits = limits

    def numbers(self, recipient: str | None) -> str:
        """The value in a handle that makes its messages count. Empty if the recipient is not a phone number."""
        if recipient is None or identifiers.kind(recipient) != "phone":
            return ""
        return f"{recipient[:-_OWN_DIGITS]}{identifiers.region(recipient)}"

    def admits(self, recipient: str, handle: Handle, *, known: bool, now: int) -> bool:
        """Count a message and return whether it may be sent. If not, the count is undone.

        It is counted before the decision, so parallel messages see each other.

        :param known: whether a browser that verified this subject before asks. Such a browser is not stopped by codes
            that others leave unverified.
        :raises StoreUnavailable: the limits' storage is unreachable.
        """
        if not handle.numbers:
            return True
        if self._is_tripped(handle, known, now):
            return False
        for prefix in self._prefixes:
            if recipient.startswith(prefix) and not self._limits.count_prefix(prefix):
                logger.warning("OTP_PREFIX_BUDGET: the limit of %s is reached, so nothing is sent", prefix)
                self.take_back(handle, now)
                return False
        return True

    def withheld_by(self, recipient: str, channel: str, *, known: bool, now: int) -> str:
        """The setting that would make :meth:`admits` withhold a message. Empty if none would. Nothing is counted."""
        is_proven = known
        for counted in self._ranges(channel, self.numbers(recipient), now):
            tally = Tally.of(self._limits.tallied(counted.key))
            if not is_proven and self._is_unverified(counted, tally):
                return "OTP_PUMPING_BREAKER"
            is_proven = is_proven or self._is_well(counted, tally)
        for prefix in self._prefixes:
            if recipient.startswith(prefix) and not self._limits.has_prefix_room(prefix):
                return "OTP_PREFIX_BUDGET"
        return ""

    def count_decoy(self, handle: Handle, now: int) -> None:
        """Take as many round trips as for a real message, because the time must not show who has a phone."""
        if handle.numbers is None:
            return
        for decoy in self._ranges(handle.channel, _NOBODY, now):
            self._add(decoy.key, _SENT)
        for prefix in self._prefixes:
            if handle.identifier.startswith(prefix):
                self._limits.count_prefix(prefix, is_decoy=True)

    def take_back(self, handle: Handle, now: int) -> None:
        """Undo the count of a message that was admitted at ``now`` but not sent."""
        self._note(self._ranges(handle.channel, handle.numbers, now), -_SENT)

    def count_verified(self, handle: Handle, now: int) -> None:
        """Count a code that came back."""
        self._note(self._ranges(handle.channel, handle.numbers, now), _VERIFIED)

    def _is_tripped(self, handle: Handle, known: bool, now: int) -> bool:
        is_proven = known
        ranges = self._ranges(handle.channel, handle.numbers, now)
        for place, counted in enumerate(ranges):
            sent, verified = Tally.of(self._add(counted.key, _SENT))
            before = Tally(sent - _SENT, verified)
            if not is_proven and self._is_unverified(counted, before):
                self._note(ranges[: place + 1], -_SENT)
                self._tell(handle, counted, before)
                return True
            # Numbers in a block where codes are verified are not stopped by the rest of their country.
            is_proven = is_proven or self._is_well(counted, before)
        return False

    def _is_well(self, counted: Range, tally: Tally) -> bool:
        """Whether codes come back from the range, even if few messages were sent there."""
        return tally.verified > 0 and not self._is_unverified(counted._replace(minimum=1), tally)

    def _is_unverified(self, counted: Range, tally: Tally) -> bool:
        assert self._rule is not None
        sent = tally.sent - counted.allowance
        return sent >= counted.minimum and tally.verified < self._rule.ratio * sent

    def _tell(self, handle: Handle, tripped: Range, tally: Tally) -> None:
        """Report a withheld message. Only the first one of a range in a window is reported."""
        if self._add(f"{tripped.key}/withheld", 1) > 1:
            return
        logger.warning(
            "codes by %s to numbers of %s are withheld: of %d sent recently, %d were verified",
            handle.channel,
            tripped.name,
            tally.sent,
            tally.verified,
        )
        what = {"prefix": tripped.name, "channel": handle.channel, **tally._asdict()}
        self._events.tell(signals.sms_pumping, "withheld", channel_name=handle.channel, arguments=what)

    def _note(self, ranges: tuple[Range, ...], amount: int) -> None:
        """Count something that has already happened. If this fails, a range looks worse than it is, never better."""
        try:
            for counted in ranges:
                self._add(counted.key, amount)
        except StoreUnavailable:
            logger.error("the outcome of a message to a phone could not be counted: the limits' storage is unreachable")

    def _add(self, key: str, amount: int) -> int:
        assert self._rule is not None
        # The counter outlives its window, so a message taken back at the window's end still finds it.
        return self._limits.tally(key, amount, 2 * self._rule.window)

    def _ranges(self, channel: str, numbers: str | None, now: int) -> tuple[Range, ...]:
        """The ranges from narrow to wide; empty if nothing is counted."""
        rule = self._rule
        if rule is None or not numbers:
            return ()

        def counted(name: str, minimum: int) -> Range:
            key = f"{channel}/{name}"
            # The ranges' windows start at different times, so an attacker cannot wait for a moment when all are empty.
            window, elapsed = divmod(now + crc32(key.encode()) % rule.window, rule.window)
            return Range(name, minimum, minimum * elapsed // rule.window, f"{key}/{window}")

        block, country = numbers[:-2], numbers[-2:]
        return counted(block, rule.minimum), counted(country, rule.country_minimum)
