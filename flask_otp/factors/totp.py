"""Codes of authenticator apps (RFC 6238): finds the time steps that a typed code matches.

pyotp computes a step's code and the URI. We do not use its ``verify``, which does not return the matching step. Without
the step, a code could not be marked as used.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b32encode
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from sys import maxsize
from typing import Any

from ..crypto.codes import normalise
from ..errors import ConfigError
from .record import MAX_APPS, App

#: Seconds of a time step, and digits of a code. Apps ignore or refuse other values in the URI.
PERIOD = 30
DIGITS = 6
#: The strong form: two codes in a row.
STRONG_DIGITS = 2 * DIGITS
#: Seconds that a used code is remembered: much longer than it is accepted, in case a clock is set back.
MARKS_LIVE = 3600

_SECRET = 20


@cache
def library(name: str) -> Any:
    """Import a module of the extra ``totp``.

    :raises ConfigError: the module is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError("otp.factors_loader needs pyotp and segno: pip install 'flask-otp-codes[totp]'") from None


def new_secret() -> bytes:
    """A random secret of 160 bits, as RFC 4226 section 4 recommends."""
    return secrets.token_bytes(_SECRET)


def as_base32(secret: bytes) -> str:
    return b32encode(secret).decode()


def uri(secret: bytes, identifier: str, issuer: str) -> str:
    """The content of the QR code: https://github.com/google/google-authenticator/wiki/Key-Uri-Format."""
    text: str = library("pyotp").TOTP(as_base32(secret)).provisioning_uri(name=identifier, issuer_name=issuer)
    return text


def qr_code(text: str) -> str:
    """An ``<svg>`` element without inline styles, so a strict content security policy allows it.

    It is black on white with a quiet zone of four modules (segno's defaults, ISO/IEC 18004), also in dark mode: many
    scanners do not read inverted codes.
    """
    picture: str = (
        library("segno")
        .make(text, error="m", micro=False)
        .svg_inline(light="#fff", omitsize=True, svgclass="qr", lineclass=None)
    )
    return picture


def step_of(now: float) -> int:
    """The time step: T of RFC 6238 section 4.2, with T0 = 0.

    :param now: seconds since 1970.
    """
    return int(now) // PERIOD


def read(typed: str) -> str | None:
    """Normalise one typed code, or two codes in a row. Returns ``None`` if it can be neither."""
    return normalise(typed, strong=False, length=DIGITS) or normalise(typed, strong=False, length=STRONG_DIGITS)


def fitting(app: App, typed: str, now: float, steps: int) -> list[tuple[int, ...]]:
    """The time steps that a code matches, oldest first. For two codes in a row, both steps.

    :param typed: a result of :func:`read`.
    :param now: seconds since 1970.
    :param steps: number of steps before the current one that are accepted.
    """
    generate = library("pyotp").TOTP(as_base32(app.secret)).generate_otp
    is_pair = len(typed) == STRONG_DIGITS
    found: list[tuple[int, ...]] = []
    for last in range(step_of(now) - steps, step_of(now) + 1):
        candidate = (last - 1, last) if is_pair else (last,)
        right = "".join(generate(step) for step in candidate)
        # Also compared where it cannot count, so the time reveals nothing.
        if hmac.compare_digest(right, typed) and candidate[0] > app.after:
            found.append(candidate)
    return found


def padded(apps: Sequence[App]) -> list[App]:
    """The apps, filled up with dummy apps: the check takes the same time for every person."""
    decoys = [App("", new_secret(), b"", maxsize) for _ in range(MAX_APPS - len(apps))]
    return [*apps, *decoys]
