"""The audit log: a signal receiver that writes one JSON object per line to the logger ``flask_otp.audit``.

Members are named as in OCSF *Authentication* (class 3002); members without an OCSF name are in ``unmapped``. Subjects
are keyed pseudonyms, networks are shortened, and no line contains a code or an address.

Each process writes its own chain, so processes need not agree on an order: a random chain id, a sequence from 0, and in
each line a MAC over the line and the previous MAC. A person with the file, but without ``SECRET_KEY``, can neither
change nor add a line.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from blinker import NamedSignal
from flask import Flask

from .. import signals
from ..crypto.keys import Keys
from ..events import Event
from ..processes import PerProcess

audit_logger = logging.getLogger("flask_otp.audit")
logger = logging.getLogger("flask_otp")

#: The events that are written. Passed guards are not, because every request has one.
_AUDITED: tuple[NamedSignal, ...] = (
    signals.code_sent,
    signals.delivery_failed,
    signals.message_withheld,
    signals.code_verified,
    signals.code_rejected,
    signals.budget_spent,
    signals.surge,
    signals.sms_pumping,
    signals.limit_reached,
    signals.guard_decided,
    signals.proof_revoked,
    signals.factor_added,
    signals.factor_removed,
    signals.recovery_used,
    signals.browser_trusted,
)
_LOGON, _LOGOFF, _OTHER = 1, 2, 99
_ACTIVITIES = {"code_verified": _LOGON, "code_rejected": _LOGON, "proof_revoked": _LOGOFF}
_ACTIVITY_NAMES = {_LOGON: "Logon", _LOGOFF: "Logoff", _OTHER: "Other"}
_FAILURES = {"delivery_failed", "message_withheld", "code_rejected", "limit_reached", "guard_decided"}
_ALARMS = {"budget_spent", "surge", "sms_pumping"}

_MAC = ',"mac":"'
_MAC_DIGITS = 32


class _Chain:
    """The lines of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.id = secrets.token_hex(8)
        self.sequence = 0
        self.last = ""


class Audit:
    """Writes the events of one app's signals.

    :param keys: the app's newest keys.
    """

    def __init__(self, app: Flask, keys: Keys) -> None:
        self._app = app
        self._key = keys.derive("audit")
        self._chain = PerProcess(_Chain)

    def connect(self) -> None:
        for signal in _AUDITED:
            signal.connect(self._receive, self._app)

    def _receive(self, sender: Flask, event: Event, **_: Any) -> None:
        if event.outcome == "passed" or not audit_logger.isEnabledFor(logging.INFO):
            return
        try:
            self._write(event)
        except Exception as error:
            # A failing observer must not break what it observes. The gap in the sequence shows the lost line.
            logger.error("a line of the audit log was not written: %s", type(error).__name__)

    def _write(self, event: Event) -> None:
        chain = self._chain.get()
        # Logged under the lock, so a chain's lines are in the file in their order.
        with chain.lock:
            body = json.dumps(_members(event, self._app.name, chain), separators=(",", ":"), allow_nan=False)
            chain.last, chain.sequence = _mac(self._key, chain.last, body[:-1]), chain.sequence + 1
            audit_logger.info("%s", f'{body[:-1]}{_MAC}{chain.last}"}}')


def _members(event: Event, service: str, chain: _Chain) -> dict[str, Any]:
    activity = _ACTIVITIES.get(event.kind, _OTHER)
    is_failure = event.kind in _FAILURES
    names = ("kind", "outcome", "purpose", "channel", "step", "country", "message_id")
    own = {name: getattr(event, name) for name in names}
    members = {
        "class_uid": 3002,
        "class_name": "Authentication",
        "category_uid": 3,
        "activity_id": activity,
        "activity_name": _ACTIVITY_NAMES[activity],
        "type_uid": 300200 + activity,
        "time": int(event.time * 1000),
        "severity_id": 3 if event.kind in _ALARMS else 2 if is_failure else 1,
        "status_id": 2 if is_failure else 1,
        "status": "Failure" if is_failure else "Success",
        "status_detail": event.reason,
        "user": {"uid": event.subject} if event.subject else None,
        "session": {"uid": event.challenge} if event.challenge else None,
        "src_endpoint": {"subnet_uid": event.network} if event.network else None,
        "service": {"name": service},
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "flask_otp"},
            "log_name": chain.id,
            "sequence": chain.sequence,
        },
        "unmapped": {name: value for name, value in own.items() if value is not None},
    }
    return {name: value for name, value in members.items() if value is not None}


def _mac(key: bytes, before: str, body: str) -> str:
    # All MACs have the same length, so different pairs never give the same bytes. The first line has no previous MAC.
    return hmac.digest(key, f"{before:0>{_MAC_DIGITS}}{body}".encode(), "sha256").hex()[:_MAC_DIGITS]


@dataclass
class _Seen:
    """The state of a chain after some of its lines."""

    first: int
    next: int
    last: str
    lines: int = 0


@dataclass
class Report:
    """The result of checking an audit log."""

    lines: int = 0
    #: One sentence each, with the line number.
    problems: list[str] = field(default_factory=list)
    #: By chain id.
    chains: dict[str, _Seen] = field(default_factory=dict)


def check(lines: Iterable[str], keyring: Sequence[Keys]) -> Report:
    """Check that the app wrote exactly these lines: all of them, each once, in the order of their chain.

    Lines cut off at the end of a chain, and chains that are missing completely, cannot be detected.
    """
    keys = [key.derive("audit") for key in keyring]
    report = Report()
    for number, text in enumerate(lines, 1):
        start, end = text.find('{"class_uid"'), text.rfind(_MAC)
        if start < 0:
            if text.strip():
                report.problems.append(f"line {number}: not a line of the audit log")
            continue
        report.lines += 1
        report.problems += [f"line {number}: {why}" for why in _check_line(text, start, end, keys, report)]
    for chain, seen in report.chains.items():
        if seen.first > 0:
            report.problems.append(
                f"chain {chain}: its first {seen.first} lines are missing, or are in an earlier file"
            )
    return report


def _check_line(text: str, start: int, end: int, keys: Sequence[bytes], report: Report) -> Iterator[str]:
    body, mac = text[start:end], text[end + len(_MAC) : end + len(_MAC) + _MAC_DIGITS]
    is_whole = end >= start and text[end + len(_MAC) + _MAC_DIGITS :].rstrip() == '"}'
    metadata = _metadata(body) if is_whole else None
    if metadata is None:
        yield "it cannot be read: it was changed or cut"
        return
    chain, sequence = metadata
    seen = report.chains.get(chain)
    if seen is None:
        seen = report.chains[chain] = _Seen(sequence, sequence, "" if sequence == 0 else "?")
    if sequence != seen.next:
        what = "repeated or out of order" if sequence < seen.next else "after a gap"
        yield f"chain {chain}: line {sequence} is {what}, expected {seen.next}"
    elif seen.last != "?" and not any(hmac.compare_digest(_mac(key, seen.last, body), mac) for key in keys):
        yield f"chain {chain}: line {sequence} was changed, or SECRET_KEY is a different one"
    seen.next, seen.last, seen.lines = max(seen.next, sequence + 1), mac, seen.lines + 1


def _metadata(body: str) -> tuple[str, int] | None:
    try:
        metadata = json.loads(body + "}")["metadata"]
        chain, sequence = metadata["log_name"], metadata["sequence"]
    except (ValueError, KeyError, TypeError):
        return None
    return (chain, sequence) if isinstance(chain, str) and isinstance(sequence, int) else None
