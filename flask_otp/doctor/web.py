"""Checks of the Flask app: cookies, proxies, debug mode, guards, and the site's own address."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ConfigError
from ..networks import proxy_fixes
from ..startup_checks import check_app
from ..urls import is_loopback
from .finding import Finding, Level, Site


def debug_mode(site: Site) -> Iterator[Finding]:
    if site.app.debug or site.app.testing:
        yield Finding(
            "debug-mode",
            Level.NOTE,
            f"The app is in {'debug' if site.app.debug else 'testing'} mode; the checks assume production.",
            "In these modes the console may print codes, and short secrets are accepted.",
            "Run this with the production configuration and without FLASK_DEBUG.",
            "OWASP ASVS 5.0 V13.4.2",
        )


def guards(site: Site) -> Iterator[Finding]:
    """The other errors that the first request would raise."""
    try:
        check_app(site.app, site.state.blueprint, site.state.routing, site.settings)
    except ConfigError as error:
        yield Finding(
            "app-refuses",
            Level.ERROR,
            f"{error}.",
            "Because of this error, the app refuses every request.",
            "Do what the message says.",
        )


def cookies(site: Site) -> Iterator[Finding]:
    config = site.config
    if not config.get("SESSION_COOKIE_SECURE"):
        yield _cookie("cookie-secure", Level.WARNING, "SESSION_COOKIE_SECURE", "True", "sent unencrypted", "V3.3.1")
    if not config.get("SESSION_COOKIE_HTTPONLY"):
        yield _cookie(
            "cookie-httponly",
            Level.ERROR,
            "SESSION_COOKIE_HTTPONLY",
            "True",
            "readable by any script on a page",
            "V3.3.4",
        )
    if str(config.get("SESSION_COOKIE_SAMESITE")).lower() not in ("lax", "strict"):
        yield _cookie(
            "cookie-samesite",
            Level.WARNING,
            "SESSION_COOKIE_SAMESITE",
            '"Lax"',
            "sent with other sites' requests",
            "V3.3.2",
        )


def _cookie(name: str, level: Level, key: str, good: str, harm: str, reference: str) -> Finding:
    return Finding(
        name,
        level,
        f"{key} is not {good}.",
        f"The session cookie, which holds the proof of a verification, is {harm}.",
        f"Set {key} = {good}.",
        f"OWASP ASVS 5.0 {reference}; R49",
    )


def proxies(site: Site) -> Iterator[Finding]:
    found = list(proxy_fixes(site.app))
    hops = sum(fix.x_for for fix in found)
    if hops == 0:
        yield Finding(
            "no-proxy-fix",
            Level.NOTE,
            "There is no ProxyFix around the app.",
            "Behind a proxy, all visitors count as one network. Such a request is logged as a warning.",
            "With a proxy: app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1). Without one: nothing.",
            "OWASP ASVS 5.0 V15.3.4; R39",
        )
    elif hops > 1:
        yield Finding(
            "many-proxies",
            Level.NOTE,
            f"ProxyFix trusts {hops} proxies.",
            "If there are fewer, clients can fake their address, and network limits do not stop them.",
            "Set x_for to the number of proxies that add to X-Forwarded-For.",
            "OWASP ASVS 5.0 V15.3.4; R39",
        )


def base_url(site: Site) -> Iterator[Finding]:
    url = site.settings.base_url
    if url is None and any(step.accepts == "phone" for providers in site.channels.values() for step in providers):
        yield Finding(
            "base-url-missing",
            Level.WARNING,
            "OTP_BASE_URL is not set, and there are text messages.",
            "Without the line that names the site, phones offer the code to any page with a code field.",
            'Set OTP_BASE_URL = "https://" and the name of your site.',
            "W3C WICG, Origin-bound one-time codes delivered via SMS; R45",
        )
    if url is not None and url.startswith("http://") and not is_loopback(url.partition("://")[2].partition(":")[0]):
        yield Finding(
            "base-url-http",
            Level.WARNING,
            "OTP_BASE_URL is not https.",
            "Codes and sessions are sent unencrypted.",
            "Serve the site over TLS, and name that origin.",
            "OWASP ASVS 5.0 V12.2.1; R32",
        )
