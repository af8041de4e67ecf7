"""Whether messages go out, by which way, and how many at most."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from datetime import date, datetime, timezone

from ..channels import Channel, ConsoleChannel, EmailChannel
from ..channels.email import PASSWORDLESS
from ..delivery.environment import loses_background
from ..urls import hosts, is_loopback
from .finding import Finding, Level, Site

#: Days: an app store reviews each new version, so that a test account may have to last.
_LONGEST_TEST = 366


def channels(site: Site) -> Iterator[Finding]:
    steps = _steps(site)
    if not steps:
        yield Finding(
            Level.ERROR,
            "There is no channel: no code can be sent.",
            "Every send is 503.",
            "Set MAIL_SERVER, OTP_EMAIL_SERVICE or OTP_CHANNELS, or register one with @otp.channel.",
            "README, Configuration",
        )
    if steps and all(isinstance(step, ConsoleChannel) for _, step in steps):
        yield Finding(
            Level.WARNING,
            "Codes are printed to the console, and sent to nobody.",
            "That is for development, and is off outside of debug and testing.",
            "Set MAIL_SERVER, OTP_EMAIL_SERVICE or OTP_CHANNELS, or register one with @otp.channel.",
            "README, Configuration; R35",
        )


def deliver_only_to(site: Site) -> Iterator[Finding]:
    if site.settings.deliver_only_to is None:
        return
    base_url = site.settings.base_url or ""
    is_public = base_url.startswith("https://") and not all(map(is_loopback, hosts(base_url)))
    yield Finding(
        Level.ERROR if is_public else Level.NOTE,
        "OTP_DELIVER_ONLY_TO is set: messages to all other addresses are printed in place of sent.",
        "That is for test environments. Everybody else waits for a code in vain, and codes are in the output.",
        "Remove it where real visitors sign in.",
        "README, Configuration",
    )


def mail_settings(site: Site) -> Iterator[Finding]:
    config = site.config
    if not _sends_mail(site):
        return
    if not config.get("MAIL_DEFAULT_SENDER"):
        yield Finding(
            Level.ERROR,
            "MAIL_DEFAULT_SENDER is not set.",
            "An e-mail needs a sender: every delivery fails.",
            "Set it to an address of a domain whose mail your server may send.",
            "RFC 5322 3.6.2",
        )
    server = str(config.get("MAIL_SERVER") or "127.0.0.1")
    if not (config.get("MAIL_USE_TLS") or config.get("MAIL_USE_SSL")) and not is_loopback(server):
        yield Finding(
            Level.ERROR,
            "The way to the mail server is not encrypted, and it is another machine.",
            "Who sits between reads every code, and the password of the account.",
            "Set MAIL_USE_TLS = True (port 587) or MAIL_USE_SSL = True (port 465).",
            "OWASP ASVS 5.0 V12.3.1; R17",
        )
    if config.get("MAIL_SUPPRESS_SEND", site.app.testing):
        yield Finding(
            Level.NOTE,
            "MAIL_SUPPRESS_SEND is on, as it is in testing: no e-mail goes out.",
            "Codes are made, and nobody gets them.",
            "Set MAIL_SUPPRESS_SEND = False outside of tests.",
            "Flask-Mail, Configuring",
        )


def passwords(site: Site) -> Iterator[Finding]:
    service = site.settings.email_service
    if service in PASSWORDLESS and site.settings.email_oauth is None and _sends_mail(site):
        yield Finding(
            Level.WARNING,
            f"OTP_EMAIL_SERVICE is {service!r}, and Microsoft takes no password for new accounts any more.",
            "Signing in fails, and every delivery with it.",
            "Set OTP_EMAIL_OAUTH to a function that gives an access token.",
            "docs/delivery.md, Signing in to the mail server",
        )


def channels_reachable(site: Site) -> Iterator[Finding]:
    """Connect as a delivery would, and send nothing."""
    for name, step in _steps(site):
        try:
            tried = step.probe()
        except Exception as error:
            yield Finding(
                Level.ERROR,
                f"Channel {name!r} ({type(step).__name__}) {_trouble(error)} ({type(error).__name__}).",
                "Messages by it would fail just so.",
                "Mend what it names; then try a real one with flask otp send.",
                "OWASP ASVS 5.0 V12.3.2",
            )
            continue
        if not tried and not isinstance(step, ConsoleChannel):
            yield Finding(
                Level.NOTE,
                f"Channel {name!r} ({type(step).__name__}) cannot be tried without sending something.",
                "It may be out of reach, and nobody would know before the first code.",
                "Send one: flask otp send, with an identifier of your own.",
                "README, flask otp doctor",
            )


def _trouble(error: Exception) -> str:
    """In words of ours: a server's own may name the account."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "has a certificate that is not to be trusted"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "does not offer what is asked of it: TLS, or signing in"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return "refuses the user name or password"
    if isinstance(error, ssl.SSLError):
        return "cannot agree on an encryption; is it the right port?"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return "is out of reach"


