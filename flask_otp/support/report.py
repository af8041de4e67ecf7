"""The output of ``flask otp show``, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from textwrap import wrap
from typing import Any

from .sentence import write_time
from .view import Code, Source, View, Window

_WIDTH, _LABEL = 100, 18


def as_text(who: str, views: Sequence[View]) -> str:
    lines = [who]
    for view in views:
        lines += ["", f"{view.purpose}: {view.sentence}"]
        lines += [line for label, text in _rows(view) for line in _row(label, text)]
    return "\n".join(lines)


def as_json(who: str, views: Sequence[View]) -> str:
    told = {view.purpose: {name: value for name, value in asdict(view).items() if name != "purpose"} for view in views}
    return json.dumps({"identifier": who, "purposes": told}, indent=2, default=_plain)


def _plain(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _rows(view: View) -> Iterator[tuple[str, str]]:
    yield from (("code", _code(code)) for code in view.codes)
    if view.messages:
        yield "messages", _windows(view.messages)
    if view.failures:
        yield "failures", _windows(view.failures)
    yield from ((source.label, _source(source)) for source in view.sources)
    if view.proofs:
        yield "proofs", f"{len(view.proofs)}, the last until {write_time(view.proofs[-1])}"
    if view.trusted_browsers:
        yield (
            "trusted browsers",
            f"{len(view.trusted_browsers)}, the last until {write_time(view.trusted_browsers[-1])}",
        )
    if view.revoked_at is not None:
        yield "revoked", write_time(view.revoked_at)


def _code(code: Code) -> str:
    form = "strong" if code.strong else "short"
    by = f", by {' and '.join(code.channels)}" if code.channels else ""
    return (
        f"{form}{by}, requested at {write_time(code.asked_at)}, valid until {write_time(code.until)}, "
        f"{code.attempts_left} attempts left"
    )


def _source(source: Source) -> str:
    cooldown = [f"OTP_COOLDOWN until {write_time(source.cooldown_until)}"] if source.cooldown_until else []
    return "; ".join([*cooldown, *map(_window, source.windows)]) or "nothing counted"


def _windows(windows: Iterable[Window]) -> str:
    return "; ".join(map(_window, windows))


def _window(window: Window) -> str:
    return (
        f"{window.count} of {window.amount} in {_period(window.period)} ({window.setting}), "
        f"until {write_time(window.until)}"
    )


def _period(seconds: int) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return str(timedelta(seconds=seconds))


def _row(label: str, text: str) -> Iterator[str]:
    lines = wrap(text, _WIDTH - _LABEL, break_long_words=False, break_on_hyphens=False)
    for place, line in enumerate(lines):
        yield f"  {label if place == 0 else '':{_LABEL}}{line}"
