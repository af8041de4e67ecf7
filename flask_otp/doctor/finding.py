"""The result of a check, and the values that a check may read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from flask import Flask

from ..config.settings import Settings
from ..delivery.failover import Failover
from ..errors import StoreUnavailable
from ..limits.counters import Limits
from ..outages import Cause
from ..state import AppState
from ..stores import Store


class Level(Enum):
    """How serious a finding is."""

    ERROR = "error"  #: something does not work or does not protect
    WARNING = "warning"  #: something may fail later, or in some deployments
    NOTE = "note"  #: information


@dataclass(frozen=True)
class Finding:
    """One problem and its fix. Its texts hold no secret and no URI, and no address except a test recipient's."""

    #: Stable and unique: the finding's heading in ``docs/operate/doctor.md``.
    name: str
    level: Level
    what: str
    why: str
    mend: str
    #: Requirements of OWASP ASVS 5.0, NIST SP 800-63B-4 or an RFC, and ours (``docs/protection/attacks.md``).
    reference: str = ""
    #: Name of the check function.
    check: str = ""

    @property
    def page(self) -> str:
        """The short name of its page in the documentation."""
        return f"doctor/{self.name}"


@dataclass
class Site:
    """The app under examination.

    :param environ: environment variables of the process.
    :param accounts: number of accounts that an attacker can spray.
    """

    app: Flask
    state: AppState
    environ: Mapping[str, str]
    accounts: int

    @property
    def settings(self) -> Settings:
        return self.state.settings

    @property
    def config(self) -> Mapping[str, Any]:
        return self.app.config

    @property
    def store(self) -> Store:
        return self.state.store

    @property
    def limits(self) -> Limits:
        return self.state.limits

    @property
    def channels(self) -> dict[str, Failover]:
        """All channels that at least one purpose may use."""
        routing = self.state.routing
        return {
            name: providers
            for purpose in self.settings.purposes.values()
            for name, providers in routing.channels_of(purpose).items()
        }

    @cached_property
    def outage(self) -> Cause | None:
        """Why the store does not answer. Probed once per run, so a store that is down is reported once."""
        return _outage(self.state.probe_store)

    @cached_property
    def limits_outage(self) -> Cause | None:
        """Why the limits' storage does not answer."""
        return _outage(self.limits.probe)

    @property
    def is_store_up(self) -> bool:
        return self.outage is None

    @cached_property
    def workers(self) -> int | None:
        """Number of processes that serve the app, if the environment names it."""
        return _workers(self.environ)


def _outage(probe: Callable[[], None]) -> Cause | None:
    try:
        probe()
    except StoreUnavailable as error:
        return error.cause
    return None


Check = Callable[[Site], Iterable[Finding]]


def _workers(environ: Mapping[str, str]) -> int | None:
    """Gunicorn, Uvicorn and Heroku read ``WEB_CONCURRENCY``; Gunicorn's own arguments take precedence."""
    given = re.findall(r"(?<!\S)(?:-w|--workers)[ =]*([0-9]+)(?!\S)", environ.get("GUNICORN_CMD_ARGS", ""))
    number = (given or [environ.get("WEB_CONCURRENCY", "")])[-1]
    return int(number) if number.isdecimal() else None
