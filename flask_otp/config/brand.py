"""``OTP_BRAND``: a site's logo, accent colour and help page, on our pages and in e-mails.

Text in the accent colour, and white text on it, must have a contrast of at least 4.5 (WCAG 2.2, 1.4.3, level AA).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import urljoin, urlsplit

from ..urls import is_safe_path
from .parsers import nearest

Colour = tuple[int, int, int]

_LEAST = 4.5
#: In the dark scheme the accent is made lighter until it has this contrast: with 4.5, many colours look dull there.
_DARK_LEAST = 6.0
#: The darkest background in the light scheme and the lightest in the dark one, of pages and mails: see otp.css.
_LIGHT_PAPER, _DARK_CARD, _DARK_PAPER = (0xF3, 0xF1, 0xEC), (0x1D, 0x23, 0x27), (0x14, 0x18, 0x1B)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Brand:
    """What a site sets. Each part may be missing."""

    #: A path on this site, or an ``https`` URL.
    logo: str | None = None
    #: Such as ``#0b7285``.
    accent: str | None = None
    #: A path on this site, or an ``https`` or ``mailto`` URL.
    help: str | None = None

    @property
    def logo_host(self) -> str | None:
        """The origin of a logo that another host serves."""
        parts = urlsplit(self.logo or "")
        return f"https://{parts.netloc}" if parts.netloc else None

    @property
    def dark_accent(self) -> str | None:
        """The accent on a dark background: the same hue, lighter. What can be read on white cannot be read on black."""
        return None if self.accent is None else _hex(_lightened(_colour(self.accent)))

    def in_mail(self, base_url: str | None) -> Brand:
        """The brand with addresses that work in a mail: none is relative."""
        logo, help = (
            None
            if address is None or (address.startswith("/") and base_url is None)
            else urljoin(base_url or "", address)
            for address in (self.logo, self.help)
        )
        return replace(self, logo=logo, help=help)

    @cached_property
    def style_sheet(self) -> str:
        """The colours, as a sheet that follows ``otp.css``."""
        if self.accent is None:
            return ""
        accent, light = _colour(self.accent), _lightened(_colour(self.accent))
        bright = f"--accent: {_hex(accent)}; --accent-strong: {_hex(_mixed(accent, _BLACK, 0.2))}; --on-accent: #fff"
        strong = _hex(_mixed(light, _WHITE, 0.3))
        dark = f"--accent: {_hex(light)}; --accent-strong: {strong}; --on-accent: {_hex(_DARK_PAPER)}"
        return f".otp {{ {bright} }}\n@media (prefers-color-scheme: dark) {{ .otp:where(:not(.light)) {{ {dark} }} }}\n"


def brand(value: object) -> Brand:
    """Parse the setting.

    :raises ValueError: it is no dict of these names, or one of the values is not usable.
    """
    known = {"logo": _logo, "accent": _accent, "help": _help}
    if not isinstance(value, Mapping):
        raise ValueError('must be a dict such as {"logo": "/static/logo.svg", "accent": "#0b7285"}')
    for name in value:
        if name not in known:
            raise ValueError(f"has no {name!r}: {nearest(str(name), list(known))}")
    return Brand(**{name: known[name](given) for name, given in value.items() if given is not None})


def _logo(value: object) -> str:
    if not (isinstance(value, str) and (is_safe_path(value) or _is_url(value))):
        raise ValueError('["logo"] must be a path such as "/static/logo.svg", or an https URL')
    return value


def _help(value: object) -> str:
    is_mail = isinstance(value, str) and re.fullmatch(r"mailto:[^\s?]+@[^\s?]+", value) is not None
    if not (isinstance(value, str) and (is_mail or is_safe_path(value) or _is_url(value))):
        raise ValueError('["help"] must be a path such as "/help", or an https or mailto URL')
    return value


def _is_url(value: str) -> bool:
    # No user, no quote, no space: the address stands in a policy and in mails.
    return re.fullmatch(r"https://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:\d{1,5})?(/[!#-&(-:=?-~]*)?", value) is not None


def _accent(value: object) -> str:
    if not (isinstance(value, str) and re.fullmatch("#[0-9A-Fa-f]{6}", value)):
        raise ValueError('["accent"] must be a colour such as "#0b7285"')
    found = _contrast(_colour(value), _LIGHT_PAPER)
    if found < _LEAST:
        raise ValueError(
            f'["accent"] has a contrast of {found:.1f} with a light page, and text needs {_LEAST}: take a darker colour'
        )
    return value.lower()


def _colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _hex(colour: Colour) -> str:
    return "#" + bytes(colour).hex()


def _lightened(colour: Colour) -> Colour:
    steps = (_mixed(colour, _WHITE, step / 20) for step in range(21))
    return next(each for each in steps if _contrast(each, _DARK_CARD) >= _DARK_LEAST)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _contrast(one: Colour, other: Colour) -> float:
    """Contrast ratio, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, "relative luminance")."""
    shares = [part / 255 for part in colour]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
