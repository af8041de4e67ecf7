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

#: Makes the inputs of so many calls. Takes no part in the time.
Prepare = Callable[[int], Sequence[Any]]


@dataclass(frozen=True)
class Case:
    """One kind of call.

    :param check: takes each answer, after the block, and raises if it is not what the case is about.
    """

    prepare: Prepare
    call: Callable[[Any], Any]
    check: Callable[[Any], None]


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
        return Spread(ordered[0], ordered[0], ordered[0], 1)
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
        #: Of the wall's clock, and of this process's processor time.
        self._seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        order = list(cases)
        shuffle = random.Random(1).shuffle
        for number in range(rounds + 1):
            shuffle(order)
            for name in order:
                seconds = _block(cases[name], block)
                if number:
                    self._seconds[name].append(seconds)

    def rate(self, name: str, reference: str, *, of_processor: bool = False) -> Spread:
        """How many calls of ``name`` are made in the time of one of ``reference``.

        :param of_processor: the time that this process had a processor: what else the machine does is not in it, and
            neither is the wait for a server.
        """
        return spread(theirs / ours for ours, theirs in self._pairs(name, reference, of_processor))

    def cost(self, name: str, reference: str, *, of_processor: bool = False) -> Spread:
        """Microseconds that a call of ``name`` takes more than one of ``reference``."""
        return spread((ours - theirs) * 1e6 for ours, theirs in self._pairs(name, reference, of_processor))

    def more(self, name: str, reference: str, *, of_processor: bool = False) -> Spread:
        """The same as a percentage of a call of ``reference``."""
        return spread((ours / theirs - 1) * 100 for ours, theirs in self._pairs(name, reference, of_processor))

    def _pairs(self, name: str, reference: str, of_processor: bool) -> Iterable[tuple[float, float]]:
        pairs = zip(self._seconds[name], self._seconds[reference], strict=True)
        return ((ours[of_processor], theirs[of_processor]) for ours, theirs in pairs)


def _block(case: Case, size: int) -> tuple[float, float]:
    inputs, call = case.prepare(size), case.call
    began, processor = time.perf_counter(), time.process_time()
    answers = [call(item) for item in inputs]
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    for answer in answers:
        case.check(answer)
    return seconds / len(answers), processor / len(answers)
