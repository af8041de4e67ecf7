"""The counts that one message holds in the limits, which are given back if it is not sent."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ..crypto.payloads import Handle
from .counters import Limits
from .sms_pumping import SmsPumping


class Reservation:
    """One message that the store has already counted. As a context manager, it releases on any exception.

    :param discard: removes the message from the store, and its challenge if that is new.
    :param now: time of the count, in seconds since 1970.
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
        """Count the message and return whether it may be sent. A decoy is counted like any other message.

        :param recipient: ``None``: a decoy.
        :param known: whether the request came from a browser that verified this subject before.
        :raises RateLimited: the channel's limit is reached.
        :raises StoreUnavailable: the limits' storage is unreachable.
        """
        if recipient is None:
            self._sms_pumping.count_decoy(self._handle, self._now)
        else:
            self._is_counted = self._sms_pumping.admits(recipient, self._handle, known=known, now=self._now)
        if recipient is None or self._is_counted:
            self._limits.count_channel(self._handle.channel)
        return self._is_counted

    def release(self, *, keep_challenge: bool = False) -> None:
        """The message was not sent: give back what it holds. Nothing is given back twice.

        :param keep_challenge: give back only what does not depend on the subject, so the client sees no difference.
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
