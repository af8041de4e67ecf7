"""The instruments of :mod:`.otel`, with every value that each of their attributes can have.

This needs no OpenTelemetry: ``flask otp doctor`` counts the time series with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from ..events import FLOWS, LIMITS, REASONS
from ..stores import Store

COUNTER, HISTOGRAM = "counter", "histogram, s"

#: One value for each attribute of a group. ``None``: the point has no such attribute.
Values = tuple[str | None, ...]
Combinations = tuple[Values, ...]


def _each(*words: str | None) -> Combinations:
    return tuple((word,) for word in words)


#: The attributes whose values come from the app's settings.
FROM_SETTINGS = ("channel", "purpose", "provider", "country")

#: The events without a handle have no channel, and those without a known purpose have no purpose.
_MAYBE = "?"


@dataclass(frozen=True)
class Instrument:
    """A counter or histogram.

    :param settings: its attributes whose values come from the settings. With a final ``?``, it may be missing.
    :param words: groups of attributes with fixed words, and the combinations of words that occur.
    """

    kind: str
    unit: str
    description: str
    settings: tuple[str, ...] = ()
    words: Mapping[tuple[str, ...], Combinations] = field(default_factory=dict)

    @property
    def attributes(self) -> tuple[str, ...]:
        return (
            *(name.rstrip(_MAYBE) for name in self.settings),
            *(name for group in self.words for name in group),
        )

    def points(self, configured: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
        """The attributes of each time series that there can be.

        :param configured: the values that the settings have, by the names of :data:`FROM_SETTINGS`.
        """
        groups = dict(self.words)
        for name in self.settings:
            bare = name.rstrip(_MAYBE)
            groups[bare,] = _each(*configured[bare], *([None] if name != bare else []))
        for chosen in product(*groups.values()):
            found: dict[str, str | None] = {}
            for names, values in zip(groups, chosen, strict=True):
                found.update(zip(names, values, strict=True))
            yield {name: value for name, value in found.items() if value is not None}


_REFUSALS = ("no_proof", "context", "identifier", "channel", "age", "expired", "ended")
_WITHHELD = ("unknown", "test_recipient", "numbers", "vetoed", "diverted", "queued")

INSTRUMENTS: dict[str, Instrument] = {
    "otp.messages": Instrument(
        COUNTER,
        "{message}",
        "Messages, by outcome",
        ("channel", "purpose"),
        {("outcome", "reason"): (("sent", "first"), ("sent", "repeated"), ("failed", None), ("dropped", None))},
    ),
    "otp.verifications": Instrument(
        COUNTER,
        "{code}",
        "Codes that were tried",
        ("channel?", "purpose?"),
        {
            ("outcome", "reason"): (
                ("verified", None),
                *(("rejected", reason) for reason in ("handle", "unfit", "wrong", "closed")),
            )
        },
    ),
    "otp.guard": Instrument(
        COUNTER,
        "{request}",
        "Decisions of guards",
        ("purpose",),
        {("outcome", "reason"): (("passed", None), *(("refused", reason) for reason in _REFUSALS))},
    ),
    "otp.limits": Instrument(
        COUNTER,
        "{request}",
        "Requests that a limit refused",
        (),
        {("flow",): _each(*FLOWS), ("reason",): _each(*LIMITS)},
    ),
    "otp.withheld": Instrument(
        COUNTER,
        "{message}",
        "Messages that were withheld",
        ("channel", "purpose", "country?"),
        {("reason",): _each(*_WITHHELD)},
    ),
    "otp.budget_spent": Instrument(COUNTER, "{budget}", "Failure budgets that were spent", ("purpose",)),
    "otp.surge": Instrument(COUNTER, "{surge}", "Surges that began"),
    "otp.sms_pumping": Instrument(COUNTER, "{range}", "Ranges of numbers that are withheld", ("channel",)),
    "otp.delivery.duration": Instrument(
        HISTOGRAM,
        "s",
        "Time a provider took",
        ("channel", "provider"),
        {("outcome",): _each("taken", "refused", "down", "failed")},
    ),
    "otp.delivery.wait": Instrument(HISTOGRAM, "s", "Time a delivery waited in a queue", ("channel",)),
    "otp.store.duration": Instrument(
        HISTOGRAM,
        "s",
        "Time a store verb took",
        (),
        {
            ("verb",): _each(*sorted(Store.__abstractmethods__)),
            ("outcome",): _each("done", "unavailable", "refused", "error"),
        },
    ),
    "otp.flow.duration": Instrument(
        HISTOGRAM,
        "s",
        "Time a send, resend or verify took",
        (),
        {("flow",): _each(*FLOWS), ("outcome",): _each("done", "error", *REASONS)},
    ),
    "otp.time_to_verify": Instrument(HISTOGRAM, "s", "Time from the send to the right code", ("channel", "purpose")),
}


def count_series(configured: Mapping[str, Sequence[str]]) -> int:
    """How many time series there are at most. Those of a histogram's buckets count as one."""
    return sum(sum(1 for _ in instrument.points(configured)) for instrument in INSTRUMENTS.values())
