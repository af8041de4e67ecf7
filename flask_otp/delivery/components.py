"""The components that the flows of one app use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask

from ..config.settings import Settings
from ..config.test_recipients import TestRecipients
from ..crypto.tokens import Tokens
from ..events import Events
from ..hooks import Hooks
from ..identifiers import Parser
from ..limits.counters import Limits
from ..limits.sms_pumping import SmsPumping
from ..rendering import Templates
from ..stores import Store


@dataclass
class Components:
    """The parts that routing, delivery and the service share."""

    app: Flask
    settings: Settings
    hooks: Hooks
    events: Events
    tokens: Tokens
    store: Store
    limits: Limits
    sms_pumping: SmsPumping
    test_recipients: TestRecipients
    identifiers: Parser
    templates: Templates
    #: Returns the time in seconds since 1970. Every component uses this clock.
    clock: Callable[[], float]

    @property
    def site_name(self) -> str:
        return self.settings.site_name or self.app.name
