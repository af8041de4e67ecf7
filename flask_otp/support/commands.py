"""``flask otp config``, ``flask otp show``, ``flask otp unlock`` and ``flask otp stats``."""

from __future__ import annotations

from ipaddress import ip_address

import click
from flask.cli import with_appcontext
from limits.storage import MemoryStorage

from ..config.parsers import duration
from ..identifiers import Identifier, mask
from ..observability.statistics import HOUR, KEPT
from ..state import AppState, current_state
from ..stores.memory import MemoryStore
from . import configuration, report, statistics
from .view import view


def _checked(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else str(ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not an IP address") from None


@click.command()
@click.argument("identifier")
@click.option("--purpose", help="Only this one of OTP_PURPOSES.")
@click.option("--channel", help="One of OTP_CHANNELS; by default the first that accepts IDENTIFIER.")
@click.option(
    "--network", metavar="ADDRESS", callback=_checked, help="Show the result for a client with this IP address."
)
@click.option("--json", "json_", is_flag=True, help="For programs.")
@with_appcontext
def show(identifier: str, purpose: str | None, channel: str | None, network: str | None, json_: bool) -> None:
    """Tell whether a code can go out to IDENTIFIER now, and if not, why and from when.

    Then list the open codes, and the counts under each limit. Nothing is sent, counted or changed.
    """
    state = current_state()
    address = _named(state, identifier, "shown")
    purposes = list(state.settings.purposes) if purpose is None else [purpose]
    views = [view(state, name, address, channel, network) for name in purposes]
    write = report.as_json if json_ else report.as_text
    click.echo(write(mask(address.value), views))


@click.command()
@click.option("--changed", is_flag=True, help="Only what differs from the default.")
@click.option("--json", "json_", is_flag=True, help="For programs.")
@with_appcontext
def config(changed: bool, json_: bool) -> None:
    """Print every setting with its value, where the value is from, and its default.

    Passwords, keys and people's addresses are hidden, so the output can go into a ticket.
    """
    found = [row for row in configuration.rows(current_state()) if row.changed or not changed]
    click.echo((configuration.as_json if json_ else configuration.as_text)(found))


@click.command()
@click.argument("identifier")
@with_appcontext
def unlock(identifier: str) -> None:
    """Allow messages to IDENTIFIER again at once: end the cooldowns, and clear the windows of sends.

    Failures and the failure budget stay. If they were cleared for a caller, they would be cleared for a thief who
    calls. The owner does not need it: when the budget is spent, the next code is a strong one, and it works. The limits
    of networks, channels and ranges of phone numbers do not change either.
    """
    state = current_state()
    address = _named(state, identifier, "unlocked")
    now = int(state.clock())
    subjects = [
        keys.subject(purpose, address.value) for keys in state.tokens.keyring for purpose in state.settings.purposes
    ]
    are_clear = [state.store.unlock(subject, now) for subject in subjects]
    click.echo(f"Messages to {mask(address.value)} can go out again. Failures stay.")
    if not all(are_clear):
        click.echo(
            "Some windows of sends stay until they end: wrong codes of an authenticator app are counted in them."
        )


def _age(context: click.Context, option: click.Parameter, value: str) -> int:
    try:
        return duration(HOUR, KEPT - HOUR)(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option(
    "--since", default="24h", show_default=True, callback=_age, help='How far back: "12h", "7d"; below 30 days.'
)
@click.option("--by", type=click.Choice(statistics.DIMENSIONS), help="Only by this; by default by each of them.")
@click.option("--json", "json_", is_flag=True, help="For programs.")
@with_appcontext
def stats(since: int, by: str | None, json_: bool) -> None:
    """Say how many codes were sent, came back, and after which time. Needs OTP_STATS = True.

    Whole hours are counted, and the last ten seconds may be missing.
    """
    state = current_state()
    if not state.settings.stats:
        raise click.ClickException("OTP_STATS is not on: nothing is counted.")
    if isinstance(state.limits.storage, MemoryStorage):
        raise click.ClickException("The limits are counted in the memory of each serving process, and so is this.")
    begin = int(state.clock()) - since
    write = statistics.as_json if json_ else statistics.as_text
    click.echo(write(statistics.read(state, begin), begin, (by,) if by else statistics.DIMENSIONS))


def _named(state: AppState, identifier: str, what: str) -> Identifier:
    if isinstance(state.store, MemoryStore):
        raise click.ClickException(f"memory:// is inside the serving process, so nothing can be {what} from here.")
    return state.identifiers.named(identifier)
