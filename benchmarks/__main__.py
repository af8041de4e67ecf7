"""The command: ``python -m benchmarks [--quick] [--only ROWS] [--write]``."""

from __future__ import annotations

import argparse
import sys
import time

from . import pages, report
from .bench import FULL, QUICK
from .groups import GROUPS
from .report import Row


def main() -> None:
    given = _arguments()
    began, machine = time.monotonic(), report.machine()
    groups: dict[str, list[Row]] = {}
    print(machine)
    for name in given.only or GROUPS:
        groups[name] = GROUPS[name].measure(QUICK if given.quick else FULL)
        print(f"\n{GROUPS[name].title}\n\n{report.as_text(groups[name])}", flush=True)
    if given.write:
        pages.write({name: report.as_markdown(rows) for name, rows in groups.items()} | {"machine": machine})
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="The rows of benchmarks/README.md.")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="ROWS", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="smaller stores and fewer rounds: about a minute")
    parser.add_argument("--write", action="store_true", help="put the tables into the pages that show them")
    return parser.parse_args()


if __name__ == "__main__":
    main()
