"""Where the processor time of a request goes: which part of the code is found at work, over and over again.

A timer stops the app after each few milliseconds of processor time. The innermost function that belongs to a duty says
which duty it is. What a duty calls is therefore counted to it. A profiler that counts calls would make short functions
look expensive.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

from .measure import Case, Scale, spread
from .report import Row
from .servers import Servers
from .sites import Site
from .table import our_cases

#: Parts of paths, the first match counts.
_DUTIES = {
    "Redis: client, store, wake-ups": ("/redis/", "flask_otp/redis_clients/", "flask_otp/stores/"),
    "limits": ("flask_otp/limits/",),
    "messages: templates and delivery": ("flask_otp/delivery/", "flask_otp/channels/", "/jinja2/"),
    "tokens, HMACs": ("flask_otp/crypto/",),
    "session and cookies": ("flask_otp/http/session/", "flask_otp/http/cookies", "known_browser", "flask/sessions.py"),
    "body, answer, headers": ("flask_otp/http/",),
    "identifiers, purposes, signals": ("flask_otp/",),
    "Flask and Werkzeug": ("/flask/", "/werkzeug/"),
}
#: Seconds of processor time between two looks.
_EVERY = 0.001


def rows(scale: Scale, servers: Servers) -> Iterator[Row]:
    for name, case in our_cases(Site(servers.valkey.uri, servers.valkey.uri)).items():
        found, seconds = _sampled(case, scale.calls * 5)
        total = found.total()
        for duty in (*_DUTIES, "else"):
            yield Row(name, duty, spread(seconds * 1e6 * found[duty] / max(1, total)), "us")
        yield Row(name, "all", spread(seconds * 1e6), "us", note=f"{total:,} samples")


def _sampled(case: Case, count: int) -> tuple[Counter[str], float]:
    """How often each duty was at work, and the seconds of processor time that a request takes."""
    found = Counter[str]()

    def ask(requests: Sequence[Any]) -> list[Any]:
        signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
        answers = [case.call(request) for request in requests]
        signal.setitimer(signal.ITIMER_PROF, 0)
        return answers

    before = signal.signal(signal.SIGPROF, lambda number, frame: found.update([_duty(frame)]))
    seconds = replace(case, clock=time.process_time).seconds(count, ask)
    signal.signal(signal.SIGPROF, before)
    return found, seconds


def _duty(frame: FrameType | None) -> str:
    while frame is not None:
        path = frame.f_code.co_filename
        for duty, parts in _DUTIES.items():
            if any(part in path for part in parts):
                return duty
        frame = frame.f_back
    return "else"
