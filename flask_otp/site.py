"""The lowest layer's view of the current app: its name, its languages, its pages.

:class:`~flask_otp.state.AppState` implements :class:`Site`. Below that class, only :func:`current_site` reads
``app.extensions``, so no low-level module depends on a high-level one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from flask import current_app, has_app_context
from werkzeug.wrappers import Response

#: The key in ``app.extensions``.
EXTENSION = "otp"

#: The name of the blueprint, and so the prefix of its endpoints.
BLUEPRINT = "otp"


class Site(Protocol):
    """One app, as errors and languages see it."""

    @property
    def site_name(self) -> str: ...

    @property
    def languages(self) -> Sequence[str]:
        """The languages in ``OTP_LANGUAGES``, the default first."""

    @property
    def is_mounted(self) -> bool:
        """Whether our blueprint is registered. Only then can our pages be rendered and their URLs built."""

    @property
    def brand(self) -> Any:
        """``OTP_BRAND``: a :class:`~flask_otp.config.brand.Brand`."""

    def brand_in_mail(self) -> Any:
        """The brand with absolute addresses."""

    def label_of(self, purpose: str) -> object:
        """What people read in place of the purpose's name: text, or an object that becomes text when it is shown."""

    def render_error(self, error: Any) -> Response:
        """The page for an :exc:`~flask_otp.errors.OTPError` that no view has caught."""


def current_site() -> Site | None:
    """The site of the current app. ``None`` outside an app context, or if the app has no ``OTP``."""
    site: Any = current_app.extensions.get(EXTENSION) if has_app_context() else None
    return cast("Site | None", site)
