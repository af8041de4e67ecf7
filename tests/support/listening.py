"""Receivers of every signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from blinker import ANY, NamedSignal
from flask import Flask

from flask_otp import signals
from flask_otp.events import Event

SIGNALS: list[NamedSignal] = [value for value in vars(signals).values() if isinstance(value, NamedSignal)]


@contextmanager
def listening(app: Flask | None = None, hear: Callable[[Event], object] | None = None) -> Iterator[list[Event]]:
    """Every event of the app, or of every app, in order."""
    heard: list[Event] = []

    def receive(sender: Any, event: Event, **arguments: Any) -> None:
        (hear or heard.append)(event)

    with ExitStack() as stack:
        for signal in SIGNALS:
            stack.enter_context(signal.connected_to(receive, app or ANY))
        yield heard
