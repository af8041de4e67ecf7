"""Factors that a person keeps: authenticator apps, recovery codes, and browsers that are trusted.

Nothing is sent for them. Their secrets live in one sealed text column of the app's own table of users
(:mod:`~flask_otp.factors.column`). Which codes were used, and how many wrong ones were tried, is in the store.
"""

from __future__ import annotations

from collections.abc import Callable

from ..delivery.components import Components
from .column import Column
from .enrolment import Enroller
from .trusted import TrustedBrowsers
from .verification import FactorVerifier


class KeptFactors:
    """All of one app's."""

    def __init__(self, components: Components, ended: Callable[[], None]) -> None:
        """
        :param ended: called when a trusted browser was ended, or may have been.
        """
        column = Column(components)
        self.trusted = TrustedBrowsers(components, column, ended)
        self.enroller = Enroller(components, column, self.trusted)
        self.verifier = FactorVerifier(components, column)
