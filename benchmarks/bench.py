"""What every group of rows is handed: the servers, and how much to do."""

from __future__ import annotations

from dataclasses import dataclass

from .servers import Servers


@dataclass(frozen=True)
class Scale:
    """How much to measure.

    :param rounds: pairs for each ratio.
    :param block: calls of one kind in a row.
    :param calls: requests whose processor time is measured.
    :param codes: live codes in a store of which the size is measured.
    :param many: live codes in the store that is compared with one of 1,000.
    :param tries: new processes.
    :param workers: kinds of workers.
    """

    rounds: int
    block: int
    calls: int
    codes: int
    many: int
    tries: int
    workers: int


FULL = Scale(rounds=100, block=10, calls=2000, codes=5_000, many=1_000_000, tries=5, workers=8)
QUICK = Scale(rounds=25, block=5, calls=400, codes=1_000, many=100_000, tries=3, workers=3)
TINY = Scale(rounds=2, block=1, calls=40, codes=20, many=20, tries=1, workers=1)


@dataclass(frozen=True)
class Bench:
    scale: Scale
    servers: Servers
