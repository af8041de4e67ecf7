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
from typing import Any, NamedTuple


class Scale(NamedTuple):
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


@dataclass(frozen=True)
class Case:
    """One kind of call.

    :param prepare: makes the inputs of so many calls. Takes no part in the time.
    :param check: takes each answer, after the block, and raises if it is not what the case is about.
    :param clock: seconds. The processor time of this process leaves out the wait for a server, and other work.
    """

    prepare: Callable[[int], Sequence[Any]]
    call: Callable[[Any], Any]
    check: Callable[[Any], None]
    clock: Callable[[], float] = time.perf_counter

    def seconds(self, count: int, ask: Callable[[Sequence[Any]], Iterable[Any]] | None = None) -> float:
        """For each of so many calls, which ``ask`` makes; by default one after the other."""
        inputs, call = self.prepare(count), self.call
        began = self.clock()
        answers = list(ask(inputs)) if ask else [call(item) for item in inputs]
        seconds = self.clock() - began
        for answer in answers:
            self.check(answer)
        return seconds / count


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of ``count`` figures."""

    median: float
    low: float
    high: float
    count: int


def spread(*figures: float) -> Spread:
    """One figure is a count or a size: nothing to take a median of."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0], 1)
    low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Spread(median, low, high, len(figures))


class Rounds:
    """Seconds for each call of each case, by rounds.

    :param cases: by name.
    :param rounds: how many; one more runs first and is thrown away.
    :param block: calls of one case in a row.
    """

    def __init__(self, cases: Mapping[str, Case], rounds: int, block: int) -> None:
        order, luck = list(cases), random.Random(1)
        self.seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            luck.shuffle(order)
            for name in order:
                seconds = cases[name].seconds(block)
                if number:
                    self.seconds[name].append(seconds)

    def rate(self, name: str, reference: str) -> Spread:
        """How many calls of ``name`` are made in the time of one of ``reference``."""
        return spread(*(theirs / ours for ours, theirs in self.pairs(name, reference)))

    def cost(self, name: str, reference: str) -> Spread:
        """Microseconds that a call of ``name`` takes more than one of ``reference``."""
        return spread(*((ours - theirs) * 1e6 for ours, theirs in self.pairs(name, reference)))

    def pairs(self, *names: str) -> Iterable[tuple[float, ...]]:
        return zip(*(self.seconds[name] for name in names), strict=True)
