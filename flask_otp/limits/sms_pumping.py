"""SMS pumping: an attacker asks for codes to numbers that pay a share of each message, and never verifies one.

For each message to a phone number, and each code that comes back, two ranges are counted in the storage of the limits:
the number without its last four digits, and its country. Where hardly any code comes back, nothing more is
sent, and the answer stays the usual one. ``docs/sms.md`` says what that stops, and what it does not.
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

# One counter holds both numbers, so that one step counts and says how they stand. Redis's scripts reckon with doubles:
# there are 53 bits.
_SENT = 1
_VERIFIED = 1 << 26

#: Digits at the end of a number that are not part of its range.
_OWN_DIGITS = 4

#: The range of those who get no message whatever comes back.
_NOBODY = "+ZZ"


class Range(NamedTuple):
    """Phone numbers that are counted together, within one window."""

    #: A number without its last digits, or a country's two letters.
    name: str
    #: Messages that go out whatever comes back, at once, and by this time of the window: without the latter, a range
    #: that has tripped could never show that it is well again.
    minimum: int
    allowance: int
    #: What its counter is called.
    key: str


class Tally(NamedTuple):
    """What went to a range, and what came back."""

    sent: int
    verified: int

    @classmethod
    def of(cls, count: int) -> Tally:
        # Below nought goes what is taken back after a server has forgotten it.
        verified, sent = divmod(count + _VERIFIED // 2, _VERIFIED)
        return cls(sent - _VERIFIED // 2, verified)


class SmsPumping:
    """Withholds messages to ranges of phone numbers where hardly any code is verified, or whose budget is spent."""

    def __init__(self, events: Events, settings: Settings, limits: Limits) -> None:
        self._events = events
        self._rule = settings.pumping_breaker
        # The narrowest first: what its budget withholds is no charge to the wider ones.
        self._prefixes = sorted(settings.prefix_budget, key=len, reverse=True)
        self._limits = limits

    def numbers(self, recipient: str | None) -> str:
        """What a handle must carry for its messages to be counted; empty: this is no phone number."""
        if recipient is None or identifiers.kind(recipient) != "phone":
            return ""
        return f"{recipient[:-_OWN_DIGITS]}{identifiers.region(recipient)}"

    def admits(self, recipient: str, handle: Handle, *, known: bool, now: int) -> bool:
        """Count a message, and say whether it may go out. If not, it does not stay counted.

        It is counted before that is decided, so that parallel ones see each other.

        :param known: a browser that verified this subject before is not held up by what others leave unverified.
        :raises StoreUnavailable: the limits' storage is out of reach.
        """
        if not handle.numbers:
            return True
        if self._is_tripped(handle, known, now):
            return False
        for prefix in self._prefixes:
            if recipient.startswith(prefix) and not self._limits.count_prefix(prefix):
                logger.warning("OTP_PREFIX_BUDGET: that of %s is spent, and nothing is sent", prefix)
                self.take_back(handle, now)
                return False
        return True

    def withheld_by(self, recipient: str, channel: str, *, known: bool, now: int) -> str:
        """The setting that would withhold a message, as :meth:`admits` has it; empty: none. Nothing is counted."""
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
        """Take as many round trips as a message that goes out, so that their time does not tell who has a phone."""
        if handle.numbers is None:
            return
        for nobody in self._ranges(handle.channel, _NOBODY, now):
            self._add(nobody.key, _SENT)
        for prefix in self._prefixes:
            if handle.identifier.startswith(prefix):
                self._limits.count_prefix(prefix, nobody=True)

    def take_back(self, handle: Handle, now: int) -> None:
        """What was admitted at ``now`` did not go out after all."""
        self._note(self._ranges(handle.channel, handle.numbers, now), -_SENT)

    def count_verified(self, handle: Handle, now: int) -> None:
        """A code came back."""
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
            # Numbers near to some that verify are not held up by the rest of their country.
            is_proven = is_proven or self._is_well(counted, before)
        return False

    def _is_well(self, counted: Range, tally: Tally) -> bool:
        """Whether codes come back from the range, however few messages went there."""
        return tally.verified > 0 and not self._is_unverified(counted._replace(minimum=1), tally)

    def _is_unverified(self, counted: Range, tally: Tally) -> bool:
        assert self._rule is not None
        sent = tally.sent - counted.allowance
        return sent >= counted.minimum and tally.verified < self._rule.ratio * sent

    def _tell(self, handle: Handle, tripped: Range, tally: Tally) -> None:
        """Of those whose message is withheld, let the first one tell it."""
        if self._add(f"{tripped.key}/withheld", 1) > 1:
            return
        logger.warning(
            "codes by %s to numbers of %s are withheld: of %d that were sent lately, %d were verified",
            handle.channel,
            tripped.name,
            tally.sent,
            tally.verified,
        )
        what = {"prefix": tripped.name, "channel": handle.channel, **tally._asdict()}
        self._events.tell(signals.sms_pumping, "withheld", channel_name=handle.channel, arguments=what)

    def _note(self, ranges: tuple[Range, ...], amount: int) -> None:
        """Count what has happened already. Where that fails, ranges look worse than they are, and never better."""
        try:
            for counted in ranges:
                self._add(counted.key, amount)
        except StoreUnavailable:
            logger.error("what came of a message to a phone could not be counted: the limits' storage is out of reach")

    def _add(self, key: str, amount: int) -> int:
        assert self._rule is not None
        # Kept for longer than its window, so that what is taken back when that ends finds it.
        return self._limits.tally(key, amount, 2 * self._rule.window)

    def _ranges(self, channel: str, numbers: str | None, now: int) -> tuple[Range, ...]:
        """From the narrow to the wide; none where nothing is counted."""
        rule = self._rule
        if rule is None or not numbers:
            return ()

        def counted(name: str, minimum: int) -> Range:
            key = f"{channel}/{name}"
            # Each range's windows begin at another time: an attacker cannot wait for the moment when all are empty.
            window, elapsed = divmod(now + crc32(key.encode()) % rule.window, rule.window)
            return Range(name, minimum, minimum * elapsed // rule.window, f"{key}/{window}")

        block, country = numbers[:-2], numbers[-2:]
        return counted(block, rule.minimum), counted(country, rule.country_minimum)
