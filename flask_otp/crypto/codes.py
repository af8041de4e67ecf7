"""How codes are displayed, and how typed codes are read."""

from __future__ import annotations

import re
import unicodedata

#: Crockford base32 characters of a strong code: 65 bits, for which NIST SP 800-63B-4 3.1.3.2 requires no limit of
#: guesses.
STRONG_LENGTH = 13

#: Base64url characters of a link's secret: 144 bits.
LINK_LENGTH = 24

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOOKALIKES = str.maketrans("OIL", "011")
_SEPARATORS = re.compile(r"[\s\-]+")


def encode_strong(number: int) -> str:
    """The lowest 65 bits of ``number`` in Crockford base32."""
    return "".join(_CROCKFORD[number >> (5 * place) & 31] for place in reversed(range(STRONG_LENGTH)))


def display(code: str) -> str:
    """The code as people see it: digits unchanged, a strong code as ``XXXX-XXXX-XXXXX``."""
    return f"{code[:4]}-{code[4:8]}-{code[8:]}" if len(code) == STRONG_LENGTH else code


def plain(text: str) -> str:
    """Typed or copied text without invisible characters, with digits and dashes in ASCII."""
    return text if text.isascii() else "".join(map(_plain, unicodedata.normalize("NFKC", text)))


def _plain(char: str) -> str:
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    # The minus, the hyphen bullet, and the Katakana long vowel mark, which Japanese keyboards have on the dash key.
    if category == "Pd" or char in "\u2212\u2043\u30fc":
        return "-"
    return {"Cf": "", "Zs": " "}.get(category, char)


def normalise(typed: str, *, strong: bool, length: int) -> str | None:
    """Turn typed text into a code to compare, or return ``None`` if it cannot be one.

    Spaces, dashes, full-width forms (NFKC), digits of other scripts and invisible characters are accepted. In a strong
    code, case and the look-alikes O/0, I/1 and L/1 are accepted too.
    """
    if len(typed) > 64:
        return None
    code = _SEPARATORS.sub("", plain(typed))
    if not strong:
        return code if re.fullmatch(f"[0-9]{{{length}}}", code) else None
    # Checked before upper-casing, which can turn one letter into two or a foreign letter into one of ours.
    if not re.fullmatch(f"[0-9A-Za-z]{{{STRONG_LENGTH}}}", code):
        return None
    code = code.upper().translate(_LOOKALIKES)
    return code if all(letter in _CROCKFORD for letter in code) else None


def read_link(given: str) -> str | None:
    """Return the link's secret for an exact comparison, or ``None`` if it cannot be one."""
    return given if re.fullmatch(f"[0-9A-Za-z_-]{{{LINK_LENGTH}}}", given) else None
