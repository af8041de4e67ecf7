"""Checks of message delivery: whether messages go out, how, and how many at most."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from datetime import date, datetime, timezone

from .. import identifiers
from ..channels import Channel, ConsoleChannel, EmailChannel
from ..channels.email import PASSWORDLESS, sender_of
from ..channels.kept import KeptFactor
from ..delivery.environment import loses_background
from ..errors import ConfigError
from ..urls import hosts, is_loopback
from .finding import Finding, Level, Site

#: Days. An app store reviews each new version, so a test account may have to last.
_LONGEST_TEST = 366


def channels(site: Site) -> Iterator[Finding]:
    steps = _steps(site)
    if not steps:
        yield Finding(
            "no-channel",
            Level.ERROR,
            "No channel is configured, so no code can be sent.",
            "Every send is answered with 503.",
            "Set MAIL_SERVER, OTP_EMAIL_SERVICE or OTP_CHANNELS, or register one with @otp.channel.",
        )
    if steps and all(isinstance(step, ConsoleChannel) for _, step in steps):
        yield Finding(
            "console-only",
            Level.WARNING,
            "Codes are printed to the console and not sent.",
            "This channel is for development. It is off outside debug and testing mode.",
            "Set MAIL_SERVER, OTP_EMAIL_SERVICE or OTP_CHANNELS, or register one with @otp.channel.",
            "R35",
        )


def _is_public(site: Site) -> bool:
    """Whether the site looks like production."""
    base_url = site.settings.base_url or ""
    return base_url.startswith("https://") and not all(map(is_loopback, hosts(base_url)))


def outbox(site: Site) -> Iterator[Finding]:
    if site.settings.outbox and _is_public(site):
        yield Finding(
            "outbox",
            Level.WARNING,
            "OTP_OUTBOX is set, and OTP_BASE_URL is a public site.",
            "In debug mode, behind a proxy that does not name its client, strangers could read all codes.",
            "Set it only in the configuration for development.",
        )


def deliver_only_to(site: Site) -> Iterator[Finding]:
    if site.settings.deliver_only_to is None:
        return
    yield Finding(
        "deliver-only-to",
        Level.ERROR if _is_public(site) else Level.NOTE,
        "OTP_DELIVER_ONLY_TO is set: messages to all other addresses are printed instead of sent.",
        "This is for test environments: other users never get a code, and the codes appear in the output.",
        "Remove it where real users sign in.",
    )


def mail_settings(site: Site) -> Iterator[Finding]:
    config = site.config
    if not _sends_mail(site):
        return
    try:
        sender_of(config)
    except ConfigError as error:
        yield Finding(
            "mail-sender",
            Level.ERROR,
            f"{error.args[0]}.",
            "Every delivery fails.",
            "Set it to an address of a domain that your mail server may send for.",
            "RFC 5322 3.6.2",
        )
    server = str(config.get("MAIL_SERVER") or "127.0.0.1")
    if not (config.get("MAIL_USE_TLS") or config.get("MAIL_USE_SSL")) and not is_loopback(server):
        yield Finding(
            "mail-tls",
            Level.ERROR,
            "The connection to the mail server on another machine is not encrypted.",
            "Anyone on the network path can read every code and the account's password.",
            "Set MAIL_USE_TLS = True (port 587) or MAIL_USE_SSL = True (port 465).",
            "OWASP ASVS 5.0 V12.3.1; R17",
        )
    if config.get("MAIL_SUPPRESS_SEND", site.app.testing):
        yield Finding(
            "mail-suppressed",
            Level.NOTE,
            "MAIL_SUPPRESS_SEND is on (the default in testing), so no e-mail goes out.",
            "Codes are generated but never sent.",
            "Set MAIL_SUPPRESS_SEND = False outside tests.",
        )


def passwords(site: Site) -> Iterator[Finding]:
    service = site.settings.email_service
    if service in PASSWORDLESS and site.settings.email_oauth is None and _sends_mail(site):
        yield Finding(
            "mail-password",
            Level.WARNING,
            f"OTP_EMAIL_SERVICE is {service!r}, and Microsoft no longer accepts passwords for new accounts.",
            "Signing in fails, so every delivery fails.",
            "Set OTP_EMAIL_OAUTH to a function that returns an access token.",
        )


def channels_reachable(site: Site) -> Iterator[Finding]:
    """Connect as a delivery would, without sending."""
    for name, step in _steps(site):
        try:
            tried = step.probe()
        except Exception as error:
            yield Finding(
                "channel-unreachable",
                Level.ERROR,
                f"Channel {name!r} ({type(step).__name__}) {_trouble(error)} ({type(error).__name__}).",
                "Messages by this channel would fail in the same way.",
                "Fix this, then send a real message with flask otp send.",
                "OWASP ASVS 5.0 V12.3.2",
            )
            continue
        if not tried and not isinstance(step, (ConsoleChannel, KeptFactor)):
            yield Finding(
                "channel-untried",
                Level.NOTE,
                f"Channel {name!r} ({type(step).__name__}) cannot be tried without sending something.",
                "It may be unreachable, which would show only at the first code.",
                "Send a code to yourself with flask otp send.",
            )


def _trouble(error: Exception) -> str:
    """Our own words, because a server's text may name the account."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "has a certificate that is not trusted"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "does not offer TLS or authentication, which the settings ask for"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "rejects the user name or password"
    if isinstance(error, ssl.SSLError):
        return "cannot negotiate TLS; is the port right?"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return "is unreachable"


