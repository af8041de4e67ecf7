"""``flask otp ...``, as an operator sees it."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_otp import OTP
from flask_otp.testing import Outbox
from tests.support.apps import AppFactory, free_port


def run(app: Flask, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["otp", *args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_commands_are_listed(app: Flask) -> None:
    code, output = run(app, "--help")
    assert code == 0
    for name in ("init-db", "purge", "send", "revoke", "routes"):
        assert f"  {name} " in output


def test_a_store_that_needs_nothing_says_so(app: Flask) -> None:
    assert run(app, "init-db") == (0, "This store needs no preparation.\n")
    assert run(app, "purge") == (0, "This store forgets by itself what has expired.\n")


def test_send_sends_a_real_code_and_shows_the_destination_masked(app: Flask, outbox: Outbox) -> None:
    code, output = run(app, "send", "Ann@example.com")
    assert (code, output) == (0, "Handed to channel 'console' for a***@example.com.\n")
    assert outbox.code not in output
    assert [message.recipient for message in outbox] == ["ann@example.com"]


def test_send_takes_a_channel_and_a_purpose(make_app: AppFactory) -> None:
    sent = []
    otp = OTP()
    otp.channel("pigeon")(sent.append)
    app = make_app(otp, OTP_PURPOSES={"login": {}, "transfer": {}})
    assert run(app, "send", "ann@example.com", "--channel", "pigeon", "--purpose", "transfer")[0] == 0
    assert [(message.channel, message.purpose) for message in sent] == [("pigeon", "transfer")]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["send", "nobody"], "Please enter a valid e-mail address"),
        (["send", "ann@example.com", "--channel", "pigeon"], "There is no such channel"),
        (["send", "ann@example.com", "--purpose", "nothing"], "There is no such purpose"),
        (["revoke", "ann@example.com"], "memory:// is inside of the serving process"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(app: Flask, args: list[str], line: str) -> None:
    code, output = run(app, *args)
    assert code == 1
    assert f"Error: {line}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("command", [["init-db"], ["purge"], ["revoke", "ann@example.com"]])
@pytest.mark.parametrize("scheme", ["postgresql+psycopg://me:hunter2@", "mysql+pymysql://me:hunter2@"])
def test_a_store_out_of_reach_is_a_failure_too(make_app: AppFactory, scheme: str, command: list[str]) -> None:
    app = make_app(OTP_STORAGE_URI=f"{scheme}127.0.0.1:{free_port()}/db")
    code, output = run(app, *command)
    assert code == 1
    assert "Error: This is temporarily unavailable" in output
    assert "OperationalError" in output
    assert "hunter2" not in output


def test_routes_lists_ours_wherever_they_are(make_app: AppFactory) -> None:
    app = make_app(OTP_URL_PREFIX="/codes")
    code, output = run(app, "routes")
    assert code == 0
    assert "POST   /codes/send\n" in output
    listed = {line.split()[1] for line in output.splitlines()}
    assert listed == {rule.rule for rule in app.url_map.iter_rules() if "/codes/" in rule.rule} - {"/codes/<path:rest>"}


def test_routes_of_an_app_without_pages(make_app: AppFactory) -> None:
    app = make_app(OTP(register_blueprint=False))
    assert run(app, "routes") == (0, "None: its blueprint is not registered.\n")


def test_an_apps_own_command_of_that_name_stays(make_app: AppFactory) -> None:
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY="a secret that is long enough")
    app.cli.command("otp")(lambda: print("mine"))
    OTP(app)
    assert run(app) == (0, "mine\n")
