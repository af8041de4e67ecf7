"""The network of a request, and whether a proxy that the app does not know about hides it."""

from __future__ import annotations

import ipaddress
import logging
import socket
import weakref
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from flask import Flask, current_app
from werkzeug.middleware.proxy_fix import ProxyFix

from .documentation import see

logger = logging.getLogger("flask_otp")

#: Apps that have already logged this.
_told: weakref.WeakSet[Flask] = weakref.WeakSet()


def tell_of_proxy(environ: Mapping[str, Any]) -> None:
    """Log, once per process, that a request came through a proxy although the app has no ``ProxyFix``.

    Any client can send the header. If the remote address is private, the sender is a proxy, or it costs one log line.
    """
    if "HTTP_X_FORWARDED_FOR" not in environ or "werkzeug.proxy_fix.orig" in environ:
        return
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    if app not in _told and is_neighbour(environ.get("REMOTE_ADDR", "")):
        _told.add(app)
        logger.warning(
            "a request came through a proxy (X-Forwarded-For), but the app has no ProxyFix: all visitors count as one "
            "network (see: %s)",
            see("doctor/no-proxy-fix"),
        )


def is_neighbour(address: str) -> bool:
    """Whether an address is on this machine or in a private network, as proxies are. No address means a Unix socket."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_private
    except ValueError:
        return True


def proxy_fixes(app: Flask) -> Iterator[ProxyFix]:
    """All ``ProxyFix`` around the app, if other middleware stores the app it wraps in the usual attribute."""
    layer: Any = app.wsgi_app
    for _ in range(20):
        if isinstance(layer, ProxyFix):
            yield layer
        layer = getattr(layer, "app", None) or getattr(layer, "wsgi_app", None) or getattr(layer, "application", None)
        if layer is None or layer is app:
            return


@lru_cache(maxsize=1024)
def network_of(address: str | None) -> str:
    """The network of an address: an IPv4 address itself, or the /64 of an IPv6 address, which belongs to one customer.

    Never empty, because an empty key would mean no limit.
    """
    try:
        # The usual case first: an IPv4 address in its canonical spelling, detected in a tenth of the time.
        if address and socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, address)) == address:
            return address
    except (OSError, ValueError):
        pass
    try:
        ip = ipaddress.ip_address(_without_port(address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _without_port(address: str) -> str:
    """Some proxies, such as Azure's, write the client's port into ``X-Forwarded-For``, so it is here after ProxyFix."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


@lru_cache(maxsize=1024)
def shorten(network: str) -> str:
    """A network without the part that identifies a household: the /24 of IPv4, the /48 of IPv6."""
    try:
        ip = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return "unknown"
    return str(ip.supernet(new_prefix=24 if ip.version == 4 else 48))
