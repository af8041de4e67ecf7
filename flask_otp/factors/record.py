"""What one person has: apps, and the seed of the recovery codes."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Any

#: Apps of one person. With their names they must fit into the column, and each makes a guess more likely to be right.
MAX_APPS = 5


@dataclass(frozen=True)
class App:
    """One authenticator app."""

    name: str
    secret: bytes
    #: Random. Marks of used codes are made from it, so that they say nothing of the secret.
    device: bytes
    #: Codes of this time step and of those before it are not accepted: the step that the app was confirmed with, or
    #: that its owner moved to another address in.
    after: int

    def __repr__(self) -> str:
        return "<App>"


@dataclass(frozen=True)
class FactorRecord:
    """All factors of one person. No app: nothing of it counts."""

    apps: tuple[App, ...] = ()
    #: Empty: there are no recovery codes.
    seed: bytes = b""
    #: Bit ``i`` is set where recovery code ``i`` was used.
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
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
