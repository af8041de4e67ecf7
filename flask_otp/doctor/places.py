"""Where a URI leads. Nothing of a URI is ever shown."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, urlsplit


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in ("", "localhost")


def hosts(uri: str) -> list[str]:
    """The hosts of a URI, of which those for clusters have several."""
    netloc = uri.partition("://")[2].partition("/")[0].partition("?")[0]
    places = netloc.rpartition("@")[2].split(",")
    return [urlsplit(f"//{place}").hostname or "" for place in places]


def query(uri: str) -> dict[str, str]:
    """The query of a URI."""
    return dict(parse_qsl(uri.partition("?")[2]))
