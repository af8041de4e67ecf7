"""The command: ``python -m benchmarks [--quick] [--only ROWS] [--write]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from . import capacity, duties, growth, peers, report, table
from .measure import FULL, QUICK, Scale
from .report import Row
from .servers import Servers

#: By the name for ``--only``: the title, and what measures the rows.
GROUPS: dict[str, tuple[str, Callable[[Scale, Servers], Iterator[Row]]]] = {
    "table": ("Ours, beside the same by hand", table.rows),
    "duties": ("Where the time of a request goes", duties.rows),
    "growth": ("Growth with threads, workers and live codes", growth.rows),
    "ceiling": ("What one core of Redis bears", capacity.ceiling),
    "sizes": ("Bytes of a subject", capacity.sizes),
    "peers": ("Whole logins, beside other packages", peers.speed),
    "race": ("One right code, submitted by 200 requests at once", peers.race),
}


def measure(name: str, scale: Scale) -> list[Row]:
    """Measure a group on servers of its own. No group finds there what another one left."""
    with Servers() as servers:
        return list(GROUPS[name][1](scale, servers))


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="The rows of benchmarks/README.md.")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="ROWS", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="smaller stores and fewer rounds: about a minute")
    parser.add_argument("--write", action="store_true", help="keep the figures in results.json and fill in the pages")
    given = parser.parse_args()
    began, results = time.monotonic(), {}
    print(report.machine())
    for name in given.only or GROUPS:
        command = f"python -m benchmarks{' --quick' if given.quick else ''} --only {name} --write"
        rows = measure(name, QUICK if given.quick else FULL)
        results[name] = report.result(rows, command)
        print(f"\n{GROUPS[name][0]}\n\n{report.table(rows)}", flush=True)
    if given.write:
        report.write(results)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
