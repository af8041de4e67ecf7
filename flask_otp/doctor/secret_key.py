"""Checks whether ``SECRET_KEY`` can be guessed: every code is computed from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import log2

from .finding import Finding, Level, Site

#: The key size that ASVS 5.0 V11.2.3 and V11.5.1 ask for, and the size below which a search takes only days.
_GOOD_BITS = 128
_LEAST_BITS = 64
#: Random keys of sixteen characters or more have more different characters than this.
_FEWEST_CHARACTERS = 8

#: Keys printed in Flask's documentation, and therefore in attackers' lists.
_PUBLIC = (
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
    '_5#y2L"F4Q8z\n\xec]/',
    "0123456789abcdef0123456789abcdef",
)
_SHORT_WORDS = ("dev", "test", "key", "todo", "xxx", "demo", "foo", "bar", "admin", "hard to guess string")
#: A random key contains one of these by chance less than once in ten million.
_EXAMPLE = re.compile(r"secret|change|example|passw|insecure|placeholder|replace|default|django|set your own", re.I)

_ALPHABETS = ((r"[0-9]+", 10), (r"[0-9a-f-]+|[0-9A-F-]+", 16), (r"[a-z]+|[A-Z]+", 26), (r"[!-~]+", 64))


def secret_key(site: Site) -> Iterator[Finding]:
    keys = [site.app.secret_key, *(site.config.get("SECRET_KEY_FALLBACKS") or [])]
    for place, key in enumerate(keys):
        name = "SECRET_KEY" if place == 0 else f"SECRET_KEY_FALLBACKS[{place - 1}]"
        fault = _fault(key if isinstance(key, str) else bytes(key or b"").decode("latin-1"))
        if fault is not None:
            level, what = fault
            yield Finding(
                "secret-key",
                level,
                f"{name} {what}.",
                "Codes, proofs and sessions are computed from it, so an attacker who finds it can make all of them.",
                "Generate one with python -c 'import secrets; print(secrets.token_hex())' and keep it out of the code.",
                "OWASP ASVS 5.0 V11.2.3, V11.5.1, V13.3.1; R41",
            )


def _fault(key: str) -> tuple[Level, str] | None:
    if key in _PUBLIC or key.lower().strip() in _SHORT_WORDS:
        return Level.ERROR, "is a published example"
    if _EXAMPLE.search(key):
        return Level.ERROR, "looks like an example that was not replaced"
    if len(set(key)) < _FEWEST_CHARACTERS or (key + key).find(key, 1) < len(key):
        return Level.ERROR, "repeats a few characters"
    bits = len(key) * log2(_alphabet(key))
    if bits < _LEAST_BITS:
        return Level.ERROR, "is short enough to be found by brute force"
    if " " in key.strip():
        return Level.WARNING, "looks like a sentence, which can be guessed"
    if bits < _GOOD_BITS:
        return Level.WARNING, f"has at most {bits:.0f} bits"
    return None


def _alphabet(key: str) -> int:
    """Size of the alphabet that the key seems to be made from."""
    return next((size for pattern, size in _ALPHABETS if re.fullmatch(pattern, key)), 256)