def background(site: Site) -> Iterator[Finding]:
    reason = loses_background(site.environ)
    if reason is not None and site.state.delivery.is_background():
        yield Finding(
            "background-lost",
            Level.ERROR,
            f"Messages go out in the background and may be lost: {reason}.",
            "The client is told that the code was sent, but the code is sent late or never.",
            'Use a queue (@otp.dispatcher), or set OTP_DELIVERY = "inline".',
        )


def sms_countries(site: Site) -> Iterator[Finding]:
    if _phones(site) and not site.settings.sms_countries:
        yield Finding(
            "sms-countries",
            Level.ERROR,
            "OTP_SMS_COUNTRIES is empty, so nothing is sent to phone numbers.",
            "The list keeps strangers from making you pay for messages to the world's most expensive numbers.",
            'List the countries of your users, for example OTP_SMS_COUNTRIES = ("DE", "FR").',
            "OWASP ASVS 5.0 V2.4.1; R16",
        )


def phone_extra(site: Site) -> Iterator[Finding]:
    if _phones(site) and not identifiers.phonenumbers:
        yield Finding(
            "phone-extra",
            Level.ERROR,
            "The package that reads phone numbers is not installed, so no phone number is accepted.",
            "Every send to a phone is refused as an invalid address.",
            "pip install 'flask-otp-codes[phone]'",
        )


def channel_budgets(site: Site) -> Iterator[Finding]:
    phones = _phones(site)
    unbounded = sorted(set(site.channels) - set(site.settings.channel_budget))
    paid = [name for name in unbounded if name in phones]
    if paid:
        yield Finding(
            "channel-budget",
            Level.WARNING,
            f"There is no limit on what you pay for messages by {', '.join(paid)}.",
            "Each network may request some thousands a day, and an attacker can use many networks.",
            f'Set OTP_CHANNEL_BUDGET = {{"{paid[0]}": "1000/day"}}, or what you can afford.',
            "OWASP ASVS 5.0 V2.4.1; R15, R16",
        )


def test_recipients(site: Site) -> Iterator[Finding]:
    today = _day(site.state.clock())
    entries = list(site.settings.test_recipients.values())
    for number, tester in enumerate(entries, 1):
        # The address is left out, because findings get pasted into tickets.
        which = f"Test recipient {number} of {len(entries)}"
        day = _day(tester.until - 1)
        left = (day - today).days
        if left < 0:
            yield Finding(
                "test-recipient-expired",
                Level.NOTE,
                f"{which} expired on {day} and is now an ordinary address.",
                "The entry has no effect.",
                "Remove it from OTP_TEST_RECIPIENTS.",
            )
            continue
        yield Finding(
            "test-recipient",
            Level.ERROR if left > _LONGEST_TEST else Level.WARNING,
            f"{which} signs in with a fixed code until {day}.",
            "Anyone who knows the address and the code can sign in, without the mailbox or the phone.",
            f"Give the account no rights, and let it expire within {_LONGEST_TEST} days."
            if left > _LONGEST_TEST
            else "Give the account no rights, and remove it after the review or test.",
        )


def _day(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, timezone.utc).date()


def prefix_budgets(site: Site) -> Iterator[Finding]:
    if _phones(site) and len(site.settings.sms_countries) > 1 and not site.settings.prefix_budget:
        yield Finding(
            "prefix-budget",
            Level.NOTE,
            "OTP_PREFIX_BUDGET is empty, so no country has its own message limit.",
            "Messages to one country, even the most expensive, can use up the limit of all countries.",
            'Set a limit for expensive and rarely used countries, for example OTP_PREFIX_BUDGET = {"+44": "1000/day"}.',
            "R15",
        )


def pumping_breaker(site: Site) -> Iterator[Finding]:
    if _phones(site) and site.settings.pumping_breaker is None:
        yield Finding(
            "pumping-breaker",
            Level.WARNING,
            "OTP_PUMPING_BREAKER is off: messages go out to numbers that never verify a code.",
            "Fraudsters who earn a share of each message can request as many as your limits allow.",
            "Keep the default, or set values that suit your site.",
            "OWASP ASVS 5.0 V2.4.1; R16",
        )


def _steps(site: Site) -> list[tuple[str, Channel]]:
    return [(name, step) for name, providers in site.channels.items() for step in providers]


def _phones(site: Site) -> list[str]:
    return [name for name, step in _steps(site) if step.accepts == "phone"]


def _sends_mail(site: Site) -> bool:
    return any(isinstance(step, EmailChannel) for _, step in _steps(site))
