"""What is stored about one person's factors: the apps, and the seed of the recovery codes."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Any

#: Maximum apps of one person. They must fit into the column with their names, and each one makes guesses easier.
MAX_APPS = 5


@dataclass(frozen=True)
class App:
    """One authenticator app."""

    name: str
    secret: bytes
    #: Random. The marks of used codes are derived from it, so they reveal nothing about the secret.
    device: bytes
    #: Codes of this time step and earlier ones are refused: the step of the code that confirmed the app, or the step in
    #: which the owner moved to another identifier.
    after: int

    def __repr__(self) -> str:
        return "<App>"


@dataclass(frozen=True)
class FactorRecord:
    """All factors of one person. Without an app, nothing in it counts."""

    apps: tuple[App, ...] = ()
    #: Empty if there are no recovery codes.
    seed: bytes = b""
    #: Bit ``i`` is set if recovery code ``i`` was used.
    used: int = 0

    def __repr__(self) -> str:
        return f"<FactorRecord of {len(self.apps)} apps>"

    def with_use(self, index: int) -> FactorRecord:
        return replace(self, used=self.used | 1 << index)

    def to_json(self) -> list[Any]:
        apps = [[app.name, _text(app.secret), _text(app.device), app.after] for app in self.apps]
        return [apps, _text(self.seed), self.used]

    @classmethod
    def from_json(cls, data: list[Any]) -> FactorRecord:
        apps, seed, used = data
        return cls(
            tuple(App(name, _bytes(secret), _bytes(device), after) for name, secret, device, after in apps),
            _bytes(seed),
            used,
        )


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")  # more padding than needed is ignored
