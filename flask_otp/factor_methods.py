"""What ``otp.totp`` and ``otp.recovery`` offer: factors that a person keeps, in Python."""

from __future__ import annotations

from .models import Enrolment
from .state import current_state


class TotpMethods:
    """``otp.totp``: the authenticator apps of a person. Needs an app context.

    Nothing here asks who calls. Ask for a fresh code first, as the pages do.
    """

    def begin(self, identifier: str, name: str = "phone") -> Enrolment:
        """Make a secret for a new app. Nothing is kept before :meth:`confirm`.

        :param name: what the person calls it, 40 characters at most.
        :raises InvalidIdentifier: ``identifier`` is none.
        :raises InvalidRequest: the name is taken or unfit, or there are five apps already.
        :raises FactorsUnavailable: what the ``factors_loader`` gives does not open.
        """
        state = current_state()
        return state.factors.enroller.begin(state.identifiers.parse(identifier).value, name)

    def confirm(self, token: str, code: str) -> tuple[str, ...]:
        """Keep the app, now that a code shows that it has the secret. That code is used with this.

        :returns: ten recovery codes, if it is the person's first app. They cannot be shown again.
        :raises InvalidCode: the code is wrong.
        :raises InvalidRequest: the token is older than ten minutes, or the name was taken in the meantime.
        :raises FactorsUnavailable: the ``factors_saver`` did not save it.
        """
        return current_state().factors.enroller.confirm(token, code)

    def remove(self, identifier: str, name: str) -> None:
        """Remove an app. The recovery codes go with the last one, and every trusted browser is ended.

        :raises InvalidRequest: there is no app of this name.
        :raises FactorsUnavailable: it was not removed.
        """
        state = current_state()
        state.factors.enroller.remove(state.identifiers.parse(identifier).value, name)


class RecoveryMethods:
    """``otp.recovery``: the recovery codes of a person. Needs an app context."""

    def renew(self, identifier: str) -> tuple[str, ...]:
        """Make ten new recovery codes. The old ones are worth nothing from now on.

        :raises InvalidRequest: the person has no authenticator app.
        :raises FactorsUnavailable: they were not saved.
        """
        state = current_state()
        return state.factors.enroller.renew(state.identifiers.parse(identifier).value)
