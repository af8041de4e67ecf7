"""What a message is counted as before it goes out, and how that is undone when it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..crypto.payloads import Handle
from .counters import Limits
from .sms_pumping import Pumping


@dataclass
class Charge:
    """One message, which the store has counted already.

    :param discard: takes it out of the store, its challenge included.
    :param now: when it is counted, in seconds since 1970.
    """

    limits: Limits
    pumping: Pumping
    handle: Handle
    discard: Callable[[], None]
    now: int
    _counted: bool = False

    def admits(self, recipient: str | None, *, known: bool) -> bool:
        """Count it where there are budgets, and say whether it may go out. Whoever does not exist pays for it too.

        :param known: a browser that verified this subject before asked for it.
        :raises RateLimited: the channel's budget is spent. All is undone, as with every other error.
        :raises StoreUnavailable: nobody can say.
        """
        try:
            if recipient is None:
                self.pumping.pretend(self.handle, self.now)
            else:
                self._counted = self.pumping.admits(recipient, self.handle, known=known, now=self.now)
            if recipient is None or self._counted:
                self.limits.count_channel(self.handle.channel)
        except Exception:
            self.undo()
            raise
        return self._counted

    def undo(self, *, discreetly: bool = False) -> None:
        """It did not go out.

        :param discreetly: give back only what tells of no single subject.
        """
        if self._counted:
            self._counted = False
            self.pumping.take_back(self.handle, self.now)
        if not discreetly:
            self.discard()
