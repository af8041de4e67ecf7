"""The table of docs/operate/faults.md, from what the fault suite measured."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.support.backends import LimiterBackend

DOCUMENT = Path(__file__).parents[2] / "docs" / "operate" / "faults.md"
_BEGIN, _END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

#: The verbs of each column.
GROUPS = {
    "send": ("send", "otp.send"),
    "resend, right code": ("resend", "verify right", "otp.verify"),
    "wrong code": ("verify wrong",),
    "app's code, right": ("app right",),
    "wrong": ("app wrong",),
    "guard": ("guard",),
    "guard, `once`": ("guard once",),
    "log out, revoke": ("log out", "otp.revoke"),
}


@dataclass(frozen=True)
class Measurement:
    """One verb under one fault. ``charged`` is what it was charged beyond what the answer says."""

    backend: str
    fault: str
    verb: str
    status: int
    seconds: float
    charged: int


def tabulate(measurements: list[Measurement]) -> None:
    """Write the table into the document."""
    backends = list(dict.fromkeys(item.backend for item in measurements))
    faults = list(dict.fromkeys(item.fault for item in measurements))
    heads = ["fault", *GROUPS, "charged", *backends]
    rows = [heads, ["---"] * len(heads), *(_row(fault, backends, measurements) for fault in faults)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    DOCUMENT.write_text(before + _BEGIN + table + _END + after, encoding="utf-8")


def documented() -> tuple[list[str], list[str]]:
    """The faults that have a row in the document, and those that have a paragraph."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|", text.partition(_BEGIN)[2].partition(_END)[0], re.MULTILINE)
    return rows[2:], re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)


def _row(fault: str, backends: list[str], measurements: list[Measurement]) -> list[str]:
    found = [item for item in measurements if item.fault == fault]
    of_stores = [item for item in found if item.backend != LimiterBackend.title]
    charges = {item.charged for item in of_stores if item.status == 503}
    return [
        fault,
        *(_statuses(item for item in of_stores if item.verb in verbs) for verbs in GROUPS.values()),
        " or ".join(map(str, sorted(charges))) or "-",
        *(_milliseconds(item for item in found if item.backend == backend) for backend in backends),
    ]


def _statuses(found: Iterable[Measurement]) -> str:
    return ", ".join(map(str, sorted({item.status for item in found}))) or "-"


def _milliseconds(found: Iterable[Measurement]) -> str:
    """Of the 503s, where there were any."""
    measured = list(found)
    refused = [item for item in measured if item.status == 503]
    times = [item.seconds * 1000 for item in refused or measured]
    return f"{median(times):.1f} / {max(times):.0f}" if times else "-"
