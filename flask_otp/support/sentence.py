"""One sentence that tells whether a code can go out now, and if not, why and from when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from .outlook import Asker, Forecast, Outlook


def as_time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def write_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def sentence(forecast: Forecast, asker: Asker, others: Iterable[Outlook], now: int) -> str:
    """
    :param asker: the client to describe first: a network that has not asked yet, or the given one.
    :param others: the results for clients that have asked before.
    """
    if forecast.barrier:
        return f"No code goes out: {forecast.barrier_in_words}."
    outlook = forecast.of(asker)
    whom = f" to {asker.label}" if asker.network else ""
    if not outlook.can_send:
        known = forecast.of(Asker("known browser", b"", known=True))
        rest = " A browser that has verified here before can have one now." if known.can_send else ""
        return f"No code goes out{whom} {_until(outlook, now)}.{rest}"
    refused = [f"{other.asker} {_until(other, now)}" for other in others if not other.can_send]
    but = f", but none to {'; none to '.join(refused)}" if refused else ""
    return f"A code can go out{whom} now{but}.{_remarks(forecast, asker)}"


def _until(outlook: Outlook, now: int) -> str:
    if not outlook.wait:
        return f"now ({outlook.reason})"
    return f"before {write_time(as_time(now + outlook.wait))} ({outlook.reason})"


def _remarks(forecast: Forecast, asker: Asker) -> str:
    remarks = ""
    if setting := forecast.strength(asker):
        remarks += f" It will be a strong one ({setting})."
    if forecast.is_diverted:
        remarks += " It will be printed instead of sent (OTP_DELIVER_ONLY_TO)."
    if forecast.may_be_vetoed:
        remarks += " The app's before_send may withhold it."
    return remarks
