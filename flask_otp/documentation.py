"""Short, stable names of pages of the documentation, as errors and the doctor's findings show them.

``settings/otp-sms-countries`` is the heading ``OTP_SMS_COUNTRIES`` on the page ``settings``. A test looks up each name
in ``docs/``.
"""

from __future__ import annotations

import re

#: The page for an error, by the words that its message begins with. ``{}`` is the heading: what is in the brackets.
_PAGES = (
    (r"(OTP_[A-Z_]+|SECRET_KEY_FALLBACKS|SECRET_KEY)", "settings/{}"),
    (r"MAIL_", "settings/mail-settings"),
    (r"@?otp_required", "python/otp-required"),
    (r"protect", "python/protect"),
    (r"channel ", "hooks/channel"),
    (r"(?:the |otp\.)(\w+_(?:loader|saver))", "hooks/{}"),
    (r"a hook", "hooks"),
    (r"a webhook", "python/webhookchannel"),
    (r"otp\.blueprint", "endpoints"),
)
#: The page for an error with any other message, such as one of an app's own store.
GENERAL = "errors/configerror"


def page_of(message: str) -> str:
    """The name of the page about an error, by the setting or the part that its message begins with."""
    for pattern, page in _PAGES:
        if match := re.match(pattern, message):
            return page.format(*(group.lower().replace("_", "-") for group in match.groups()))
    return GENERAL


def see(page: str) -> str:
    """How to name a page to a person."""
    return f"flask_otp docs, {page}"
