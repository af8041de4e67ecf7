"""What ``flask otp stats`` reads from the storage of the limits, and prints."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from ..channels.kept import KEPT_FACTORS
from ..observability.statistics import BOUNDS, FAILED, FIRST, HOUR, REPEATED, VERIFIED, WITHHELD, Series, hour_key
from ..state import AppState
from .sentence import as_time, write_time

#: By what the rows may be told apart.
DIMENSIONS = ("channel", "country", "purpose")
_ALL = "all"


@dataclass(frozen=True)
class Row:
    """What became of the messages of one channel, country or purpose."""

    name: str
    #: Messages that were given to a channel, and those that a provider took.
    sent: int
    delivered: int
    #: Messages that were only pretended: to unknown identifiers, say.
    withheld: int
    #: Codes that went out at least once, and those that were typed.
    codes: int
    verified: int
    #: ``verified`` of ``codes``; ``None``: there was none.
    conversion: float | None
    #: Seconds from the first message to the right code, between the bounds within which times are counted together.
    median_time: float | None


def read(state: AppState, since: int) -> dict[Series, Counter[str]]:
    """What was counted in the hour in which ``since`` lies, and from then on.

    :param since: seconds since 1970.
    :raises StoreUnavailable: the storage of the limits does not answer.
    """
    tallied = state.limits.tallied
    hours = range(since // HOUR, int(state.clock()) // HOUR + 1)
    found: dict[Series, Counter[str]] = {}
    for hour in hours:
        if tallied(hour_key(hour)):
            for series in _series(state, hour):
                if tallied(series.key()):
                    kinds = (FIRST, REPEATED, FAILED, WITHHELD, *VERIFIED)
                    found[series] = Counter({kind: tallied(series.key(kind)) for kind in kinds})
    return found


def _series(state: AppState, hour: int) -> Iterator[Series]:
    channels = [name for name in state.routing.channels() if name not in KEPT_FACTORS]
    for channel in channels:
        for country in ("-", *sorted(state.settings.sms_countries), "ZZ"):
            for purpose in state.settings.purposes:
                yield Series(hour, channel, country, purpose)


def rows(found: dict[Series, Counter[str]], dimension: str) -> list[Row]:
    """One row for each channel, country or purpose of which something was counted, and one for all."""
    sums: dict[str, Counter[str]] = {}
    for series, counts in found.items():
        for name in (getattr(series, dimension), _ALL):
            sums.setdefault(name, Counter()).update(counts)
    every = sums.pop(_ALL, Counter())
    return [*(_row(name, sums[name]) for name in sorted(sums)), _row(_ALL, every)]


def _row(name: str, counts: Counter[str]) -> Row:
    codes, verified = counts[FIRST], sum(counts[kind] for kind in VERIFIED)
    delivered = codes + counts[REPEATED]
    return Row(
        name,
        sent=delivered + counts[FAILED],
        delivered=delivered,
        withheld=counts[WITHHELD],
        codes=codes,
        verified=verified,
        conversion=verified / codes if codes else None,
        median_time=_median([counts[kind] for kind in VERIFIED]),
    )


def _median(counts: Sequence[int]) -> float | None:
    """The time that half of the codes stay below, as if those between two bounds were spread evenly."""
    half, below = sum(counts) / 2, 0
    for lower, upper, count in zip((0, *BOUNDS), BOUNDS, counts, strict=False):
        if count and below + count >= half:
            return round(lower + (upper - lower) * (half - below) / count, 1)
        below += count
    return None


def as_text(found: dict[Series, Counter[str]], since: int, dimensions: Iterable[str]) -> str:
    lines = [f"since {write_time(_begin(since))}"]
    for dimension in dimensions:
        lines += ["", f"{dimension:12}    sent  delivered  withheld   codes  verified  conversion  median time"]
        lines += map(_line, rows(found, dimension))
    return "\n".join(lines)


def _line(row: Row) -> str:
    conversion = "-" if row.conversion is None else f"{row.conversion:.1%}"
    median = "-" if row.median_time is None else f"{row.median_time:g} s"
    return (
        f"{row.name:12}{row.sent:8}{row.delivered:11}{row.withheld:10}{row.codes:8}{row.verified:10}"
        f"{conversion:>12}{median:>13}"
    )


def as_json(found: dict[Series, Counter[str]], since: int, dimensions: Iterable[str]) -> str:
    told = {dimension: [asdict(row) for row in rows(found, dimension)] for dimension in dimensions}
    return json.dumps({"since": _begin(since).isoformat(), **told}, indent=2)


def _begin(since: int) -> datetime:
    return as_time(since // HOUR * HOUR)
