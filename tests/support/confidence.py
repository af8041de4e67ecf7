"""How sure a rate is that was seen in so many trials."""

from __future__ import annotations

from math import sqrt


def interval(successes: int, trials: int, z: float = 2.576) -> tuple[float, float]:
    """Wilson's confidence interval of a proportion, 99 % by default (Wilson 1927)."""
    share = successes / trials
    middle = share + z * z / (2 * trials)
    width = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return (middle - width) / (1 + z * z / trials), (middle + width) / (1 + z * z / trials)
