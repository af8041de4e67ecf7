"""Factors that a user keeps: authenticator apps, recovery codes and trusted browsers.

Nothing is sent for them. Their secrets are in one sealed text column of the app's own user table
(:mod:`~flask_otp.factors.column`). The used codes and the number of failures are in the store.
"""

from __future__ import annotations

from collections.abc import Callable

from ..delivery.components import Components
from .column import Column
from .enrolment import Enroller
from .trusted import TrustedBrowsers
from .verification import FactorVerifier


class KeptFactors:
    """All kept-factor components of one app."""

    def __init__(self, components: Components, ended: Callable[[], None]) -> None:
        """
        :param ended: called after a trusted browser was ended, or may have been.
        """
        column = Column(components)
        self.trusted = TrustedBrowsers(components, column, ended)
        self.enroller = Enroller(components, column, self.trusted)
        self.verifier = FactorVerifier(components, column)
