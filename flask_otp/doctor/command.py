"""The ``doctor`` command of ``flask otp``."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext

from ..state import current_state
from . import examine, site_of
from .factors import chances
from .finding import Level
from .metrics import metric_series
from .report import as_json, as_text
from .risk import odds_of


@click.command()
@click.option("--json", "json_", is_flag=True, help="For programs.")
@click.option("--strict", is_flag=True, help="Exit with 1 on warnings too.")
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Number of accounts, for the odds of an attack on all of them.",
)
@with_appcontext
def doctor(json_: bool, strict: bool, accounts: int) -> None:
    """Look for what is unsafe or does not work, and compute an attacker's odds.

    The command connects to the store and the mail server. It sends nothing and changes nothing. It exits with 1 on an
    error (odds above OTP_MAX_ANNUAL_RISK are one), with --strict also on a warning, and otherwise with 0.
    """
    state = current_state()
    site = site_of(current_app._get_current_object(), state, accounts)  # type: ignore[attr-defined]
    findings = examine(site)
    grave = (Level.ERROR, Level.WARNING) if strict else (Level.ERROR,)
    passed = not any(finding.level in grave for finding in findings)
    odds, series = odds_of(site), metric_series(site)
    if json_:
        click.echo(as_json(findings, odds, chances(site), state.settings, passed, series))
    else:
        click.echo(as_text(findings, odds, chances(site), state.settings, series))
    if not passed:
        raise SystemExit(1)
