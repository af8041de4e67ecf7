"""``flask otp ...``: maintenance of the store, and commands for operators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click
from flask import current_app
from flask.cli import AppGroup

from . import identifiers
from .delivery.routing import Route
from .errors import ConfigError, OTPError
from .events import Event
from .http import actions, openapi
from .lazy import lazy
from .observability import audit as audit_log
from .signals import code_sent, message_withheld
from .state import AppState, current_state
from .stores.memory import MemoryStore

_BATCH = 1000


_support = lazy(".support.commands", __package__)
#: Commands whose modules are imported only when they are called.
_LATER = {
    "doctor": lazy(".doctor.command", __package__),
    **dict.fromkeys(("config", "show", "stats", "unlock"), _support),
}


class _Commands(AppGroup):
    """Prints a failure as one line and exits with 1. Modules for operators are imported only when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LATER:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(_LATER[cmd_name], cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.ClickException(str(error)) from error
        except OTPError as error:
            cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
            raise click.ClickException(f"{error.description}{cause}") from error


commands = _Commands("otp", help="One-time codes: maintenance, and commands for operators.")


@commands.command()
def init_db() -> None:
    """Create the table that a SQL store needs."""
    made = current_state().store.prepare()
    click.echo("The store is ready." if made else "This store needs no preparation.")


@commands.command()
def purge() -> None:
    """Remove expired state from the store, in small steps."""
    state = current_state()
    total = 0
    while (removed := state.store.purge(int(state.clock()), _BATCH)) is not None:
        total += removed
        if removed < _BATCH:
            click.echo(f"{total} expired rows removed.")
            return
    click.echo("This store removes expired state on its own.")


@commands.command()
@click.argument("identifier")
@click.option("--channel", help="One of OTP_CHANNELS; by default the first that accepts IDENTIFIER.")
@click.option("--purpose", default="login", show_default=True)
def send(identifier: str, channel: str | None, purpose: str) -> None:
    """Send a real code to IDENTIFIER to test the channels, and print the result."""
    state = current_state()
    with _outcomes(state) as outcomes:
        challenge = actions.send(identifier, channel, purpose, None)
    address = state.identifiers.parse(identifier).value
    route = state.routing.resolve(address, challenge.channel)
    outcome = outcomes[-1] if outcomes else None
    is_queued = state.hooks.dispatcher is not None and outcome in (None, "queued")
    if outcome != "sent" and not is_queued:
        raise click.ClickException(f"Nothing was sent: {_why_not(state, outcome, route, address)}.")
    where = f"channel {challenge.channel!r}, to {identifiers.mask(route.recipient or identifier)}"
    click.echo(f"Given to the dispatcher for {where}: see the log of its worker." if is_queued else f"Sent by {where}.")


@contextmanager
def _outcomes(state: AppState) -> Iterator[list[str | None]]:
    """Wait for each message, and collect what became of it: ``"sent"``, or why it was withheld."""
    outcomes: list[str | None] = []

    def hear(sender: object, *, event: Event, **about: Any) -> None:
        outcomes.append("sent" if event.outcome == "sent" else event.reason)

    state.delivery.is_waiting = True
    try:
        with code_sent.connected_to(hear, state.app), message_withheld.connected_to(hear, state.app):
            yield outcomes
    finally:
        state.delivery.is_waiting = False


#: The reasons of ``message_withheld`` that say it all.
_WHY_NOT = {
    "test_recipient": "it is a test recipient (OTP_TEST_RECIPIENTS)",
    "numbers": "OTP_PREFIX_BUDGET or OTP_PUMPING_BREAKER withheld it; see the log",
    "vetoed": "before_send withheld it",
    "diverted": "the recipient is not in OTP_DELIVER_ONLY_TO, so the message was printed",
}


def _why_not(state: AppState, reason: str | None, route: Route, address: str) -> str:
    if reason is None:
        return f"channel {route.channel!r} sends nothing, because people look its codes up"
    if reason in _WHY_NOT:
        return _WHY_NOT[reason]
    loader = state.hooks.recipient_loader
    if loader is not None and not loader(address, route.channel):
        return "the recipient_loader returns no recipient for it"
    return "the phone number is not valid, or not in OTP_SMS_COUNTRIES"


@commands.command()
@click.argument("identifier")
def revoke(identifier: str) -> None:
    """End every proof, outstanding code and known browser of IDENTIFIER."""
    if isinstance(current_state().store, MemoryStore):
        raise click.ClickException("memory:// is inside the serving process, which no command can reach.")
    actions.revoke(identifier)
    click.echo(f"Ended all proofs, codes and known browsers of {identifiers.mask(identifier)}.")


@commands.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.File(encoding="utf-8", errors="replace")
)
def audit(files: tuple[TextIO, ...]) -> None:
    """Check that no line of an audit log was removed, changed, repeated or moved.

    Give the files of a rotated log from oldest to newest. Lines cut off at the very end cannot be detected in the file:
    compare the last sequence of each chain with another copy of the log.
    """
    report = audit_log.check((line for file in files for line in file), current_state().tokens.keyring)
    for chain, seen in report.chains.items():
        click.echo(f"chain {chain}: {seen.lines} lines, the last is {seen.next - 1}")
    for problem in report.problems:
        click.echo(problem)
    if report.problems or not report.lines:
        raise click.ClickException(f"{len(report.problems)} problems in {report.lines} lines.")
    click.echo(f"{report.lines} lines, unchanged.")


@commands.command()
def routes() -> None:
    """List the routes that the extension has added to the app."""
    blueprint = current_state().blueprint
    names = [name for name, mounted in current_app.blueprints.items() if mounted is blueprint]
    for rule in sorted(current_app.url_map.iter_rules(), key=str):
        name, _, view = rule.endpoint.rpartition(".")
        if name in names and not view.startswith("unknown"):
            methods = ", ".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            click.echo(f"{methods:6} {rule.rule}")
    if not names:
        click.echo("None: its blueprint is not registered.")


@commands.command(name="openapi")
def print_openapi() -> None:
    """Print the OpenAPI document of the HTTP API, as JSON."""
    click.echo(json.dumps(openapi.document(current_state()), indent=2, ensure_ascii=False))
