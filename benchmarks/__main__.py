"""The command: ``python -m benchmarks [--quick] [--only ROWS] [--json | --markdown]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from . import costs, faults, growth, report, server, sizes, speed, trips
from .bench import FULL, QUICK, Bench, Scale
from .report import Row
from .servers import Servers

#: Name for ``--only``, title, and what measures it.
GROUPS: dict[str, tuple[str, Callable[[Bench], Iterator[Row]]]] = {
    "trips": ("Round trips of one request", trips.rows),
    "speed": ("Rate, relative to a view with one Redis GET in the same app", speed.rows),
    "costs": ("Cost of the guard, and of our presence", costs.rows),
    "sizes": ("Bytes of a subject", sizes.rows),
    "growth": ("Time of a verb in a full store, relative to a store with few codes", growth.rows),
    "faults": ("Failing stores, and many requests at once", faults.rows),
    "server": ("What a verb costs the Redis server", server.rows),
}


def measure(names: list[str], scale: Scale, tell: Callable[[str, list[Row]], None]) -> dict[str, list[Row]]:
    """The rows of each group. ``tell`` is given each group as soon as it is there."""
    groups: dict[str, list[Row]] = {}
    for name in names:
        title, rows = GROUPS[name]
        with Servers() as servers:
            groups[title] = list(rows(Bench(scale, servers)))
        tell(title, groups[title])
    return groups


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="The rows of the performance page.")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="ROWS", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    began = time.monotonic()
    if not given.json:
        print(report.machine(), flush=True)
    table = report.as_markdown if given.markdown else report.as_text

    def tell(title: str, rows: list[Row]) -> None:
        if not given.json:
            print(table(title, rows), flush=True)

    groups = measure(given.only or list(GROUPS), QUICK if given.quick else FULL, tell)
    if given.json:
        print(report.as_json(groups))
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
