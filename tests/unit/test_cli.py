"""``flask otp ...``, as an operator sees it."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, Message
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
    assert run(app, "purge") == (0, "This store removes expired state on its own.\n")


def test_send_sends_a_real_code_and_shows_the_destination_masked(app: Flask, outbox: Outbox) -> None:
    code, output = run(app, "send", "Ann@example.com")
    assert (code, output) == (0, "Sent by channel 'console', to a***@example.com.\n")
    assert outbox.code not in output
    assert [message.recipient for message in outbox] == ["ann@example.com"]


@pytest.mark.parametrize("mode", ["auto", "inline", "background"])
def test_send_waits_for_what_becomes_of_the_message(make_app: AppFactory, mode: str) -> None:
    """A background thread would end with the process, and nobody would read its log."""
    otp, sent, broken = OTP(), list[Message](), [True]

    @otp.channel("sms")
    def deliver(message: Message) -> None:
        if broken:
            raise OSError
        sent.append(message)

    otp.recipient_loader(lambda identifier, channel: "+4915112345678" if identifier == "ann@example.com" else None)
    app = make_app(otp, OTP_DELIVERY=mode, OTP_SMS_COUNTRIES=("DE",), OTP_COOLDOWN=0)
    assert run(app, "send", "ann@example.com") == (
        1,
        "Error: The code could not be sent. Please try again in a moment.\n",
    )
    broken.clear()
    assert run(app, "send", "ann@example.com") == (0, "Sent by channel 'sms', to +4*******78.\n")
    assert [message.recipient for message in sent] == ["+4915112345678"]
    assert run(app, "send", "bob@example.com") == (
        1,
        "Error: Nothing was sent: the recipient_loader knows no recipient for it.\n",
    )


@pytest.mark.parametrize(
    ("identifier", "config", "why"),
    [
        ("+14155550132", {}, "the phone number is not valid, or is outside of OTP_SMS_COUNTRIES"),
        ("+4915112345678", {"OTP_PREFIX_BUDGET": {"+49": "1/day"}}, "before_send, OTP_PREFIX_BUDGET or OTP_PUMPING"),
        ("+15550100", {"OTP_TEST_RECIPIENTS": {"+15550100": ("402817", "2099-01-31")}}, "it is a test recipient"),
    ],
)
def test_send_says_why_nothing_went_out(
    make_app: AppFactory, identifier: str, config: dict[str, Any], why: str
) -> None:
    otp = OTP()
    otp.channel("sms")(lambda message: None)
    app = make_app(otp, OTP_SMS_COUNTRIES=("DE",), OTP_COOLDOWN=0, **config)
    if "OTP_PREFIX_BUDGET" in config:
        assert run(app, "send", "+4915112345679")[0] == 0
    code, output = run(app, "send", identifier)
    assert code == 1
    assert f"Nothing was sent: {why}" in output


def test_send_says_what_before_send_withheld_and_what_a_queue_was_given(make_app: AppFactory) -> None:
    otp, queued = OTP(), list[dict[str, str]]()
    otp.before_send(lambda message: message.recipient != "ann@example.com")
    app = make_app(otp)
    assert run(app, "send", "ann@example.com") == (1, "Error: Nothing was sent: before_send withheld it.\n")
    otp.dispatcher(queued.append)
    assert run(app, "send", "bob@example.com")[1].startswith("Given to the dispatcher for channel 'console', to b***")
    assert len(queued) == 1


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
