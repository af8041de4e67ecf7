"""Whole logins by e-mail code, send and verify: ours with all limits on, and two peers with theirs off.

Each runs in a process of its own, in process and without a server. They take turns by blocks, so that what else the
machine does meets all of them. Nothing is installed here: ``pip install -e '.[bench]'``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from .bench import Bench
from .chart import draw
from .measure import spread
from .report import Row

PLACE = Path(__file__).parent / "peers.svg"
#: What each is called, its program, and what it needs.
_PEERS = {
    "flask_otp, Redis": ("ours", "flask_otp"),
    "flask_otp, memory": ("ours_memory", "flask_otp"),
    "Flask-Security, SQLite": ("flask_security", "flask_security"),
    "django-allauth, SQLite": ("allauth", "allauth"),
}


def rows(bench: Bench) -> Iterator[Row]:
    programs = {name: program for name, (program, package) in _PEERS.items() if find_spec(package) is not None}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    processes = {name: _start(program, bench.servers.valkey.uri) for name, program in programs.items()}
    try:
        for number in range(bench.scale.rounds // 2 + 1):
            for name, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{bench.scale.block}\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if number:
                    times[name].append(json.loads(line))
    finally:
        for process in processes.values():
            process.communicate()
    for name, blocks in times.items():
        for step in ("send", "verify"):
            ratios = spread(block["bare"] / block[step] for block in blocks)
            yield Row(f"{step}, over its own bare view", name, ratios, "x")
        yield Row("whole logins", name, spread(1 / (block["send"] + block["verify"]) for block in blocks), "a second")
    for name in _PEERS.keys() - programs.keys():
        yield Row("whole logins", name, None, note="not installed")
    if bench.scale.rounds >= 25:
        figures = {
            name: statistics.median(1 / (each["send"] + each["verify"]) for each in blocks)
            for name, blocks in times.items()
        }
        PLACE.write_text(draw("Logins a second on one core", figures), encoding="utf-8")


def _start(program: str, uri: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.logins", program, uri]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