def background(site: Site) -> Iterator[Finding]:
    reason = loses_background(site.environ)
    if reason is not None and site.state.delivery.is_background():
        yield Finding(
            Level.ERROR,
            f"Messages go out in the background, and would be lost: {reason}.",
            "A client is told that the code was sent, and nothing was, or much later.",
            'Give deliveries to a queue (@otp.dispatcher), or set OTP_DELIVERY = "inline".',
            "docs/deployment.md, Where nothing runs between two requests",
        )


def sms_countries(site: Site) -> Iterator[Finding]:
    if _phones(site) and not site.settings.sms_countries:
        yield Finding(
            Level.ERROR,
            "OTP_SMS_COUNTRIES is empty: nothing is sent to any phone.",
            "Without a list, anybody could have you pay for messages to the dearest numbers of the world.",
            'Name the countries of your users, such as OTP_SMS_COUNTRIES = ("DE", "FR").',
            "OWASP ASVS 5.0 V2.4.1; R16",
        )


def channel_budgets(site: Site) -> Iterator[Finding]:
    phones = _phones(site)
    unbounded = sorted(set(site.channels) - set(site.settings.channel_budget))
    paid = [name for name in unbounded if name in phones]
    if paid:
        yield Finding(
            Level.WARNING,
            f"Nothing bounds what you pay for messages by {', '.join(paid)}.",
            "Each network may ask for some thousands a day, and there are many networks.",
            f'Set OTP_CHANNEL_BUDGET = {{"{paid[0]}": "1000/day"}}, or what you can bear.',
            "OWASP ASVS 5.0 V2.4.1; R15, R16",
        )


def test_recipients(site: Site) -> Iterator[Finding]:
    today = _day(site.state.clock())
    entries = list(site.settings.test_recipients.values())
    for number, tester in enumerate(entries, 1):
        # Not by its address: what the doctor says is pasted into tickets.
        which = f"Test recipient {number} of {len(entries)}"
        day = _day(tester.until - 1)
        left = (day - today).days
        if left < 0:
            yield Finding(
                Level.NOTE,
                f"{which} ended on {day}, and is an address like any other.",
                "It does nothing any more.",
                "Take it out of OTP_TEST_RECIPIENTS.",
                "README, Test recipients",
            )
            continue
        yield Finding(
            Level.ERROR if left > _LONGEST_TEST else Level.WARNING,
            f"{which} gets in with a fixed code until {day}.",
            "Whoever knows address and code is that person, and needs no mailbox and no phone.",
            f"Give the account no rights, and end it within {_LONGEST_TEST} days."
            if left > _LONGEST_TEST
            else "Give the account no rights, and take it out when the review or test is over.",
            "README, Test recipients",
        )


def _day(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, timezone.utc).date()


def prefix_budgets(site: Site) -> Iterator[Finding]:
    if _phones(site) and len(site.settings.sms_countries) > 1 and not site.settings.prefix_budget:
        yield Finding(
            Level.NOTE,
            "No country has a budget of its own: OTP_PREFIX_BUDGET is empty.",
            "Messages to one of them, or to the dearest, can use up what all of them have.",
            'Give the dear and the rare ones theirs, such as OTP_PREFIX_BUDGET = {"+44": "1000/day"}.',
            "docs/sms.md; R15",
        )


def pumping_breaker(site: Site) -> Iterator[Finding]:
    if _phones(site) and site.settings.pumping_breaker is None:
        yield Finding(
            Level.WARNING,
            "OTP_PUMPING_BREAKER is off: messages go out to numbers that never verify a code.",
            "Who gets a share of what you pay for each message can ask for as many as the budgets let through.",
            "Leave it at its default, or give it figures that suit your site.",
            "docs/sms.md; OWASP ASVS 5.0 V2.4.1; R16",
        )


def _steps(site: Site) -> list[tuple[str, Channel]]:
    return [(name, step) for name, providers in site.channels.items() for step in providers]


def _phones(site: Site) -> list[str]:
    return [name for name, step in _steps(site) if step.accepts == "phone"]


def _sends_mail(site: Site) -> bool:
    return any(isinstance(step, EmailChannel) for _, step in _steps(site))
