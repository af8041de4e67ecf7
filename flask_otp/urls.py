"""Hosts of URIs, and paths that stay on this host. No part of a URI is ever shown."""

from __future__ import annotations

import ipaddress
import re
from string import printable
from urllib.parse import parse_qsl, quote, urlsplit

from flask import request

_SAFE_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,1023}")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in ("", "localhost")


def hosts(uri: str) -> list[str]:
    """The hosts of a URI. URIs of clusters have several, and those of databases may have them in the query."""
    netloc = uri.partition("://")[2].partition("/")[0].partition("?")[0]
    named = [value for name, value in parse_qsl(uri.partition("?")[2]) if name == "host"]
    places = [place for part in (netloc.rpartition("@")[2], *named) for place in part.split(",")]
    return [urlsplit(f"//{place}").hostname or "" for place in places]


def query(uri: str) -> dict[str, str]:
    """The query of a URI."""
    return dict(parse_qsl(uri.partition("?")[2]))


def is_safe_path(path: str) -> bool:
    """Whether a redirect to ``path`` certainly stays on this host.

    One slash, then printable ASCII without a backslash: no second slash that starts a host name, and no tab or newline
    that a browser or a URL parser would drop (OWASP ASVS 5.0 V3.7.2).
    """
    return _SAFE_PATH.fullmatch(path) is not None


def is_own_root() -> bool:
    """Whether the app's root, as the request has it, is a path on this host.

    A proxy sets it in ``X-Forwarded-Prefix``. If a proxy passes a client's header through, every URL that we build
    would start with ``//`` and a host of the client's choice.
    """
    root = request.script_root
    # Unchanged except for non-ASCII letters. Parsing and rebuilding the whole URL would lose a slash.
    return not root or is_safe_path(quote(root, safe=printable) + "/")
