"""The column of the app's table that holds a user's factors. It is changed by compare and swap."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from .. import identifiers
from ..crypto.keys import Keys
from ..delivery.components import Components
from ..errors import ConfigError, FactorsUnavailable, InvalidRequest
from ..languages import N_
from .record import FactorRecord
from .sealing import MAX_SEALED, seal, unseal

logger = logging.getLogger("flask_otp")

T = TypeVar("T")

KIND = "factors"
#: Maximum tries of a change when other requests change the column first.
_TRIES = 10


class Column:
    """Reads and writes the column with the app's ``factors_loader`` and ``factors_saver``."""

    def __init__(self, components: Components) -> None:
        self._hooks = components.hooks
        self._tokens = components.tokens
        self._decoy: str | None = None

    def find(self, identifier: str) -> FactorRecord:
        """The factors of a user who wants to sign in. A column that does not open counts as empty and is logged.

        A user without factors and an unknown identifier take the same work.
        """
        text = self._load(identifier) if self._hooks.factors_loader is not None else None
        if not text:
            self._decoy = self._decoy or seal(self._tokens.keys, KIND, "", FactorRecord().to_json())
            opened = unseal(self._tokens.keyring, KIND, "", self._decoy)
        else:
            opened = unseal(self._tokens.keyring, KIND, identifier, text)
        if opened is None:
            _complain(identifier)
            return FactorRecord()
        return FactorRecord.from_json(opened[0])

    def read(self, identifier: str) -> FactorRecord:
        """
        :raises FactorsUnavailable: the column does not open.
        """
        return self._open(identifier, self._load(identifier))[0]

    def change(self, identifier: str, edit: Callable[[FactorRecord], tuple[FactorRecord, T]]) -> T:
        """Let ``edit`` make a new record from the current one and save it. If another request was faster, try again.

        :returns: the second value that ``edit`` returned for the saved record.
        :raises FactorsUnavailable: the column does not open, or the app did not save it.
        """
        for _ in range(_TRIES):
            old = self._load(identifier)
            record, key = self._open(identifier, old)
            new, answer = edit(record)
            if new == record and key in (None, self._tokens.keys):
                return answer
            if self.save(identifier, new, old):
                return answer
        raise _refused()

    def save(self, identifier: str, record: FactorRecord, old: str | None) -> bool:
        """
        :raises InvalidRequest: the column would be longer than the app promises to store.
        """
        saver = self._hooks.factors_saver
        if saver is None:
            raise ConfigError("otp.factors_saver is not set: factors cannot be changed")
        new = seal(self._tokens.keys, KIND, identifier, record.to_json()) if record.apps else None
        if new is not None and len(new) > MAX_SEALED:
            raise InvalidRequest(N_("There are too many authenticator apps. Remove one first."))
        saved = saver(identifier, new, old)
        if not isinstance(saved, bool):
            raise ConfigError("otp.factors_saver must return True if it saved, and False if it did not")
        return saved

    def move(self, old_identifier: str, new_identifier: str, edit: Callable[[FactorRecord], FactorRecord]) -> None:
        """Bind the factors to another identifier. The app may still store them under the old one.

        :raises FactorsUnavailable: the factors open under neither identifier, or could not be saved.
        """
        for _ in range(_TRIES):
            there = self._load(new_identifier)
            if there and unseal(self._tokens.keyring, KIND, new_identifier, there) is not None:
                return
            left = None if there else self._load(old_identifier)
            record, _key = self._open(old_identifier, there or left)
            if not record.apps:
                return
            if self.save(new_identifier, edit(record), there):
                if left:
                    self.save(old_identifier, FactorRecord(), left)
                return
        raise _refused()

    def _load(self, identifier: str) -> str | None:
        loader = self._hooks.factors_loader
        if loader is None:
            raise ConfigError("otp.factors_loader is not set: there are no authenticator apps")
        text = loader(identifier)
        if text is not None and not isinstance(text, str):
            raise ConfigError(f"otp.factors_loader must return a str or None, not {type(text).__name__}")
        return text

    def _open(self, identifier: str, text: str | None) -> tuple[FactorRecord, Keys | None]:
        if not text:
            return FactorRecord(), None
        opened = unseal(self._tokens.keyring, KIND, identifier, text)
        if opened is None:
            _complain(identifier)
            raise FactorsUnavailable
        return FactorRecord.from_json(opened[0]), opened[1]


def _refused() -> FactorsUnavailable:
    logger.error("factors_saver refused %s changes of one column in a row", _TRIES)
    return FactorsUnavailable()


def _complain(identifier: str) -> None:
    logger.error(
        "the factors of %s do not open: they belong to another identifier (see otp.move_factors), or were sealed with "
        "a key that is in neither SECRET_KEY nor SECRET_KEY_FALLBACKS",
        identifiers.mask(identifier),
    )
