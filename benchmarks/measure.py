"""Paired ratios of small interleaved blocks: the one figure that repeats on a machine with other work to do.

Calls per second move by a factor of two to four within minutes. So each kind of call runs in blocks of a few, the kinds
take turns within a round, in a new order each time, and a kind is compared with another of the same round only.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """How much to measure."""

    #: Pairs for each ratio, and calls of one kind in a row.
    rounds: int
    block: int
    #: Requests whose processor time is measured.
    calls: int
    #: Live codes: in a store whose size is measured, and in one that is compared with a store of 1,000.
    codes: int
    many: int


FULL = Scale(rounds=100, block=10, calls=2000, codes=5_000, many=1_000_000)
QUICK = Scale(rounds=25, block=5, calls=400, codes=1_000, many=100_000)
TINY = Scale(rounds=2, block=1, calls=40, codes=20, many=20)


@dataclass(frozen=True)
class Case:
    """One kind of call.

    :param prepare: makes the inputs of so many calls. Takes no part in the time.
    :param check: takes each answer, after the block, and raises if it is not what the case is about.
    :param clock: seconds, of the wall's clock by default.
    """

    prepare: Callable[[int], Sequence[Any]]
    call: Callable[[Any], Any]
    check: Callable[[Any], None]
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of ``count`` figures."""

    median: float
    low: float
    high: float
    count: int


def spread(figures: Iterable[float]) -> Spread:
    ordered = sorted(figures)
    if len(ordered) < 2:
        return exactly(ordered[0])
    low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return Spread(median, low, high, len(ordered))


def exactly(figure: float) -> Spread:
    """A count, or a size: nothing to take a median of."""
    return Spread(figure, figure, figure, 1)


class Rounds:
    """Seconds for each call of each case, by rounds.

    :param cases: by name.
    :param rounds: how many; one more runs first and is thrown away.
    :param block: calls of one case in a row.
    """

    def __init__(self, cases: Mapping[str, Case], rounds: int, block: int) -> None:
        #: By the clock of the case, and of this process's processor time.
        self._seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        order, luck = list(cases), random.Random(1)
        for _ in range(rounds + 1):
            luck.shuffle(order)
            for name in order:
                self._seconds[name].append(_block(cases[name], block))

    def seconds(self, name: str, *, of_processor: bool = False) -> list[float]:
        """For each call, round by round.

        :param of_processor: the time that this process had a processor: what else the machine does is not in it, and
            neither is the wait for a server.
        """
        return [pair[of_processor] for pair in self._seconds[name][1:]]

    def rate(self, name: str, reference: str, *, of_processor: bool = False) -> Spread:
        """How many calls of ``name`` are made in the time of one of ``reference``."""
        return spread(theirs / ours for ours, theirs in self._pairs(name, reference, of_processor))

    def cost(self, name: str, reference: str, *, of_processor: bool = False) -> Spread:
        """Microseconds that a call of ``name`` takes more than one of ``reference``."""
        return spread((ours - theirs) * 1e6 for ours, theirs in self._pairs(name, reference, of_processor))

    def _pairs(self, name: str, reference: str, of_processor: bool) -> Iterable[tuple[float, float]]:
        times = (self.seconds(each, of_processor=of_processor) for each in (name, reference))
        return zip(*times, strict=True)


def _block(case: Case, size: int) -> tuple[float, float]:
    inputs, call, clock = case.prepare(size), case.call, case.clock
    began, processor = clock(), time.process_time()
    answers = [call(item) for item in inputs]
    seconds, processor = clock() - began, time.process_time() - processor
    for answer in answers:
        case.check(answer)
    return seconds / size, processor / size
