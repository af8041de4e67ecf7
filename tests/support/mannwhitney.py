"""Whether two kinds of samples differ, by their ranks: no matter how the samples are distributed, or a machine is busy.

H. B. Mann, D. R. Whitney: On a test of whether one of two random variables is stochastically larger than the other
(1947); in blocks, weighted alike: P. van Elteren (1960).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import sqrt


def u_statistic(first: Sequence[float], second: Sequence[float]) -> float:
    """Of all pairs of one of each, how many have the greater value in ``second``; equal ones count half."""
    return sum((a < b) + (a == b) / 2 for a in first for b in second)


def z_score(blocks: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """How many standard deviations the sum of the blocks' statistics is from where chance would have it."""
    excess = sum(u_statistic(a, b) - len(a) * len(b) / 2 for a, b in blocks)
    variance = sum(len(a) * len(b) * (len(a) + len(b) + 1) / 12 for a, b in blocks)
    return excess / sqrt(variance)


def shuffled_blocks(
    measure: Callable[[bool], float], *, blocks: int, size: int, chance: random.Random
) -> list[tuple[list[float], list[float]]]:
    """``size`` measurements of each kind in a block, in an order that chance decides.

    Other work of the machine delays both kinds alike. If the kinds do not differ, the order of their ranks is therefore
    random, and the number of false alarms does not depend on the machine.
    """
    found = []
    for _ in range(blocks):
        order = [False, True] * size
        chance.shuffle(order)
        samples: tuple[list[float], list[float]] = ([], [])
        for kind in order:
            samples[kind].append(measure(kind))
        found.append(samples)
    return found
