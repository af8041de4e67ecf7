"""The flows: send, resend, verify, revoke. They do not depend on requests or sessions."""

from __future__ import annotations

from ..events import pseudonym
from ..signals import proof_revoked
from .sending import Sending
from .verifying import Verifying


class Service(Sending, Verifying):
    """All operations on one app's codes."""

    def revoke(self, identifier: str) -> str:
        """End all proofs and challenges of the identifier, for every purpose, under every key that is still accepted.

        :returns: the identifier in canonical form.
        """
        address = self._parts.identifiers.named(identifier).value
        for keys in self._tokens.keyring:
            for purpose in self._settings.purposes:
                self._parts.store.revoke(keys.subject(purpose, address), int(self._parts.clock() * 1000))
        whom = {"identifier": address, "purposes": tuple(self._settings.purposes)}
        subject = pseudonym(self._tokens.keys, address)
        self._parts.events.tell(proof_revoked, "revoked", subject=subject, arguments=whom)
        return address
