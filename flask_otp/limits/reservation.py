"""The quota that one message holds before it goes out, and what is given back when it does not."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ..crypto.payloads import Handle
from .counters import Limits
from .sms_pumping import SmsPumping


class Reservation:
    """One message, which the store has counted already. As a context manager it releases on any exception.

    :param discard: takes the message out of the store, with its challenge if that is new.
    :param now: when it is counted, in seconds since 1970.
    """

    def __init__(
        self, limits: Limits, sms_pumping: SmsPumping, handle: Handle, discard: Callable[[], None], now: int
    ) -> None:
        self._limits = limits
        self._sms_pumping = sms_pumping
        self._handle = handle
        self._discard = discard
        self._now = now
        self._is_counted = False
        self._is_discarded = False

    def acquire(self, recipient: str | None, *, known: bool) -> bool:
        """Count the message where there are budgets, and say whether it may go out. A decoy is counted like any other.

        :param recipient: ``None``: a decoy.
        :param known: a browser that verified this subject before has asked for it.
        :raises RateLimited: the channel's budget is spent.
        :raises StoreUnavailable: the limits' storage is out of reach.
        """
        if recipient is None:
            self._sms_pumping.count_decoy(self._handle, self._now)
        else:
            self._is_counted = self._sms_pumping.admits(recipient, self._handle, known=known, now=self._now)
        if recipient is None or self._is_counted:
            self._limits.count_channel(self._handle.channel)
        return self._is_counted

    def release(self, *, keep_challenge: bool = False) -> None:
        """The message did not go out: give back what it holds. Nothing is given back twice.

        :param keep_challenge: give back only what does not depend on the subject, so that nothing shows to its client.
        """
        if self._is_counted:
            self._is_counted = False
            self._sms_pumping.take_back(self._handle, self._now)
        if not (keep_challenge or self._is_discarded):
            self._is_discarded = True
            self._discard()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.release()
