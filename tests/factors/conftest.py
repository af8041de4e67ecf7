"""A site with authenticator apps for the tests of this folder."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_otp import OTP
from flask_otp.testing import Clock
from tests.support.apps import AppFactory
from tests.support.factor_site import ANN, BOB, Table, add_views, make_otp


@pytest.fixture
def table() -> Table:
    return Table(ANN, BOB)


@pytest.fixture
def otp(clock: Clock, table: Table) -> OTP:
    return make_otp(clock, table)


@pytest.fixture
def app(make_app: AppFactory, otp: OTP) -> Flask:
    """One purpose; a view that any channel opens, and one that needs the app or a recovery code."""
    app = make_app(otp)
    add_views(app, account={}, safe={"channels": ("totp", "recovery")})
    return app
