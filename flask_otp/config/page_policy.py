"""The content security policy of our pages, and how ``OTP_CSP`` widens it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..errors import PAGE_HEADERS
from .parsers import nearest

#: What may be widened. No setting lets other sites frame our pages, or changes what their relative addresses mean.
_DIRECTIVES = (
    "connect-src",
    "font-src",
    "form-action",
    "img-src",
    "manifest-src",
    "media-src",
    "script-src",
    "style-src",
)
#: The sheets of Bootstrap and Pico hold pictures in data URLs, which can run nothing there.
_WITH_DATA = ("font-src", "img-src")
#: A host. Never a scheme alone, every host, or a keyword: these would admit inline scripts or an attacker's.
_SOURCE = re.compile(r"https://(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d{1,5})?(/[A-Za-z0-9._~/@-]*)?")

Sources = dict[str, tuple[str, ...]]


def csp(value: object) -> Sources:
    """Parse ``OTP_CSP``.

    :raises ValueError: it is no dict of directives and lists of hosts, or would admit more than hosts.
    """
    if not isinstance(value, Mapping):
        raise ValueError('must be a dict such as {"style-src": ["https://cdn.example"]}')
    for name, sources in value.items():
        if name not in _DIRECTIVES:
            raise ValueError(f"has no {name!r}: {nearest(str(name), list(_DIRECTIVES))}")
        if isinstance(sources, str) or not isinstance(sources, Iterable):
            raise ValueError(f"[{name!r}] must be a list of hosts")
        for source in sources:
            is_data = source == "data:" and name in _WITH_DATA
            if not isinstance(source, str) or not (is_data or _SOURCE.fullmatch(source)):
                raise ValueError(f'[{name!r}] must name only hosts such as "https://cdn.example"')
    return {name: tuple(sources) for name, sources in value.items()}


def page_policy(*wider: Mapping[str, Iterable[str | None]]) -> str:
    """The policy with further sources by directive. ``None`` adds nothing."""
    policy = dict(part.split(" ", 1) for part in PAGE_HEADERS["Content-Security-Policy"].split("; "))
    for each in wider:
        for name, sources in each.items():
            added = [source for source in sources if source is not None]
            policy[name] = " ".join(dict.fromkeys([*policy.get(name, "").split(), *added]))
    return "; ".join(f"{name} {sources}" for name, sources in policy.items() if sources)
