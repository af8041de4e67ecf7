"""The Python API of ``otp.totp`` and ``otp.recovery``."""

from __future__ import annotations

from .models import Enrolment
from .state import current_state


class TotpMethods:
    """``otp.totp``: a person's authenticator apps. Needs an app context.

    These methods do not check the caller. Ask for a fresh code first, as the pages do.
    """

    def begin(self, identifier: str, name: str = "phone") -> Enrolment:
        """Create a secret for a new app. Nothing is saved before :meth:`confirm`.

        :param name: the person's name for the app, at most 40 characters.
        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises InvalidRequest: the name is taken or not allowed, or there are five apps already.
        :raises FactorsUnavailable: the text from the ``factors_loader`` does not open.
        """
        state = current_state()
        return state.factors.enroller.begin(state.identifiers.named(identifier).value, name)

    def confirm(self, token: str, code: str) -> tuple[str, ...]:
        """Save the app after a code shows that it has the secret. That code counts as used.

        :returns: ten recovery codes, if this is the person's first app. They cannot be shown again.
        :raises InvalidCode: the code is wrong.
        :raises InvalidRequest: the token is older than ten minutes, or the name was taken in the meantime.
        :raises FactorsUnavailable: the ``factors_saver`` did not save the app.
        :raises StoreUnavailable: the app was saved, but browsers may still be trusted. Call it again.
        """
        return current_state().factors.enroller.confirm(token, code)

    def remove(self, identifier: str, name: str) -> None:
        """Remove an app. Removing the last one also removes the recovery codes. All trusted browsers are ended.

        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises InvalidRequest: there is no app with this name.
        :raises FactorsUnavailable: the app was not removed.
        :raises StoreUnavailable: the app was removed, but browsers may still be trusted. Another call ends them, and
            raises ``InvalidRequest``.
        """
        state = current_state()
        state.factors.enroller.remove(state.identifiers.named(identifier).value, name)


class RecoveryMethods:
    """``otp.recovery``: a person's recovery codes. Needs an app context."""

    def renew(self, identifier: str) -> tuple[str, ...]:
        """Create ten new recovery codes. The old ones stop working.

        :raises InvalidIdentifier: ``identifier`` is not valid.
        :raises InvalidRequest: the person has no authenticator app.
        :raises FactorsUnavailable: the codes were not saved.
        :raises StoreUnavailable: the codes are new, but browsers may still be trusted. Call it again.
        """
        state = current_state()
        return state.factors.enroller.renew(state.identifiers.named(identifier).value)
