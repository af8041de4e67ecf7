"""Python calls of a piece of work: exact, and the same on every machine, unlike the time that it takes."""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile
from statistics import median_low
from typing import Any


def count_calls(work: Callable[[], Any]) -> int:
    """How often this thread calls a function, those written in C included."""
    profile = Profile()
    profile.enable()
    try:
        work()
    finally:
        profile.disable()
    # The last call is that of ``disable``.
    return sum(entry.callcount for entry in profile.getstats()) - 1


def usual_calls(works: list[Callable[[], Any]]) -> int:
    """The same of the usual one of several alike: a first one makes what the others find, and one meets a sweep."""
    return median_low([count_calls(work) for work in works])
